//! The dead-letter desk: looking changes nothing, and nothing is lost whenever it is interrupted.

mod many;
mod replaying;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use lapin::{
    BasicProperties,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
        BasicRejectOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::support::{amqp::Amqp, call, config::Setup, servers, wait::eventually, worker::command};

const DEADLINE: Duration = Duration::from_secs(30);

/// A configuration whose queues are there, and a connection to them.
async fn desk() -> (Setup, Amqp) {
    let setup = Setup::folders().await;
    declare(&setup);
    (setup, Amqp::connect(servers::rabbit().await).await)
}

/// Publishing declares the queues; nobody wants this event.
fn declare(setup: &Setup) {
    let event = setup.dir().join("started.json");
    fs::write(&event, call::STARTED).unwrap();
    let published = run(&setup.write(), &["publish", event.to_str().unwrap()]);
    assert_eq!(published.status.code(), Some(0), "{}", stderr(&published));
}

fn dead(setup: &Setup) -> String {
    format!("{}.dead", setup.queue())
}

fn with_config(config: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(arguments).arg("--config").arg(config);
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    with_config(config, arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Vec<Value> {
    let lines = stdout(output);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The lines of a `--json` report that are about `what`.
fn about<'a>(report: &'a [Value], what: &str) -> Vec<&'a Value> {
    report.iter().filter(|line| line["what"] == what).collect()
}

/// Dead as callvault makes them.
fn died(id: Option<&str>, reason: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("x-callvault-reason", reason),
        ("x-callvault-detail", "why it is dead"),
        ("x-callvault-failed-at", "2026-01-02T03:04:05Z"),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers.insert("x-callvault-attempt".into(), AMQPValue::LongUInt(3));
    headers.insert("traceparent".into(), AMQPValue::LongString("00-1".into()));
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    match id {
        Some(id) => properties.with_message_id(id.into()),
        None => properties,
    }
}

/// Publishes many at once, each confirmed.
async fn publish_all(
    amqp: &Amqp,
    queue: &str,
    messages: impl IntoIterator<Item = (BasicProperties, Vec<u8>)>,
) {
    let confirms = stream::iter(messages).map(async |(properties, body)| {
        let options = BasicPublishOptions::default();
        let publish =
            amqp.channel()
                .basic_publish("".into(), queue.into(), options, &body, properties);
        publish.await.unwrap().await.unwrap()
    });
    let mut confirms = std::pin::pin!(confirms.buffered(500));
    while let Some(confirm) = confirms.next().await {
        assert!(confirm.is_ack());
    }
}

/// So many small messages, numbered.
async fn publish_numbered(amqp: &Amqp, queue: &str, count: u32) {
    let numbered = (0..count).map(|n| {
        let id = format!("m-{n:05}");
        (died(Some(&id), "event_invalid"), id.into_bytes())
    });
    publish_all(amqp, queue, numbered).await;
}

async fn bodies(amqp: &Amqp, queue: &str) -> Vec<String> {
    let messages = amqp.take_all(queue).await;
    messages
        .into_iter()
        .map(|message| String::from_utf8(message.body).unwrap())
        .collect()
}

fn numbered(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("m-{n:05}")).collect()
}

#[tokio::test]
async fn a_list_counts_by_reason_tells_each_message_and_leaves_the_queue_as_it_was() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let event = call::with_urls(&["https://host/recording.wav?sig=canary"]);
    amqp.publish_with("", &queue, died(Some("r-1"), "too_large"), &event)
        .await;
    amqp.publish_with("", &queue, died(None, "event_invalid"), b"abc")
        .await;
    amqp.publish_with("", &queue, died(Some("r-3"), "event_invalid"), b"\xff")
        .await;

