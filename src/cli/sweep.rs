//! `callvault sweep`: what killed workers have left in the buckets.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Exit, Failure, say, say_error, say_json, setup};
use crate::{
    seal,
    store::{Bucket, Leftover, Leftovers, Removed, StoreError},
    telemetry,
};

/// Aborts callvault's own stale multipart uploads, and removes a folder's leftover temporary files.
///
/// A worker that is stopped tidies up by itself; one that is killed cannot. Of every bucket only what lies
/// under its prefix, has a key of callvault's shape and has not been written to for the given age is
/// touched, so running workers are not disturbed. Exits with 1 if something could not be listed or
/// removed, with 3 if a store does not answer.
#[derive(Debug, clap::Args)]
pub(super) struct Sweep {
    /// How long nothing may have been written to what is removed.
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Only report what would be removed, by its age alone: what is in use is found out as it is removed.
    #[arg(long)]
    dry_run: bool,
    /// Report as JSON lines: one for each leftover, one for each bucket.
    #[arg(long)]
    json: bool,
}

/// How long a store that does not work is waited for: a person is waiting too.
const PATIENCE: Duration = Duration::from_secs(10);
/// Leftovers of a bucket that are removed at once.
const SIDE_BY_SIDE: usize = 8;

/// One leftover's report.
#[derive(Serialize)]
struct Line<'a> {
    what: &'static str,
    bucket: &'a str,
    key: String,
    since: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// One bucket's report.
#[derive(Debug, Default, Serialize)]
struct Swept<'a> {
    what: &'static str,
    bucket: &'a str,
    /// Whether nothing was removed in earnest.
    dry_run: bool,
    /// Leftovers of callvault's, of any age.
    found: u64,
    /// Stale ones that are no more, or would be in earnest.
    removed: u64,
    /// Those that are too young, or still written to.
    left: u64,
    /// Those that could not be removed.
    failed: u64,
    /// Unfinished uploads and temporary files of others, never touched.
    not_ours: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    unreachable: bool,
}

impl Sweep {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let parts = setup::load_archive(config)?;
        let before = TimeDelta::from_std(self.older_than)
            .ok()
            .and_then(|age| Utc::now().checked_sub_signed(age))
            .unwrap_or(DateTime::<Utc>::MIN_UTC);
        if self.older_than < parts.job_time && !self.dry_run {
            say_error(&format!(
                "callvault: a job may take {} (limits.job_time): younger uploads than that may be those of \
                 running workers, which then begin them anew",
                humantime::format_duration(parts.job_time)
            ));
        }
        let could_be = |key: &str| parts.archivist.planner.could_be(key) || seal::could_be(key);
        let mut buckets: Vec<_> = parts.archivist.stores.iter().collect();
        buckets.sort_by_key(|bucket| bucket.name());
        let mut exit = Exit::Done;
        // One after the other: two buckets of the configuration may be one in the store.
        for bucket in buckets {
            let swept = self.sweep(bucket, before, &could_be).await;
            if swept.unreachable {
                exit = Exit::Unreachable;
            } else if exit == Exit::Done && (swept.failed > 0 || swept.problem.is_some()) {
                exit = Exit::Problems;
            }
            if self.json {
                say_json(&swept);
            } else {
                say(&swept.in_words(self.dry_run));
            }
        }
        Ok(exit)
    }

    async fn sweep<'a>(
        &self,
        bucket: &'a Bucket,
        before: DateTime<Utc>,
        could_be: &impl Fn(&str) -> bool,
    ) -> Swept<'a> {
        let mut swept = Swept {
            what: "bucket",
            bucket: bucket.name(),
            dry_run: self.dry_run,
            ..Swept::default()
        };
        let found = match bucket.leftovers(PATIENCE).await {
            Ok(Leftovers::Found(found)) => found,
            Ok(Leftovers::Nothing(why)) => {
                swept.note = Some(why.into());
                return swept;
            }
            Ok(Leftovers::Refused(why)) => {
                swept.problem = Some(format!(
                    "the store does not list unfinished uploads: {why}; grant s3:ListBucketMultipartUploads, \
                     or have the bucket abort them itself: deploy/s3/lifecycle.json \
                     (AbortIncompleteMultipartUpload)"
                ));
                return swept;
            }
            Err(error) => {
                swept.problem = Some(telemetry::chain(&error));
                swept.unreachable = true;
                return swept;
            }
        };
        let listed = found.len() as u64;
        let ours: Vec<_> = found
            .into_iter()
            .filter(|leftover| could_be(&leftover.key))
            .collect();
        swept.found = ours.len() as u64;
        swept.not_ours = listed - swept.found;
        let (stale, young): (Vec<_>, Vec<_>) = ours
            .into_iter()
            .partition(|leftover| leftover.since < before);
        swept.left = young.len() as u64;
        let bar = progress(stale.len() as u64);
        let mut removing = stream::iter(&stale)
            .map(|leftover| async move {
                let removed = if self.dry_run {
                    None
                } else {
                    Some(bucket.remove(leftover, before, PATIENCE).await)
                };
                (leftover, removed)
            })
            .buffer_unordered(SIDE_BY_SIDE);
        while let Some((leftover, removed)) = removing.next().await {
            let line = swept.add(leftover, removed);
            bar.inc(1);
            bar.suspend(|| self.report(&line));
        }
        bar.finish_and_clear();
        swept
    }

    fn report(&self, line: &Line<'_>) {
        if self.json {
            say_json(line);
            return;
        }
        let problem = line.problem.as_deref().unwrap_or_default();
        let gap = if problem.is_empty() { "" } else { ": " };
        say(&format!(
            "{:<12} {}: {} of {}, {}{gap}{problem}",
            line.outcome, line.bucket, line.what, line.since, line.key
        ));
    }
}

impl<'a> Swept<'a> {
    /// Counts what became of a leftover; `None` is a dry run.
    fn add<'b>(
        &mut self,
        leftover: &'b Leftover,
        removed: Option<Result<Removed, StoreError>>,
    ) -> Line<'b>
    where
        'a: 'b,
    {
        let (count, outcome, problem) = match removed {
            None => (&mut self.removed, "would remove", None),
            Some(Ok(Removed::Now)) => (&mut self.removed, "removed", None),
            Some(Ok(Removed::Before)) => (&mut self.removed, "gone", None),
            Some(Ok(Removed::InUse)) => (&mut self.left, "in use", None),
            Some(Err(error)) => (&mut self.failed, "failed", Some(telemetry::chain(&error))),
        };
        *count += 1;
        Line {
            what: leftover.kind(),
            bucket: self.bucket,
            key: leftover.name(),
            since: leftover.since.to_rfc3339_opts(SecondsFormat::Secs, true),
            outcome,
            problem,
        }
    }

    fn in_words(&self, dry_run: bool) -> String {
        if let Some(problem) = &self.problem {
            return format!("{}: {problem}", self.bucket);
        }
        if let Some(note) = &self.note {
            return format!("{}: nothing to sweep: {note}", self.bucket);
        }
        let removed = if dry_run {
            "would be removed"
        } else {
            "removed"
        };
        let mut words = format!(
            "{}: {} unfinished, {} {removed}, {} too young or in use",
            self.bucket, self.found, self.removed, self.left
        );
        for (count, what) in [
            (self.failed, "could not be removed"),
            (self.not_ours, "not callvault's, left alone"),
        ] {
            if count > 0 {
                let _ = write!(words, ", {count} {what}");
            }
        }
        words
    }
}

fn progress(total: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let template = "{bar:30} {pos} of {len} leftovers  {elapsed_precise}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
