//! What is known of this moment: whether the worker consumes, what it is at, how what it depends on is doing.

mod session;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

pub use self::session::{Counted, Session};
use crate::{body::Budget, flights::Flights, metrics::Metrics, outage::Outage};

/// Whom a worker's parts tell how they are doing; whoever wants to know takes a [`Snapshot`].
#[derive(Debug)]
pub struct Status {
    /// When the worker began.
    pub started: DateTime<Utc>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What is at work.
    pub flights: Flights,
    /// The most events that may be at work.
    pub prefetch: usize,
    /// What they may use together.
    pub budget: Budget,
    /// With the broker.
    pub session: Session,
    /// The broker's, first of all, and the others'.
    pub outages: Vec<Watched>,
}

/// Something that the worker depends on, as it is told of.
#[derive(Debug)]
pub struct Watched {
    /// How it is doing.
    pub outage: Outage,
    /// The bucket's name, where it is one.
    pub bucket: Option<String>,
}

impl Status {
    /// Of a worker that has done nothing yet.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        let limits = crate::config::Limits {
            memory: 64 << 20,
            spool: 1 << 30,
            spool_dir: std::env::temp_dir(),
            job_time: Duration::from_mins(1),
        };
        let metrics = Metrics::new(["recording", "other"], ["recordings", "documents"]);
        Self {
            started: Utc::now(),
            metrics: Arc::new(metrics.unwrap()),
            flights: Flights::default(),
            prefetch: 4,
            budget: Budget::new(&limits),
            session: Session::default(),
            outages: Vec::new(),
        }
    }

    /// All that is known.
    pub fn snapshot(&self) -> Snapshot {
        let at = Utc::now();
        let parts: Vec<_> = self.outages.iter().map(|part| part.now(at)).collect();
        let down = |bucket: &str| {
            let is = |part: &&Part| part.bucket.as_deref() == Some(bucket);
            let part = parts.iter().find(is);
            part.is_some_and(|part| part.down.is_some())
        };
        let in_flight = self.flights.now(&down);
        let (memory, spool) = (self.budget.memory_used(), self.budget.spool_used());
        let used = |(used, of)| Used { used, of };
        Snapshot {
            at,
            started: self.started,
            version: env!("CARGO_PKG_VERSION"),
            not_ready: self.not_ready(),
            stopping: self.session.stopping(),
            broker: self.session.now(),
            queues: self.session.queues(),
            prefetch: self.prefetch,
            in_flight,
            parts,
            memory: used(memory),
            spool: used(spool),
            totals: self.metrics.totals(),
        }
    }

    /// Why events are not consumed, in words, one reason each; they are where there is none.
    pub fn not_ready(&self) -> Vec<String> {
        let mut reasons = self.session.not_ready();
        // The broker's is told by the session, which knows more.
        for part in self.outages.iter().skip(1) {
            if let Some(down) = part.outage.down().filter(|down| down.holds_up) {
                let since = since(Utc::now(), down.age);
                let waits = match down.waiting {
                    1 => "1 operation waits".to_owned(),
                    waiting => format!("{waiting} operations wait"),
                };
                reasons.push(format!(
                    "{} does not work since {} ({} s), {waits} for it: {}",
                    part.outage.part(),
                    since.format("%FT%TZ"),
                    down.age.as_secs(),
                    down.error,
                ));
            }
        }
        reasons
    }

    /// The same for Prometheus.
    pub fn metrics(&self) -> String {
        self.metrics.text(&self.snapshot())
    }
}

impl Watched {
    fn now(&self, at: DateTime<Utc>) -> Part {
        let down = self.outage.down().map(|down| Down {
            since: since(at, down.age),
            age: down.age,
            waiting: down.waiting,
            holds_up: down.holds_up,
            error: down.error,
        });
        Part {
            name: self.outage.part().to_owned(),
            bucket: self.bucket.clone(),
            down,
        }
    }
}

fn since(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(age).map_or(now, |age| now - age)
}

