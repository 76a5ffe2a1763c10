//! One job at a time for each event, within this process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::digest::Sha256;

/// So many events are remembered: what an ingress sends twice, it sends twice within minutes.
const REMEMBERED: usize = 4096;

/// Which events jobs are at, and were at lately.
///
/// A broken connection has the broker deliver an event again whose first job still runs, in this very
/// process. The second waits, and finds what the first has done instead of doing it over.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Events>);

#[derive(Debug, Default)]
struct Events {
    locks: HashMap<Sha256, Arc<AsyncMutex<()>>>,
    oldest_first: VecDeque<Sha256>,
}

/// The right to work on one event.
#[derive(Debug)]
pub(super) struct Turn {
    /// Whether another job of this process was at the event before.
    pub(super) seen_before: bool,
    _lock: OwnedMutexGuard<()>,
}

impl Turns {
    /// Waits until no other job is at the event.
    pub(super) async fn of(&self, event: Sha256) -> Turn {
        let (seen_before, lock) = self.lock_of(event);
        Turn {
            seen_before,
            _lock: lock.lock_owned().await,
        }
    }

    fn lock_of(&self, event: Sha256) -> (bool, Arc<AsyncMutex<()>>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = events.locks.get(&event) {
            return (true, Arc::clone(lock));
        }
        let lock = Arc::default();
        events.locks.insert(event, Arc::clone(&lock));
        events.oldest_first.push_back(event);
        while events.oldest_first.len() > REMEMBERED {
            let Some(oldest) = events.oldest_first.pop_front() else {
                break;
            };
            events.locks.remove(&oldest);
        }
        (false, lock)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_second_job_at_an_event_waits_for_the_first_and_knows_of_it() {
        let turns = Turns::default();
        let (event, other) = (Sha256::of(b"an event"), Sha256::of(b"another"));
        let first = turns.of(event).await;
        assert!(!first.seen_before);
        assert!(!turns.of(other).await.seen_before);
        assert!(turns.of(event).now_or_never().is_none(), "two at a time");
        drop(first);
        assert!(turns.of(event).await.seen_before);
    }

    #[tokio::test]
    async fn what_is_remembered_has_a_bound() {
        let turns = Turns::default();
        for n in 0..=REMEMBERED {
            turns.of(Sha256::of(&n.to_be_bytes())).await;
        }
        assert_eq!(turns.0.lock().unwrap().locks.len(), REMEMBERED);
        assert!(
            !turns
                .of(Sha256::of(&0_usize.to_be_bytes()))
                .await
                .seen_before
        );
    }
}
