//! A worker's whole life at `RUST_LOG=trace`: every outcome that an event can have.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    DEADLINE, PHONES, PRIVATE, SECRET, assert_keeps_secrets, assert_tells_nothing, assert_without,
    consuming,
    gossip::{Gossip, answer},
    talkative,
};
use crate::support::{
    amqp::{Amqp, Message},
    call,
    collector::Collector,
    config::{BUCKETS, Setup},
    http_client,
    s3::S3,
    servers,
    wait::eventually,
    worker::Worker,
};

/// The sample event with a request of its own, and these attachments.
fn event(request: &str, urls: &[String]) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(call::ANALYZED).unwrap();
    event["request_id"] = request.into();
    event["data"]["contact_name"] = PRIVATE.into();
    event["data"]["body"] = format!("what {PRIVATE} said").into();
    let attachments = urls
        .iter()
        .map(|url| json!({"url": url, "token": SECRET}))
        .collect();
    event["data"]["attachments"] = Value::Array(attachments);
    event.to_string().into_bytes()
}

/// A server's files, each told with more than was asked for.
async fn gossip() -> Gossip {
    let gossip = Gossip::start().await;
    let more = format!(
        "set-cookie: session={SECRET}\r\netag: \"{PRIVATE}\"\r\nx-signature: {SECRET}\r\nwww-authenticate: Basic realm=\"{SECRET}\"\r\n"
    );
    let at = gossip.address();
    let elsewhere = format!(
        "location: http://{SECRET}:{SECRET}@{at}/good/recording.wav?sig={SECRET}#{SECRET}\r\n"
    );
    let unreachable =
        format!("location: ftp://{SECRET}:{SECRET}@files.example/{PRIVATE}.wav?{SECRET}\r\n");
    let page = format!("<html>{SECRET} {PRIVATE}</html>");
    let wav = call::wav(800);
    let broken_turn = format!(r#"{{"turns": [{{"text": "{PRIVATE}"}}, {{"text": 7}}]}}"#);
    let summary = format!(r#"{{"summary": "{PRIVATE}"}}"#);
    for (path, head, body) in [
        ("/good/recording.wav", "200 OK\r\n", &wav[..]),
        ("/good/analysis.json", "200 OK\r\n", summary.as_bytes()),
        (
            "/good/transcript.json",
            "200 OK\r\n",
            broken_turn.as_bytes(),
        ),
        ("/good/no-recording.wav", "200 OK\r\n", page.as_bytes()),
        ("/bad/refused.wav", "403 Forbidden\r\n", page.as_bytes()),
        ("/bad/failed.wav", "500 Oh\r\n", page.as_bytes()),
        (
            "/bad/teapot.wav",
            &format!("418 {SECRET}\r\n"),
            page.as_bytes(),
        ),
        (
            "/moved/recording.wav",
            &format!("302 Found\r\n{elsewhere}"),
            b"",
        ),
        (
            "/bad/moved.wav",
            &format!("302 Found\r\n{unreachable}"),
            b"",
        ),
    ] {
        gossip.at(path, answer(&format!("{head}{more}"), body));
    }
    gossip.at("/bad/nothing.wav", format!("{SECRET}\r\n\r\n").into_bytes());
    let cut = [answer(&format!("200 OK\r\n{more}"), &wav), b"more".to_vec()].concat();
    gossip.at("/bad/cut.wav", cut[..300].to_vec());
    gossip
}

fn urls(at: SocketAddr, paths: &[&str]) -> Vec<String> {
    let signed = |path: &&str| {
        format!("http://{SECRET}:{SECRET}@{at}{path}?X-Amz-Signature={SECRET}#{SECRET}")
    };
    paths.iter().map(signed).collect()
}

/// Archives on the S3 server with credentials that are secrets.
async fn setup() -> Setup {
    let mut setup = Setup::new(servers::rabbit().await);
    setup.set("queue", "retry_delays", "[\"200ms\"]");
    let s3 = servers::s3().await;
    for bucket in BUCKETS {
        setup.append(&format!(
            "[buckets.{bucket}]\nurl = \"s3://{}/{}\"\noptions = {{ endpoint = \"{}\", region = \"us-east-1\", \
             allow_http = \"true\", access_key_id = \"{SECRET}-id\", secret_access_key = \"{SECRET}-key\" }}\n",
            S3::BUCKET,
            setup.prefix(bucket),
            s3.endpoint(),
        ));
    }
    setup
}

async fn a_whole_run(format: &str) {
    let (setup, gossip, amqp) = (
        setup().await,
        gossip().await,
        Amqp::connect(servers::rabbit().await).await,
    );
    let at = gossip.address();
    let mut run = talkative(&setup, &["run", "--log-format", format]);
    // Directives for a span or a field are not outdone by one for a target.
    run.env(
        "RUST_LOG",
        "trace,lapin=trace,[event]=trace,[{attempt}]=trace",
    )
    .env("AWS_SESSION_TOKEN", format!("{SECRET}-token"));
    let collector = Collector::start().await;
    let key = format!("authorization=Bearer%20{SECRET}");
    let endpoint = format!("http://{SECRET}:{SECRET}@{}", collector.address());
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_HEADERS", key)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    let worker = Worker::spawn(run, setup.dir());
    worker.wait_log(consuming(format)).await;

    let good = [
        "/moved/recording.wav",
        "/good/analysis.json",
        "/good/transcript.json",
        "/good/no-recording.wav",
    ];
    let bad = [
        "/good/recording.wav",
        "/bad/refused.wav",
        "/bad/failed.wav",
        "/bad/teapot.wav",
        "/bad/moved.wav",
        "/bad/nothing.wav",
        "/bad/cut.wav",
    ];
    let mut missing = urls(at, &bad);
    missing.extend([
        format!("ftp://{SECRET}@files.example/a.wav?{SECRET}#{SECRET}"),
        format!("http://{SECRET}:{SECRET}@127.0.0.1:1/a.wav?{SECRET}"),
        format!("http://user:{SECRET}@no.such.host.example/a.wav?{SECRET}"),
    ]);
    let archived = event("good", &urls(at, &good));
    let other_name = archived_as(&archived, &format!("call.{PRIVATE}"));
    let odd_ids =
        format!(r#"{{"event": "call.analyzed", "data": {{"id": "../{SECRET}{PRIVATE}"}}}}"#);
    let not_utf8 = [archived.as_slice(), b"\xff"].concat();
    let no_json = &archived[..archived.len() - 3];
    let mut other_bytes = event("good", &urls(at, &bad[..1]));
    other_bytes.push(b' ');
    for (body, outcome, times) in [
        (archived.as_slice(), "archived", 1),
        (&archived, "duplicate", 1),
        (&other_name, "ignored", 1),
        (&event("missing", &missing), "retried", 1),
        (odd_ids.as_bytes(), "dead", 2),
        (&not_utf8, "dead", 3),
        (no_json, "dead", 4),
        (&other_bytes, "dead", 5),
    ] {
        amqp.publish(&setup.exchange(), "call.analyzed", None, body)
            .await;
        // The event with missing files dies a little later by itself.
        let times = if outcome == "dead" { times - 1 } else { times };
        wait_outcomes(&worker, format, outcome, times).await;
    }
    wait_outcomes(&worker, format, "dead", 5).await;

    if format == "text" {
        let address = worker.address();
        for path in ["livez", "readyz", "metrics"] {
            let url = format!("http://{address}/{path}");
            let told = http_client().get(url).send().await.unwrap();
            assert_tells_nothing(path, &told.text().await.unwrap());
        }
    }
    let dead = amqp.take_all(&format!("{}.dead", setup.queue())).await;
    assert_eq!(dead.len(), 5);
    for Message { properties, .. } in &dead {
        assert_tells_nothing("a dead letter's headers", &format!("{properties:?}"));
    }
    look_at_the_archive(&setup).await;
    let process = format!("process {}", setup.queue());
    collector.wait_spans(&process, 9).await;
    for (headers, spans) in collector.requests() {
        assert!(format!("{headers:?}").contains(SECRET), "the key");
        assert_tells_nothing("the spans", &String::from_utf8_lossy(&spans));
    }
    let log = worker.log();
    assert!(log.contains("TRACE"), "libraries are heard at this level");
    assert_tells_nothing("the log", &log);
}

fn archived_as(event: &[u8], name: &str) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(event).unwrap();
    event["event"] = name.into();
    event.to_string().into_bytes()
}

async fn wait_outcomes(worker: &Worker, format: &str, outcome: &str, times: usize) {
    let field = match format {
        "json" => format!("\"outcome\":\"{outcome}\""),
        _ => format!("outcome=\"{outcome}\""),
    };
    let what = format!("{field}, {times} times");
    eventually(DEADLINE, &what, async || {
        (worker.log().matches(&field).count() >= times).then_some(())
    })
    .await;
}

/// Keys, metadata, and what a manifest says itself.
async fn look_at_the_archive(setup: &Setup) {
    let s3 = servers::s3().await;
    let mut statuses = Vec::new();
    for bucket in BUCKETS {
        for key in s3.list(S3::BUCKET, &setup.prefix(bucket)).await {
            assert_tells_nothing("a key", &key);
            let headers = s3.head(S3::BUCKET, &key).await.unwrap();
            assert_tells_nothing("an object's metadata", &format!("{headers:?}"));
            if key.ends_with("/manifest.json") {
                let (_, bytes) = s3.get(S3::BUCKET, &key).await.unwrap();
                let mut manifest: Value = serde_json::from_slice(&bytes).unwrap();
                statuses.push(manifest["status"].as_str().unwrap().to_owned());
                // As it was received, by design.
                let body = manifest["event"].as_object_mut().unwrap().remove("body");
                assert!(body.unwrap().to_string().contains(SECRET));
                assert_keeps_secrets("a manifest", &manifest.to_string());
                let words = [SECRET, PHONES[0], PHONES[1]];
                let attachments = manifest["attachments"].to_string();
                assert_without("a manifest's attachments", &attachments, &words);
            }
        }
    }
    statuses.sort();
    assert_eq!(statuses, ["complete", "partial"]);
}

#[tokio::test]
async fn a_run_that_logs_text_tells_nothing_secret() {
    a_whole_run("text").await;
}

#[tokio::test]
async fn a_run_that_logs_json_tells_nothing_secret() {
    a_whole_run("json").await;
}

#[tokio::test]
async fn a_broker_that_refuses_the_password_is_not_told_it_to_others() {
    let broker = servers::rabbit()
        .await
        .replace("guest:guest", &format!("guest:{SECRET}"));
    let mut setup = Setup::new(&broker);
    for bucket in BUCKETS {
        setup.append(&format!("[buckets.{bucket}]\nurl = \"memory:\"\n"));
    }
    let worker = Worker::spawn(talkative(&setup, &["run"]), setup.dir());
    worker.wait_log("does not work; waiting for it").await;
    let ready = http_client()
        .get(format!("http://{}/readyz", worker.address()))
        .send()
        .await
        .unwrap();
    assert_eq!(ready.status(), 503);
    let reason = ready.text().await.unwrap();
    assert!(reason.contains("ACCESS_REFUSED"), "{reason}");
    assert_tells_nothing("/readyz", &reason);
    assert_tells_nothing("the log", &worker.log());
}
