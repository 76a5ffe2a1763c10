//! Traces over OTLP, for whoever sets OpenTelemetry's own variables; without them nothing of this runs.
//!
//! An event is one span, which continues the trace that its message came with, and each stage of it a child. They are
//! made here by hand, not from the spans of the log: so `RUST_LOG` switches none of them off, and they change no line.
//! What they hold are callvault's own words, the configuration's names, numbers, the host that a download goes to, and
//! the two identifiers that stand in each line of the log: nothing else of an event, and nothing of a URL.

mod collector;
mod span;

use std::{env, io, time::Duration};

use opentelemetry::{
    Context, InstrumentationScope, Key, KeyValue, Value,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanKind, TracerProvider},
};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};

use self::collector::Collector;
pub use self::span::{Event, Told};
use crate::telemetry;

/// The headers of a trace (W3C Trace Context).
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// Of each, in bytes: the first has 55, and of the second no more need be passed on
/// (section 3.3.1.5).
const LONGEST: usize = 512;

/// Where spans go.
#[derive(Debug, Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Why there are no traces although somebody asked for them.
#[derive(Debug, thiserror::Error)]
enum Off {
    #[error("{variable} asks for {wanted:?}, and callvault has {has:?} alone")]
    Unknown {
        variable: &'static str,
        wanted: String,
        has: &'static str,
    },
    #[error("a variable of OpenTelemetry's cannot be used")]
    Setting(#[from] ExporterBuildError),
    #[error("cannot build the client for the collector")]
    Client(#[from] io::Error),
}

impl Traces {
    /// As the environment says; none where it does not ask for any, or asks for what callvault does not have. That is
    /// told, and is no reason not to work. Within a runtime, which sends the spans.
    pub fn from_environment() -> Option<Self> {
        match wanted() {
            Ok(false) => return None,
            Ok(true) => {}
            Err(off) => return told(&off),
        }
        match Self::start() {
            Ok(traces) => {
                tracing::info!("sending traces");
                Some(traces)
            }
            Err(off) => told(&off),
        }
    }

    fn start() -> Result<Self, Off> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new()?)
            .build()?;
        // What OTEL_TRACES_SAMPLER, OTEL_BSP_* and OTEL_SPAN_* say is read there. What comes faster than it can be sent is
        // dropped: the queue has an end, and no event waits for room in it.
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        let scope =
            InstrumentationScope::builder("callvault").with_version(env!("CARGO_PKG_VERSION"));
        let tracer = provider.tracer_with_scope(scope.build());
        Ok(Self { provider, tracer })
    }

    /// The span of an event that came from a queue with these headers.
    pub fn begin<'a>(
        &self,
        queue: &str,
        bytes: usize,
        attempt: u32,
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Event {
        let header = |name: &str| header(name).filter(|value| value.len() <= LONGEST);
        let headers = Headers {
            parent: header(PARENT),
            state: header(STATE),
        };
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        // The names of OpenTelemetry's conventions for messaging, as far as there is one.
        let attributes = [
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.destination.name", queue.to_owned()),
            KeyValue::new("messaging.message.body.size", whole(bytes)),
            KeyValue::new("callvault.attempt", i64::from(attempt)),
        ];
        Event::begin(
            &self.tracer,
            format!("process {queue}"),
            SpanKind::Consumer,
            attributes,
            &parent,
        )
    }

    /// Sends what is left, as long as that may take.
    pub async fn end(self, within: Duration) {
        let end = move || self.provider.shutdown_with_timeout(within);
        // It waits for a thread that waits for the network.
        if let Ok(Err(error)) = tokio::task::spawn_blocking(end).await {
            let error = telemetry::one_line(&error.to_string());
            tracing::warn!(error, "the last spans may not have been sent");
        }
    }
}

/// What a message says of its trace.
struct Headers<'a> {
    parent: Option<&'a str>,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => self.parent,
            STATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

fn told<T>(off: &Off) -> Option<T> {
    let why = telemetry::chain(off);
    tracing::warn!(why, "no traces are sent");
    None
}

/// Of a variable that is set to something: an empty one counts as none.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Of one that may be meant for traces alone.
fn either(traces: &'static str, all: &'static str) -> Option<(&'static str, String)> {
    [traces, all]
        .into_iter()
        .find_map(|name| Some((name, variable(name)?)))
}

/// Whether anybody asks for traces. Without an address nobody does, whatever the default for one is.
fn wanted() -> Result<bool, Off> {
    let address = either(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    );
    let disabled =
        variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if address.is_none() || disabled {
        return Ok(false);
    }
    let exporter = "OTEL_TRACES_EXPORTER";
    if let Some(wanted) = variable(exporter) {
        let mut names = wanted.split(',').map(str::trim);
        if names.clone().all(|name| name == "none") {
            return Ok(false);
        }
        if !names.any(|name| name == "otlp") {
            return Err(unknown(exporter, wanted, "otlp"));
        }
    }
    let protocol = either(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    );
    let compression = either(
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
    );
    for (asked, has) in [(protocol, "http/protobuf"), (compression, "none")] {
        if let Some((variable, wanted)) = asked.filter(|(_, wanted)| wanted != has) {
            return Err(unknown(variable, wanted, has));
        }
    }
    Ok(true)
}

fn unknown(variable: &'static str, wanted: String, has: &'static str) -> Off {
    Off::Unknown {
        variable,
        wanted,
        has,
    }
}

/// Who sends the spans: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, over what is known.
fn resource() -> Resource {
    let name = Key::from_static_str("service.name");
    let nameless = |value: &Value| value.as_str().starts_with("unknown_service");
    let asked = Resource::builder().build();
    let asked = asked
        .iter()
        .filter(|(key, value)| **key != name || !nameless(value))
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let known = [
        KeyValue::new("service.name", "callvault"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new(
            "host.name",
            gethostname::gethostname().to_string_lossy().into_owned(),
        ),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    Resource::builder_empty()
        .with_attributes(known.into_iter().chain(asked))
        .build()
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
