//! The commands, as their users run them.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    origin::{Origin, Reply},
    servers,
    wait::eventually,
    worker::{Worker, callvault, command},
};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program on a thread of its own: the origin of the test answers on this one.
async fn run(command: Command) -> Output {
    let mut command = command;
    tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap()
}

fn with_config(config: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command.args(arguments).arg("--config").arg(config);
    command
}

/// Two events, one a line, of which the second is the first with another request.
fn lines(event: &[u8]) -> String {
    let mut second: Value = serde_json::from_slice(event).unwrap();
    let first = second.to_string();
    second["request_id"] = "another".into();
    format!("{first}\n{second}\n")
}

#[tokio::test]
async fn archive_takes_a_document_lines_and_standard_input_and_tells_by_its_exit_code() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let config = setup.write();
    let event = call::served(&origin);
    let (document, many) = (
        setup.dir().join("event.json"),
        setup.dir().join("events.jsonl"),
    );
    fs::write(&document, &event).unwrap();
    fs::write(&many, lines(&event)).unwrap();

    let output = run(with_config(
        &config,
        &["archive", document.to_str().unwrap()],
    ))
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with("1 archived (3 attachments"),
        "{}",
        stdout(&output)
    );
    assert_eq!(stderr(&output), "", "no progress bar in a pipe");
    assert!(setup.folder("documents").join(call::MANIFEST).exists());

    let output = run(with_config(
        &config,
        &["archive", "--json", many.to_str().unwrap()],
    ))
    .await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut reports: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    reports.sort_by_key(|report| report["place"].to_string());
    let outcomes: Vec<_> = reports
        .iter()
        .map(|report| report["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["duplicate", "archived"]);

    let mut stdin = with_config(&config, &["archive", "-"]);
    let mut child = stdin
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(call::STARTED.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 ignored"), "{}", stdout(&output));
}

#[tokio::test]
async fn archive_exits_with_1_for_an_event_that_is_not_complete_and_with_2_for_a_missing_file() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let config = setup.write();
    let events = setup.dir().join("events.jsonl");
    let gone = call::with_urls(&[&origin.url("/gone/recording.wav")]);
    fs::write(
        &events,
        format!("{{broken\n{}\n", String::from_utf8_lossy(&gone)),
    )
    .unwrap();
    let output = run(with_config(&config, &["archive", events.to_str().unwrap()])).await;
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert!(
        report.contains("events.jsonl:1: invalid: the body is not JSON"),
        "{report}"
    );
    assert!(report.contains("the origin answered 404"), "{report}");
    assert!(
        report.contains("1 partial") && report.contains("1 invalid"),
        "{report}"
    );

    let output = run(with_config(&config, &["archive", "no-such-file"])).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("cannot read no-such-file"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn a_partial_archive_is_completed_by_a_later_one() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let config = setup.write();
    let events = setup.dir().join("event.json");
    fs::write(&events, call::with_recording(&origin, "/recording.wav")).unwrap();
    origin.first("/recording.wav", 1, &Reply::Status(404));
    let archive = || with_config(&config, &["archive", events.to_str().unwrap()]);
    assert_eq!(run(archive()).await.status.code(), Some(1));
    assert_eq!(run(archive()).await.status.code(), Some(0));
    let manifest = fs::read(setup.folder("documents").join(call::MANIFEST)).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["status"], "complete");
}

#[tokio::test]
async fn archive_shows_a_progress_bar_on_a_terminal() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let (config, events) = (setup.write(), setup.dir().join("event.json"));
    fs::write(&events, call::served(&origin)).unwrap();
    // util-linux's `script` gives the program a terminal.
    let program = env!("CARGO_BIN_EXE_callvault");
    let mut script = Command::new("script");
    let line = format!(
        "{program} archive --config {} {}",
        config.display(),
        events.display()
    );
    script
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null());
    let output = run(script).await;
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("of events"), "{}", stdout(&output));
}

