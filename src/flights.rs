//! The events in flight, and what is done with each: for the page, and for the age of the oldest.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use crate::{
    status::{Doing, InFlight},
    traces,
};

/// What is done with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Long events take turns.
    Memory,
    /// It is taken apart.
    Parsing,
    /// Another job of this process is at the same event.
    Behind,
    /// Its manifest is looked for.
    Looking {
        /// Where.
        bucket: String,
    },
    /// It was here before, and its bucket does not work: nothing is downloaded meanwhile.
    Waiting {
        /// Which.
        bucket: String,
    },
    /// An attachment is downloaded.
    Fetching {
        /// Of which kind.
        kind: String,
    },
    /// An attachment is judged.
    Checking {
        /// Of which kind.
        kind: String,
    },
    /// An attachment is stored.
    Storing {
        /// Of which kind.
        kind: String,
        /// Where.
        bucket: String,
    },
    /// What is stored under an attachment's key is looked at.
    Reading {
        /// Of which kind.
        kind: String,
        /// Where.
        bucket: String,
    },
    /// The manifest is written.
    Manifest {
        /// Where.
        bucket: String,
    },
    /// The broker is told, after the message was moved where it has to be.
    Settling,
}

impl Stage {
    /// The bucket that it takes.
    pub fn bucket(&self) -> Option<&str> {
        match self {
            Self::Looking { bucket }
            | Self::Waiting { bucket }
            | Self::Storing { bucket, .. }
            | Self::Reading { bucket, .. }
            | Self::Manifest { bucket } => Some(bucket),
            Self::Memory
            | Self::Parsing
            | Self::Behind
            | Self::Fetching { .. }
            | Self::Checking { .. }
            | Self::Settling => None,
        }
    }

    /// The kind of attachment that it is about.
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Fetching { kind }
            | Self::Checking { kind }
            | Self::Storing { kind, .. }
            | Self::Reading { kind, .. } => Some(kind),
            Self::Memory
            | Self::Parsing
            | Self::Behind
            | Self::Looking { .. }
            | Self::Waiting { .. }
            | Self::Manifest { .. }
            | Self::Settling => None,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Memory => "waiting for memory".into(),
            Self::Parsing => "parsing".into(),
            Self::Behind => "waiting for another delivery of the same event".into(),
            Self::Looking { .. } => "looking for its manifest".into(),
            Self::Waiting { bucket } => format!("waiting for bucket {bucket}"),
            Self::Fetching { kind } => format!("fetching {kind}"),
            Self::Checking { kind } => format!("checking {kind}"),
            Self::Storing { kind, bucket } => format!("storing {kind} in {bucket}"),
            Self::Reading { kind, bucket } => format!("looking at the {kind} in {bucket}"),
            Self::Manifest { .. } => "writing its manifest".into(),
            Self::Settling => "settling".into(),
        }
    }
}

/// All events in flight of one worker.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    begun: u64,
    by_number: BTreeMap<u64, Arc<State>>,
}

/// One event in flight, as long as this is not dropped. Without a registry (by default) nobody hears of it.
#[derive(Debug, Default)]
pub struct Flight {
    state: Arc<State>,
    place: Option<(Flights, u64)>,
    span: traces::Event,
}

#[derive(Debug)]
struct State {
    arrived: Instant,
    attempt: u32,
    received: Arc<AtomicU64>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ids: Option<(String, String)>,
    entered: u64,
    /// In the order in which they were entered.
    stages: Vec<(u64, Arc<Stage>, Instant)>,
}

/// A stage that an event is in, as long as this is not dropped: when it is done, or given up, or panics.
#[derive(Debug)]
pub struct Entered<'a> {
    flight: &'a Flight,
    number: u64,
}

impl Default for State {
    fn default() -> Self {
        Self::new(Instant::now(), 1)
    }
}

