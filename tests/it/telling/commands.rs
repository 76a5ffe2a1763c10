//! What the commands say, at the most talkative level, of events, letters and configurations with secrets.

use std::fs;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use super::{
    PRIVATE, SECRET, assert_keeps_secrets, assert_tells_nothing, run, said, talkative, talkative_at,
};
use crate::support::{amqp::Amqp, call, config::Setup, origin::Origin, servers, worker::command};

/// Events with secrets in their URLs and somebody's words in them: one that is archived in part, and some
/// that are none.
fn events(origin: &Origin) -> Vec<String> {
    let url = origin
        .url(&format!("/gone/recording.wav?sig={SECRET}#{SECRET}"))
        .replace("http://", &format!("http://u:{SECRET}@"));
    let mut event: Value = serde_json::from_slice(&call::with_urls(&[&url])).unwrap();
    event["data"]["body"] = PRIVATE.into();
    let mut no_id = event.clone();
    no_id["data"]["id"] = json!({PRIVATE: SECRET});
    let mut no_name = event.clone();
    no_name["event"] = Value::Null;
    let mut no_url = event.clone();
    no_url["data"]["attachments"][0]["url"] = format!("{SECRET} {PRIVATE}").into();
    let mut other = event.clone();
    other["event"] = "call.other".into();
    let texts = [event, no_id, no_name, no_url, other];
    let mut lines: Vec<String> = texts.iter().map(Value::to_string).collect();
    lines.push(format!("{{\"{SECRET}\": \"{PRIVATE}"));
    lines
}

#[tokio::test]
async fn archive_publish_and_the_desk_tell_nothing_secret() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let file = setup.dir().join("events.jsonl");
    fs::write(&file, events(&origin).join("\n")).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, exit) in [
        (&["publish", file][..], 1),
        (&["publish", "--json", file], 1),
        (&["archive", file], 1),
        (&["archive", "--json", file], 1),
        (&["archive", "--log-format", "json", file], 1),
        (&["check"], 0),
        (&["check", "--connect"], 0),
        (&["sweep"], 0),
    ] {
        let output = run(talkative(&setup, arguments)).await;
        assert_eq!(output.status.code(), Some(exit), "{}", said(&output));
        assert_tells_nothing(&arguments.join(" "), &said(&output));
    }

    let dead = format!("{}.dead", setup.queue());
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("x-callvault-reason", "event_invalid"),
        ("x-callvault-detail", "the event has no data.id"),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    for line in events(&origin) {
        let properties = BasicProperties::default().with_headers(headers.clone());
        amqp.publish_with("", &dead, properties, line.as_bytes())
            .await;
    }
    for arguments in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show", "--all"],
        &["dead", "replay", "--all", "--dry-run"],
        &["dead", "replay", "--all"],
        &["dead", "drop", "--all", "--yes"],
    ] {
        let output = run(talkative(&setup, arguments)).await;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        // A letter's body is what `show` is asked for.
        let mut told = String::new();
        let mut in_body = false;
        for line in said.lines() {
            in_body = (in_body || line == "body") && !line.is_empty();
            if !in_body {
                told.push_str(line);
                told.push('\n');
            }
        }
        assert_tells_nothing(&arguments.join(" "), &told);
    }
}

#[tokio::test]
async fn the_demo_tells_nothing_of_what_its_people_say() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for arguments in [&["demo"][..], &["demo", "--json"]] {
        let mut demo = command();
        demo.args(arguments)
            .arg("--dir")
            .arg(dir.path().join("demo"))
            .env("RUST_LOG", "trace");
        let output = run(demo).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let said = said(&output);
        assert_tells_nothing("the demo", &said);
        assert!(!said.contains("Hannaford"), "{said}");
    }
}