/// All of it at once, owned: for the page, for `/readyz`, for `/metrics`. Nothing in it is a secret; what an event's
/// sender wrote is in `call_id` and `request_id` alone, which are `[A-Za-z0-9._-]`.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// When the worker began.
    pub started: DateTime<Utc>,
    /// Of callvault.
    pub version: &'static str,
    /// Why the worker is not ready, in words, one reason each; it is ready where there is none.
    pub not_ready: Vec<String>,
    /// That it was told to stop, once it was.
    pub stopping: Option<Stopping>,
    /// Whether there is a session with the broker, and since when it is so.
    pub broker: Broker,
    /// The work queue first, then the dead letters, then the delays; as far as they were counted.
    pub queues: Vec<Queue>,
    /// The most events that may be in flight.
    pub prefetch: usize,
    /// The oldest first.
    pub in_flight: Vec<InFlight>,
    /// The broker, the buckets in the order of their names, the spool folder, the queues that messages move to.
    pub parts: Vec<Part>,
    /// Memory for bodies and work on them, in bytes.
    pub memory: Used,
    /// Bodies in temporary files, in bytes.
    pub spool: Used,
    /// Since the worker began.
    pub totals: Totals,
}

/// A worker that takes nothing new and finishes what is in flight.
#[derive(Debug, Clone, Copy)]
pub struct Stopping {
    /// What is left of its grace.
    pub left: Duration,
}

/// The session with the broker.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Whether deliveries are taken.
    pub connected: bool,
    /// Since when that is so.
    pub since: DateTime<Utc>,
    /// When the last delivery came.
    pub last_delivery: Option<DateTime<Utc>>,
}

/// A queue, as the broker counted it lately.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Messages that are ready; those that workers hold are not among them.
    pub messages: u64,
    /// Who takes messages from it.
    pub consumers: u64,
}

/// An event in flight.
#[derive(Debug, Clone)]
pub struct InFlight {
    /// How long ago it arrived.
    pub age: Duration,
    /// Its how-manieth try this is, from 1.
    pub attempt: u32,
    /// Of the call, once the event was read.
    pub call_id: Option<String>,
    /// Of the event, once it was read.
    pub request_id: Option<String>,
    /// What is done with it; its attachments are under way side by side, the one that began first before the others.
    pub stages: Vec<Doing>,
    /// Bytes of attachments that came so far, those of tries that failed among them.
    pub received: u64,
}

/// What is done with an event.
#[derive(Debug, Clone)]
pub struct Doing {
    /// In words, such as `fetching recording`.
    pub words: String,
    /// For how long.
    pub age: Duration,
}

/// Something that the worker depends on.
#[derive(Debug, Clone)]
pub struct Part {
    /// As an operator knows it, such as `bucket recordings`.
    pub name: String,
    /// The bucket's name in the configuration, where it is one.
    pub bucket: Option<String>,
    /// That it does not work, where it does not.
    pub down: Option<Down>,
}

/// How something does not work.
#[derive(Debug, Clone)]
pub struct Down {
    /// Since when.
    pub since: DateTime<Utc>,
    /// For how long.
    pub age: Duration,
    /// Operations that wait for it.
    pub waiting: usize,
    /// Whether any does, or did lately: then the worker is not ready. Otherwise nobody has tried it since.
    pub holds_up: bool,
    /// Why, in one line that may be told.
    pub error: String,
}

/// How much of something is in use, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Used {
    /// So much is.
    pub used: u64,
    /// So much there is.
    pub of: u64,
}

/// Counted since the worker began.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Settled events, by outcome: all outcomes, in the documented order.
    pub events: Vec<(String, u64)>,
    /// Attachments, by kind in the configuration's order.
    pub attachments: Vec<Attachments>,
    /// Problems of attachments, by code: those that occurred, the most frequent first.
    pub problems: Vec<(String, u64)>,
    /// Settlements that came too late, after which an event is delivered again.
    pub late_settlements: u64,
}

/// What became of the attachments of one kind.
#[derive(Debug, Clone)]
pub struct Attachments {
    /// Its name.
    pub kind: String,
    /// Checked and stored.
    pub archived: u64,
    /// Stored in the quarantine.
    pub quarantined: u64,
    /// Not to be had.
    pub unavailable: u64,
    /// Stored bytes, in either place.
    pub bytes: u64,
}
