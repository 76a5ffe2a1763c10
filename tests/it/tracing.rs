//! Traces: what a collector is sent of events, and what a collector that fails does to them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::{
    connecting::certificates,
    support::{
        amqp::Amqp,
        call,
        collector::{Collector, Span},
        config::Setup,
        origin::{Origin, Reply},
        servers,
        tls::Tls,
        wait::eventually,
        worker::{Worker, command},
    },
};

const DEADLINE: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A worker that sends its spans there, soon.
fn traced(setup: &Setup, collector: &str) -> Command {
    let mut run = command();
    run.args(["run", "--config"])
        .arg(setup.write())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100");
    run
}

async fn start(setup: &Setup, run: Command) -> (Worker, Amqp) {
    let worker = Worker::spawn(run, setup.dir());
    worker.wait_readyz(200).await;
    (worker, Amqp::connect(servers::rabbit().await).await)
}

/// Publishes an event of a trace.
async fn publish(amqp: &Amqp, setup: &Setup, body: &[u8], flags: &str) {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut headers = FieldTable::default();
    headers.insert(
        "traceparent".into(),
        text(&format!("00-{TRACE}-{PARENT}-{flags}")),
    );
    headers.insert("tracestate".into(), text("vendor=opaque"));
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers);
    amqp.publish_with("", setup.queue(), properties, body).await;
}

fn below<'a>(spans: &'a [Span], parent: &Span) -> Vec<&'a Span> {
    let mut below: Vec<_> = spans
        .iter()
        .filter(|span| span.parent == parent.id)
        .collect();
    below.sort_by(|a, b| a.name.cmp(&b.name));
    below
}

fn names<'a>(spans: &[&'a Span]) -> Vec<&'a str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

#[tokio::test]
async fn an_event_goes_on_with_the_trace_that_it_came_with_and_each_stage_is_a_child() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let collector = Collector::start().await;
    let mut run = traced(&setup, &format!("http://{}", collector.address()));
    run.env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=canary")
        .env(
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test,host.name=here",
        )
        // What is logged has nothing to do with it.
        .env(
            "RUST_LOG",
            "warn,callvault::http=info,callvault::cli::run=info",
        );
    let (worker, amqp) = start(&setup, run).await;
    publish(&amqp, &setup, &call::served(&origin), "01").await;

    let process = format!("process {}", setup.queue());
    let events = collector.wait_spans(&process, 1).await;
    let event = &events[0];
    assert_eq!(
        (event.trace.as_str(), event.parent.as_str()),
        (TRACE, PARENT)
    );
    assert_eq!(
        (event.state.as_str(), event.kind),
        ("vendor=opaque", SpanKind::Consumer)
    );
    assert_eq!(event.error, None);
    for (name, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", setup.queue()),
        ("callvault.attempt", "1"),
        ("callvault.outcome", "archived"),
        ("callvault.call_id", "5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15"),
        (
            "callvault.request_id",
            "00552b38-d0e7-460f-9877-a7c8c8b2ff8c",
        ),
    ] {
        assert_eq!(event.get(name), Some(value), "{name}");
    }
    for (name, value) in [
        ("service.name", "callvault"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "test"),
        ("host.name", "here"),
    ] {
        assert_eq!(event.resource[name], value, "{name}");
    }

    let spans = collector.spans();
    let stages = below(&spans, event);
    let expected = [
        "check",
        "check",
        "check",
        "fetch",
        "fetch",
        "fetch",
        "find manifest",
        "parse",
        "settle",
        "store",
        "store",
        "store",
        "write manifest",
    ];
    assert_eq!(names(&stages), expected);
    assert_eq!(spans.len(), 1 + expected.len(), "no other span");
    assert!(
        stages
            .iter()
            .all(|stage| stage.trace == TRACE && stage.error.is_none())
    );
    assert!(stages.iter().all(|stage| stage.took <= event.took));
    let (_, _, recording) = &call::files()[1];
    let of = |name: &str| {
        let found = stages
            .iter()
            .find(|stage| stage.name == name && stage.get("callvault.kind") == Some("recording"));
        *found.unwrap()
    };
    let length = recording.len().to_string();
    assert_eq!(of("fetch").get("server.address"), Some("127.0.0.1"));
    assert_eq!(of("fetch").get("http.response.status_code"), Some("200"));
    assert_eq!(of("fetch").get("callvault.bytes"), Some(length.as_str()));
    assert_eq!(of("store").get("callvault.bucket"), Some("recordings"));
    assert_eq!(of("store").get("callvault.bytes"), Some(length.as_str()));
    let (headers, _) = &collector.requests()[0];
    assert_eq!(headers["x-key"], "canary");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    assert!(!worker.log().contains("settled"), "as RUST_LOG says");
}

