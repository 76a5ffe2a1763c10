//! What is known of this moment: whether the worker consumes, what it is at, how what it depends on is doing.

use std::time::Duration;

use chrono::{DateTime, Utc};

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
    /// Operations that wait for it. With none, nobody has tried it since, and nothing is held up.
    pub waiting: usize,
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
