//! What is known of the session with the broker, and whether messages wait that none come of.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{Broker, Queue, Stopping, since};

/// So long messages may wait, and places be free, without a delivery: a quorum queue elects a leader in less.
const PATIENCE: Duration = Duration::from_secs(15);

/// Of one worker with its broker.
#[derive(Debug)]
pub struct Session(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Why no deliveries are taken, where there is no session.
    without: Option<String>,
    /// When the grace is over, of one that stops.
    stopping: Option<Instant>,
    since: DateTime<Utc>,
    deliveries: u64,
    last_delivery: Option<DateTime<Utc>>,
    queues: Vec<Queue>,
    counted: Option<Count>,
}

/// What was found when the work queue was counted, and from when on nothing came of it.
#[derive(Debug, Clone, Copy)]
struct Count {
    deliveries: u64,
    /// Since when messages waited for nothing that this worker lacks.
    waits: Option<(Instant, u64)>,
    /// When it was.
    at: Instant,
}

/// One count of the work queue.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// Messages that are ready.
    pub messages: u64,
    /// Whether this worker could take one.
    pub free: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self(Mutex::new(State {
            without: Some("not connected to the broker yet".into()),
            stopping: None,
            since: Utc::now(),
            deliveries: 0,
            last_delivery: None,
            queues: Vec::new(),
            counted: None,
        }))
    }
}

impl Session {
    /// Deliveries are taken from now on.
    pub fn consumes(&self) {
        self.becomes(None);
    }

    /// There is none any more, for that reason.
    pub fn broke(&self, why: String) {
        self.becomes(Some(why));
    }

    /// No deliveries are taken any more; what is at work is finished within the grace.
    pub fn stops(&self, grace: Duration) {
        let mut state = self.state();
        // One that is too long to be reckoned with is over when the work is.
        let now = Instant::now();
        state.stopping = Some(now.checked_add(grace).unwrap_or(now));
        state.counted = None;
    }

    fn becomes(&self, without: Option<String>) {
        let mut state = self.state();
        if state.without.is_some() != without.is_some() {
            state.since = Utc::now();
        }
        state.without = without;
        // Nobody counts now, or anew.
        state.queues.clear();
        state.counted = None;
    }

    /// A delivery came.
    pub fn delivered(&self) {
        let mut state = self.state();
        state.deliveries += 1;
        state.last_delivery = Some(Utc::now());
    }

    /// The work queue was counted. One count tells nothing: what is ready may be on its way to this worker or another.
    pub fn counted(&self, found: Counted, now: Instant) {
        let mut state = self.state();
        let deliveries = state.deliveries;
        let waits = found.messages > 0 && found.free;
        let before = state
            .counted
            .filter(|before| before.deliveries == deliveries);
        let began = before.and_then(|before| before.waits);
        let since = began.map_or(now, |(since, _)| since);
        state.counted = Some(Count {
            deliveries,
            waits: waits.then_some((since, found.messages)),
            at: now,
        });
    }

    /// All queues were counted; those that could not be are left out.
    pub fn has(&self, queues: Vec<Queue>) {
        self.state().queues = queues;
    }

    pub(super) fn queues(&self) -> Vec<Queue> {
        self.state().queues.clone()
    }

    pub(super) fn now(&self) -> Broker {
        let state = self.state();
        Broker {
            connected: state.without.is_none(),
            since: state.since,
            last_delivery: state.last_delivery,
        }
    }

    /// That the worker stops, and what is left of its grace, once it was told to.
    pub fn stopping(&self) -> Option<Stopping> {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        let end = self.state().stopping;
        end.map(|end| Stopping { left: left(end) })
    }

    pub(super) fn not_ready(&self) -> Vec<String> {
        let state = self.state();
        let stopping = state.stopping.map(|_| "stopping".to_owned());
        // From one count to another, not to this moment: the broker may have been silent since.
        let long = state
            .counted
            .filter(|counted| counted.deliveries == state.deliveries)
            .and_then(|counted| Some((counted.waits?, counted.at)))
            .filter(|((since, _), at)| at.duration_since(*since) >= PATIENCE)
            .map(|(waits, _)| waits);
        let words = |(since_, messages): (Instant, u64)| {
            format!(
                "messages wait and none comes: {messages} are ready in the work queue since {}, places are free, and \
                 nothing was delivered; another consumer may have it to itself (x-single-active-consumer, or a higher \
                 priority), or the queue has lost its leader",
                since(Utc::now(), since_.elapsed()).format("%FT%TZ")
            )
        };
        let without = state.without.clone();
        stopping
            .into_iter()
            .chain(without)
            .chain(long.map(words))
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn count(session: &Session, messages: u64, free: bool) {
        session.counted(Counted { messages, free }, Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn messages_that_wait_while_places_are_free_and_none_comes_are_told_of_after_a_while() {
        let session = Session::default();
        session.consumes();
        for _ in 0..5 {
            assert!(session.not_ready().is_empty());
            count(&session, 3, true);
            advance(Duration::from_secs(4)).await;
        }
        let reasons = session.not_ready();
        assert!(reasons[0].contains("3 are ready"), "{reasons:?}");
        session.delivered();
        assert!(session.not_ready().is_empty(), "one came");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_is_full_or_served_or_has_nothing_to_do_is_no_reason() {
        for (messages, free, delivered) in [(3, false, false), (3, true, true), (0, true, false)] {
            let session = Session::default();
            session.consumes();
            for _ in 0..20 {
                count(&session, messages, free);
                advance(Duration::from_secs(4)).await;
                if delivered {
                    session.delivered();
                }
            }
            assert!(session.not_ready().is_empty(), "{messages} {free}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_counted_in_another_session_counts_no_more() {
        let session = Session::default();
        assert_eq!(session.not_ready(), ["not connected to the broker yet"]);
        session.consumes();
        count(&session, 3, true);
        advance(Duration::from_secs(20)).await;
        session.broke("a reason".into());
        assert_eq!(session.not_ready(), ["a reason"]);
        session.consumes();
        assert!(session.not_ready().is_empty());
        count(&session, 3, true);
        assert!(session.not_ready().is_empty());
        session.stops(Duration::from_secs(30));
        advance(Duration::from_secs(20)).await;
        assert_eq!(session.not_ready(), ["stopping"]);
        assert_eq!(session.stopping().unwrap().left, Duration::from_secs(10));
        assert!(session.now().connected, "it finishes what is at work");
    }

    #[tokio::test(start_paused = true)]
    async fn one_count_alone_is_no_reason_however_long_ago() {
        let session = Session::default();
        session.consumes();
        count(&session, 3, true);
        // The broker answers no count for a while: what was ready went to another worker.
        advance(Duration::from_secs(20)).await;
        assert_eq!(session.not_ready(), Vec::<String>::new());
    }
}
