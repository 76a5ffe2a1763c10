//! What becomes of an event that cannot be archived.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::support::{
    amqp::{Amqp, Message},
    call,
    config::Setup,
    origin::{Origin, Reply},
    servers,
    wait::eventually,
    worker::Worker,
};

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Publishes one event to a new worker and returns its dead letter.
pub(crate) async fn dead_letter(setup: &Setup, body: &[u8]) -> Message {
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", Some("the-id"), body)
        .await;
    worker.wait_log("outcome=\"dead\"").await;
    let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
    assert_eq!(dead.body, body, "byte for byte");
    assert_eq!(dead.message_id(), Some("the-id"));
    assert_eq!(amqp.count(setup.queue()).await, Some(0));
    dead
}

pub(crate) fn manifest(setup: &Setup) -> Value {
    let path = setup.folder("documents").join(call::MANIFEST);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(crate) fn reason(dead: &Message) -> String {
    assert!(
        dead.text("x-callvault-failed-at")
            .is_some_and(|at| at.ends_with('Z'))
    );
    dead.text("x-callvault-reason").unwrap()
}

#[tokio::test]
async fn an_invalid_event_is_dead_byte_for_byte_with_its_reason() {
    let setup = Setup::folders().await;
    let body = b"{\"event\": \"call.analyzed\", \"data\": {\"id\": \"../+14244023931\"}}\xff\x00";
    let dead = dead_letter(&setup, body).await;
    assert_eq!(reason(&dead), "event_invalid");
    assert_eq!(dead.number("x-callvault-attempt"), Some(1));
    let detail = dead.text("x-callvault-detail").unwrap();
    assert!(
        detail.contains("not UTF-8") && !detail.contains("4244023931"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_forbidden_url_is_dead_and_never_connected_to() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("fetch", "allow_private_addresses", "false");
    let body = call::with_recording(&origin, "/recording.wav");
    let dead = dead_letter(&setup, &body).await;
    assert_eq!(reason(&dead), "url_forbidden");
    assert_eq!(
        origin.hits("/recording.wav"),
        0,
        "the guard let a request through"
    );
    let manifest = manifest(&setup);
    assert_eq!(manifest["status"], "partial");
    assert_eq!(manifest["attachments"][0]["status"], "unavailable");
    assert_eq!(
        manifest["attachments"][0]["problem"]["code"],
        "address_not_allowed"
    );
}

#[tokio::test]
async fn a_forbidden_scheme_host_or_redirect_is_named_and_what_can_be_had_is_archived() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("fetch", "allowed_hosts", r#"["127.0.0.1"]"#);
    let event = call::with_recording(&origin, "/recording.wav");
    origin.always(
        "/elsewhere/recording.wav",
        Reply::Redirect("http://localhost:9/x".into()),
    );
    let mut event: Value = serde_json::from_slice(&event).unwrap();
    let attachments = event["data"]["attachments"].as_array_mut().unwrap();
    for url in [
        "ftp://127.0.0.1/recording.wav",
        "http://localhost/recording.wav",
        &origin.url("/elsewhere/recording.wav"),
    ] {
        attachments.push(json!({"url": url}));
    }
    let dead = dead_letter(&setup, event.to_string().as_bytes()).await;
    assert_eq!(reason(&dead), "url_forbidden");
    let manifest = manifest(&setup);
    let codes: Vec<_> = manifest["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["problem"]["code"].clone())
        .collect();
    assert_eq!(
        codes,
        [
            json!(null),
            json!("scheme_not_allowed"),
            json!("host_not_allowed"),
            json!("host_not_allowed")
        ]
    );
    assert_eq!(manifest["attachments"][0]["status"], "archived");
}

#[tokio::test]
async fn too_large_is_too_large_whether_declared_or_not() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.append("[attachments.recording]\nfile = \"*.wav\"\ncheck = \"wav\"\nbucket = \"recordings\"\nmax_size = \"1000\"");
    let event = call::with_recording(&origin, "/declared.wav");
    origin.put("/chunked.wav", call::wav(800), "audio/x-wav");
    origin.always("/chunked.wav", Reply::Chunked);
    let mut event: Value = serde_json::from_slice(&event).unwrap();
    event["data"]["attachments"]
        .as_array_mut()
        .unwrap()
        .push(json!({"url": origin.url("/chunked.wav")}));
    let dead = dead_letter(&setup, event.to_string().as_bytes()).await;
    assert_eq!(reason(&dead), "too_large");
    for attachment in manifest(&setup)["attachments"].as_array().unwrap() {
        assert_eq!(attachment["problem"]["code"], "too_large");
    }
    assert_eq!(origin.hits("/declared.wav"), 1, "it will not get smaller");
}

#[tokio::test]
async fn another_event_under_known_ids_is_dead_and_the_first_archive_stays() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let first = call::with_recording(&origin, "/recording.wav");
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let publish = async |body: &[u8]| {
        amqp.publish(&setup.exchange(), "call.analyzed", None, body)
            .await;
    };
    publish(&first).await;
    worker.wait_log("outcome=\"archived\"").await;
    let archived = manifest(&setup);
    // The same webhook once more, its URL signed anew.
    publish(&call::with_urls(&[
        &origin.url("/recording.wav?X-Amz-Signature=new")
    ]))
    .await;
    worker.wait_log("outcome=\"duplicate\"").await;
    // Somebody else's, or a second thought.
    let more = [
        origin.url("/recording.wav"),
        origin.url("/more/recording.wav"),
    ];
    let other = call::with_urls(&more.each_ref().map(String::as_str));
    publish(&other).await;
    let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
    assert_eq!(reason(&dead), "event_invalid");
    assert_eq!(dead.body, &other[..]);
    let detail = dead.text("x-callvault-detail").unwrap();
    assert!(detail.contains("another event with these ids"), "{detail}");
    assert_eq!(manifest(&setup), archived);
    assert_eq!(origin.hits("/recording.wav"), 1);
}

#[tokio::test]
async fn origins_that_misbehave_cost_their_event_alone() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[]");
    let mut urls = Vec::new();
    for (path, reply) in [
        ("/cut/recording.wav", Reply::CutAt(100)),
        ("/stalled/recording.wav", Reply::StallAt(100)),
        ("/mute/recording.wav", Reply::Mute),
        (
            "/loop/recording.wav",
            Reply::Redirect("/loop/recording.wav".into()),
        ),
        ("/no-content/recording.wav", Reply::Status(204)),
        ("/teapot/recording.wav", Reply::Status(418)),
    ] {
        origin.put(path, call::wav(800), "audio/x-wav");
        origin.always(path, reply);
        urls.push(origin.url(path));
    }
    // Followed to a file, relative and absolute.
    origin.put("/good.wav", call::wav(10), "audio/x-wav");
    origin.always("/moved/recording.wav", Reply::Redirect("/good.wav".into()));
    urls.push(origin.url("/moved/recording.wav"));
    urls.push("http://127.0.0.1:1/recording.wav".into());
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let dead = dead_letter(&setup, &call::with_urls(&urls)).await;
    assert_eq!(reason(&dead), "attachment_unavailable");
    let manifest = manifest(&setup);
    let codes: Vec<_> = manifest["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a["problem"]["code"].as_str())
        .collect();
    let expected = [
        "body_incomplete",
        "timeout",
        "timeout",
        "too_many_redirects",
        "http_204",
        "http_418",
    ];
    assert_eq!(codes[..6], expected.map(Some));
    assert_eq!(codes[6..], [None, Some("connect")]);
}

#[tokio::test]
async fn nothing_secret_is_told() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[\"200ms\"]");
    let event = call::with_urls(&[
        &origin
            .url("/gone/recording.wav?X-Amz-Signature=canary-1")
            .replace("http://", "http://user:canary-2@"),
        "ftp://host/recording.wav?sig=canary-3#canary-4",
        "http://127.0.0.1:1/recording.wav?sig=canary-5",
    ]);
    let config = setup.write();
    let mut run = crate::support::worker::command();
    run.args(["run", "--log-format", "json", "--config"])
        .arg(config)
        .env("RUST_LOG", "trace");
    let worker = Worker::spawn(run, setup.dir());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("\"outcome\":\"dead\"").await;
    let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
    let headers = format!("{:?}", dead.properties);
    let sources: Vec<_> = manifest(&setup)["attachments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| (a["source"].clone(), a["problem"].clone()))
        .collect();
    let sources = format!("{sources:?}");
    let log = worker.log();
    for canary in [
        "canary-1",
        "canary-2",
        "canary-3",
        "canary-4",
        "canary-5",
        "4244023931",
        "2183925232",
    ] {
        for (place, text) in [("headers", &headers), ("manifest", &sources), ("log", &log)] {
            assert!(!text.contains(canary), "{canary} in the {place}: {text}");
        }
    }
    let authorized = origin
        .requests("/gone/recording.wav?X-Amz-Signature=canary-1")
        .iter()
        .any(|h| h.contains_key("authorization"));
    assert!(!authorized, "user information travelled");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_waited_for_and_not_made_anew() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event = call::with_recording(&origin, "/recording.wav");
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let (folder, away) = (setup.folder("recordings"), setup.dir().join("away"));
    fs::rename(&folder, &away).unwrap();
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("the bucket's folder is gone").await;
    assert!(!fs::exists(&folder).unwrap());
    fs::rename(&away, &folder).unwrap();
    worker.wait_log("outcome=\"archived\"").await;
    assert_eq!(origin.hits("/recording.wav"), 1);
}

#[tokio::test]
async fn a_message_waits_for_a_queue_that_somebody_deleted() {
    let setup = Setup::folders().await;
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let dead = format!("{}.dead", setup.queue());
    amqp.delete(&dead).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, b"no event")
        .await;
    worker.wait_log("outcome=\"dead\"").await;
    assert_eq!(amqp.wait_take(&dead).await.body, b"no event");
    let log = worker.log();
    assert!(
        log.contains("does not work") && log.contains("works again"),
        "{log}"
    );
}

#[tokio::test]
async fn a_stopped_worker_hands_back_what_it_cannot_finish() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("fetch", "read_timeout", "\"20s\"");
    let event = call::with_recording(&origin, "/recording.wav");
    origin.always("/recording.wav", Reply::StallAt(10));
    let mut run = crate::support::worker::command();
    run.args(["run", "--grace", "200ms", "--config"])
        .arg(setup.write());
    let mut worker = Worker::spawn(run, setup.dir());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    eventually(DEADLINE, "the download to begin", async || {
        (origin.hits("/recording.wav") > 0).then_some(())
    })
    .await;
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    amqp.wait_count(setup.queue(), 1).await;
}

#[tokio::test]
async fn without_a_broker_a_worker_lives_and_says_why_it_is_not_ready() {
    let mut setup = Setup::new("amqp://guest:canary-pw@127.0.0.1:1/%2f");
    setup.append("[buckets.documents]\nurl = \"memory:\"\n[buckets.recordings]\nurl = \"memory:\"\n[buckets.quarantine]\nurl = \"memory:\"");
    let mut worker = Worker::start(&setup.write());
    worker
        .wait_log("does not work; waiting for it part=\"the broker\"")
        .await;
    assert_eq!(worker.get("/livez").await.0, 200);
    let (status, reason) = worker.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("127.0.0.1:1"), "{reason}");
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    assert!(!worker.log().contains("canary-pw"), "{}", worker.log());
}
