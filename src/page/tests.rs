use axum::body::to_bytes;
use chrono::{TimeDelta, Utc};

use super::*;
use crate::{
    config::SetBy,
    status::{Attachments, Broker, Doing, Down, InFlight, Part, Queue, Stopping, Totals, Used},
};

const JOB_TIME: Duration = Duration::from_mins(20);

pub(super) fn snapshot() -> Snapshot {
    let at = Utc::now();
    let events = [
        "archived",
        "partial",
        "duplicate",
        "ignored",
        "retried",
        "dead",
    ];
    Snapshot {
        at,
        started: at - TimeDelta::hours(30),
        version: "1.2.3",
        not_ready: Vec::new(),
        stopping: None,
        broker: Broker {
            connected: true,
            since: at - TimeDelta::hours(2),
            last_delivery: Some(at - TimeDelta::seconds(3)),
        },
        queues: vec![Queue {
            name: "callvault".to_owned(),
            messages: 0,
            consumers: 2,
        }],
        prefetch: 32,
        in_flight: Vec::new(),
        parts: vec![
            part("the broker", None),
            part("bucket documents", None),
            part("bucket recordings", None),
            part("the spool folder", None),
            part("queue callvault", None),
        ],
        memory: Used {
            used: 5 << 20,
            of: 256 << 20,
        },
        spool: Used {
            used: 0,
            of: 20 << 30,
        },
        totals: Totals {
            events: events.map(|outcome| (outcome.to_owned(), 0)).into(),
            attachments: vec![Attachments {
                kind: "recording".to_owned(),
                archived: 0,
                quarantined: 0,
                unavailable: 0,
                bytes: 0,
            }],
            problems: Vec::new(),
            late_settlements: 0,
        },
    }
}

fn part(name: &str, down: impl Into<Option<Down>>) -> Part {
    Part {
        name: name.to_owned(),
        bucket: name.strip_prefix("bucket ").map(str::to_owned),
        down: down.into(),
    }
}

fn down(error: &str, waiting: usize) -> Down {
    Down {
        since: Utc::now() - TimeDelta::minutes(4),
        age: Duration::from_mins(4),
        waiting,
        holds_up: waiting > 0,
        error: error.to_owned(),
    }
}

fn flying(seconds: u64) -> InFlight {
    let doing = |words: &str| Doing {
        words: words.to_owned(),
        age: Duration::from_secs(seconds),
    };
    InFlight {
        age: Duration::from_secs(seconds),
        attempt: 1,
        call_id: Some(format!("call-{seconds}")),
        request_id: Some(format!("request-{seconds}")),
        stages: vec![doing("fetching recording"), doing("fetching transcript")],
        received: 1 << 20,
    }
}

fn page() -> Page {
    let shown = Shown {
        section: "queue".to_owned(),
        key: "prefetch".to_owned(),
        value: "32".to_owned(),
        from: SetBy::Nobody,
    };
    Page::new(Arc::new(Status::idle()), vec![shown], JOB_TIME)
}

fn text(now: &Snapshot) -> String {
    page().render(now, false).into_string()
}