#[tokio::test]
async fn each_try_is_a_span_of_the_same_trace_with_its_code_and_the_dead_letter_still_says_which() {
    let (mut setup, origin) = (Setup::folders().await, Origin::start().await);
    setup.set("queue", "retry_delays", "[\"100ms\"]");
    let collector = Collector::start().await;
    let run = traced(&setup, &format!("http://{}", collector.address()));
    let (mut worker, amqp) = start(&setup, run).await;
    origin.always("/recording.wav", Reply::Status(404));
    let event = call::with_urls(&[&origin.url("/recording.wav?signature=canary#canary")]);
    publish(&amqp, &setup, &event, "01").await;
    let dead = amqp.wait_take(&format!("{}.dead", setup.queue())).await;
    let parent = dead.text("traceparent");
    assert_eq!(parent, Some(format!("00-{TRACE}-{PARENT}-01")));
    assert_eq!(dead.text("tracestate").as_deref(), Some("vendor=opaque"));

    let process = format!("process {}", setup.queue());
    let events = collector.wait_spans(&process, 2).await;
    let told = |event: &Span| {
        let outcome = event.get("callvault.outcome").unwrap().to_owned();
        (outcome, event.error.clone().unwrap())
    };
    let of = |outcome: &str, error: &str| (outcome.to_owned(), error.to_owned());
    assert_eq!(told(&events[0]), of("retried", "http_404"));
    assert_eq!(told(&events[1]), of("dead", "attachment_unavailable"));
    assert_eq!(events[1].get("callvault.attempt"), Some("2"));
    let fetches = collector.wait_spans("fetch", 2).await;
    for (fetch, event) in fetches.iter().zip(&events) {
        assert_eq!(
            (fetch.parent.as_str(), event.trace.as_str()),
            (event.id.as_str(), TRACE)
        );
        assert_eq!(fetch.error.as_deref(), Some("http_404"));
        assert_eq!(fetch.get("http.response.status_code"), Some("404"));
    }

    // One that is not sampled sends nothing, and one without a trace begins one. What is left is sent at the end.
    publish(&amqp, &setup, call::STARTED.as_bytes(), "00").await;
    amqp.publish("", setup.queue(), None, call::ENDED.as_bytes())
        .await;
    eventually(DEADLINE, "both to be settled", async || {
        let settled = worker.log().matches("outcome=\"ignored\"").count();
        (settled == 2).then_some(())
    })
    .await;
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    let mut events = collector.spans();
    events.retain(|span| span.name == process);
    assert_eq!(events.len(), 3);
    assert_ne!(events[2].trace, TRACE);
    assert_eq!(events[2].parent, "");
    for (_, bytes) in collector.requests() {
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"));
    }
}