    for _ in 0..2 {
        let output = run(&config, &["dead", "list", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = json(&output);
        assert_eq!(
            about(&report, "queue"),
            [&json!({"what": "queue", "ready": 3, "seen": 3, "other_consumers": 0})]
        );
        assert_eq!(
            about(&report, "reason"),
            [
                &json!({"what": "reason", "reason": "event_invalid", "count": 2}),
                &json!({"what": "reason", "reason": "too_large", "count": 1}),
            ]
        );
        let rows = about(&report, "message");
        let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["r-1", "ba7816bf8f01cfea", "r-3"], "the oldest first");
        let mut first = rows[0].clone();
        assert!(first["age_s"].take().as_i64().unwrap() > 0);
        assert_eq!(first["sha256"].take().as_str().map(str::len), Some(64));
        assert_eq!(
            first,
            json!({
                "what": "message", "id": "r-1", "message_id": "r-1", "sha256": null,
                "call_id": "5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15", "reason": "too_large",
                "detail": "why it is dead", "attempt": 3, "replays": 0,
                "died_at": "2026-01-02T03:04:05Z", "age_s": null, "bytes": event.len(),
            })
        );
        assert_eq!(rows[1]["call_id"], Value::Null);
    }

    let output = run(&config, &["dead", "list"]);
    let text = stdout(&output);
    assert!(
        text.starts_with("3 dead letters\n      2  event_invalid\n      1  too_large\n"),
        "{text}"
    );
    assert!(text.contains("why it is dead"), "{text}");
    for canary in ["canary", "4244023931", "2183925232"] {
        assert!(!text.contains(canary), "{text}");
    }
    let output = run(
        &config,
        &["dead", "list", "--reason", "event_invalid", "--limit", "1"],
    );
    let text = stdout(&output);
    assert!(
        text.starts_with("2 dead letters\n") && text.ends_with("and 1 more\n"),
        "{text}"
    );
    assert!(
        text.contains("ba7816bf8f01cfea") && !text.contains("r-3"),
        "{text}"
    );

    let left = amqp.take_all(&queue).await;
    let left: Vec<_> = left.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(left, [&event[..], b"abc", b"\xff"]);
}

#[tokio::test]
async fn what_killed_its_worker_each_time_says_delivery_limit() {
    let (setup, amqp) = desk().await;
    amqp.publish("", setup.queue(), Some("poison"), b"{}").await;
    eventually(DEADLINE, "the delivery limit", async || {
        let get = BasicGetOptions::default();
        let got = amqp.channel().basic_get(setup.queue().into(), get).await;
        if let Some(got) = got.unwrap() {
            let reject = BasicRejectOptions { requeue: true };
            assert!(got.delivery.reject(reject).await.unwrap());
        }
        (amqp.count(&dead(&setup)).await == Some(1)).then_some(())
    })
    .await;
    let output = run(&setup.write(), &["dead", "list", "--json"]);
    let report = json(&output);
    let row = about(&report, "message")[0];
    assert_eq!(row["reason"], "delivery_limit");
    assert!(row["age_s"].as_i64().is_some_and(|age| age < 120), "{row}");
    assert_eq!(
        (&row["attempt"], &row["detail"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn no_header_and_no_body_reaches_the_terminal_raw_or_breaks_the_desk() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let escape = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}\r\n";
    let mut headers = FieldTable::default();
    for name in ["x-callvault-reason", "x-callvault-detail", "evil\u{1b}[2J"] {
        headers.insert(name.into(), AMQPValue::LongString(escape.into()));
    }
    headers.insert(
        "x-callvault-attempt".into(),
        AMQPValue::LongString("7".into()),
    );
    headers.insert("x-callvault-failed-at".into(), AMQPValue::Double(1.5));
    headers.insert("x-callvault-replays".into(), AMQPValue::LongInt(-1));
    headers.insert("x-death".into(), AMQPValue::FieldTable(headers.clone()));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_message_id(escape.into());
    let body = [escape.as_bytes(), b"\xff\x00"].concat();
    amqp.publish_with("", &queue, properties, &body).await;
    amqp.publish_with("", &queue, BasicProperties::default(), b"")
        .await;

    for arguments in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show", "--all"],
        &["dead", "show", "--all", "--json"],
        &["dead", "replay", "--all", "--dry-run"],
        &["dead", "drop", escape, "--dry-run"],
        &["dead", "drop", "--all", "--dry-run", "--json"],
    ] {
        let output = run(&config, arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        for text in [stdout(&output), stderr(&output)] {
            let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(raw), "{arguments:?}: {text:?}");
        }
        if arguments.contains(&"--json") {
            assert_eq!(
                json(&output)[..]
                    .iter()
                    .filter(|l| l["what"] == "message")
                    .count(),
                2
            );
        }
    }
    let output = run(&config, &["dead", "show", "--all", "--json"]);
    let shown = json(&output);
    assert_eq!(shown[0]["message_id"], escape);
    assert_eq!(shown[0]["headers"]["x-callvault-detail"], escape);
    assert_eq!(shown[0]["body_base64"], "G10wO293bmVkB8KbMkrigK4NCv8A");
    assert_eq!(
        (&shown[1]["body"], &shown[1]["reason"]),
        (&json!(""), &json!("unknown"))
    );
    assert_eq!(amqp.count(&queue).await, Some(2));
}

#[tokio::test]
async fn a_drop_needs_a_yes_and_deletes_what_is_named_alone() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 5).await;
    amqp.publish_with("", &queue, died(Some("x"), "too_large"), b"x")
        .await;

