//! Messages that may have killed a worker.

use std::time::Duration;

use tokio::{
    sync::Mutex,
    time::{sleep, timeout},
};

/// A message that came back so often is under suspicion.
const SUSPICIOUS: u32 = 3;
/// The longest that a suspect waits for its turn to be drawn.
const DRAW: Duration = Duration::from_secs(1);

/// Who lives so long is no killer, or a slow one: the next suspect may begin.
const PROBATION: Duration = Duration::from_secs(15);

/// One message that kills its worker each time takes all down with it that are in flight, and the broker
/// counts the return of each; at the delivery limit the innocent would die with the guilty. So those that
/// came back often begin one at a time, in an order drawn anew each time: each round acquits half of the
/// innocent, whatever place the guilty one has in the queue.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<()>);

impl Suspects {
    /// Runs a delivery's job: a suspect's when its turn has come, anybody else's at once.
    pub(super) async fn run(&self, returns: u32, mut job: impl Future<Output = ()> + Unpin) {
        if returns < SUSPICIOUS {
            return job.await;
        }
        sleep(DRAW.mul_f64(fastrand::f64())).await;
        // First come, first served: whoever drew the shortest pause.
        let turn = self.0.lock().await;
        if timeout(PROBATION, &mut job).await.is_err() {
            drop(turn);
            job.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::time::Instant;

    use super::*;

    /// How long `jobs` of one second each take, and how many of them run at once.
    async fn run(returns: u32, jobs: usize, each: Duration) -> (Duration, usize) {
        let (suspects, running, most) = (
            Suspects::default(),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let job = || async {
            let now = running.fetch_add(1, Ordering::Relaxed) + 1;
            most.fetch_max(now, Ordering::Relaxed);
            sleep(each).await;
            running.fetch_sub(1, Ordering::Relaxed);
        };
        let start = Instant::now();
        join_all((0..jobs).map(|_| suspects.run(returns, Box::pin(job())))).await;
        (start.elapsed(), most.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn suspects_run_one_at_a_time_and_all_others_side_by_side() {
        let second = Duration::from_secs(1);
        assert_eq!(run(SUSPICIOUS - 1, 8, second).await, (second, 8));
        let (took, most) = run(SUSPICIOUS, 8, second).await;
        assert_eq!(most, 1);
        assert!(took >= 8 * second, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_that_lives_long_holds_nobody_up() {
        let (took, most) = run(SUSPICIOUS, 4, Duration::from_mins(10)).await;
        assert_eq!(most, 4);
        assert!(took < Duration::from_mins(11), "{took:?}");
    }
}
