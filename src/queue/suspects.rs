//! Messages that may have killed a worker.

use std::time::Duration;

use lapin::message::Delivery;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

use super::message;

/// A message that came back so often is under suspicion.
const SUSPICIOUS: u32 = 3;
/// The longest that a suspect waits for its turn to be drawn.
const DRAW: Duration = Duration::from_secs(1);

/// One message that kills its worker each time takes all down with it that are in flight, and the broker
/// counts the return of each; at the delivery limit the innocent would die with the guilty. So those that
/// came back often run one at a time, in an order drawn anew each time: each round acquits half of the
/// innocent, whatever place the guilty one has in the queue.
#[derive(Debug, Default)]
pub(super) struct Suspects(Mutex<()>);

impl Suspects {
    /// Waits for a suspect's turn; for anybody else there is nothing to wait for.
    pub(super) async fn turn(&self, delivery: &Delivery) -> Option<MutexGuard<'_, ()>> {
        if message::returns(&delivery.properties) < SUSPICIOUS {
            return None;
        }
        sleep(DRAW.mul_f64(fastrand::f64())).await;
        // First come, first served: whoever drew the shortest pause.
        Some(self.0.lock().await)
    }
}
