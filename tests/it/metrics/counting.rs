//! Counters, histograms and gauges.

use std::time::Duration;

use super::{DEADLINE, promtool};
use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::{Origin, Reply},
    servers,
    wait::eventually,
    worker::{Metrics, Worker},
};

const OUTCOMES: [&str; 6] = [
    "archived",
    "partial",
    "duplicate",
    "ignored",
    "retried",
    "dead",
];

fn outcomes(found: &Metrics) -> [u64; 6] {
    OUTCOMES.map(|outcome| found.count(&format!("callvault_events_total{{outcome={outcome:?}}}")))
}

async fn wait_outcomes(worker: &Worker, wanted: [u64; 6]) -> Metrics {
    let what = format!("{OUTCOMES:?} to be {wanted:?}");
    eventually(DEADLINE, &what, async || {
        let found = worker.metrics().await;
        (outcomes(&found) == wanted).then_some(found)
    })
    .await
}

/// One that is no WAV, one that is not there, one that answers what nobody expects, one that may not be asked for.
fn bad_event(origin: &Origin) -> String {
    origin.put("/bad/recording.wav", "no RIFF", "audio/x-wav");
    origin.always("/gone/recording.wav", Reply::Status(404));
    origin.always("/tea/notes.txt", Reply::Status(418));
    let urls = [
        &origin.url("/bad/recording.wav"),
        &origin.url("/gone/recording.wav?signature=canary"),
        &origin.url("/tea/notes.txt"),
        "ftp://canary.example/x",
    ];
    let event = String::from_utf8(call::with_urls(&urls).into()).unwrap();
    event.replace("00552b38", "11552b38")
}

