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
    /// Publish it to the work queue again, uncharged: there is no delay queue to wait in.
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
            End::NotOurs(fault) => {
                // What no store answers may pass soon; what no worker can read hardly will.
                let lasting = fault.is_lasting();
                let delay = if lasting {
                    self.delays.last()
                } else {
                    self.delays.first()
                };
                let retry = |delay: &Duration| Decision::Retry {
                    delay: *delay,
                    charged: false,
                };
                delay.map_or(Decision::Requeue, retry)
            }
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

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::{event::EventError, fetch::guard::Forbidden, pipeline::Fault};

    const DELAYS: [Duration; 2] = [Duration::from_secs(10), Duration::from_mins(1)];

    fn decide(end: End, attempt: u32) -> Decision {
        let rules = Rules {
            delays: DELAYS.to_vec(),
            refusals: 2,
        };
        rules.decide(
            &Outcome {
                ids: None,
                end,
                entries: Vec::new(),
            },
            attempt,
        )
    }

    fn status(code: u16) -> FetchError {
        FetchError::Status {
            status: StatusCode::from_u16(code).unwrap(),
        }
    }

    fn forbidden() -> FetchError {
        Forbidden::Scheme {
            scheme: "ftp".into(),
        }
        .into()
    }

    fn retry(delay: usize) -> Decision {
        Decision::Retry {
            delay: DELAYS[delay],
            charged: true,
        }
    }

    #[test]
    fn what_is_done_is_acknowledged() {
        for end in [
            End::Archived,
            End::Duplicate,
            End::Ignored {
                event: "call.started".into(),
            },
        ] {
            assert_eq!(decide(end, 1), Decision::Ack);
        }
    }

    #[test]
    fn an_invalid_event_is_dead_at_once() {
        let Decision::Dead(death) = decide(End::Invalid(EventError::TooDeep), 1) else {
            panic!("not dead")
        };
        assert_eq!(death.reason, Reason::EventInvalid);
    }

    #[test]
    fn a_fault_of_ours_waits_and_charges_nothing() {
        let fault = || End::NotOurs(Fault::Spool(std::io::ErrorKind::StorageFull.into()));
        for attempt in [1, 2, 3, 50] {
            assert_eq!(
                decide(fault(), attempt),
                Decision::Retry {
                    delay: DELAYS[0],
                    charged: false
                }
            );
        }
        let nowhere = Rules {
            delays: Vec::new(),
            refusals: 2,
        };
        let outcome = Outcome {
            ids: None,
            end: fault(),
            entries: Vec::new(),
        };
        assert_eq!(nowhere.decide(&outcome, 1), Decision::Requeue);
    }

    #[test]
    fn what_may_pass_is_tried_after_each_delay_and_is_then_exhausted() {
        let may_pass = [408, 425, 429, 500, 502, 503, 504, 599].map(status);
        let more = [
            FetchError::Connect(String::new()),
            FetchError::Timeout(String::new()),
            FetchError::Tls(String::new()),
            FetchError::BodyIncomplete(String::new()),
        ];
        for error in may_pass.into_iter().chain(more) {
            let code = error.code();
            let errors = || End::Partial(vec![status(503)]);
            assert_eq!(decide(errors(), 1), retry(0), "{code}");
            assert_eq!(decide(errors(), 2), retry(1), "{code}");
            let rules = Rules {
                delays: DELAYS.to_vec(),
                refusals: 2,
            };
            let outcome = Outcome {
                ids: None,
                end: End::Partial(vec![error]),
                entries: Vec::new(),
            };
            assert!(
                matches!(rules.decide(&outcome, 1), Decision::Retry { .. }),
                "{code}"
            );
            assert!(
                matches!(rules.decide(&outcome, 3), Decision::Dead(d) if d.reason == Reason::RetriesExhausted),
                "{code}"
            );
        }
    }

    #[test]
    fn a_refusal_may_pass_at_first_and_is_then_final() {
        for code in [401, 403, 404, 410] {
            assert_eq!(decide(End::Partial(vec![status(code)]), 1), retry(0));
            let second = decide(End::Partial(vec![status(code)]), 2);
            assert!(
                matches!(second, Decision::Dead(death) if death.reason == Reason::AttachmentUnavailable)
            );
        }
    }

    #[test]
    fn what_will_never_pass_is_dead_with_the_most_telling_reason() {
        let too_large = || FetchError::TooLarge { most: 1 };
        for (errors, reason) in [
            (vec![status(400)], Reason::AttachmentUnavailable),
            (vec![status(204)], Reason::AttachmentUnavailable),
            (vec![status(302)], Reason::AttachmentUnavailable),
            (
                vec![FetchError::TooManyRedirects(3)],
                Reason::AttachmentUnavailable,
            ),
            (vec![status(400), too_large()], Reason::TooLarge),
            (
                vec![too_large(), forbidden(), status(400)],
                Reason::UrlForbidden,
            ),
        ] {
            let Decision::Dead(death) = decide(End::Partial(errors), 1) else {
                panic!("not dead for {reason:?}")
            };
            assert_eq!(death.reason, reason);
        }
    }

    #[test]
    fn as_long_as_one_attachment_may_still_come_the_event_is_tried_again() {
        assert_eq!(
            decide(End::Partial(vec![forbidden(), status(503)]), 1),
            retry(0)
        );
        let last = decide(End::Partial(vec![forbidden(), status(503)]), 3);
        assert!(matches!(last, Decision::Dead(death) if death.reason == Reason::UrlForbidden));
    }
}