#[tokio::test]
async fn a_configuration_or_command_line_that_is_wrong_is_told_without_its_secrets() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = dir.path().join("callvault.toml");
    let buckets = "[archive]\nmanifest_bucket = \"b\"\nquarantine_bucket = \"b\"\n[buckets.b]\nurl = \"memory:\"\n";
    for text in [
        format!("[queue]\nurl = \"amqp://u:{SECRET}@h/%2f\"\npassword = \"{SECRET}\"\n{buckets}"),
        format!("[queue]\nurl = \"amqp://u:{SECRET}@h/%2f\n{buckets}"),
        format!("[queue]\nurl = {{ password = \"{SECRET}\" }}\n{buckets}"),
        // Passwords with characters that end a URL's authority.
        format!("[queue]\nurl = \"amqp://u:{SECRET}?{SECRET}@h/%2f\"\n{buckets}"),
        format!("[queue]\nurl = \"amqp://u:12?{SECRET}={SECRET}@h/%2f\"\n{buckets}"),
        format!("[queue]\nurl = \"amqp://u:12/{SECRET}@h/%2f\"\n{buckets}"),
        format!("[queue]\nurl = \"amqp://u:12#{SECRET}@h/%2f\"\n{buckets}"),
        format!("[queue]\nurl = \"amqps://u:{SECRET}@h/%2f?heartbeat={SECRET}\"\n{buckets}"),
        format!("{buckets}options = {{ secret_access_key = \"{SECRET}\" }}"),
        "[buckets.b]\nurl = \"s3://b\"\noptions = { secret_access_key = [\"canary\"], region = 1.5 }".to_owned(),
        format!("[buckets.b]\nurl = \"s3://b\"\noptions = {{ timeout = \"{SECRET}\", endpoint = \"{SECRET}://{SECRET}\" }}"),
        format!("[buckets.b]\nurl = \"s3://b\"\noptions = {{ allow_http = \"{SECRET}\", conditional_put = \"{SECRET}\" }}"),
        format!("[buckets.b]\nurl = \"s3://b\"\noptions = {{ endpoint = \"https://u:{SECRET}@h\" }}"),
        format!("[buckets.b]\nurl = \"s3://b\"\noptions = {{ access_key_id = \"{SECRET}\\n\", secret_access_key = \"x\" }}"),
        format!("[buckets.b]\nurl = \"az://b\"\noptions = {{ account_name = \"a\", bearer_token = \"{SECRET}\\n\" }}"),
        format!("[buckets.b]\nurl = \"s3://key:{SECRET}@b\""),
        format!("[buckets.b]\nurl = \"s3://b?secret={SECRET}\""),
    ] {
        fs::write(&config, &text).unwrap();
        for arguments in [&["check"][..], &["check", "--json"], &["run"], &["dead", "list"]] {
            let output = run(talkative_at(&config, arguments)).await;
            assert_eq!(output.status.code(), Some(2), "{text}: {}", said(&output));
            assert_keeps_secrets(&text, &said(&output));
        }
    }
    fs::write(&config, buckets).unwrap();
    for (name, value) in [
        ("CALLVAULT__QUEUE__URL", SECRET),
        ("CALLVAULT__QUEUE__PASSWORD", SECRET),
        ("CALLVAULT__BUCKETS__B__OPTIONS__SECRET", SECRET),
        ("AWS_ALLOW_HTTP", SECRET),
        ("AWS_SESSION_TOKEN", "canary\n"),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", SECRET),
    ] {
        let text = match name {
            "GOOGLE_SERVICE_ACCOUNT_KEY" => buckets.replace("memory:", "gs://b"),
            name if name.starts_with("AWS") => buckets.replace("memory:", "s3://b"),
            _ => buckets.to_owned(),
        };
        fs::write(&config, text).unwrap();
        let mut check = talkative_at(&config, &["check"]);
        check.env(name, value);
        let output = run(check).await;
        assert_keeps_secrets(name, &said(&output));
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
    }
    for arguments in [&["run", "--no-such"][..], &["archive"], &["demo", "--jsn"]] {
        let mut wrong = command();
        wrong
            .args(arguments)
            .env("CALLVAULT__QUEUE__URL", SECRET)
            .env("AWS_SECRET_ACCESS_KEY", SECRET);
        let output = run(wrong).await;
        assert_eq!(output.status.code(), Some(2));
        assert_keeps_secrets("the command line", &said(&output));
    }
}
