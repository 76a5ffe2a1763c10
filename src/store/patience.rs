//! Waiting out a store that does not work, with one log line when it begins and one when it ends.

use std::{
    error::Error as StdError,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};

use crate::telemetry;

/// The pause after a first failure; it grows by half each time, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How one bucket is doing, over all jobs.
#[derive(Debug)]
pub(super) struct Outage {
    bucket: String,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    operations: usize,
    since: Option<Instant>,
}

impl Outage {
    pub(super) fn new(bucket: &str) -> Self {
        Self {
            bucket: bucket.into(),
            waiting: Mutex::default(),
        }
    }

    /// Repeats an operation until it succeeds, or `patience` has passed; then the last error.
    pub(super) async fn wait_out<T, E: StdError + 'static, F: Future<Output = Result<T, E>>>(
        &self,
        patience: Duration,
        attempt: impl FnMut() -> F,
    ) -> Result<T, E> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_factor(1.5)
            .with_jitter()
            .without_max_times()
            .with_total_delay(Some(patience));
        let mut waiter = None;
        let result = attempt
            .retry(backoff)
            .notify(|error, _| {
                waiter.get_or_insert_with(|| Waiter::begin(self, error));
            })
            .await;
        if let Some(waiter) = waiter
            && result.is_ok()
        {
            waiter.recovered();
        }
        result
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
            tracing::warn!(
                bucket = outage.bucket,
                error,
                "the store does not work; waiting for it"
            );
        }
        Self(outage)
    }

    fn recovered(self) {
        if let Some(since) = self.0.waiting().since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(bucket = self.0.bucket, seconds, "the store works again");
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
