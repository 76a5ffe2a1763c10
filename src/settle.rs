//! From what became of a job to what becomes of its message. Pure: one table.
//!
//! A message is acknowledged only once its manifest is durable, or the message itself is safe in
//! another queue; so every decision but [`Decision::Ack`] names that queue, or gives the message back.

use std::time::Duration;

use crate::{
    fetch::{Class, FetchError},
    pipeline::{End, Outcome},
};

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Acknowledge it: it is done.
    Ack,
    /// Publish it to the delay queue of that delay, then acknowledge it.
    Retry {
        /// One of the configured delays.
        delay: Duration,
        /// Whether the attempt counts: it does unless the fault was not the event's.
        charged: bool,
    },
    /// Publish it to the dead-letter queue, then acknowledge it.
    Dead(Death),
    /// Give it back to the broker: there is no delay queue to wait in.
    Requeue,
}

/// Why a message is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Death {
    /// `x-callvault-reason`.
    pub reason: Reason,
    /// `x-callvault-detail`: one sentence, without anything of the event's text.
    pub detail: String,
}

/// The documented reasons, the most telling first: where several apply, the first one is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The body is not an event that can be archived.
    EventInvalid,
    /// A URL leads where callvault must not go.
    UrlForbidden,
    /// An attachment is larger than its kind may be.
    TooLarge,
    /// An attachment cannot be had, and never will be.
    AttachmentUnavailable,
    /// It might still be had, but was tried often enough.
    RetriesExhausted,
}

impl Reason {
    /// As it is written in headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventInvalid => "event_invalid",
            Self::UrlForbidden => "url_forbidden",
            Self::TooLarge => "too_large",
            Self::AttachmentUnavailable => "attachment_unavailable",
            Self::RetriesExhausted => "retries_exhausted",
        }
    }
}

/// The rules by which messages are settled.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The delay before the second attempt, the third, …
    pub delays: Vec<Duration>,
    /// The attempt at which a refusal is final.
    pub refusals: u32,
}

impl Rules {
    /// Decides over a message whose job ended so, at its `attempt`th try (from 1).
    pub fn decide(&self, outcome: &Outcome, attempt: u32) -> Decision {
        match &outcome.end {
            End::Ignored { .. } | End::Duplicate | End::Archived => Decision::Ack,
            End::Invalid(error) => Decision::Dead(Death {
                reason: Reason::EventInvalid,
                detail: error.to_string(),
            }),
            End::NotOurs(_) => match self.delays.first() {
                Some(delay) => Decision::Retry {
                    delay: *delay,
                    charged: false,
                },
                None => Decision::Requeue,
            },
            End::Partial(errors) => self.decide_partial(errors, outcome.entries.len(), attempt),
        }
    }

    /// As long as anything may still come, it is tried again; then the most telling reason is named.
    fn decide_partial(&self, errors: &[FetchError], attachments: usize, attempt: u32) -> Decision {
        let may_pass = errors.iter().any(|error| self.may_pass(error, attempt));
        let delay = usize::try_from(attempt.saturating_sub(1))
            .ok()
            .and_then(|at| self.delays.get(at));
        if let (true, Some(delay)) = (may_pass, delay) {
            return Decision::Retry {
                delay: *delay,
                charged: true,
            };
        }
        let worst = errors
            .iter()
            .map(|error| (self.reason(error, attempt), error));
        match worst.min_by_key(|(reason, _)| *reason) {
            Some((reason, error)) => {
                let missing = errors.len();
                let detail =
                    format!("{missing} of {attachments} attachments could not be had: {error}");
                Decision::Dead(Death { reason, detail })
            }
            None => Decision::Ack,
        }
    }

    fn may_pass(&self, error: &FetchError, attempt: u32) -> bool {
        match error.class() {
            Class::MayPass | Class::NotOurs => true,
            Class::Refused => attempt < self.refusals,
            Class::Final => false,
        }
    }

    fn reason(&self, error: &FetchError, attempt: u32) -> Reason {
        match error {
            FetchError::Forbidden(_) => Reason::UrlForbidden,
            FetchError::TooLarge { .. } => Reason::TooLarge,
            error if self.may_pass(error, attempt) => Reason::RetriesExhausted,
            _ => Reason::AttachmentUnavailable,
        }
    }
}
