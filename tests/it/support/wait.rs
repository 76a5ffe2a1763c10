//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Polls `probe` every 20 ms until it yields a value.
///
/// # Panics
///
/// When `deadline` has passed; the message says what was awaited. A probe that hangs hangs the wait:
/// give one that speaks to a server a time-out of its own.
pub(crate) async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} in vain for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
