//! One job at a time for each manifest, within this process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// So many events are remembered: what an ingress sends twice, it sends twice within minutes.
const REMEMBERED: usize = 4096;

/// Which events jobs are at, and were at lately, by the keys of their manifests.
///
/// A broken connection has the broker deliver an event again whose first job still runs, in this very
/// process. The second waits, and finds what the first has done instead of doing it over. So does
/// another event under the same identifiers, which must not mix its files with the first one's.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Events>);

#[derive(Debug, Default)]
struct Events {
    locks: HashMap<String, Arc<AsyncMutex<()>>>,
    oldest_first: VecDeque<String>,
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
    pub(super) async fn of(&self, event: String) -> Turn {
        let (seen_before, lock) = self.lock_of(event);
        Turn {
            seen_before,
            _lock: lock.lock_owned().await,
        }
    }

    fn lock_of(&self, event: String) -> (bool, Arc<AsyncMutex<()>>) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = events.locks.get(&event) {
            return (true, Arc::clone(lock));
        }
        let lock = Arc::default();
        events.locks.insert(event.clone(), Arc::clone(&lock));
        events.oldest_first.push_back(event);
        events.forget_the_oldest();
        (false, lock)
    }
}

impl Events {
    /// Forgets what is too much, but nothing that a job is at.
    fn forget_the_oldest(&mut self) {
        let too_much = self.oldest_first.len().saturating_sub(REMEMBERED);
        for _ in 0..too_much {
            let Some(oldest) = self.oldest_first.pop_front() else {
                return;
            };
            let in_use = |lock: &Arc<AsyncMutex<()>>| Arc::strong_count(lock) > 1;
            if self.locks.get(&oldest).is_some_and(in_use) {
                self.oldest_first.push_back(oldest);
            } else {
                self.locks.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_second_job_at_an_event_waits_for_the_first_and_knows_of_it() {
        let turns = Turns::default();
        let (event, other) = (|| "an event".to_owned(), "another".to_owned());
        let first = turns.of(event()).await;
        assert!(!first.seen_before);
        assert!(!turns.of(other).await.seen_before);
        assert!(turns.of(event()).now_or_never().is_none(), "two at a time");
        drop(first);
        assert!(turns.of(event()).await.seen_before);
    }

    #[tokio::test]
    async fn what_is_remembered_has_a_bound() {
        let turns = Turns::default();
        let at_work = turns.of("at work".to_owned()).await;
        for n in 0..2 * REMEMBERED {
            turns.of(n.to_string()).await;
        }
        assert!(turns.0.lock().unwrap().locks.len() <= REMEMBERED + 1);
        let again = turns.of("at work".to_owned());
        assert!(again.now_or_never().is_none(), "two at a time");
        drop(at_work);
        assert!(!turns.of("0".to_owned()).await.seen_before);
    }
}
