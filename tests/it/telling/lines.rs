//! Nobody who writes an event, serves a file or answers for a store can write a line of callvault's log, or give
//! orders to the terminal that shows it.

use std::{fs, path::Path};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use super::{
    DEADLINE, consuming,
    gossip::{Gossip, answer},
    run, said, talkative,
};
use crate::support::{
    amqp::Amqp,
    call,
    config::{BUCKETS, Setup},
    servers,
    tls::Tls,
    wait::eventually,
    worker::{Worker, command},
};

/// What ends a line, colours a screen, turns the direction, or ends a text in C.
const HOSTILE: &str = "\nforged\r\u{1b}[31mred\u{1b}]0;title\u{7}\u{9b}2J\u{0}\u{8}\u{7f}\u{85}\u{2028}forged\u{2029}\u{202e}\u{2066}\u{feff}\u{200b}";
/// The longest line, in bytes: an error of 600, each of its bytes escaped at worst, and what stands around it.
const LONGEST_LINE: usize = 4 << 10;

/// Each line of a log is one that callvault began, is bounded, and orders nothing.
#[track_caller]
fn assert_lines(format: &str, log: &str) {
    for line in log.split('\n').filter(|line| !line.is_empty()) {
        assert!(
            line.len() <= LONGEST_LINE,
            "{} bytes: {line:.300}",
            line.len()
        );
        if format == "json" {
            let line: Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:.300}"));
            assert!(line["timestamp"].is_string(), "{line}");
        } else {
            let begun = line
                .get(..4)
                .is_some_and(|year| year.bytes().all(|c| c.is_ascii_digit()));
            assert!(
                begun && line.get(4..5) == Some("-"),
                "a line of somebody else's: {line:.300}"
            );
        }
        assert_orders_nothing(line);
    }
    assert!(!log.contains("\nforged"));
}

#[track_caller]
fn assert_orders_nothing(line: &str) {
    let order = line.chars().find(|&c| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    });
    assert_eq!(order, None, "{:.2000}", line.escape_debug().to_string());
}

/// Hostile texts in each field of an event that may hold one.
fn hostile_event(request: &str, urls: &[String], text: &str) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(call::ANALYZED).unwrap();
    event["request_id"] = request.into();
    event[text] = text.into();
    for (name, value) in event["data"].as_object_mut().unwrap() {
        if !["id", "created_at", "attachments"].contains(&name.as_str()) {
            *value = text.into();
        }
    }
    let attachments = urls
        .iter()
        .map(|url| json!({"url": url, "agent_id": text, "content_type": text, text: text}));
    event["data"]["attachments"] = attachments.collect();
    event.to_string().into_bytes()
}

async fn gossip() -> Gossip {
    let gossip = Gossip::start().await;
    let wav = call::wav(800);
    // What a header may hold at all, by HTTP: no control characters but the tab.
    let high = "\tx\u{9b}2J\u{202e}\u{2028}".repeat(1000);
    let head = format!("200 {high}\r\ncontent-type: {high}\r\netag: {high}\r\nx: {high}\r\n");
    gossip.at("/odd/recording.wav", answer(&head, &wav));
    gossip.at(
        "/odd/status.wav",
        answer(&format!("418 {high}\r\n"), HOSTILE.as_bytes()),
    );
    let moved = format!(
        "302 Found\r\nlocation: gopher://{}/{high}\r\n",
        "x".repeat(9000)
    );
    gossip.at("/odd/moved.wav", answer(&moved, b""));
    gossip.at("/odd/line.wav", format!("{HOSTILE}\r\n\r\n").into_bytes());
    gossip.at(
        "/odd/header.wav",
        answer(&format!("200 OK\r\n{HOSTILE}: x\r\n"), &wav),
    );
    gossip.at(
        "/odd/json.json",
        answer(
            "200 OK\r\n",
            json!({HOSTILE: HOSTILE}).to_string().as_bytes(),
        ),
    );
    gossip
}

