//! From what became of a job to what becomes of its message. Pure: one table.
//!
//! A message is acknowledged only once its manifest is durable, or the message itself is safe in
//! another queue; so every decision but [`Decision::Ack`] names that queue, or gives the message back.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    fetch::{Class, FetchError},
    pipeline::{End, Missing, Outcome},
    telemetry::PANICKED,
};

/// The most problem codes that a detail counts up: it goes into a header.
const MOST_CODES: usize = 8;
/// How long a worker keeps a message that has no delay queue to wait in.
const SOON: Duration = Duration::from_secs(1);
/// The same where somebody has to mend something first.
const LATER: Duration = Duration::from_mins(1);

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
    /// Publish it to the work queue again, uncharged: there is no delay queue to wait in.
    Requeue {
        /// Keep it so long before.
        after: Duration,
    },
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
    pub fn decide(&self, outcome: &Outcome, attempt: u32, now: DateTime<Utc>) -> Decision {
        match &outcome.end {
            End::Ignored { .. } | End::Duplicate | End::Archived => Decision::Ack,
            End::Invalid(error) => Decision::Dead(Death {
                reason: Reason::EventInvalid,
                detail: error.to_string(),
            }),
            End::NotOurs(fault) => {
                // What no store answers may pass soon; what no worker can read hardly will.
                let (delay, after) = if fault.is_lasting() {
                    (self.delays.last(), LATER)
                } else {
                    (self.delays.first(), SOON)
                };
                let uncharged = |delay: &Duration| Decision::Retry {
                    delay: *delay,
                    charged: false,
                };
                delay.map_or(Decision::Requeue { after }, uncharged)
            }
            // Another version of callvault, or another machine, may get further with it.
            End::Panicked => match self.planned(attempt) {
                Some(delay) => retry(delay),
                None => Decision::Dead(Death {
                    reason: Reason::RetriesExhausted,
                    detail: PANICKED.into(),
                }),
            },
            End::Partial(missing) => {
                self.decide_partial(missing, outcome.entries.len(), attempt, now)
            }
        }
    }

    /// As long as anything may still come, it is tried again; then the most telling reason is named.
    fn decide_partial(
        &self,
        missing: &[Missing],
        attachments: usize,
        attempt: u32,
        now: DateTime<Utc>,
    ) -> Decision {
        let may_come = |missing: &&Missing| self.may_pass(&missing.error, attempt);
        let coming: Vec<_> = missing.iter().filter(may_come).collect();
        if let (false, Some(planned)) = (coming.is_empty(), self.planned(attempt)) {
            return retry(self.in_time(planned, &coming, now));
        }
        let worst = missing
            .iter()
            .map(|missing| (self.reason(&missing.error, attempt), &missing.error));
        match worst.min_by_key(|(reason, _)| *reason) {
            Some((reason, error)) => {
                let detail = detail(missing, attachments, error);
                Decision::Dead(Death { reason, detail })
            }
            None => Decision::Ack,
        }
    }

    /// The delay after the `attempt`th try, if there is to be another.
    fn planned(&self, attempt: u32) -> Option<Duration> {
        let at = usize::try_from(attempt.saturating_sub(1)).ok()?;
        self.delays.get(at).copied()
    }

    /// The planned delay, or a longer one where an origin asks to be left alone, or a shorter one where a
    /// URL expires before. Where each comes too late, the plan stands: an origin may be late, too.
    fn in_time(&self, planned: Duration, coming: &[&Missing], now: DateTime<Utc>) -> Duration {
        let asked = coming
            .iter()
            .filter_map(|missing| missing.error.retry_after())
            .max()
            .filter(|asked| *asked > planned);
        let wanted = asked.map_or(planned, |asked| {
            let long_enough = self.delays.iter().filter(|delay| **delay >= asked);
            let longest = self.delays.iter().max();
            long_enough.min().or(longest).copied().unwrap_or(planned)
        });
        let ends = coming.iter().filter_map(|missing| missing.expires);
        let left = ends
            .filter_map(|end| (end - now).to_std().ok())
            .filter(|left| !left.is_zero())
            .min();
        let in_time = |left: Duration| {
            let delays = self.delays.iter().filter(|delay| **delay < left);
            delays.max().copied()
        };
        match left {
            Some(left) if wanted >= left => in_time(left).unwrap_or(wanted),
            _ => wanted,
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

/// How many attachments are missing, the worst reason in words, and the codes of all where there are others.
fn detail(missing: &[Missing], attachments: usize, worst: &FetchError) -> String {
    let mut codes = BTreeMap::new();
    for Missing { error, .. } in missing {
        *codes.entry(error.code()).or_insert(0_usize) += 1;
    }
    let missing = missing.len();
    let words = format!("{missing} of {attachments} attachments could not be had: {worst}");
    if codes.len() == 1 {
        return words;
    }
    let codes = codes
        .iter()
        .map(|(code, count)| format!("{count} {code}"))
        .take(MOST_CODES);
    let codes: Vec<_> = codes.collect();
    format!("{words}; in all: {}", codes.join(", "))
}

fn retry(delay: Duration) -> Decision {
    Decision::Retry {
        delay,
        charged: true,
    }
}
