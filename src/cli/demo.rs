//! `callvault demo`: the whole pipeline on this machine, with nothing installed.
//!
//! The parts are the real ones: the events are the provider's, the downloads go over HTTP to an origin
//! on loopback, checks, stores and manifests are those of `run`. Only the queue is a channel in this
//! process.

mod origin;
mod sample;

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use bytesize::ByteSize;
use chrono::Utc;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::{Exit, Failure, archive::Attachment, say, say_json, setup};
use crate::{
    check::Facts,
    flights::Flight,
    manifest::{Entry, EntryStatus, Kept, Object},
    pipeline::{Archivist, End, Job, Outcome},
    settle::{Decision, Rules},
    telemetry,
};

/// The whole pipeline on this machine, with nothing installed.
///
/// A sample call's events go through an in-process queue; its attachments are downloaded from a local
/// origin, checked, and archived in folders under DIR. One of them is broken, to show the quarantine.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Where to archive.
    #[arg(long, value_name = "DIR", default_value = "callvault-demo")]
    dir: PathBuf,
    /// Report as JSON lines, one per event.
    #[arg(long)]
    json: bool,
}

/// The width of the report's table, in characters: it fits most terminals.
const TABLE_WIDTH: u16 = 100;
/// The most times that the demo's queue hands out one event.
const TRIES: u32 = 2;

#[derive(Serialize)]
struct Line<'a> {
    event: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    attachments: Vec<Attachment<'a>>,
}

/// A message in the demo's queue.
struct Message {
    event: &'static str,
    body: Bytes,
    tries: u32,
}

impl Demo {
    pub(super) async fn execute(self) -> Result<Exit, Failure> {
        let origin = origin::start(sample::files().map_err(Failure::usage)?)
            .await
            .map_err(Failure::unreachable)?;
        let config = write_config(&self.dir).map_err(Failure::usage)?;
        let parts = setup::load_without_environment(&config)?;
        let rules = Rules {
            delays: vec![Duration::from_millis(500)],
            refusals: parts.refusals,
        };

        let (queue, mut deliveries) = mpsc::unbounded_channel();
        let events = sample::events(&origin).map_err(Failure::usage)?;
        let bar = progress(events.len());
        for (event, body) in events {
            // The receiver lives as long as this function.
            let _ = queue.send(Message {
                event,
                body,
                tries: 0,
            });
        }
        let mut done = Vec::new();
        while done.len() < sample::EVENTS {
            let Some(message) = deliveries.recv().await else {
                break;
            };
            bar.set_message(message.event);
            let attempt = message.tries + 1;
            let started = Instant::now();
            let outcome = archive(&parts.archivist, &message, attempt, parts.job_time).await;
            let decision = rules.decide(&outcome, attempt, Utc::now());
            telemetry::settled(&outcome, &decision, "-", attempt, started.elapsed());
            if let Decision::Retry { delay, .. } = decision
                && attempt < TRIES
            {
                tokio::time::sleep(delay).await;
                let _ = queue.send(Message {
                    tries: attempt,
                    ..message
                });
            } else {
                bar.inc(1);
                done.push((message.event, outcome, decision));
            }
        }
        bar.finish_and_clear();
        let good = done
            .iter()
            .all(|(_, _, decision)| *decision == Decision::Ack);
        if self.json {
            report_json(&done);
        } else {
            self.report(&done);
        }
        Ok(if good { Exit::Done } else { Exit::Problems })
    }

    fn report(&self, done: &[(&str, Outcome, Decision)]) {
        for (event, outcome, decision) in done {
            let what = match &outcome.end {
                End::Ignored { .. } => {
                    "acknowledged and ignored: it has nothing to archive".to_owned()
                }
                End::Duplicate => {
                    "all is there already: its manifest is complete, so nothing was downloaded"
                        .to_owned()
                }
                End::Archived => format!("archived, {} attachments", outcome.entries.len()),
                _ => format!(
                    "{}: {}",
                    telemetry::label(outcome, decision),
                    telemetry::reason(outcome)
                ),
            };
            say(&format!("{event:<14} {what}"));
        }
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_FULL_CONDENSED)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(TABLE_WIDTH)
            .set_header(["kind", "status", "checked", "size", "bucket", "file"]);
        table.add_rows(
            done.iter()
                .flat_map(|(_, outcome, _)| &outcome.entries)
                .map(row),
        );
        if let Some(column) = table.column_mut(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if !table.is_empty() {
            say(&format!("\n{table}"));
        }
        let ids = done.iter().find_map(|(_, outcome, _)| outcome.ids.as_ref());
        if let Some((call, request)) = ids {
            self.say_where_to_go(&format!("2023/08/24/{call}/{request}"));
        }
    }

