//! Waiting out a part that does not work, a store or the spool folder: nobody's fault but its own. One
//! log line when it begins and one when it ends, however many jobs wait.

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
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    operations: usize,
    since: Option<Instant>,
}

impl Outage {
    /// Of a part, as an operator knows it.
    pub fn of(part: impl Into<String>) -> Self {
        Self {
            part: part.into(),
            waiting: Mutex::default(),
        }
    }

    /// Repeats an operation until it succeeds; once `patience` has passed it is not begun again, and the
    /// last error stands. An operation under way is not cut short: a large file may take its time, and
    /// each of its requests has a limit of its own.
    pub async fn wait_out<T, E, F>(
        &self,
        patience: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, E>
    where
        E: StdError + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let end = Instant::now() + patience;
        let mut pauses = pauses();
        let mut waiter = None;
        loop {
            let error = match attempt().await {
                Ok(done) => {
                    if let Some(waiter) = waiter {
                        Waiter::recovered(waiter);
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            waiter.get_or_insert_with(|| Waiter::begin(self, &error));
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            if Instant::now() + pause >= end {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

/// One operation that waits; leaves the count whichever way it ends, a cancelled future included.
struct Waiter<'a>(&'a Outage);

impl<'a> Waiter<'a> {
    fn begin(outage: &'a Outage, error: &(dyn StdError + 'static)) -> Self {
        let mut waiting = outage.waiting();
        waiting.operations += 1;
        if waiting.since.is_none() {
            waiting.since = Some(Instant::now());
            let error = telemetry::chain(error);
            tracing::warn!(part = outage.part, error, "does not work; waiting for it");
        }
        Self(outage)
    }

    fn recovered(self) {
        if let Some(since) = self.0.waiting().since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(part = self.0.part, seconds, "works again");
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.operations -= 1;
        if waiting.operations == 0 {
            waiting.since = None;
        }
    }
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
        let done = outage.wait_out(Duration::from_mins(20), attempt).await;
        assert_eq!(done.unwrap(), "done");
        assert_eq!(outage.waiting().operations, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_the_waiting_and_cuts_nothing_short() {
        let outage = Outage::of("store");
        let start = Instant::now();
        let failed: io::Result<()> = outage
            .wait_out(Duration::from_mins(1), async || {
                Err(io::Error::other("down"))
            })
            .await;
        assert_eq!(failed.unwrap_err().to_string(), "down");
        assert!(start.elapsed() <= Duration::from_mins(1));
        let slow = outage.wait_out(Duration::from_mins(1), async || {
            sleep(Duration::from_mins(10)).await;
            io::Result::Ok("a large file")
        });
        assert_eq!(slow.await.unwrap(), "a large file");
    }
}
