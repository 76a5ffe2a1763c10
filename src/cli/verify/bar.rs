//! The progress of an audit on a terminal.

use std::{
    io::{self, IsTerminal},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::task::AbortOnDropHandle;

use crate::audit::{Auditor, State, Tally, days::Day};

const COUNTING: &str =
    "{spinner} {msg}  {pos} manifests  {per_sec}  {elapsed_precise}, still counting";
const COUNTED: &str = "{bar:30} {percent:>3}%  {msg}  {pos} of {len} manifests  {per_sec}  {elapsed_precise}, {eta} left";

/// A bar on a terminal, nothing elsewhere. How much there is to do is found out beside the work.
pub(super) struct Bar {
    shown: ProgressBar,
    /// Where it is.
    place: Mutex<String>,
    bytes: AtomicU64,
    _counting: Option<AbortOnDropHandle<()>>,
}

impl Bar {
    pub(super) fn begin(auditor: &Arc<Auditor>, state: &State) -> Self {
        let done = state.run().tally;
        let (bar, counting) = if io::stderr().is_terminal() {
            let bar = ProgressBar::no_length();
            style(&bar, COUNTING);
            bar.set_position(done.manifests);
            // What another process did says nothing of the rate.
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            let (counted, remaining) = (bar.clone(), auditor.remaining(state));
            let counting = tokio::spawn(async move {
                // If it cannot be counted, the run will say why.
                if let Ok(remaining) = remaining.await {
                    counted.set_length(done.manifests + remaining);
                    style(&counted, COUNTED);
                }
            });
            (bar, Some(AbortOnDropHandle::new(counting)))
        } else {
            (ProgressBar::hidden(), None)
        };
        Self {
            shown: bar,
            place: Mutex::default(),
            bytes: done.bytes.into(),
            _counting: counting,
        }
    }

    pub(super) fn day(&self, day: Day) {
        self.place(day.to_string());
    }

    pub(super) fn strays(&self, bucket: &str) {
        self.place(format!("unreferenced objects in {bucket}"));
    }

    pub(super) fn tally(&self, tally: &Tally) {
        self.bytes.store(tally.bytes, Ordering::Relaxed);
        self.shown.set_position(tally.manifests);
        self.show();
    }

    /// Writes lines without the bar between them.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.shown.suspend(write);
    }

    pub(super) fn end(&self) {
        self.shown.finish_and_clear();
    }

    fn place(&self, place: String) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
        self.show();
    }

    fn show(&self) {
        if self.shown.is_hidden() {
            return;
        }
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = ByteSize(self.bytes.load(Ordering::Relaxed));
        self.shown.set_message(format!("{place}  {bytes}"));
    }
}

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}