    /// Where things are, and what to try next.
    fn say_where_to_go(&self, folder: &str) {
        let archive = self.dir.join("archive");
        let [documents, recordings] =
            ["documents", "recordings"].map(|bucket| archive.join(bucket).join(folder));
        say(&format!(
            "\nEach file is in {}/BUCKET/{folder}/",
            archive.display()
        ));
        say("\nNext:");
        say(&format!(
            "  read the manifest, written last:  less {}/manifest.json",
            documents.display()
        ));
        say(&format!(
            "  listen to the call:               aplay {}/recording.wav",
            recordings.display()
        ));
        say("  see that nothing is done twice:   the same command again");
        say(&format!(
            "  read the configuration:           less {}",
            self.dir.join("callvault.toml").display()
        ));
        say(
            "  archive from RabbitMQ:            callvault check --connect, then callvault run; see README.md",
        );
    }
}

fn row(entry: &Entry) -> [String; 6] {
    let object = entry.object.as_ref();
    let of = |text: fn(&Object) -> &str| {
        object.map_or_else(String::new, |object| text(object).to_owned())
    };
    [
        entry.kind.clone(),
        entry.status.as_str().into(),
        checked(entry),
        object.map_or_else(String::new, |object| ByteSize(object.size).to_string()),
        of(|object| &object.bucket),
        of(|object| object.key.rsplit('/').next().unwrap_or_default()),
    ]
}

fn report_json(done: &[(&str, Outcome, Decision)]) {
    for (event, outcome, decision) in done {
        let outcome_label = telemetry::label(outcome, decision);
        let line = Line {
            event,
            outcome: outcome_label,
            reason: telemetry::reason(outcome),
            attachments: outcome.entries.iter().map(Attachment::of).collect(),
        };
        say_json(&line);
    }
}

/// What the check found, in a few words.
fn checked(entry: &Entry) -> String {
    match (&entry.check, &entry.problem) {
        (_, Some(_)) => entry.problem_code().unwrap_or_default().to_owned(),
        (Some(Kept::New(Facts::Wav(wav))), _) => {
            let seconds = Duration::from_millis(wav.duration_ms).as_secs_f64();
            let (codec, rate) = (wav.codec.as_str(), wav.sample_rate_hz);
            format!("{codec}, {rate} Hz, {seconds:.1} s")
        }
        (Some(Kept::New(Facts::Json)), _) => "JSON of its schema's shape".into(),
        (Some(Kept::New(Facts::None)), _) => "not checked".into(),
        _ if entry.status == EntryStatus::Unavailable => "nothing to check".into(),
        _ => "by an earlier attempt".into(),
    }
}

async fn archive(
    archivist: &Archivist,
    message: &Message,
    attempt: u32,
    job_time: Duration,
) -> Outcome {
    // As if it may have been here before: a second demo is to find the first one's archive.
    let job = Job {
        body: message.body.clone(),
        attempt,
        seen_before: true,
        started: Instant::now(),
        time: job_time,
        patience: job_time,
        flight: Flight::default(),
    };
    archivist.archive(&job).await
}

fn progress(events: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(events as u64);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} events  {msg}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The demo's configuration, as a file that one can read and go on with.
fn write_config(dir: &Path) -> anyhow::Result<PathBuf> {
    const CONFIG: &str = include_str!("demo/callvault.toml");
    let config = dir.join("callvault.toml");
    let first_line = CONFIG.lines().next();
    let theirs =
        std::fs::read_to_string(&config).is_ok_and(|there| there.lines().next() != first_line);
    anyhow::ensure!(
        !theirs,
        "{} is not the demo's own: name another folder with --dir",
        config.display()
    );
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (name, text) in [
        (
            "analysis.schema.json",
            include_str!("../../config/schemas/analysis.schema.json"),
        ),
        (
            "transcript.schema.json",
            include_str!("../../config/schemas/transcript.schema.json"),
        ),
        ("callvault.toml", CONFIG),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(config)
}