#[track_caller]
fn assert_says(now: &Snapshot, expected: &[&str]) {
    let text = text(now);
    for expected in expected {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
}

#[tokio::test]
async fn the_first_line_says_what_it_is_waiting_for() {
    let mut now = snapshot();
    assert_says(
        &now,
        &[
            ">OK<",
            "Consuming: nothing in flight, the last event came 3 s ago",
        ],
    );
    now.in_flight = vec![flying(700), flying(3)];
    assert_says(
        &now,
        &[
            "Consuming: 2 events in flight, of at most 32",
            "1 event is in flight for more than half of the 20 min that limits.job_time allows.",
        ],
    );
    // Nobody waits for it: it holds nothing up.
    now.parts[1] = part("bucket documents", down("refused", 0));
    assert_says(&now, &[">OK<", "failed last"]);
    now.parts[2] = part("bucket recordings", down("connection refused", 3));
    now.not_ready = vec!["bucket recordings does not work".to_owned()];
    assert_says(
        &now,
        &[
            ">WAITING<",
            "Waiting for bucket recordings, down for 4 min<",
            "3 operations wait for it.",
            ">Connection refused.<",
        ],
    );
    now.parts[3] = part("the spool folder", down("no space left", 1));
    assert_says(
        &now,
        &[
            "Waiting for bucket recordings and the spool folder, down for 4 min<",
            "<li>The spool folder does not work. No space left. 1 operation waits for it.</li>",
        ],
    );
    now.stopping = Some(Stopping {
        left: Duration::from_secs(12),
    });
    assert_says(
        &now,
        &[
            ">STOPPING<",
            "Stopping: 2 events left, 12 s of grace",
            "<li>Bucket recordings does not work.",
        ],
    );
    let mut now = snapshot();
    now.broker.connected = false;
    now.not_ready = vec!["not consuming: cannot connect".to_owned()];
    assert_says(
        &now,
        &[
            ">NOT READY<",
            "Not consuming for 2 h",
            "Not consuming: cannot connect.",
            "without the broker",
        ],
    );
    now.broker.connected = true;
    now.not_ready = vec![
        "messages wait but none come".to_owned(),
        "and so on".to_owned(),
    ];
    assert_says(
        &now,
        &[
            "Not ready<",
            "Messages wait but none come.",
            "<li>And so on.</li>",
        ],
    );
}

#[tokio::test]
async fn thousands_of_events_and_hundreds_of_codes_make_no_longer_page_than_a_person_reads() {
    let mut now = snapshot();
    now.in_flight = (0..1_000).rev().map(flying).collect();
    for event in &mut now.in_flight {
        event.stages = vec![event.stages[0].clone(); 8];
    }
    now.totals.problems = (100..600)
        .map(|code| (format!("http_{code}"), code))
        .collect();
    let text = text(&now);
    assert!(text.contains("1,000 fetching recording."), "{text}");
    assert!(text.contains("And 988 younger ones"), "{text}");
    assert!(text.contains("call-999<") && !text.contains("call-987<"));
    assert!(text.contains("and 5 more"));
    assert!(text.contains("And 470 more codes, in /metrics."));
    assert!(text.len() < 64 << 10, "{}", text.len());
    let still = page().render(&now, true).into_string();
    assert!(still.contains("And 800 younger ones.") && still.contains("call-800<"));
    assert!(still.len() < 256 << 10, "{}", still.len());
}

#[tokio::test]
async fn whatever_is_told_is_text_and_not_markup() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x>";
    let mut now = snapshot();
    now.parts.push(part(HOSTILE, down(HOSTILE, 1)));
    now.not_ready = vec![HOSTILE.to_owned(); 2];
    now.queues[0].name = HOSTILE.to_owned();
    now.parts.push(part(&format!("queue {HOSTILE}"), None));
    now.totals.problems = vec![(HOSTILE.to_owned(), 1)];
    let mut event = flying(1);
    event.call_id = Some(HOSTILE.to_owned());
    event.request_id = Some(HOSTILE.to_owned());
    event.stages[0].words = HOSTILE.to_owned();
    now.in_flight = vec![event];
    let shown = Shown {
        section: HOSTILE.to_owned(),
        key: HOSTILE.to_owned(),
        value: HOSTILE.to_owned(),
        from: SetBy::Variable(HOSTILE.to_owned()),
    };
    let text = Page::new(Arc::new(Status::idle()), vec![shown], JOB_TIME)
        .render(&now, true)
        .into_string();
    assert!(text.matches("&lt;script&gt;").count() >= 10, "{text}");
    assert!(
        !text.contains("<script") && !text.contains("<img"),
        "{text}"
    );
}

async fn asked(host: &'static str, query: Option<&str>) -> (StatusCode, HeaderMap, String) {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static(host));
    let answer = page().answer(&headers, query);
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    (
        head.status,
        head.headers,
        String::from_utf8(body.into()).unwrap(),
    )
}

#[tokio::test]
async fn nothing_can_run_or_be_loaded_on_the_page_and_its_style_is_the_one_that_is_allowed() {
    let (status, headers, text) = asked("127.0.0.1:9090", None).await;
    assert_eq!(status, StatusCode::OK);
    let policy = headers["content-security-policy"].to_str().unwrap();
    let style = text
        .split("<style>")
        .nth(1)
        .unwrap()
        .split("</style>")
        .next()
        .unwrap();
    let hash = BASE64_STANDARD.encode(Sha256::of(style.as_bytes()).as_bytes());
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(
        policy.contains(&format!("style-src 'sha256-{hash}'")),
        "{policy}"
    );
    assert!(
        !text.contains(" style="),
        "a style that the policy refuses: {text}"
    );
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-type", "text/html; charset=utf-8"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(headers[name], value);
    }
}

#[tokio::test]
async fn the_page_that_stands_still_has_the_configuration_unfolded() {
    let (_, _, moving) = asked("localhost", None).await;
    assert!(moving.contains("http-equiv=\"refresh\"") && !moving.contains("<details"));
    let (_, _, still) = asked("localhost", Some("still")).await;
    assert!(
        !still.contains("http-equiv") && still.contains("<details open>"),
        "{still}"
    );
    assert!(still.contains("<code>prefetch</code>"), "{still}");
}

#[tokio::test]
async fn a_name_that_anybody_may_own_does_not_get_the_page() {
    let (status, _, text) = asked("attacker.example:9090", None).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST);
    assert!(
        text.starts_with("This page answers to") && !text.contains("<html"),
        "{text}"
    );
}

#[test]
fn each_code_that_is_counted_has_a_meaning() {
    for code in crate::metrics::CODES {
        let (what, _) = problems::meaning(code);
        assert!(
            !what.is_empty() && !what.ends_with("failed its check"),
            "{code}: {what}"
        );
    }
}
