//! Logs: to standard error, one line a settled event, and no credential in any of them.

mod words;

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use self::words::{chain, is_obeyed, one_line, plain};

use crate::{
    manifest::EntryStatus,
    pipeline::{End, Missing, Outcome},
    settle::Decision,
};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise. Some libraries report by themselves what callvault
/// reports with what follows from it: each certificate that is not right, each request tried again.
/// An outage's end is told wherever its beginning is.
const QUIETER: &str = "rustls_platform_verifier=off,object_store=warn";
const OUTAGES: &str = "callvault::outage=info";
/// Whatever `RUST_LOG` says: the AMQP client's own log holds the password and whole messages, and the HTTP
/// client's pool names connections by authority, user information included.
const SILENT: [&str; 3] = ["lapin", "amq_protocol", "hyper_util::client::legacy::pool"];

/// Of what the traces' library says of itself only that spans are dropped, and that a sampler is not one: why they cannot
/// be sent is told by callvault.
const OF_TRACES: [&str; 3] = [
    "BatchSpanProcessor.SpanDroppingStarted",
    "BatchSpanProcessor.SpansDropped",
    "TracerProvider.Config",
];

/// Starts logging, from `level` on where `RUST_LOG` does not say more.
pub fn init(format: LogFormat, level: &str) {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    // Of two directives for one target the later counts, of two targets the more exact one.
    let outages = if hears_warnings(level, &asked) {
        OUTAGES
    } else {
        ""
    };
    let filter = EnvFilter::builder().parse_lossy(format!("{level},{QUIETER},{outages},{asked}"));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only if there is a subscriber already, and then that one logs.
    let _ = tracing_subscriber::registry()
        .with(filter)
        // Not a directive: one for a span or a field would have its way over it.
        .with(filter_fn(may_speak))
        .with(lines)
        .try_init();
    // A panic's own words may quote what it choked on: the place is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        if OTHERS.try_with(|()| ()).is_ok() {
            tracing::debug!(at, "somebody else's code panicked");
            return;
        }
        tracing::error!(
            at,
            "callvault failed on something that it should not: a bug, please report it"
        );
    }));
}

/// Whether an outage's beginning is told, by the level that `RUST_LOG` has for everything, if it has one.
fn hears_warnings(level: &str, asked: &str) -> bool {
    let levels = asked
        .split(',')
        .filter_map(|directive| directive.trim().parse().ok());
    let level = levels.last().or_else(|| level.parse().ok());
    level.is_none_or(|level: LevelFilter| level >= LevelFilter::WARN)
}

tokio::task_local! {
    static OTHERS: ();
}

/// Runs somebody else's code, whose panics are no bug of callvault's: the caller catches them, and tells of
/// them in its own way.
pub async fn of_others<F: Future>(call: F) -> F::Output {
    OTHERS.scope((), call).await
}

fn may_speak(metadata: &Metadata<'_>) -> bool {
    if metadata.target().starts_with("opentelemetry") {
        return OF_TRACES
            .iter()
            .any(|name| metadata.name().starts_with(name));
    }
    !SILENT
        .iter()
        .any(|name| metadata.target().starts_with(name))
}

/// The one log line of a settled event.
///
/// `letter` is what `callvault dead show` knows a dead message by.
pub fn settled(outcome: &Outcome, decision: &Decision, letter: &str, attempt: u32, took: Duration) {
    let (call_id, request_id) = ids(outcome);
    let count = |status| {
        outcome
            .entries
            .iter()
            .filter(|entry| entry.status == status)
            .count()
    };
    let bytes = bytes(outcome);
    let took_ms = milliseconds(took);
    let label = label(outcome, decision);
    match decision {
        Decision::Ack => tracing::info!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            archived = count(EntryStatus::Archived),
            quarantined = count(EntryStatus::Quarantined),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Retry { delay, charged } => tracing::warn!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            charged,
            retry_in_s = delay.as_secs_f64(),
            reason = reason(outcome),
            unavailable = count(EntryStatus::Unavailable),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Dead(death) => tracing::error!(
            call_id,
            request_id,
            outcome = label,
            attempt,
            id = letter,
            reason = death.reason.as_str(),
            detail = one_line(&death.detail),
            unavailable = count(EntryStatus::Unavailable),
            bytes,
            took_ms,
            "settled"
        ),
        Decision::Requeue { .. } => {
            tracing::warn!(
                call_id,
                request_id,
                outcome = label,
                attempt,
                reason = reason(outcome),
                took_ms,
                "settled"
            );
        }
    }
}

/// The one log line of an event that did not come from a queue.
pub fn archived(outcome: &Outcome, label: &str, took: Duration) {
    let (call_id, request_id) = ids(outcome);
    let bytes = bytes(outcome);
    let took_ms = milliseconds(took);
    tracing::info!(
        call_id,
        request_id,
        outcome = label,
        reason = reason(outcome),
        bytes,
        took_ms,
        "settled"
    );
}

fn ids(outcome: &Outcome) -> (&str, &str) {
    let ids = outcome.ids.as_ref();
    ids.map_or(("-", "-"), |(call, request)| {
        (call.as_str(), request.as_str())
    })
}

fn bytes(outcome: &Outcome) -> u64 {
    let objects = outcome
        .entries
        .iter()
        .filter_map(|entry| entry.object.as_ref());
    objects.map(|object| object.size).sum()
}

/// The documented name of what became of an event.
pub fn label(outcome: &Outcome, decision: &Decision) -> &'static str {
    match (decision, &outcome.end) {
        (Decision::Retry { .. } | Decision::Requeue { .. }, _) => "retried",
        (Decision::Dead(_), _) => "dead",
        (Decision::Ack, End::Ignored { .. }) => "ignored",
        (Decision::Ack, End::Duplicate) => "duplicate",
        (Decision::Ack, End::Partial(_)) => "partial",
        (Decision::Ack, End::Archived | End::Invalid(_) | End::NotOurs(_) | End::Panicked) => {
            "archived"
        }
    }
}

/// What is said of an event that brings out a bug.
pub const PANICKED: &str =
    "callvault itself failed on this event, which is a bug: its log says where";

/// How many reasons one line tells.
const MOST_REASONS: usize = 5;

/// Why an event is not done, in words.
pub fn reason(outcome: &Outcome) -> String {
    match &outcome.end {
        End::Invalid(error) => one_line(&error.to_string()),
        End::NotOurs(fault) => chain(fault),
        End::Panicked => PANICKED.into(),
        End::Partial(missing) => {
            // A hostile event may have many, each different: the first of each code tells enough.
            let mut codes = BTreeMap::new();
            for Missing { error, .. } in missing {
                codes.entry(error.code()).or_insert((error, 0_usize)).1 += 1;
            }
            let words = codes
                .values()
                .take(MOST_REASONS)
                .map(|(error, count)| match count {
                    1 => chain(*error),
                    count => format!("{} ({count} attachments)", chain(*error)),
                });
            words.collect::<Vec<_>>().join("; ")
        }
        End::Ignored { .. } | End::Duplicate | End::Archived => String::new(),
    }
}

/// To a hundredth: what lies near takes few of them.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e5).round() / 1e2
}
