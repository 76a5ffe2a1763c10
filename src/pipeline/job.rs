//! A job, and how it ends.

use std::{io, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    event::{EventError, Id},
    fetch::FetchError,
    manifest::Entry,
    store::StoreError,
};

/// What a store gets to take what was fetched, however late it is.
const LEAST_PATIENCE: Duration = Duration::from_mins(1);

/// One message to be archived.
#[derive(Debug)]
pub struct Job {
    /// The message's body.
    pub body: Bytes,
    /// The how-manieth try this is, from 1.
    pub attempt: u32,
    /// Whether an earlier try is known to have been made, which may have left a manifest.
    pub seen_before: bool,
    /// When its downloads must have ended.
    pub deadline: Instant,
    /// How long a store that does not work is waited for, at the most.
    pub patience: Duration,
}

/// What became of a job.
#[derive(Debug)]
pub struct Outcome {
    /// Call and request, where the event could be read.
    pub ids: Option<(Id, Id)>,
    /// How it ended.
    pub end: End,
    /// Its attachments, in the event's order, where it came to that.
    pub entries: Vec<Entry>,
}

/// How a job ended.
#[derive(Debug)]
pub enum End {
    /// It is an event that holds nothing to archive.
    Ignored {
        /// The event's name.
        event: String,
    },
    /// It is no event. Final.
    Invalid(EventError),
    /// There is a complete manifest already.
    Duplicate,
    /// The manifest is complete, and durable.
    Archived,
    /// What could be had is archived; a partial manifest says what is missing, for these reasons.
    Partial(Vec<Missing>),
    /// A fault that is not the event's: nothing is decided about it.
    NotOurs(Fault),
    /// callvault itself failed: a bug, that this event brings out.
    Panicked,
}

/// An attachment that could not be had.
#[derive(Debug)]
pub struct Missing {
    /// Why.
    pub error: FetchError,
    /// When its URL says that it expires.
    pub expires: Option<DateTime<Utc>>,
}

/// A fault of ours: the event has nothing to do with it.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A bucket did not work for as long as the job could wait.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This machine's disk did not work, or is full.
    #[error("the spool folder does not work")]
    Spool(#[from] io::Error),
    /// Others write under the same key at the same time.
    #[error("other writers are at the same key")]
    Contended {
        /// The key.
        key: String,
    },
    /// A manifest could not be written as JSON, or one that is there could not be read.
    #[error("a manifest cannot be used")]
    Manifest {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Outcome {
    /// Of a message that says nothing of a call and a request.
    pub(super) fn without_ids(end: End) -> Self {
        Self {
            ids: None,
            end,
            entries: Vec::new(),
        }
    }
}

impl Job {
    pub(super) fn patience(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.max(LEAST_PATIENCE).min(self.patience)
    }
}

impl Fault {
    /// Whether it stays until somebody mends it.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Manifest { .. })
    }
}
