//! Waiting out a part that does not work, a store, the broker or the spool folder: nobody's fault but its
//! own. One log line when it begins and one when it ends, however many jobs wait, and how often they try.

use std::{
    error::Error as StdError,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep};

use crate::telemetry;

/// The pause after a first failure; it grows by half each time, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How one part is doing, over all jobs.
#[derive(Debug)]
pub struct Outage {
    part: String,
    failing: Mutex<Option<Failing>>,
}

/// What does not work, and since when.
#[derive(Debug, Clone, Copy)]
struct Failing {
    what: &'static str,
    since: Instant,
}

impl Outage {
    /// Of a part, as an operator knows it.
    pub fn of(part: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            failing: Mutex::default(),
        }
    }

    /// Repeats an operation until it succeeds; once `patience` has passed it is not begun again, and the
    /// last error stands. An operation under way is not cut short: a large file may take its time, and
    /// each of its requests has a limit of its own.
    ///
    /// An outage lasts until the same kind of operation, `what`, succeeds: a full disk can still be read.
    pub async fn wait_out<T, E, F>(
        &self,
        what: &'static str,
        patience: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: StdError + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let end = Instant::now() + patience;
        let mut pauses = pauses();
        loop {
            let error = match attempt().await {
                Ok(done) => {
                    self.works(what);
                    return Ok(done);
                }
                Err(error) => error,
            };
            self.fails(what, &error);
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    /// Notes that an operation failed; says so if it is the first.
    pub fn fails(&self, what: &'static str, error: &(dyn StdError + 'static)) {
        let mut failing = self.failing();
        if failing.is_none() {
            let since = Instant::now();
            *failing = Some(Failing { what, since });
            let error = telemetry::chain(error);
            tracing::warn!(
                part = self.part,
                what,
                error,
                "does not work; waiting for it"
            );
        }
    }

    /// Notes that an operation succeeded; says so if it failed before.
    pub fn works(&self, what: &'static str) {
        let mut failing = self.failing();
        if let Some(over) = failing.take_if(|failing| failing.what == what) {
            let seconds = over.since.elapsed().as_secs_f64();
            tracing::info!(part = self.part, what, seconds, "works again");
        }
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_factor(1.5)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_part_is_waited_for_until_it_works() {
        let (outage, tries) = (Outage::of("store"), AtomicU32::new(0));
        let attempt = || async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                20 => Ok("done"),
                _ => Err(io::Error::other("down")),
            }
        };
        let done = outage
            .wait_out("write", Duration::from_mins(20), attempt)
            .await;
        assert_eq!(done.unwrap(), "done");
        assert!(outage.failing().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_the_waiting_and_cuts_nothing_short() {
        let outage = Outage::of("store");
        let start = Instant::now();
        let failed: io::Result<()> = outage
            .wait_out("write", Duration::from_mins(1), async || {
                Err(io::Error::other("down"))
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "down");
        assert!(start.elapsed() <= Duration::from_mins(1));
        let slow = outage.wait_out("write", Duration::from_mins(1), async || {
            sleep(Duration::from_mins(10)).await;
            io::Result::Ok("a large file")
        });
        assert_eq!(slow.await.unwrap(), "a large file");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_outlives_a_job_and_ends_when_the_same_works_again() {
        let outage = Outage::of("store");
        let fails = || async { io::Result::<()>::Err(io::Error::other("full")) };
        let works = || async { io::Result::Ok(()) };
        let short = Duration::ZERO;
        outage.wait_out("write", short, fails).await.unwrap_err();
        outage.wait_out("read", short, works).await.unwrap();
        assert!(outage.failing().is_some(), "reading works all the time");
        outage.wait_out("write", short, works).await.unwrap();
        assert!(outage.failing().is_none());
    }
}
