//! The dead-letter desk: looking changes nothing, and nothing is lost whenever it is interrupted.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
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

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::Origin,
    servers,
    wait::eventually,
    worker::{Worker, command},
};

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
async fn a_replay_starts_anew_a_second_death_tells_of_it_and_what_is_stored_is_not_fetched_again() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let config = setup.write();
    origin.put("/analysis.json", "{\"a\": 1}", "application/json");
    let event = call::with_urls(&[&origin.url("/analysis.json"), &origin.url("/recording.wav")]);
    let worker = Worker::start(&config);
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", Some("r-1"), &event)
        .await;
    for replays in 0..=2 {
        amqp.wait_count(&dead(&setup), 1).await;
        let output = run(&config, &["dead", "show", "r-1", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let shown = &json(&output)[0];
        assert_eq!(shown["replays"], replays);
        assert_eq!(
            (&shown["reason"], &shown["attempt"]),
            (&json!("attachment_unavailable"), &json!(2))
        );
        assert_eq!(
            shown["body"].as_str().unwrap().as_bytes(),
            event,
            "byte for byte"
        );
        let archive = &shown["archive"];
        assert_eq!(
            (&archive["state"], &archive["status"], &archive["key"]),
            (
                &json!("manifest"),
                &json!("partial"),
                &json!(call::MANIFEST)
            )
        );
        assert_eq!(archive["attachments"][0]["object"]["size"], 8);
        assert_eq!(archive["attachments"][1]["problem"]["code"], "http_404");
        if replays == 2 {
            origin.put("/recording.wav", call::wav(800), "audio/x-wav");
        }
        let output = run(&config, &["dead", "replay", "r-1"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), "1 dead letter replayed\n");
        if replays < 2 {
            let again = format!("{} refusals", 2 * (replays + 2));
            eventually(DEADLINE, &again, async || {
                (origin.hits("/recording.wav") == 2 * (replays + 2)).then_some(())
            })
            .await;
        }
    }
    worker.wait_log("outcome=\"archived\"").await;
    assert_eq!(origin.hits("/analysis.json"), 1, "it was stored");
    assert_eq!(amqp.count(&dead(&setup)).await, Some(0));
    let manifest = fs::read(setup.folder("documents").join(call::MANIFEST)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        (&manifest["status"], &manifest["event"]["attempt"]),
        (&json!("complete"), &json!(1))
    );
}

#[tokio::test]
async fn a_replay_takes_what_is_named_and_leaves_the_rest_in_its_place() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let messages = [
        (died(Some("a"), "too_large"), b"1".to_vec()),
        (died(Some("twins"), "event_invalid"), b"2".to_vec()),
        (died(None, "too_large"), b"abc".to_vec()),
        (died(Some("twins"), "too_large"), b"3".to_vec()),
        (died(Some("b"), "event_invalid"), b"4".to_vec()),
    ];
    publish_all(&amqp, &queue, messages).await;

    let arguments = ["dead", "replay", "twins", "ba7816bf", "nobody", "--json"];
    let output = run(&config, &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("no dead letter is named nobody"));
    let report = json(&output);
    let ids: Vec<_> = about(&report, "message")
        .iter()
        .map(|line| (line["id"].clone(), line["outcome"].clone()))
        .collect();
    let replayed = |id: &str| (json!(id), json!("replayed"));
    assert_eq!(
        ids,
        [
            replayed("twins"),
            replayed("ba7816bf8f01cfea"),
            replayed("twins")
        ]
    );
    assert_eq!(
        report.last().unwrap(),
        &json!({"what": "total", "outcome": "replayed", "count": 3, "not_found": ["nobody"], "interrupted": false})
    );
    let back = amqp.take_all(setup.queue()).await;
    for message in &back {
        assert_eq!(message.number("x-callvault-replays"), Some(1));
        assert_eq!(message.text("traceparent").as_deref(), Some("00-1"));
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        for gone in ["attempt", "reason", "detail", "failed-at"] {
            assert!(
                message.header(&format!("x-callvault-{gone}")).is_none(),
                "{gone}"
            );
        }
    }
    let back: Vec<_> = back.iter().map(|message| message.body.as_slice()).collect();
    assert_eq!(back, [&b"2"[..], b"abc", b"3"]);

    let output = run(&config, &["dead", "replay", "--reason", "too_large"]);
    assert_eq!(stdout(&output), "1 dead letter replayed\n");
    assert_eq!(bodies(&amqp, setup.queue()).await, ["1"]);
    assert_eq!(bodies(&amqp, &queue).await, ["4"]);
}

