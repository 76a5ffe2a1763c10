//! What is counted and measured, as Prometheus reads it.
//!
//! Every series whose labels are known beforehand is there from the start, with 0: otherwise `rate()` would not see the
//! first event, nor an alert the first problem. No label holds anything that an event's sender wrote: kinds, buckets
//! and queues are the configuration's names, outcomes and statuses callvault's own words, and problem codes are a
//! bounded set (see `code_label`).

mod gauges;
mod process;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
    core::Collector,
};

pub(crate) use self::process::resident;
use self::{gauges::Gauges, process::Process};
use crate::{
    flights::Stage,
    manifest::{Entry, EntryStatus},
    status::{Attachments, Snapshot, Totals},
};

/// Of the text that [`Metrics::text`] makes.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// What becomes of events. `partial` is what `callvault archive` says, which has no queue to try again by.
const OUTCOMES: [&str; 6] = [
    "archived",
    "partial",
    "duplicate",
    "ignored",
    "retried",
    "dead",
];
const STATUSES: [EntryStatus; 3] = [
    EntryStatus::Archived,
    EntryStatus::Quarantined,
    EntryStatus::Unavailable,
];
/// The documented problem codes, and the statuses that origins answer most.
pub(crate) const CODES: [&str; 34] = [
    "wav_not_riff",
    "wav_no_fmt",
    "wav_no_data",
    "wav_bad_fmt",
    "wav_unsupported_codec",
    "wav_limits",
    "wav_truncated",
    "json_not_utf8",
    "json_syntax",
    "json_too_deep",
    "json_shape",
    "connect",
    "timeout",
    "tls",
    "body_incomplete",
    "too_many_redirects",
    "too_large",
    "url_expired",
    "scheme_not_allowed",
    "host_not_allowed",
    "address_not_allowed",
    "key_taken",
    "local",
    "http_204",
    "http_400",
    "http_401",
    "http_403",
    "http_404",
    "http_410",
    "http_429",
    "http_500",
    "http_502",
    "http_503",
    "http_504",
];
/// Nothing is counted by that as long as [`CODES`] is whole.
const OTHER: &str = "other";

/// In seconds: from a small file over a local network to a job's time.
const BUCKETS: [f64; 16] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0,
];

/// The counters and histograms of one process. There is no global registry: what counts has it in its hands.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    kinds: Vec<String>,
    events: IntCounterVec,
    event_duration: prometheus::Histogram,
    attachments: IntCounterVec,
    attachment_bytes: IntCounterVec,
    problems: IntCounterVec,
    fetch_duration: HistogramVec,
    store_duration: HistogramVec,
    late_settlements: IntCounter,
    /// What is looked up when it is asked for; one asks at a time, lest two add up the same processor time.
    at_once: Mutex<(Gauges, Process)>,
}