#[tokio::test]
async fn each_event_attachment_problem_and_byte_is_counted_once_and_under_its_name() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[\"100ms\"]");
    let worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let publish = async |body: &[u8]| amqp.publish("", setup.queue(), None, body).await;

    let nothing = worker.metrics().await;
    assert_eq!(promtool(&nothing.text), "");
    let counters = nothing.all("callvault_");
    let counters = counters.filter(|(name, _)| name.contains("_total"));
    let counters: Vec<_> = counters.collect();
    assert!(counters.len() > 50, "all that is known beforehand");
    assert!(counters.iter().all(|(_, count)| *count == 0.0));

    let good = call::served(&origin);
    publish(&good).await;
    wait_outcomes(&worker, [1, 0, 0, 0, 0, 0]).await;
    publish(&good).await;
    publish(call::STARTED.as_bytes()).await;
    wait_outcomes(&worker, [1, 0, 1, 1, 0, 0]).await;
    publish(bad_event(&origin).as_bytes()).await;
    publish(b"{}").await;
    // The 404 may pass at first; the rest of that event would not.
    let found = wait_outcomes(&worker, [1, 0, 1, 1, 1, 2]).await;

    assert_attachments(&found);
    assert_times(&found);
    for (name, value) in [
        ("broker_connected", 1),
        ("ready", 1),
        ("prefetch", 4),
        ("late_settlements_total", 0),
    ] {
        assert_eq!(found.count(&format!("callvault_{name}")), value, "{name}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("callvault_build_info{{version={version:?}}}");
    assert_eq!(found.count(&build), 1);
    assert!(found.count("process_open_fds") > 10);
    assert!(found.count("process_resident_memory_bytes") > 1 << 20);
    assert!(found.get("process_cpu_seconds_total") > 0.0);
    assert_eq!(promtool(&found.text), "");
    assert!(!found.text.contains("canary"), "{}", found.text);

    // Another worker counts what it finds at once.
    let second = Worker::start(&setup.write());
    second.wait_readyz(200).await;
    let dead = format!(
        "callvault_queue_messages{{queue=\"{}.dead\"}}",
        setup.queue()
    );
    eventually(DEADLINE, "the dead letters to be counted", async || {
        let found = second.metrics().await;
        found.find(&dead).filter(|messages| *messages > 1.0)
    })
    .await;
}

fn assert_attachments(found: &Metrics) {
    for (kind, status, times) in [
        ("analysis", "archived", 1),
        ("recording", "archived", 1),
        ("transcript", "archived", 1),
        ("recording", "quarantined", 1),
        // At each of two tries.
        ("recording", "unavailable", 2),
        ("other", "unavailable", 4),
        ("other", "archived", 0),
    ] {
        let series = format!("callvault_attachments_total{{kind={kind:?},status={status:?}}}");
        assert_eq!(found.count(&series), times, "{series}");
    }
    for (name, _, bytes) in call::files() {
        let (kind, _) = name.split_once('.').unwrap();
        let quarantined = if kind == "recording" {
            "no RIFF".len()
        } else {
            0
        };
        let series = format!("callvault_attachment_bytes_total{{kind={kind:?}}}");
        let bytes = bytes.len() + quarantined;
        assert_eq!(found.count(&series), bytes as u64, "{series}");
    }
    for (code, times) in [
        ("wav_not_riff", 1),
        ("http_404", 2),
        ("http_418", 2),
        ("scheme_not_allowed", 2),
        ("wav_truncated", 0),
    ] {
        let series = format!("callvault_problems_total{{code={code:?}}}");
        assert_eq!(found.count(&series), times, "{series}");
    }
}

fn assert_times(found: &Metrics) {
    for (series, times) in [
        ("event_duration_seconds_count", 6),
        // One that may not be asked for is a download, too, and ends at once.
        ("fetch_duration_seconds_count{kind=\"recording\"}", 4),
        ("fetch_duration_seconds_count{kind=\"other\"}", 4),
        // Two files and a manifest of the good event; a manifest at each try of the bad one.
        ("store_duration_seconds_count{bucket=\"documents\"}", 5),
        ("store_duration_seconds_count{bucket=\"recordings\"}", 1),
        ("store_duration_seconds_count{bucket=\"quarantine\"}", 1),
        ("event_duration_seconds_bucket{le=\"1200\"}", 6),
    ] {
        let series = format!("callvault_{series}");
        assert_eq!(found.count(&series), times, "{series}");
    }
    let first = "callvault_event_duration_seconds_bucket{le=\"0.01\"}";
    assert!(found.count(first) <= 6);
}

#[tokio::test]
async fn what_is_at_work_is_told_with_its_age_and_its_bytes_as_long_as_it_is() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let body = call::wav(400_000);
    let length = body.len();
    origin.put("/a/recording.wav", body, "audio/x-wav");
    let (bytes, pause) = (length.div_ceil(6), Duration::from_millis(400));
    origin.always("/a/recording.wav", Reply::Drip { bytes, pause });
    let worker = Worker::start(&setup.write());
    worker.wait_readyz(200).await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    let event = call::with_urls(&[&origin.url("/a/recording.wav")]);
    amqp.publish("", setup.queue(), None, &event).await;

    let what = "an event of some age, and its bytes";
    let found = eventually(DEADLINE, what, async || {
        let found = worker.metrics().await;
        (found.get("callvault_oldest_event_seconds") > 1.0).then_some(found)
    })
    .await;
    assert_eq!(found.count("callvault_in_flight_events"), 1);
    let buffered = found.count("callvault_buffered_bytes");
    let limit = found.count("callvault_buffered_bytes_limit");
    assert!((length as u64..=limit).contains(&buffered), "{buffered}");
    assert_eq!(found.count("callvault_spooled_bytes"), 0);

    let found = wait_outcomes(&worker, [1, 0, 0, 0, 0, 0]).await;
    assert!(found.get("callvault_event_duration_seconds_sum") > 2.0);
    let fetches = "callvault_fetch_duration_seconds_sum{kind=\"recording\"}";
    assert!(found.get(fetches) > 2.0);
    eventually(DEADLINE, "all to be given back", async || {
        let found = worker.metrics().await;
        let all = ["in_flight_events", "oldest_event_seconds", "buffered_bytes"];
        let mut all = all
            .iter()
            .map(|name| found.count(&format!("callvault_{name}")));
        all.all(|left| left == 0).then_some(())
    })
    .await;
}
