use reqwest::StatusCode;

use super::*;
use crate::{event::EventError, fetch::guard::Forbidden, pipeline::Fault};

const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;
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
        NOW,
    )
}

/// Attachments whose URLs never expire.
fn partial(errors: Vec<FetchError>) -> End {
    let missing = |error| Missing {
        error,
        expires: None,
    };
    End::Partial(errors.into_iter().map(missing).collect())
}

fn status(code: u16) -> FetchError {
    FetchError::Status {
        status: StatusCode::from_u16(code).unwrap(),
        retry_after: None,
    }
}

fn forbidden() -> FetchError {
    Forbidden::Scheme {
        scheme: "ftp".into(),
    }
    .into()
}

fn retry(delay: usize) -> Decision {
    super::retry(DELAYS[delay])
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
    assert_eq!(
        nowhere.decide(&outcome, 1, NOW),
        Decision::Requeue { after: SOON }
    );
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
        let errors = || partial(vec![status(503)]);
        assert_eq!(decide(errors(), 1), retry(0), "{code}");
        assert_eq!(decide(errors(), 2), retry(1), "{code}");
        let rules = Rules {
            delays: DELAYS.to_vec(),
            refusals: 2,
        };
        let outcome = Outcome {
            ids: None,
            end: partial(vec![error]),
            entries: Vec::new(),
        };
        assert!(
            matches!(rules.decide(&outcome, 1, NOW), Decision::Retry { .. }),
            "{code}"
        );
        assert!(
            matches!(rules.decide(&outcome, 3, NOW), Decision::Dead(d) if d.reason == Reason::RetriesExhausted),
            "{code}"
        );
    }
}

#[test]
fn a_refusal_may_pass_at_first_and_is_then_final() {
    for code in [401, 403, 404, 410] {
        assert_eq!(decide(partial(vec![status(code)]), 1), retry(0));
        let second = decide(partial(vec![status(code)]), 2);
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
        let Decision::Dead(death) = decide(partial(errors), 1) else {
            panic!("not dead for {reason:?}")
        };
        assert_eq!(death.reason, reason);
    }
}

#[test]
fn as_long_as_one_attachment_may_still_come_the_event_is_tried_again() {
    assert_eq!(decide(partial(vec![forbidden(), status(503)]), 1), retry(0));
    let last = decide(partial(vec![forbidden(), status(503)]), 3);
    assert!(matches!(last, Decision::Dead(death) if death.reason == Reason::UrlForbidden));
}

#[test]
fn a_panic_is_tried_again_elsewhere_and_is_then_dead() {
    assert_eq!(decide(End::Panicked, 1), retry(0));
    assert_eq!(decide(End::Panicked, 2), retry(1));
    let last = decide(End::Panicked, 3);
    assert!(matches!(last, Decision::Dead(death) if death.reason == Reason::RetriesExhausted));
}

#[test]
fn a_retry_comes_before_the_url_expires_and_when_the_origin_wants_it() {
    let seconds = Duration::from_secs;
    let rules = Rules {
        delays: [10, 60, 600, 3600].map(seconds).to_vec(),
        refusals: 9,
    };
    // (attempt, the URL is good for, Retry-After) -> delay
    for (attempt, left, asked, delay) in [
        (1, None, None, 10),
        (3, None, None, 600),
        (3, Some(601), None, 600),
        (3, Some(600), None, 60),
        (3, Some(61), None, 60),
        (4, Some(61), None, 60),
        (3, Some(11), None, 10),
        // None comes in time, or it is over already.
        (3, Some(10), None, 600),
        (3, Some(0), None, 600),
        (3, Some(-5), None, 600),
        (1, None, Some(0), 10),
        (1, None, Some(10), 10),
        (1, None, Some(11), 60),
        (1, None, Some(61), 600),
        (4, None, Some(5), 3600),
        // At most the longest delay, whatever is asked.
        (1, None, Some(3601), 3600),
        (1, None, Some(u64::MAX), 3600),
        // What it asks for is no use once the URL is over.
        (1, Some(100), Some(500), 60),
        (1, Some(5), Some(500), 600),
    ] {
        let error = FetchError::Status {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: asked.map(seconds),
        };
        let expires = left.map(|left| NOW + chrono::TimeDelta::seconds(left));
        let end = End::Partial(vec![Missing { error, expires }]);
        let outcome = Outcome {
            ids: None,
            end,
            entries: Vec::new(),
        };
        assert_eq!(
            rules.decide(&outcome, attempt, NOW),
            super::retry(seconds(delay)),
            "attempt {attempt}, good for {left:?} s, asked for {asked:?} s"
        );
    }
}

#[test]
fn an_expired_url_is_final_at_once() {
    let expired = FetchError::Expired {
        status: StatusCode::FORBIDDEN,
    };
    assert_eq!(expired.code(), "url_expired");
    let Decision::Dead(death) = decide(partial(vec![expired]), 1) else {
        panic!("not dead")
    };
    assert_eq!(death.reason, Reason::AttachmentUnavailable);
}
