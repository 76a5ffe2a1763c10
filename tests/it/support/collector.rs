//! A collector of traces: what it is sent over OTLP, as its protocol's own types read it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    routing::post,
};
use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1,
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle};

use super::wait::eventually;

/// A running collector; it ends with its value.
pub(crate) struct Collector {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
    mute: AtomicBool,
}

/// A span, as far as tests ask.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) state: String,
    pub(crate) kind: v1::span::SpanKind,
    /// In words: texts as they are, all else as it is written.
    pub(crate) attributes: HashMap<String, String>,
    /// Of its status, where that is an error.
    pub(crate) error: Option<String>,
    pub(crate) took: Duration,
    pub(crate) resource: HashMap<String, String>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            task,
        }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on nothing is answered, or again.
    pub(crate) fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, Ordering::Relaxed);
    }

    /// Each request: its headers, and its bytes as they came.
    pub(crate) fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// All that came so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let requests = self.requests();
        let decode = |(_, body): (_, Bytes)| ExportTraceServiceRequest::decode(body).unwrap();
        let resources = requests.into_iter().map(decode);
        let resources = resources.flat_map(|request| request.resource_spans);
        let spans = resources.flat_map(|resource| {
            let about = words(&resource.resource.unwrap_or_default().attributes);
            let scopes = resource.scope_spans.into_iter();
            let spans = scopes.flat_map(|scope| scope.spans);
            spans.map(move |span| Span::of(span, about.clone()))
        });
        spans.collect()
    }

    /// Waits until so many spans of a name are there.
    pub(crate) async fn wait_spans(&self, name: &str, count: usize) -> Vec<Span> {
        let what = format!("{count} spans {name:?}");
        eventually(Duration::from_secs(30), &what, async || {
            let mut spans = self.spans();
            spans.retain(|span| span.name == name);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Span {
    fn of(span: v1::Span, resource: HashMap<String, String>) -> Self {
        let hex = |bytes: &[u8]| {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            digits.collect::<String>()
        };
        let status = span.status.clone().unwrap_or_default();
        let failed = status.code() == v1::status::StatusCode::Error;
        Self {
            kind: span.kind(),
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            state: span.trace_state,
            attributes: words(&span.attributes),
            error: failed.then_some(status.message),
            took: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
            name: span.name,
            resource,
        }
    }

    /// An attribute, in words.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }
}

fn words(attributes: &[KeyValue]) -> HashMap<String, String> {
    let word = |attribute: &KeyValue| {
        let value = attribute.value.clone().and_then(|value| value.value);
        let value = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            Some(Value::BoolValue(yes)) => yes.to_string(),
            other => panic!("{other:?}"),
        };
        (attribute.key.clone(), value)
    };
    attributes.iter().map(word).collect()
}

async fn take(State(shared): State<Arc<Shared>>, request: Request) -> StatusCode {
    let (head, body) = request.into_parts();
    let body: Body = body;
    let Ok(body) = to_bytes(body, 64 << 20).await else {
        return StatusCode::BAD_REQUEST;
    };
    if shared.mute.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    shared.requests.lock().unwrap().push((head.headers, body));
    StatusCode::OK
}