#[tokio::test]
async fn publish_does_what_an_ingress_does() {
    let setup = Setup::folders().await;
    let config = setup.write();
    let events = setup.dir().join("events.jsonl");
    fs::write(&events, lines(call::ANALYZED.as_bytes())).unwrap();
    let output = run(with_config(&config, &["publish", events.to_str().unwrap()])).await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    assert!(
        stdout(&output).starts_with("2 published"),
        "{}",
        stdout(&output)
    );

    let amqp = Amqp::connect(servers::rabbit().await).await;
    let messages = amqp.take_all(setup.queue()).await;
    let ids: Vec<_> = messages
        .iter()
        .map(|message| message.message_id().unwrap())
        .collect();
    assert_eq!(ids, ["00552b38-d0e7-460f-9877-a7c8c8b2ff8c", "another"]);
    for (message, line) in messages
        .iter()
        .zip(lines(call::ANALYZED.as_bytes()).lines())
    {
        assert_eq!(message.body, line.as_bytes(), "byte for byte");
        assert_eq!(
            (message.exchange.as_str(), message.routing_key.as_str()),
            (setup.exchange().as_str(), "call.analyzed")
        );
        assert_eq!(*message.properties.delivery_mode(), Some(2));
        assert_eq!(
            message.properties.content_type().as_ref().unwrap().as_str(),
            "application/json"
        );
    }

    fs::write(&events, call::STARTED).unwrap();
    let output = run(with_config(&config, &["publish", events.to_str().unwrap()])).await;
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(stdout(&output).contains("unrouted"), "{}", stdout(&output));
    amqp.delete(setup.queue()).await;
    fs::write(&events, call::ANALYZED).unwrap();
    let publish = ["publish", events.to_str().unwrap()];
    let mut publish = with_config(&config, &publish);
    publish.env("CALLVAULT__QUEUE__DECLARE", "false");
    let output = run(publish).await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(
        stdout(&output).contains("unroutable"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn the_demo_needs_nothing_and_its_second_run_finds_everything_there() {
    let dir = tempfile::tempdir().unwrap();
    let demo = || callvault(["demo", "--dir", dir.path().to_str().unwrap()]);
    let output = demo();
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{report}{}", stderr(&output));
    for text in [
        "call.started",
        "pcm_s16le",
        "quarantined",
        "wav_truncated",
        "aplay",
    ] {
        assert!(report.contains(text), "no {text:?} in:\n{report}");
    }
    let recording = dir
        .path()
        .join("archive/recordings")
        .join(call::FOLDER)
        .join("recording.wav");
    let wav = hound::WavReader::open(recording).unwrap();
    assert!(
        wav.duration() / wav.spec().sample_rate > 10,
        "a call to listen to"
    );
    let output = demo();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stdout(&output).contains("all is there already"),
        "{}",
        stdout(&output)
    );
}

#[tokio::test]
async fn check_connect_reaches_the_broker_and_every_bucket_or_says_which_not() {
    let mut setup = Setup::s3().await;
    let output = run(with_config(&setup.write(), &["check", "--connect"])).await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    for bucket in BUCKETS {
        assert!(
            stdout(&output).contains(&format!("ok    bucket        {bucket}\n")),
            "{}",
            stdout(&output)
        );
    }

    setup.append("[buckets.nowhere]\nurl = \"s3://no-such-bucket-of-ours\"\noptions = { endpoint = \"http://127.0.0.1:1\", allow_http = \"true\", region = \"x\", access_key_id = \"canary-id\", secret_access_key = \"canary-key\" }");
    setup.set("queue", "url", "\"amqp://u:canary-pw@127.0.0.1:1/%2f\"");
    let output = run(with_config(&setup.write(), &["check", "--connect"])).await;
    let report = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{report}");
    assert!(
        report.contains("FAIL  broker")
            && report.contains("FAIL  bucket")
            && report.contains("nowhere"),
        "{report}"
    );
    assert!(
        !report.contains("canary") && !stderr(&output).contains("canary"),
        "{report}"
    );
}

const MISTAKES: &str = r#"
[queue]
url = "amqp://guest:canary@broker/%2f"
prefetsch = 4
retry_delays = ["10 parsecs"]

[archive]
key = "{date}/{call_id}/{request_id}/{flie}"
quarantine_bucket = "jail"

[buckets.documents]
url = "s3://documents"
options = { region = "eu-central-1", regoin = "eu-central-1", secret_access_key = "canary" }
[buckets.recordings]
url = "ftp://recordings"

[attachments.analysis]
file = "analysis.json"
check = "json"
schema = "own.schema.json"
bucket = "documents"
[attachments.recording]
file = "recording.wav"
check = "mp3"
bucket = "recodings"
[attachments.transcript]
file = "transcript.json"
check = "json"
schema = "missing.schema.json"
bucket = "documents"
max_size = 7.5

[limits]
job_time = 20
"#;

#[test]
fn check_finds_every_mistake_at_once_and_says_how_to_mend_each() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("callvault.toml");
    fs::write(&config, MISTAKES).unwrap();
    fs::write(
        dir.path().join("own.schema.json"),
        r#"{"$ref": "https://example.com/own.json"}"#,
    )
    .unwrap();
    let mut check = with_config(&config, &["check"]);
    let output = check
        .env("CALLVAULT__FETCH__REFUSLAS", "2")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let report = stderr(&output);
    assert!(!report.contains("canary"), "{report}");
    for (line, key) in [
        (4, "queue.prefetsch"),
        (5, "queue.retry_delays"),
        (8, "archive.key"),
        (9, "archive.quarantine_bucket"),
        (13, "buckets.documents.options.regoin"),
        (15, "buckets.recordings.url"),
        (20, "attachments.analysis.schema"),
        (24, "attachments.recording.check"),
        (25, "attachments.recording.bucket"),
        (29, "attachments.transcript.schema"),
        (31, "attachments.transcript.max_size"),
        (34, "limits.job_time"),
    ] {
        let place = format!("callvault.toml:{line}: {key}");
        let found = report.lines().find(|mistake| mistake.contains(&place));
        let mistake = found.unwrap_or_else(|| panic!("no {place} in:\n{report}"));
        assert!(mistake.contains("; "), "says how to mend it: {mistake}");
    }
    assert!(
        report.contains("CALLVAULT__FETCH__REFUSLAS: fetch.refuslas"),
        "{report}"
    );
    assert!(
        report.contains("`prefetch`"),
        "suggests the right key: {report}"
    );
}

#[test]
fn the_manual_is_a_configuration_without_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("config");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    fs::create_dir_all(copy.join("schemas")).unwrap();
    for file in [
        "callvault.toml",
        "schemas/analysis.schema.json",
        "schemas/transcript.schema.json",
    ] {
        fs::copy(source.join(file), copy.join(file)).unwrap();
    }
    let output = callvault([
        "check",
        "--config",
        copy.join("callvault.toml").to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("draft 2020-12"),
        "{}",
        stdout(&output)
    );
}

/// The TOML of the README, as one configuration.
#[test]
fn the_readmes_examples_are_a_configuration_without_mistakes() {
    let readme = include_str!("../../README.md");
    let examples = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let toml: String = examples.collect();
    assert!(
        toml.contains("[[tenants]]") && toml.contains("[attachments.summary]"),
        "{toml}"
    );
    let schema = readme
        .split("```json\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("config/schemas")).unwrap();
    fs::write(dir.path().join("config/callvault.toml"), toml).unwrap();
    fs::write(
        dir.path().join("config/schemas/summary.schema.json"),
        schema,
    )
    .unwrap();
    let output = callvault([
        "check",
        "--config",
        dir.path().join("config/callvault.toml").to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_demo_leaves_a_configuration_alone_that_is_not_its_own_and_the_environment_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("callvault.toml");
    fs::write(&config, "# mine\n").unwrap();
    let demo = |dir: &Path| {
        let mut demo = command();
        demo.args(["demo", "--dir"])
            .arg(dir)
            .env("CALLVAULT__BUCKETS__DOCUMENTS__URL", "s3://production");
        demo.output().unwrap()
    };
    let output = demo(dir.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--dir"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");

    let own = dir.path().join("own");
    assert_eq!(demo(&own).status.code(), Some(0));
    assert!(own.join("archive/documents").join(call::MANIFEST).exists());
}

#[tokio::test]
async fn archive_goes_on_while_its_standard_input_waits() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event: Value = serde_json::from_slice(&call::served(&origin)).unwrap();
    let mut archive = with_config(&setup.write(), &["archive", "-"]);
    let mut child = archive
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{event}").unwrap();
    let manifest = setup.folder("documents").join(call::MANIFEST);
    eventually(
        Duration::from_secs(15),
        "the manifest, with the input still open",
        async || manifest.exists().then_some(()),
    )
    .await;
    drop(input);
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap())
        .await
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn archive_reports_an_event_though_one_before_it_drips() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let slow: Value =
        serde_json::from_slice(&call::with_recording(&origin, "/slow/recording.wav")).unwrap();
    let mut fast: Value =
        serde_json::from_slice(&call::with_recording(&origin, "/recording.wav")).unwrap();
    fast["data"]["id"] = "fast".into();
    fast["request_id"] = "fast".into();
    origin.always(
        "/slow/recording.wav",
        Reply::Drip {
            bytes: 1,
            pause: Duration::from_millis(500),
        },
    );
    let events = setup.dir().join("events.jsonl");
    fs::write(&events, format!("{slow}\n{fast}\n")).unwrap();
    let mut archive = with_config(
        &setup.write(),
        &["archive", "--json", events.to_str().unwrap()],
    );
    let mut child = archive.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let first = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        line
    });
    let first = tokio::time::timeout(Duration::from_secs(15), first)
        .await
        .unwrap()
        .unwrap();
    assert!(first.contains("\"call_id\":\"fast\""), "{first}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn the_sample_event_beside_the_manual_is_one_that_publish_takes() {
    let setup = Setup::folders().await;
    let sample = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/config/samples/call.analyzed.json"
    );
    let output = run(with_config(&setup.write(), &["publish", sample])).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let message = amqp.wait_take(setup.queue()).await;
    assert_eq!(message.body, fs::read(sample).unwrap());
    let event = callvault::event::Event::parse(&message.body.into()).unwrap();
    let callvault::event::Event::Analyzed(call) = event else {
        panic!("{event:?}");
    };
    assert_eq!(call.attachments.len(), 3);
}