#[tokio::test]
async fn a_collector_that_is_gone_or_mute_holds_up_no_event_and_is_told_of_once() {
    let (setup, origin) = (Setup::folders().await, Origin::start().await);
    let collector = Collector::start().await;
    collector.mute(true);
    let mute = format!("http://{}", collector.address());
    // Nothing listens on the discard port.
    for (at, address) in ["http://127.0.0.1:9", &mute].into_iter().enumerate() {
        let mut run = traced(&setup, address);
        run.env("OTEL_BSP_MAX_QUEUE_SIZE", "8")
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "1000");
        let (mut worker, amqp) = start(&setup, run).await;
        let event = String::from_utf8(call::served(&origin).to_vec()).unwrap();
        let begun = Instant::now();
        for n in 0..40 {
            let event = event.replace("00552b38", &format!("{at}{n:07}"));
            publish(&amqp, &setup, event.as_bytes(), "01").await;
        }
        eventually(DEADLINE, "all to be archived", async || {
            let settled = worker.log().matches("outcome=\"archived\"").count();
            (settled == 40).then_some(())
        })
        .await;
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
        worker
            .wait_log("spans cannot be sent; events go on without them")
            .await;
        let begun = Instant::now();
        worker.term();
        assert!(worker.wait_exit(DEADLINE).await.success());
        assert!(begun.elapsed() < Duration::from_secs(10));
        let log = worker.log();
        assert_eq!(log.matches("spans cannot be sent").count(), 1, "{log}");
        assert_eq!(log.matches("dropped a Span").count(), 1, "{log}");
        assert!(!log.contains("ExportError"), "{log}");
    }
}

#[tokio::test]
async fn a_collector_behind_an_authority_of_ones_own_is_reached_and_one_that_comes_back_is_told_of()
{
    let (setup, collector) = (Setup::folders().await, Collector::start().await);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    certificates(dir.path());
    let tls = Tls::before(&collector.address(), dir.path(), "127.0.0.1").await;
    let mut run = traced(&setup, &format!("https://{}", tls.address()));
    run.env("SSL_CERT_FILE", dir.path().join("ca.pem"))
        .env("OTEL_SERVICE_NAME", "vault")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
    let (worker, amqp) = start(&setup, run).await;
    collector.mute(true);
    publish(&amqp, &setup, call::STARTED.as_bytes(), "01").await;
    worker.wait_log("spans cannot be sent").await;
    collector.mute(false);
    let process = format!("process {}", setup.queue());
    publish(&amqp, &setup, call::ENDED.as_bytes(), "01").await;
    let events = collector.wait_spans(&process, 1).await;
    worker.wait_log("spans are sent again").await;
    assert_eq!(events[0].resource["service.name"], "vault");
    assert!(tls.sessions() > 0);
}

#[tokio::test]
async fn traces_are_off_unless_they_are_asked_for_in_a_way_that_callvault_has() {
    let (setup, collector) = (Setup::folders().await, Collector::start().await);
    let endpoint = (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://{}", collector.address()),
    );
    let amqp = Amqp::connect(servers::rabbit().await).await;
    for (more, told) in [
        (("OTEL_SDK_DISABLED", "true"), None),
        (("OTEL_TRACES_EXPORTER", "none"), None),
        (
            ("OTEL_TRACES_SAMPLER", "always_off"),
            Some("sending traces"),
        ),
        (
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            Some("OTEL_EXPORTER_OTLP_PROTOCOL asks for"),
        ),
        (
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            Some("OTEL_TRACES_EXPORTER asks for"),
        ),
        (
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "not a URL"),
            Some("no traces are sent"),
        ),
    ] {
        let mut run = traced(&setup, &endpoint.1);
        run.env(more.0, more.1);
        let (mut worker, _) = start(&setup, run).await;
        amqp.publish("", setup.queue(), None, call::STARTED.as_bytes())
            .await;
        worker.wait_log("outcome=\"ignored\"").await;
        worker.term();
        assert!(worker.wait_exit(DEADLINE).await.success());
        let log = worker.log();
        match told {
            Some(told) => assert!(log.contains(told), "{more:?}: {log}"),
            None => assert!(!log.contains("traces"), "{more:?}: {log}"),
        }
    }
    assert!(collector.requests().is_empty());
}