impl State {
    fn new(arrived: Instant, attempt: u32) -> Self {
        Self {
            arrived,
            attempt,
            received: Arc::default(),
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `down` says whether a bucket does not work.
    fn now(&self, down: &dyn Fn(&str) -> bool) -> InFlight {
        let known = self.known();
        let doing = |(_, stage, since): &(u64, Arc<Stage>, Instant)| {
            let waits_for = stage.bucket().filter(|bucket| down(bucket));
            let words = match (&**stage, waits_for) {
                (Stage::Waiting { .. }, _) | (_, None) => stage.in_words(),
                (_, Some(bucket)) => format!("waiting for bucket {bucket}, {}", stage.in_words()),
            };
            Doing {
                words,
                age: since.elapsed(),
            }
        };
        let mut stages: Vec<_> = known.stages.iter().map(doing).collect();
        // Between two stages no time goes by; before the first it may (see `queue::suspects`).
        if known.entered == 0 {
            stages.push(Doing {
                words: "waiting for its turn".into(),
                age: self.arrived.elapsed(),
            });
        }
        let (call_id, request_id) = known.ids.clone().unzip();
        InFlight {
            age: self.arrived.elapsed(),
            attempt: self.attempt,
            call_id,
            request_id,
            stages,
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

impl Flights {
    /// An event that arrived then, to be tried for the `attempt`th time, with its span.
    pub fn begin(&self, arrived: Instant, attempt: u32, span: traces::Event) -> Flight {
        let state = Arc::new(State::new(arrived, attempt));
        let mut all = self.all();
        all.begun += 1;
        let number = all.begun;
        all.by_number.insert(number, Arc::clone(&state));
        Flight {
            state,
            place: Some((self.clone(), number)),
            span,
        }
    }

    /// All of them, the oldest first.
    pub fn now(&self, down: &dyn Fn(&str) -> bool) -> Vec<InFlight> {
        // Copied first: whoever begins or ends meanwhile does not wait for the words.
        let states: Vec<_> = self.all().by_number.values().cloned().collect();
        let mut now: Vec<_> = states.iter().map(|state| state.now(down)).collect();
        // A delivery that had to wait for a place begins after others that came later.
        now.sort_by_key(|event| Reverse(event.age));
        now
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// Notes whose event it is.
    pub fn is(&self, call_id: &str, request_id: &str) {
        self.state.known().ids = Some((call_id.into(), request_id.into()));
        self.span.is(call_id, request_id);
    }

    /// Its span.
    pub fn span(&self) -> &traces::Event {
        &self.span
    }

    /// Counts the bytes that come.
    pub fn received(&self) -> &Arc<AtomicU64> {
        &self.state.received
    }

    /// Notes what is done with it now, beside whatever else is.
    pub fn enter(&self, stage: &Arc<Stage>) -> Entered<'_> {
        let mut known = self.state.known();
        known.entered += 1;
        let number = known.entered;
        known
            .stages
            .push((number, Arc::clone(stage), Instant::now()));
        Entered {
            flight: self,
            number,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((flights, number)) = mem::take(&mut self.place) {
            flights.all().by_number.remove(&number);
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut known = self.flight.state.known();
        known.stages.retain(|(number, ..)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::{panic::AssertUnwindSafe, time::Duration};

    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    fn words(flights: &Flights) -> Vec<Vec<String>> {
        let now = flights.now(&|bucket| bucket == "down");
        let words = |event: InFlight| event.stages.into_iter().map(|doing| doing.words);
        now.into_iter()
            .map(|event| words(event).collect())
            .collect()
    }

    fn storing(bucket: &str) -> Arc<Stage> {
        Arc::new(Stage::Storing {
            kind: "recording".into(),
            bucket: bucket.into(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_event_in_flight_says_how_old_it_is_and_what_is_done_with_it() {
        let flights = Flights::default();
        let first = flights.begin(Instant::now(), 2, traces::Event::default());
        advance(Duration::from_secs(3)).await;
        let second = flights.begin(Instant::now(), 1, traces::Event::default());
        assert_eq!(words(&flights), [["waiting for its turn"]; 2]);
        first.is("c-1", "r-1");
        let fetching = Stage::Fetching {
            kind: "recording".into(),
        };
        let fetching = first.enter(&Arc::new(fetching));
        first.received().fetch_add(7, Ordering::Relaxed);
        advance(Duration::from_secs(1)).await;
        let _storing = (first.enter(&storing("up")), second.enter(&storing("down")));
        let now = flights.now(&|_| false);
        assert_eq!(now[0].call_id.as_deref(), Some("c-1"));
        assert_eq!(now[0].request_id.as_deref(), Some("r-1"));
        assert_eq!((now[0].attempt, now[0].received), (2, 7));
        assert_eq!(now[0].age, Duration::from_secs(4));
        assert_eq!(now[0].stages[0].age, Duration::from_secs(1));
        assert_eq!((now[1].attempt, now[1].age.as_secs()), (1, 1));
        assert_eq!(
            words(&flights),
            [
                vec!["fetching recording", "storing recording in up"],
                vec!["waiting for bucket down, storing recording in down"]
            ]
        );
        drop(fetching);
        assert_eq!(words(&flights)[0], ["storing recording in up"]);
    }

    #[tokio::test]
    async fn what_is_dropped_or_panics_leaves_nothing_behind() {
        let flights = Flights::default();
        let dropped = async {
            let flight = flights.begin(Instant::now(), 1, traces::Event::default());
            let _parsing = flight.enter(&Arc::new(Stage::Parsing));
            std::future::pending::<()>().await;
        };
        assert!(dropped.now_or_never().is_none());
        let flight = flights.begin(Instant::now(), 1, traces::Event::default());
        let panics = AssertUnwindSafe(async {
            let _parsing = flight.enter(&Arc::new(Stage::Parsing));
            panic!("a bug");
        });
        panics.catch_unwind().await.unwrap_err();
        assert_eq!(words(&flights), [Vec::<String>::new()]);
        drop(flight);
        assert!(flights.now(&|_| false).is_empty());
    }
}
