//! A job, and how it ends.

use std::{borrow::Cow, io, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    event::{EventError, Id},
    fetch::{Class, FetchError},
    flights::Flight,
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
    /// When it began to count.
    pub started: Instant,
    /// How long its downloads may go on after that.
    pub time: Duration,
    /// How long a store that does not work is waited for, at the most.
    pub patience: Duration,
    /// Where it is noted what is done with it.
    pub flight: Flight,
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
    /// What is ours took so long that the origin had no time left.
    #[error("the job's time went by while it waited for something else than its origins")]
    Late,
    /// Bodies of other events filled the spool.
    #[error("limits.spool was full of other events' attachments all the time")]
    Crowded,
    /// A part of ours does not work, and other jobs are trying it.
    #[error("{part} does not work")]
    Down {
        /// Which.
        part: String,
    },
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

impl Missing {
    /// Whether its place is taken by another event under the same ids.
    pub(super) fn is_for_another(&self) -> bool {
        matches!(self.error, FetchError::KeyTaken)
    }
}

/// Whether all that is missing and may still come found no room. That is others' doing, and no fault of the
/// event's; but not where its own attachments held the room to the end.
pub(super) fn crowded_out(missing: &[Missing]) -> Option<Fault> {
    let no_room = |missing: &Missing| matches!(missing.error, FetchError::NoRoom { .. });
    let may_pass = |missing: &Missing| missing.error.class() == Class::MayPass;
    let crowded = missing.iter().any(no_room) && !missing.iter().any(may_pass);
    crowded.then_some(Fault::Crowded)
}

impl Outcome {
    /// Why it is not done, in a word, where it is not.
    pub fn code(&self) -> Option<Cow<'static, str>> {
        match &self.end {
            End::Ignored { .. } | End::Duplicate | End::Archived => None,
            End::Invalid(_) => Some("event_invalid".into()),
            End::Partial(missing) => Some(missing.first()?.error.code().into()),
            End::NotOurs(fault) => Some(fault.code().into()),
            End::Panicked => Some("panicked".into()),
        }
    }

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
    /// When its downloads must have ended.
    pub(super) fn deadline(&self) -> Instant {
        self.started + self.time
    }

    /// Whether too much of its time went by before its first download.
    pub(super) fn is_late(&self) -> bool {
        self.started.elapsed() > self.time / 2
    }

    pub(super) fn patience(&self) -> Duration {
        let left = self.deadline().saturating_duration_since(Instant::now());
        left.max(LEAST_PATIENCE).min(self.patience)
    }
}

/// Of what a bucket failed over.
pub(super) const STORE: &str = "store";
/// Of what the spool folder failed over.
pub(super) const SPOOL: &str = "spool";

impl Fault {
    /// Which one it is, in a word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(_) => STORE,
            Self::Spool(_) => SPOOL,
            Self::Late => "late",
            Self::Crowded => "crowded",
            Self::Down { .. } => "down",
            Self::Contended { .. } => "contended",
            Self::Manifest { .. } => "manifest",
        }
    }

    /// Whether it stays until somebody mends it.
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::Manifest { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_spool_is_others_doing_unless_the_event_itself_held_on_to_it() {
        let no_room = || FetchError::NoRoom { bytes: 1 };
        let too_large = || FetchError::TooLarge { most: 1 };
        for (errors, crowded) in [
            (vec![], false),
            (vec![too_large()], false),
            (vec![no_room()], true),
            (vec![no_room(), too_large()], true),
            (vec![no_room(), FetchError::Late], false),
            (vec![FetchError::Late], false),
        ] {
            let expires = None;
            let missing = errors.into_iter().map(|error| Missing { error, expires });
            let missing: Vec<_> = missing.collect();
            assert_eq!(crowded_out(&missing).is_some(), crowded, "{missing:?}");
        }
    }
}