#[tokio::test]
async fn a_replay_killed_in_the_middle_loses_nothing_and_doubles_one_at_most() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 300).await;
    for _ in 0..3 {
        let before = amqp.count(setup.queue()).await.unwrap();
        let mut replay = with_config(&config, &["dead", "replay", "--all", "--rate", "200/s"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually(DEADLINE, "some replays", async || {
            (amqp.count(setup.queue()).await.unwrap() > before + 10).then_some(())
        })
        .await;
        replay.kill().unwrap();
        replay.wait().unwrap();
        // Until the broker has noticed and taken back what was held.
        eventually(DEADLINE, "the rest to come back", async || {
            let both = amqp.count(setup.queue()).await? + amqp.count(&queue).await?;
            (both >= 300).then_some(())
        })
        .await;
    }
    let replayed = bodies(&amqp, setup.queue()).await;
    let rest = bodies(&amqp, &queue).await;
    assert!(replayed.len() < 300, "it was not killed in the middle");
    let doubled = replayed.len() + rest.len() - 300;
    assert!(doubled <= 3, "{doubled} are there twice after three kills");
    let mut in_order = rest.clone();
    in_order.sort();
    assert_eq!(rest, in_order, "the rest is in its place");
    let all: BTreeSet<_> = replayed.into_iter().chain(rest).collect();
    assert!(all.into_iter().eq(numbered(300)), "some are lost");
}

#[tokio::test]
async fn a_signal_stops_a_replay_between_two_messages() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 300).await;
    let replay = with_config(&config, &["dead", "replay", "--all", "--rate", "100/s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually(DEADLINE, "some replays", async || {
        (amqp.count(setup.queue()).await.unwrap() > 10).then_some(())
    })
    .await;
    let interrupt = Command::new("kill")
        .args(["-INT", &replay.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let output = replay.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("stopped by a signal"),
        "{}",
        stderr(&output)
    );
    let replayed = bodies(&amqp, setup.queue()).await;
    assert_eq!(
        stdout(&output),
        format!("{} dead letters replayed\n", replayed.len())
    );
    assert!(replayed.len() < 300);
    let rest = bodies(&amqp, &queue).await;
    let all: Vec<_> = replayed.into_iter().chain(rest).collect();
    assert_eq!(all, numbered(300), "each one once, and in order");
}

#[tokio::test]
async fn a_replay_that_the_work_queue_does_not_take_leaves_everything() {
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    publish_numbered(&amqp, &queue, 3).await;
    amqp.delete(setup.queue()).await;
    let output = run(&config, &["dead", "replay", "--all"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "0 dead letters replayed\n");
    assert!(
        stderr(&output).contains("no queue takes"),
        "{}",
        stderr(&output)
    );
    assert_eq!(bodies(&amqp, &queue).await, numbered(3));
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

/// The most memory that a process had so far, in MiB.
fn most_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn ten_thousand_messages_are_not_held_in_memory() {
    const COUNT: u32 = 10_000;
    /// What the program takes with a single message, debug build and AMQP buffers included, is about half
    /// of it; the bodies together are twice as much.
    const MOST_MIB: u64 = 90;
    let (setup, amqp) = desk().await;
    let (config, queue) = (setup.write(), dead(&setup));
    let messages = (0..COUNT).map(|n| {
        let id = format!("m-{n:05}");
        let mut body = id.clone().into_bytes();
        body.resize(12 << 10, b' ');
        (died(Some(&id), "event_invalid"), body)
    });
    publish_all(&amqp, &queue, messages).await;

    // Once the first line is there, all messages were seen; and the pipe is too small for the rest.
    let mut list = with_config(&config, &["dead", "list"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(list.stdout.take().unwrap());
    let mut report = String::new();
    lines.read_line(&mut report).unwrap();
    let memory = most_memory(list.id());
    lines.read_to_string(&mut report).unwrap();
    assert!(list.wait().unwrap().success());
    assert!(report.starts_with("10000 dead letters\n"), "{report:.200}");
    let ids = report.lines().filter_map(|line| line.strip_prefix("m-"));
    assert!(
        ids.map(|line| &line[..5])
            .eq((0..COUNT).map(|n| format!("{n:05}"))),
        "in order"
    );
    assert!(memory < MOST_MIB, "list took {memory} MiB");

    let mut replay = with_config(&config, &["dead", "replay", "m-09998"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut memory = 0;
    eventually(DEADLINE, "the replay", async || {
        if replay.try_wait().unwrap().is_some() {
            return Some(());
        }
        memory = memory.max(most_memory_if_running(replay.id()));
        None
    })
    .await;
    assert!((1..MOST_MIB).contains(&memory), "replay took {memory} MiB");
    assert_eq!(amqp.count(setup.queue()).await, Some(1));

    let output = run(&config, &["dead", "drop", "--all", "--yes"]);
    assert_eq!(
        stdout(&output),
        "9999 dead letters dropped\n",
        "{}",
        stderr(&output)
    );
    assert_eq!(
        amqp.count(&queue).await,
        Some(0),
        "each acknowledgement arrived"
    );
}

fn most_memory_if_running(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    if status.contains("VmHWM:") {
        most_memory(process)
    } else {
        0
    }
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