    let output = run(&config, &["dead", "drop", "--all"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--yes"), "{}", stderr(&output));
    let output = run(&config, &["dead", "drop"]);
    assert_eq!(output.status.code(), Some(2), "nothing is named");
    let output = run(&config, &["dead", "drop", "--all", "--dry-run"]);
    assert!(stdout(&output).ends_with("6 dead letters would be dropped\n"));
    assert_eq!(amqp.count(&queue).await, Some(6));

    let output = run(&config, &["dead", "drop", "m-00002", "--yes", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        json(&output),
        [
            json!({"what": "message", "id": "m-00002", "call_id": null, "reason": "event_invalid", "outcome": "dropped"}),
            json!({"what": "total", "outcome": "dropped", "count": 1, "not_found": [], "interrupted": false}),
        ]
    );
    let output = run(&config, &["dead", "drop", "--reason", "too_large", "--yes"]);
    assert_eq!(stdout(&output), "1 dead letter dropped\n");
    let output = run(&config, &["dead", "drop", "gone", "--yes"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        bodies(&amqp, &queue).await,
        ["m-00000", "m-00001", "m-00003", "m-00004"]
    );
    assert_eq!(amqp.count(setup.queue()).await, Some(0));
}

#[tokio::test]
async fn a_desk_ends_and_says_so_where_others_hold_messages() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 3).await;
    let other = Amqp::connect(servers::rabbit().await).await;
    let qos = other.channel().basic_qos(1, BasicQosOptions::default());
    qos.await.unwrap();
    let consume = other.channel().basic_consume(
        queue.as_str().into(),
        "other".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let _held = consume.await.unwrap();
    amqp.wait_count(&queue, 2).await;
    let output = run(&config, &["dead", "list"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("2 dead letters\n"));
    assert!(
        stderr(&output).contains("1 other consumers"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn two_desks_at_once_end_and_lose_nothing() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 2000).await;
    let lists: Vec<_> = (0..2)
        .map(|_| {
            let mut list = with_config(&config, &["dead", "list", "--json"]);
            list.stdout(Stdio::piped()).stderr(Stdio::piped());
            list.spawn().unwrap()
        })
        .collect();
    for list in lists {
        let output = list.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let report = json(&output);
        let seen = about(&report, "message").len();
        let told = stderr(&output).contains("others are at the queue")
            || stderr(&output).contains("other consumers are at the queue");
        assert!(seen == 2000 || told, "{seen}: {}", stderr(&output));
    }
    let left: BTreeSet<_> = bodies(&amqp, &queue).await.into_iter().collect();
    assert!(left.into_iter().eq(numbered(2000)));
}

#[tokio::test]
async fn without_a_queue_or_a_broker_a_desk_says_what_is_missing() {
    let mut setup = Setup::folders().await;
    let output = run(&setup.write(), &["dead", "list"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "0 dead letters\n");
    assert!(
        stderr(&output).contains("there is no queue"),
        "{}",
        stderr(&output)
    );
    let amqp = Amqp::connect(servers::rabbit().await).await;
    assert_eq!(
        amqp.count(&dead(&setup)).await,
        None,
        "a desk declares nothing"
    );
    let output = run(&setup.write(), &["dead", "show", "r-1"]);
    assert_eq!(output.status.code(), Some(1));

    setup.set("queue", "declare", "false");
    let output = run(&setup.write(), &["dead", "list"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("is not there"),
        "{}",
        stderr(&output)
    );

    setup.set("queue", "url", "\"amqp://guest:canary@127.0.0.1:1/%2f\"");
    for arguments in [&["dead", "list"][..], &["dead", "drop", "--all", "--yes"]] {
        let output = run(&setup.write(), arguments);
        assert_eq!(output.status.code(), Some(3));
        let said = stderr(&output);
        assert!(
            said.contains("127.0.0.1:1") && !said.contains("canary"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_is_told_beside_the_message() {
    let mut setup = Setup::new(servers::rabbit().await);
    for bucket in crate::support::config::BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"s3://b\"\noptions = {{ endpoint = \"http://127.0.0.1:1\", region = \"us-east-1\", \
             allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n"
        ));
    }
    declare(&setup);
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let event = call::with_urls(&[]);
    amqp.publish_with("", &dead(&setup), died(Some("r-1"), "too_large"), &event)
        .await;
    let output = run(&setup.write(), &["dead", "show", "r-1"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("cannot tell") && text.contains("+14244023931"),
        "{text}"
    );
}

#[tokio::test]
async fn a_list_on_a_narrow_terminal_fits_it_and_cuts_nothing() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let event = call::with_urls(&["https://host/recording.wav"]);
    let id = "00552b38-d0e7-460f-9877-a7c8c8b2ff8c";
    amqp.publish_with("", &queue, died(Some(id), "attachment_unavailable"), &event)
        .await;
    // util-linux's `script` gives the program a terminal.
    let list = |columns: &str| {
        let line = format!(
            "{} dead list --config {}",
            env!("CARGO_BIN_EXE_callvault"),
            config.display()
        );
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("COLUMNS", columns)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stdout(&output));
        stdout(&output).replace('\r', "")
    };
    let narrow = list("40");
    for line in narrow.lines() {
        assert!(line.chars().count() <= 40, "{line:?} in\n{narrow}");
    }
    let words = narrow.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in [
        &format!("{id} attachment_unavailable,"),
        "tries 3, replays 0, call 5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15",
        "why it is dead",
    ] {
        assert!(words.contains(text), "no {text:?} in\n{narrow}");
    }
    let wide = list("400");
    assert!(wide.contains("id    ") && wide.contains(id), "{wide}");
}

#[tokio::test]
async fn of_an_attachment_that_lacks_the_file_is_told_and_of_a_short_prefix_what_it_takes() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let event = call::with_urls(&[
        "http://127.0.0.1:1/a/one.wav?sig=canary",
        "http://127.0.0.1:1/b/two.wav",
    ]);
    let file = setup.dir().join("event.json");
    fs::write(&file, &event).unwrap();
    run(&config, &["archive", file.to_str().unwrap()]);
    amqp.publish_with(
        "",
        &queue,
        died(Some("r-1"), "attachment_unavailable"),
        &event,
    )
    .await;
    let text = stdout(&run(&config, &["dead", "show", "r-1"]));
    for line in [
        "unavailable other one.wav (connect)",
        "unavailable other two.wav (connect)",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }

    let told = |id: &str| {
        let output = run(&config, &["dead", "show", id]);
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    assert!(
        told("97fe").contains(
            "no dead letter is named 97fe: of a body's SHA-256 it takes at least 8 digits"
        )
    );
    assert!(!told("97fe97fe").contains("at least"));
    assert!(!told("r-2").contains("at least"));
}
