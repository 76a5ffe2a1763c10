//! What becomes of an event that cannot be archived at once, or comes again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    failing::{DEADLINE, dead_letter, manifest, reason},
    support::{
        amqp::Amqp,
        call,
        config::Setup,
        origin::{Origin, Reply},
        servers,
        wait::eventually,
        worker::Worker,
    },
};

#[tokio::test]
async fn what_passes_is_tried_again_and_archived() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let path = "/recording.wav";
    let event = call::with_recording(&origin, path);
    // Three quick tries in the first attempt fail; the second attempt's first try is cut short.
    origin.first(path, 3, &Reply::Status(503));
    origin.first(path, 1, &Reply::CutAt(500));
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", Some("id"), &event)
        .await;
    worker.wait_log("outcome=\"archived\"").await;
    assert!(
        worker.log().contains("outcome=\"retried\""),
        "{}",
        worker.log()
    );
    let manifest = manifest(&setup);
    assert_eq!(
        (&manifest["status"], &manifest["event"]["attempt"]),
        (&json!("complete"), &json!(2))
    );
    assert_eq!(origin.hits(path), 5);
}

#[tokio::test]
async fn what_is_archived_already_is_not_fetched_again_by_a_retry() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event = call::served(&origin);
    let path = |name: &str| {
        let event: Value = serde_json::from_slice(&event).unwrap();
        let urls = event["data"]["attachments"].as_array().unwrap().clone();
        let url = urls
            .iter()
            .find_map(|a| a["url"].as_str().filter(|url| url.ends_with(name)))
            .unwrap()
            .to_owned();
        url.strip_prefix(&origin.url("")).unwrap().to_owned()
    };
    origin.first(&path("transcript.json"), 3, &Reply::Status(500));
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("outcome=\"archived\"").await;
    assert_eq!(manifest(&setup)["status"], "complete");
    assert_eq!(
        (
            origin.hits(&path("recording.wav")),
            origin.hits(&path("transcript.json"))
        ),
        (1, 4)
    );
}

#[tokio::test]
async fn what_never_passes_is_dead_after_the_last_delay() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let event = call::with_recording(&origin, "/recording.wav");
    origin.always("/recording.wav", Reply::Status(503));
    let dead = dead_letter(&setup, &event).await;
    assert_eq!(reason(&dead), "retries_exhausted");
    assert_eq!(
        dead.number("x-callvault-attempt"),
        Some(3),
        "two delays, three attempts"
    );
    assert!(dead.header("x-death").is_none(), "headers as they came");
    assert_eq!(
        manifest(&setup)["attachments"][0]["problem"]["code"],
        "http_503"
    );
    assert_eq!(
        origin.hits("/recording.wav"),
        9,
        "three quick tries an attempt"
    );
}

#[tokio::test]
async fn a_refusal_is_final_at_its_last_attempt() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let dead = dead_letter(
        &setup,
        &call::with_urls(&[&origin.url("/gone/recording.wav")]),
    )
    .await;
    assert_eq!(reason(&dead), "attachment_unavailable");
    assert_eq!(
        dead.number("x-callvault-attempt"),
        Some(2),
        "fetch.refusals is 2"
    );
    assert_eq!(
        origin.hits("/gone/recording.wav"),
        2,
        "a refusal is not tried quickly"
    );
    assert_eq!(
        manifest(&setup)["attachments"][0]["problem"]["code"],
        "http_404"
    );
}

#[tokio::test]
async fn a_refused_url_whose_signed_time_is_over_is_final_at_once() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("fetch", "refusals", "3");
    let urls = [
        "/amz/recording.wav?X-Amz-Date=20240101T000000Z&X-Amz-Expires=60&X-Amz-Signature=canary",
        "/azure/recording.wav?se=2024-01-01T00%3A00%3A00Z&sig=canary",
        "/good/recording.wav?Expires=1700000000",
    ];
    for path in ["/amz/recording.wav", "/azure/recording.wav"] {
        origin.always(path, Reply::Status(403));
    }
    // An origin that takes it all the same is believed.
    origin.put("/good/recording.wav", call::wav(10), "audio/x-wav");
    let urls = urls.map(|url| origin.url(url));
    let dead = dead_letter(
        &setup,
        &call::with_urls(&urls.each_ref().map(String::as_str)),
    )
    .await;
    assert_eq!(reason(&dead), "attachment_unavailable");
    assert_eq!(dead.number("x-callvault-attempt"), Some(1));
    let manifest = manifest(&setup);
    let codes: Vec<_> = (0..3)
        .map(|at| manifest["attachments"][at]["problem"]["code"].as_str())
        .collect();
    assert_eq!(codes, [Some("url_expired"), Some("url_expired"), None]);
    assert_eq!(origin.hits("/amz/recording.wav"), 1);
}

#[tokio::test]
async fn a_retry_comes_before_the_signed_time_is_over() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", r#"["200ms", "1h"]"#);
    let path = "/recording.wav";
    origin.put(path, call::wav(10), "audio/x-wav");
    // Each attempt tries three times: the third one succeeds.
    origin.first(path, 6, &Reply::Status(503));
    let in_a_minute = chrono::Utc::now() + chrono::TimeDelta::seconds(60);
    let url = origin.url(&format!("{path}?Expires={}", in_a_minute.timestamp()));
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let event = call::with_urls(&[&url]);
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("outcome=\"archived\"").await;
    let log = worker.log();
    assert_eq!(log.matches("retry_in_s=0.2").count(), 2, "{log}");
}

#[tokio::test]
async fn an_origin_that_asks_to_be_left_alone_is() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", r#"["200ms", "20s", "1h"]"#);
    let path = "/recording.wav";
    let event = call::with_recording(&origin, path);
    let date = std::time::SystemTime::now() + Duration::from_secs(15);
    origin.first(
        path,
        1,
        &Reply::RetryAfter(503, httpdate::fmt_http_date(date)),
    );
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    worker.wait_log("retry_in_s=20.0").await;
    assert_eq!(origin.hits(path), 1, "no quick tries against its will");
}

#[tokio::test]
async fn an_event_that_comes_again_is_not_downloaded_again() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    // A year ago for one, just now for the other: that one's twin finds the same worker.
    let old = call::with_recording(&origin, "/old/recording.wav");
    origin.put("/new/recording.wav", call::wav(900), "audio/x-wav");
    let new = String::from_utf8(call::with_urls(&[&origin.url("/new/recording.wav")]).to_vec());
    let mut new: Value = serde_json::from_str(&new.unwrap()).unwrap();
    new["data"]["updated_at"] = chrono::Utc::now().to_rfc3339().into();
    new["request_id"] = "another-request".into();
    let new = new.to_string();
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let mut worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    for event in [&old[..], new.as_bytes()] {
        // Two at once, of which one waits for the other.
        for _ in 0..2 {
            amqp.publish(&setup.exchange(), "call.analyzed", None, event)
                .await;
        }
    }
    eventually(DEADLINE, "two duplicates", async || {
        (worker.log().matches("outcome=\"duplicate\"").count() == 2).then_some(())
    })
    .await;
    // A week later, at another worker.
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    let worker = Worker::start(&setup.write());
    worker.wait_log("consuming").await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &old)
        .await;
    worker.wait_log("outcome=\"duplicate\"").await;
    assert_eq!(
        (
            origin.hits("/old/recording.wav"),
            origin.hits("/new/recording.wav")
        ),
        (1, 1)
    );
    assert_eq!(
        amqp.count(&format!("{}.dead", setup.queue())).await,
        Some(0)
    );
}
