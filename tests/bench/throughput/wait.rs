//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Polls `probe` every 20 ms until it yields a value.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        ensure!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