impl Metrics {
    /// For attachments of these kinds, and these buckets. It fails only over a name that is not one, of callvault's own.
    pub fn new<'a>(
        kinds: impl IntoIterator<Item = &'a str>,
        buckets: impl IntoIterator<Item = &'a str>,
    ) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            prometheus::Result::Ok(counters)
        };
        let times = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(name, help).buckets(BUCKETS.into());
            let times = HistogramVec::new(options, labels)?;
            registry.register(Box::new(times.clone()))?;
            prometheus::Result::Ok(times)
        };
        let events = counters(
            "callvault_events_total",
            "Settled events: the broker has taken the answer.",
            &["outcome"],
        )?;
        let attachments = counters(
            "callvault_attachments_total",
            "Attachments by what became of them; one that cannot be had counts at each try.",
            &["kind", "status"],
        )?;
        let attachment_bytes = counters(
            "callvault_attachment_bytes_total",
            "Bytes of attachments that were archived or quarantined.",
            &["kind"],
        )?;
        let problems = counters(
            "callvault_problems_total",
            "Attachments that were quarantined or could not be had, by the manifest's code.",
            &["code"],
        )?;
        let event_duration = times(
            "callvault_event_duration_seconds",
            "From the arrival of an event to its settlement.",
            &[],
        )?;
        let fetch_duration = times(
            "callvault_fetch_duration_seconds",
            "Downloads with their quick tries, however they ended.",
            &["kind"],
        )?;
        let store_duration = times(
            "callvault_store_duration_seconds",
            "Writing an object or a manifest, with the time that the bucket was waited for.",
            &["bucket"],
        )?;
        let late_settlements = IntCounter::new(
            "callvault_late_settlements_total",
            "Settlements that the broker took no more; the event is delivered again.",
        )?;
        registry.register(Box::new(late_settlements.clone()))?;
        let at_once = Mutex::new((Gauges::new(&registry)?, Process::new(&registry)?));
        let metrics = Self {
            kinds: kinds.into_iter().map(str::to_owned).collect(),
            event_duration: event_duration.with_label_values(&[] as &[&str]),
            registry,
            events,
            attachments,
            attachment_bytes,
            problems,
            fetch_duration,
            store_duration,
            late_settlements,
            at_once,
        };
        metrics.begin_at_zero(buckets);
        Ok(metrics)
    }

    fn begin_at_zero<'a>(&self, buckets: impl IntoIterator<Item = &'a str>) {
        for outcome in OUTCOMES {
            self.events.with_label_values(&[outcome]);
        }
        for kind in &self.kinds {
            for status in STATUSES {
                self.attachments
                    .with_label_values(&[kind.as_str(), status.as_str()]);
            }
            self.attachment_bytes.with_label_values(&[kind]);
            self.fetch_duration.with_label_values(&[kind]);
        }
        for code in CODES {
            self.problems.with_label_values(&[code]);
        }
        for bucket in buckets {
            self.store_duration.with_label_values(&[bucket]);
        }
    }

    /// An event was settled.
    pub fn settled(&self, outcome: &str, took: Duration) {
        self.events.with_label_values(&[outcome]).inc();
        self.event_duration.observe(took.as_secs_f64());
    }

    /// A settlement came too late.
    pub fn late(&self) -> u64 {
        self.late_settlements.inc();
        self.late_settlements.get()
    }

    /// Something became of an attachment, at this try.
    pub fn attachment(&self, entry: &Entry) {
        let kind = entry.kind.as_str();
        self.attachments
            .with_label_values(&[kind, entry.status.as_str()])
            .inc();
        if let Some(object) = &entry.object {
            self.attachment_bytes
                .with_label_values(&[kind])
                .inc_by(object.size);
        }
        if let Some(code) = entry.problem_code() {
            self.problems.with_label_values(&[code_label(code)]).inc();
        }
    }

    /// A stage came to its end, a good one or not.
    pub fn took(&self, stage: &Stage, time: Duration) {
        let (times, label) = match stage {
            Stage::Fetching { kind } => (&self.fetch_duration, kind),
            Stage::Storing { bucket, .. } | Stage::Manifest { bucket } => {
                (&self.store_duration, bucket)
            }
            Stage::Memory
            | Stage::Parsing
            | Stage::Behind
            | Stage::Looking { .. }
            | Stage::Waiting { .. }
            | Stage::Checking { .. }
            | Stage::Reading { .. }
            | Stage::Settling => return,
        };
        times
            .with_label_values(&[label])
            .observe(time.as_secs_f64());
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        let count = |counters: &IntCounterVec, labels: &[&str]| {
            let counter = counters.get_metric_with_label_values(labels);
            counter.map_or(0, |counter| counter.get())
        };
        let events = OUTCOMES.map(|outcome| (outcome.into(), count(&self.events, &[outcome])));
        let attachments = self.kinds.iter().map(|kind| {
            let status =
                |status: EntryStatus| count(&self.attachments, &[kind.as_str(), status.as_str()]);
            Attachments {
                kind: kind.clone(),
                archived: status(EntryStatus::Archived),
                quarantined: status(EntryStatus::Quarantined),
                unavailable: status(EntryStatus::Unavailable),
                bytes: count(&self.attachment_bytes, &[kind.as_str()]),
            }
        });
        let mut problems: Vec<_> = self.codes().filter(|(_, times)| *times > 0).collect();
        problems.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        Totals {
            events: events.into(),
            attachments: attachments.collect(),
            problems,
            late_settlements: self.late_settlements.get(),
        }
    }

    /// Every problem code that has a series, and how many were counted by it.
    fn codes(&self) -> impl Iterator<Item = (String, u64)> {
        let families = self.problems.collect().into_iter();
        let series = families.flat_map(|mut family| family.take_metric());
        series.filter_map(|series| {
            let code = series.get_label().first()?.value().to_owned();
            let times = self.problems.get_metric_with_label_values(&[&code]).ok()?;
            Some((code, times.get()))
        })
    }

    /// All of it in Prometheus' text format, of [`CONTENT_TYPE`].
    pub fn text(&self, now: &Snapshot) -> String {
        let mut at_once = self.at_once.lock().unwrap_or_else(PoisonError::into_inner);
        let (gauges, process) = &mut *at_once;
        gauges.set(now);
        process.look();
        // It fails over a family without a name or a series, and a registry has none.
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}

/// A problem's code as a label. A status that an origin answers is one of 500, whatever it pleases to answer: each is
/// documented, and counts by itself from the first time on.
fn code_label(code: &str) -> &str {
    let is_status = |code: &str| matches!(code.parse(), Ok(100..600_u16)) && code.len() == 3;
    if CODES.contains(&code) || code.strip_prefix("http_").is_some_and(is_status) {
        code
    } else {
        OTHER
    }
}