#[tokio::test]
async fn who_asks_for_no_log_gets_none_of_an_outage_either() {
    // Takes connections, and ends them.
    let broker = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = broker.local_addr().unwrap().port();
    let mut setup = Setup::new(&format!("amqp://guest:guest@127.0.0.1:{port}/%2f"));
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
        ));
    }
    for (level, told) in [("off", false), ("error", false), ("warn", true), ("", true)] {
        let mut run = command();
        run.args(["run", "--config"])
            .arg(setup.write())
            .env("RUST_LOG", level);
        let worker = Worker::spawn(run, setup.dir());
        // A look and a connection for each try: with the fifth the second one has failed.
        for _ in 0..5 {
            let taken = tokio::time::timeout(Duration::from_secs(15), broker.accept());
            drop(taken.await.unwrap().unwrap());
        }
        let log = worker.log();
        assert_eq!(
            log.contains("does not work; waiting for it"),
            told,
            "{level}: {log}"
        );
        assert!(told || log.is_empty(), "{level}: {log}");
    }
}

#[tokio::test]
async fn a_download_that_is_tried_again_is_logged_with_its_call() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let mut run = command();
    run.args(["run", "--config"])
        .arg(setup.write())
        .env("RUST_LOG", "callvault=debug");
    let worker = Worker::spawn(run, setup.dir());
    worker.wait_log("consuming").await;
    let event = call::with_recording(&origin, "/recording.wav");
    origin.first("/recording.wav", 1, &Reply::Status(503));
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("trying a download again").await;
    let log = worker.log();
    let line = log
        .lines()
        .find(|line| line.contains("trying a download again"))
        .unwrap();
    assert!(
        line.contains("call_id=\"5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15\""),
        "{line}"
    );
}
