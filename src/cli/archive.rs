//! `callvault archive`: events from files, straight through the pipeline.

use std::{
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use futures_util::StreamExt;
use serde::Serialize;

use super::{
    Exit, Failure,
    events::{Files, Found},
    say, say_json, setup,
};
use crate::{
    flights::Flight,
    manifest::{Entry, EntryStatus, Object},
    pipeline::{Archivist, End, Job, Outcome},
    telemetry,
};

/// Archives events from files straight through the pipeline, without a broker.
///
/// For backfill and replay: what is archived already is found and left alone. What may pass is tried a
/// few times and then reported; nothing is queued. Exits with 1 if any event is not complete.
#[derive(Debug, clap::Args)]
pub(super) struct Archive {
    #[command(flatten)]
    files: Files,
    /// Report as JSON lines, one per event.
    #[arg(long)]
    json: bool,
}

/// How long a store that does not work is waited for: a person is waiting too.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long uploads that were given up may take to be aborted.
const TIDYING: Duration = Duration::from_secs(10);

impl Archive {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let parts = setup::load(config)?;
        let events = self.files.stream()?;
        let side_by_side = usize::from(parts.queue.prefetch);
        let job_time = parts.job_time;
        let archivist = Arc::new(parts.archivist);
        let started = Instant::now();
        let bar = self.files.progress();
        let mut totals = Totals::default();
        let results = events
            .map(|found| {
                let archivist = Arc::clone(&archivist);
                async move {
                    let found = found?;
                    let outcome = archive(&archivist, &found, job_time).await;
                    Ok::<_, std::io::Error>((found, outcome))
                }
            })
            // None waits for the report of one before it, whose origin may drip.
            .buffer_unordered(side_by_side);
        let mut results = pin!(results);
        while let Some(result) = results.next().await {
            let (found, outcome) = result.map_err(Failure::usage)?;
            totals.add(&outcome);
            bar.inc(found.body.len() as u64 + 1);
            bar.suspend(|| self.report(&found, &outcome));
        }
        bar.finish_and_clear();
        if !archivist.stores.cleaned(TIDYING).await {
            tracing::warn!(
                "uploads that were given up are still being aborted: `callvault sweep` finds them"
            );
        }
        if !self.json {
            say(&totals.in_words(started.elapsed()));
        }
        Ok(totals.exit())
    }

    fn report(&self, found: &Found, outcome: &Outcome) {
        if self.json {
            say_json(&Line::of(found, outcome));
            return;
        }
        for entry in &outcome.entries {
            if let (EntryStatus::Quarantined, Some(object)) = (entry.status, &entry.object) {
                let code = entry.problem_code().unwrap_or_default();
                say(&format!(
                    "{}: quarantined: {code}: {}",
                    found.place, object.key
                ));
            }
        }
        if !is_done(outcome) {
            let ids = outcome
                .ids
                .as_ref()
                .map_or_else(String::new, |(call, request)| format!(" {call} {request}"));
            say(&format!(
                "{}: {}{ids}: {}",
                found.place,
                label(outcome),
                telemetry::reason(outcome)
            ));
        }
    }
}

async fn archive(archivist: &Archivist, found: &Found, job_time: Duration) -> Outcome {
    let started = tokio::time::Instant::now();
    let job = Job {
        body: found.body.clone(),
        attempt: 1,
        seen_before: true,
        started,
        time: job_time,
        patience: PATIENCE,
        flight: Flight::default(),
    };
    let outcome = archivist.archive(&job).await;
    telemetry::archived(&outcome, label(&outcome), started.elapsed());
    outcome
}

/// One event's report, as JSON.
#[derive(Serialize)]
struct Line<'a> {
    place: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    call_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    attachments: Vec<Attachment<'a>>,
}

/// What a report tells of an attachment. The manifest tells more, and may quote the file.
#[derive(Serialize)]
pub(super) struct Attachment<'a> {
    kind: &'a str,
    status: EntryStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<&'a Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

impl<'a> Attachment<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            kind: &entry.kind,
            status: entry.status,
            object: entry.object.as_ref(),
            problem: entry.problem_code(),
        }
    }
}

impl<'a> Line<'a> {
    fn of(found: &'a Found, outcome: &'a Outcome) -> Self {
        Self {
            place: &found.place,
            outcome: label(outcome),
            call_id: outcome.ids.as_ref().map(|(call, _)| call.as_str()),
            request_id: outcome.ids.as_ref().map(|(_, request)| request.as_str()),
            reason: telemetry::reason(outcome),
            attachments: outcome.entries.iter().map(Attachment::of).collect(),
        }
    }
}

fn label(outcome: &Outcome) -> &'static str {
    match outcome.end {
        End::Ignored { .. } => "ignored",
        End::Invalid(_) => "invalid",
        End::Duplicate => "duplicate",
        End::Archived => "archived",
        End::Partial(_) => "partial",
        End::NotOurs(_) | End::Panicked => "failed",
    }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(
        outcome.end,
        End::Ignored { .. } | End::Duplicate | End::Archived
    )
}

#[derive(Default)]
struct Totals {
    archived: u64,
    duplicate: u64,
    ignored: u64,
    partial: u64,
    invalid: u64,
    failed: u64,
    attachments: u64,
    quarantined: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        let count = match outcome.end {
            End::Ignored { .. } => &mut self.ignored,
            End::Invalid(_) => &mut self.invalid,
            End::Duplicate => &mut self.duplicate,
            End::Archived => &mut self.archived,
            End::Partial(_) => &mut self.partial,
            End::NotOurs(_) | End::Panicked => &mut self.failed,
        };
        *count += 1;
        for entry in &outcome.entries {
            let stored = entry.object.as_ref();
            self.attachments += u64::from(stored.is_some());
            self.quarantined += u64::from(entry.status == EntryStatus::Quarantined);
            self.bytes += stored.map_or(0, |object| object.size);
        }
    }

    fn in_words(&self, took: Duration) -> String {
        let done = format!(
            "{} archived ({} attachments, {}, {} of them quarantined), {} archived before, {} ignored",
            self.archived,
            self.attachments,
            ByteSize(self.bytes),
            self.quarantined,
            self.duplicate,
            self.ignored,
        );
        let not_done = [
            (
                self.partial,
                "partial: archive again when the rest can be had",
            ),
            (self.invalid, "invalid"),
            (self.failed, "failed: archive again when the store works"),
        ];
        let mut words = vec![done];
        for (count, what) in not_done {
            if count > 0 {
                words.push(format!("{count} {what}"));
            }
        }
        format!("{}; {:.1} s", words.join(", "), took.as_secs_f64())
    }

    fn exit(&self) -> Exit {
        if self.failed > 0 {
            Exit::Unreachable
        } else if self.partial + self.invalid > 0 {
            Exit::Problems
        } else {
            Exit::Done
        }
    }
}