async fn a_hostile_run(format: &str) {
    let (setup, gossip) = (Setup::folders().await, gossip().await);
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let mut run = command();
    run.args(["run", "--log-format", format, "--config"])
        .arg(setup.write())
        .env("RUST_LOG", "trace");
    let worker = Worker::spawn(run, setup.dir());
    worker.wait_log(consuming(format)).await;
    let at = gossip.address();
    let odd = [
        "recording.wav",
        "status.wav",
        "moved.wav",
        "line.wav",
        "header.wav",
        "json.json",
    ];
    let mut urls: Vec<String> = odd
        .iter()
        .map(|name| format!("http://{at}/odd/{name}"))
        .collect();
    urls.extend([
        format!("http://{at}/{HOSTILE}/{HOSTILE}.wav?{HOSTILE}"),
        format!("{}://x", "s".repeat(9000)),
        format!("http://{}/x.wav", "h".repeat(9000)),
        format!("http://{at}/{}.wav", "p".repeat(9000)),
    ]);
    let long = HOSTILE.repeat((1 << 20) / HOSTILE.len());
    // Some twenty of it are an event of the largest size.
    let some = HOSTILE.repeat((256 << 10) / HOSTILE.len());
    let mut bodies = vec![
        hostile_event("one", &urls, HOSTILE),
        hostile_event("long", &urls[..1], &some),
        hostile_event(
            "host",
            &["http://%1b%5b2J%e2%80%ae.example/x.wav".to_owned()],
            HOSTILE,
        ),
        HOSTILE.as_bytes().to_vec(),
        long.as_bytes().to_vec(),
        format!("{{\"event\": {}}}", json!(long)).into_bytes(),
    ];
    for field in [
        "/request_id",
        "/data/id",
        "/data/created_at",
        "/data/attachments/0/url",
    ] {
        let mut event: Value = serde_json::from_str(call::ANALYZED).unwrap();
        *event.pointer_mut(field).unwrap() = HOSTILE.into();
        bodies.push(event.to_string().into_bytes());
        *event.pointer_mut(field).unwrap() = some.as_str().into();
        bodies.push(event.to_string().into_bytes());
    }
    let id: String = HOSTILE.chars().take(80).collect();
    let mut headers = FieldTable::default();
    headers.insert(id.as_str().into(), AMQPValue::LongString(HOSTILE.into()));
    headers.insert(
        "x-callvault-reason".into(),
        AMQPValue::LongString(HOSTILE.into()),
    );
    let properties = BasicProperties::default()
        .with_message_id(id.as_str().into())
        .with_content_type(id.as_str().into())
        .with_headers(headers);
    for body in &bodies {
        amqp.publish_with(&setup.exchange(), "call.analyzed", properties.clone(), body)
            .await;
    }
    eventually(DEADLINE, "all hostile events to be settled", async || {
        let log = worker.log();
        let settled = ["dead", "archived", "ignored"].map(|outcome| match format {
            "json" => log.matches(&format!("\"outcome\":\"{outcome}\"")).count(),
            _ => log.matches(&format!("outcome=\"{outcome}\"")).count(),
        });
        // The long one's file is as good as any, and of another name nothing is wanted.
        (settled == [bodies.len() - 2, 1, 1]).then_some(())
    })
    .await;
    assert_lines(format, &worker.log());
    drop(worker);
    if format == "text" {
        the_desk_shows_them(&setup).await;
    }
}

async fn the_desk_shows_them(setup: &Setup) {
    for arguments in [
        &["dead", "list"][..],
        &["dead", "list", "--json"],
        &["dead", "show", "--all"],
        &["dead", "show", "--json", "--all"],
        &["dead", "replay", "--dry-run", "--all"],
        &["dead", "drop", "--yes", "--all"],
    ] {
        let output = run(talkative(setup, arguments)).await;
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let text = said(&output);
        for line in text.split('\n') {
            // Tabs stand in bodies as they came.
            assert_orders_nothing(&line.replace('\t', " "));
        }
    }
}

