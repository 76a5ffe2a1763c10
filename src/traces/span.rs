//! The span of an event, and those of its stages. Each ends with its value: whatever is dropped was given up.

use std::{
    borrow::Cow,
    mem,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::trace::SdkTracer;

use super::whole;
use crate::flights::Stage;

/// Of work that was dropped: the grace was over.
const GIVEN_UP: &str = "given_up";
const PANICKED: &str = "panicked";
/// Most events never wait there: a span that says so would only be in the way.
const UNWORTHY: Duration = Duration::from_millis(1);

/// An event's span, or none: without traces, or where nobody asked for this one.
#[derive(Debug, Default)]
pub struct Event(Option<Recorded>);

#[derive(Debug)]
struct Recorded {
    tracer: SdkTracer,
    context: Context,
    ended: AtomicBool,
}

impl Event {
    pub(super) fn begin(
        tracer: &SdkTracer,
        name: String,
        kind: SpanKind,
        attributes: impl IntoIterator<Item = KeyValue>,
        parent: &Context,
    ) -> Self {
        let span = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_attributes(attributes);
        let span = tracer.build_with_context(span, parent);
        // Not sampled: its stages are not, either.
        Self(span.is_recording().then(|| Recorded {
            tracer: tracer.clone(),
            context: Context::new().with_span(span),
            ended: AtomicBool::new(false),
        }))
    }

    /// Notes whose event it is.
    pub fn is(&self, call_id: &str, request_id: &str) {
        if let Some(recorded) = &self.0 {
            let span = recorded.context.span();
            span.set_attribute(KeyValue::new("callvault.call_id", call_id.to_owned()));
            span.set_attribute(KeyValue::new("callvault.request_id", request_id.to_owned()));
        }
    }

    /// Notes what became of it: the documented outcome, and a code where it is not done.
    pub fn ends(&self, outcome: &'static str, error: impl FnOnce() -> Option<Cow<'static, str>>) {
        let Some(recorded) = &self.0 else {
            return;
        };
        recorded.ended.store(true, Ordering::Relaxed);
        let span = recorded.context.span();
        span.set_attribute(KeyValue::new("callvault.outcome", outcome));
        if let Some(code) = error() {
            span.set_attribute(KeyValue::new("error.type", code.clone()));
            span.set_status(Status::error(code));
        }
    }

    /// One stage of it, from now on.
    pub(crate) fn stage(&self, stage: &Stage) -> Option<StageSpan<'_>> {
        let event = self.0.as_ref()?;
        let (name, kind) = named(stage);
        let mut told = Told::default();
        if let Some(kind) = stage.kind() {
            told.add("callvault.kind", kind.to_owned());
        }
        if let Some(bucket) = stage.bucket() {
            told.add("callvault.bucket", bucket.to_owned());
        }
        Some(StageSpan {
            event,
            name,
            kind,
            unworthy: matches!(stage, Stage::Memory | Stage::Behind),
            began: SystemTime::now(),
            told,
            done: false,
        })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if !self.ended.load(Ordering::Relaxed) {
            let span = self.context.span();
            span.set_attribute(KeyValue::new("error.type", GIVEN_UP));
            span.set_status(Status::error(GIVEN_UP));
        }
    }
}

/// A stage under way.
pub(crate) struct StageSpan<'a> {
    event: &'a Recorded,
    name: &'static str,
    kind: SpanKind,
    unworthy: bool,
    began: SystemTime,
    told: Told,
    done: bool,
}

/// What is told of a stage beside its time.
#[derive(Debug, Default)]
pub struct Told {
    attributes: Vec<KeyValue>,
    error: Option<Cow<'static, str>>,
}

impl Told {
    /// One more thing: a number, a name of the configuration's, a word of callvault's, or a host.
    pub fn add(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    /// How many bytes it was about.
    pub fn bytes(&mut self, bytes: u64) {
        self.add("callvault.bytes", whole(bytes));
    }

    /// That it failed: a code.
    pub fn fails(&mut self, code: impl Into<Cow<'static, str>>) {
        let code = code.into();
        self.add("error.type", code.clone());
        self.error = Some(code);
    }
}

impl StageSpan<'_> {
    /// It came to its end.
    pub(crate) fn end(mut self, tell: impl FnOnce(&mut Told)) {
        tell(&mut self.told);
        self.done = true;
    }
}

impl Drop for StageSpan<'_> {
    fn drop(&mut self) {
        if !self.done {
            let panics = thread::panicking();
            self.told.fails(if panics { PANICKED } else { GIVEN_UP });
        }
        let now = SystemTime::now();
        let took = now.duration_since(self.began).unwrap_or_default();
        if self.unworthy && self.done && took < UNWORTHY {
            return;
        }
        let Told { attributes, error } = mem::take(&mut self.told);
        let span = SpanBuilder::from_name(self.name)
            .with_kind(self.kind.clone())
            .with_start_time(self.began)
            .with_attributes(attributes);
        let mut span = self
            .event
            .tracer
            .build_with_context(span, &self.event.context);
        if let Some(code) = error {
            span.set_status(Status::error(code));
        }
        span.end_with_timestamp(now);
    }
}

/// A few names, so that a trace is read at a glance and they can be added up.
fn named(stage: &Stage) -> (&'static str, SpanKind) {
    match stage {
        Stage::Memory => ("wait for memory", SpanKind::Internal),
        Stage::Parsing => ("parse", SpanKind::Internal),
        Stage::Behind => ("wait for the same event", SpanKind::Internal),
        Stage::Looking { .. } => ("find manifest", SpanKind::Client),
        Stage::Waiting { .. } => ("wait for bucket", SpanKind::Internal),
        Stage::Fetching { .. } => ("fetch", SpanKind::Client),
        Stage::Checking { .. } => ("check", SpanKind::Internal),
        Stage::Storing { .. } => ("store", SpanKind::Client),
        Stage::Reading { .. } => ("read back", SpanKind::Client),
        Stage::Manifest { .. } => ("write manifest", SpanKind::Client),
        Stage::Settling => ("settle", SpanKind::Internal),
    }
}