#[tokio::test]
async fn a_text_log_has_no_line_that_a_stranger_wrote() {
    a_hostile_run("text").await;
}

#[tokio::test]
async fn a_json_log_has_no_line_that_a_stranger_wrote() {
    a_hostile_run("json").await;
}

#[tokio::test]
async fn a_stores_page_writes_no_line_and_orders_nothing() {
    let store = Gossip::start().await;
    let long = HOSTILE.repeat(20_000);
    let page = format!("<Error><Code>No{HOSTILE}</Code><Message>{long}</Message></Error>");
    store.otherwise(answer("403 Forbidden\r\n", page.as_bytes()));
    for format in ["text", "json"] {
        let mut setup = Setup::new(servers::rabbit().await);
        for bucket in BUCKETS {
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"s3://b/{bucket}\"\noptions = {{ endpoint = \"http://{}\", region = \"r\", \
                 allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n",
                store.address()
            ));
        }
        let worker = Worker::spawn(
            talkative(&setup, &["run", "--log-format", format]),
            setup.dir(),
        );
        worker.wait_log(consuming(format)).await;
        let amqp = Amqp::connect(servers::rabbit().await).await;
        let event = call::with_urls(&["http://127.0.0.1:1/a.wav"]);
        amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
            .await;
        worker.wait_log("does not work; waiting for it").await;
        assert_lines(format, &worker.log());
        drop(worker);
        let output = run(talkative(&setup, &["check", "--connect"])).await;
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        for line in said(&output).split('\n') {
            assert_orders_nothing(line);
            assert!(
                line.len() <= LONGEST_LINE,
                "{} bytes: {line:.300}",
                line.len()
            );
        }
    }
}

/// A certificate for `names`, its key, and the authority that signed it, in a folder.
fn certificate(dir: &Path, names: Vec<String>) {
    let mut authority = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(
        dir.join("ca.pem"),
        authority.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let names = names.into_iter();
    params.subject_alt_names = names
        .map(|name| SanType::DnsName(name.try_into().unwrap()))
        .collect();
    let signed = params.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("server.pem"), signed.pem()).unwrap();
    fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn the_names_in_a_strangers_certificate_write_no_line() {
    for names in [
        // TLS takes certificates of up to 64 KiB.
        (0..1000)
            .map(|n| format!("{n}.{}.example", "x".repeat(40)))
            .collect(),
        vec!["a\u{1b}[2J\nforged\0.example".to_owned()],
    ] {
        let mut setup = Setup::folders().await;
        certificate(setup.dir(), names);
        let origin = Tls::before("127.0.0.1:1", setup.dir(), "server").await;
        setup.set("queue", "retry_delays", "[]");
        let amqp = Amqp::connect(servers::rabbit().await).await;
        for format in ["text", "json"] {
            let mut run = talkative(&setup, &["run", "--log-format", format]);
            run.env("SSL_CERT_FILE", setup.dir().join("ca.pem"));
            let worker = Worker::spawn(run, setup.dir());
            worker.wait_log(consuming(format)).await;
            let event = call::with_urls(&[&format!("https://{}/a.wav", origin.address())]);
            amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
                .await;
            let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
            let detail = dead.text("x-callvault-detail").unwrap();
            assert!(detail.contains("no TLS session"), "{detail}");
            assert!(detail.len() <= 1000, "{detail}");
            assert_orders_nothing(&detail);
            assert_lines(format, &worker.log());
        }
        let manifest = setup.folder("documents").join(call::MANIFEST);
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        let problem = &manifest["attachments"][0]["problem"];
        assert_eq!(problem["code"], "tls");
        assert!(problem["detail"].as_str().unwrap().len() <= 1024);
    }
}
