//! `callvault dead`: the dead-letter desk.

mod drop;
mod list;
mod plain;
mod replay;
mod selection;
mod show;

use std::{borrow::Cow, io::IsTerminal, path::Path, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::selection::Picker;
use super::{Exit, Failure, say, say_error};
use crate::{
    config,
    queue::{
        QueueError,
        desk::{Count, Desk, Letter, Walk},
    },
};

/// The dead-letter queue: what lies in it and why, back to work, or away.
///
/// An ID is a message's `message_id`, else the beginning of its body's SHA-256, at least 8 digits; it names
/// every message that has it. Looking takes messages from the queue for a moment and puts them back in
/// their places; a command that is interrupted, by kill -9 too, loses none.
#[derive(Debug, clap::Args)]
pub(super) struct Dead {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Counts by reason, then a line for each message.
    List(list::List),
    /// Headers, body, and what the archive holds of the call already.
    Show(show::Show),
    /// Publishes messages to the work queue again, their attempts counted anew.
    Replay(replay::Replay),
    /// Deletes messages.
    Drop(drop::Drop),
}

impl Dead {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        match self.action {
            Action::List(list) => list.execute(config).await,
            Action::Show(show) => show.execute(config).await,
            Action::Replay(replay) => replay.execute(config).await,
            Action::Drop(drop) => drop.execute(config).await,
        }
    }
}

/// Sits down at the desk, and says what there is to do.
async fn open(queue: &config::Queue) -> Result<(Desk, Count), Failure> {
    let desk = Desk::open(queue).await.map_err(Failure::unreachable)?;
    match desk.count().await {
        Ok(count) => Ok((desk, count)),
        // The first worker declares it.
        Err(QueueError::Missing { .. }) if queue.declare => {
            let name = desk.queue();
            say_error(&format!(
                "callvault: there is no queue {name:?} yet, so there are no dead letters"
            ));
            Ok((desk, Count::default()))
        }
        Err(error) => Err(Failure::unreachable(error)),
    }
}

/// Says that not all messages were to be seen. New ones may have come meanwhile: those are for next time.
fn note_others<T>(count: Count, walk: &Walk<T>) {
    if walk.came_short {
        say_error(&format!(
            "callvault: of {} only {} were to be had: others are at the queue, and hold the rest or took it away; \
             run this again",
            letters(count.ready),
            walk.seen,
        ));
    } else if count.consumers > 0 {
        say_error(&format!(
            "callvault: {} other consumers are at the queue; what they hold is not seen here",
            count.consumers
        ));
    } else if count.ready == 0 {
        // Its consumers are gone while it asks its question, so it cannot be seen.
        say_error(
            "callvault: none is there (one that a desk elsewhere is looking at would not be seen)",
        );
    }
}

/// What is said of each message.
#[derive(Serialize)]
struct Row<'a> {
    what: &'static str,
    id: Cow<'a, str>,
    message_id: Option<&'a str>,
    sha256: String,
    call_id: Option<&'a str>,
    reason: &'a str,
    detail: Option<&'a str>,
    attempt: Option<u32>,
    replays: u32,
    died_at: Option<String>,
    age_s: Option<i64>,
    bytes: usize,
}

impl<'a> Row<'a> {
    fn of(letter: &'a Letter, now: DateTime<Utc>) -> Self {
        Self {
            what: "message",
            id: letter.id(),
            message_id: letter.message_id.as_deref(),
            sha256: letter.sha256.to_string(),
            call_id: letter.call_id.as_deref(),
            reason: &letter.reason,
            detail: letter.detail.as_deref(),
            attempt: letter.attempt,
            replays: letter.replays,
            died_at: letter
                .died_at
                .map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
            age_s: letter.died_at.map(|at| (now - at).num_seconds()),
            bytes: letter.bytes,
        }
    }
}

/// As much as a report of what was done to a message needs.
#[derive(Debug, Serialize)]
struct Named {
    id: String,
    call_id: Option<String>,
    reason: String,
}

impl From<&Letter> for Named {
    fn from(letter: &Letter) -> Self {
        Self {
            id: letter.id().into_owned(),
            call_id: letter.call_id.clone(),
            reason: letter.reason.clone(),
        }
    }
}

/// What was done to one message, or would be.
#[derive(Serialize)]
struct Deed<'a> {
    what: &'static str,
    #[serde(flatten)]
    message: &'a Named,
    outcome: &'static str,
}

impl<'a> Deed<'a> {
    fn tell(message: &'a Named, outcome: &'static str) {
        plain::tell(&Self {
            what: "message",
            message,
            outcome,
        });
    }
}

/// The report of a command that only says what it would do.
async fn rehearsed(
    desk: &Desk,
    mut walk: Walk<Named>,
    count: Count,
    picker: &Picker<'_>,
    outcome: &'static str,
    json: bool,
) -> Result<Exit, Failure> {
    let kept = std::mem::take(&mut walk.kept);
    note_others(count, &walk);
    // Before a word is printed: whoever reads may take their time.
    desk.put_back(walk).await.map_err(Failure::unreachable)?;
    for named in &kept {
        if json {
            Deed::tell(named, outcome);
        } else {
            say(&format!(
                "{outcome}: {}  {}  {}",
                plain::line(&named.id),
                named.call_id.as_deref().unwrap_or("-"),
                plain::line(&named.reason)
            ));
        }
    }
    let count = u32::try_from(kept.len()).unwrap_or(u32::MAX);
    if json {
        plain::tell(&Total::of(outcome, count, picker, false));
    } else {
        say(&format!("{} {outcome}", letters(count)));
    }
    Ok(ended(picker, false))
}

/// How a command ends that nothing went wrong with, and says what it has not done.
fn ended(picker: &Picker<'_>, interrupted: bool) -> Exit {
    if interrupted {
        say_error("callvault: stopped by a signal; the rest stays where it was");
        return Exit::Problems;
    }
    if picker.say_missing() {
        Exit::Problems
    } else {
        Exit::Done
    }
}

/// The end of a report.
#[derive(Serialize)]
struct Total<'a> {
    what: &'static str,
    outcome: &'static str,
    count: u32,
    not_found: Vec<&'a str>,
    interrupted: bool,
}

impl<'a> Total<'a> {
    /// What was asked for and not found is known only if all was looked through.
    fn of(outcome: &'static str, count: u32, picker: &'a Picker<'_>, interrupted: bool) -> Self {
        let not_found = if interrupted {
            Vec::new()
        } else {
            picker.missing()
        };
        Self {
            what: "total",
            outcome,
            count,
            not_found,
            interrupted,
        }
    }
}

/// `1 dead letter`, `2 dead letters`.
fn letters(count: u32) -> String {
    format!("{count} dead letter{}", if count == 1 { "" } else { "s" })
}

/// How long ago, in the two largest units.
fn age(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else {
        return "-".into();
    };
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A progress bar on a terminal, nothing in a pipe.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let template =
        "{bar:30} {percent:>3}%  {pos} of {len} dead letters  {elapsed_precise}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_two_units() {
        for (seconds, text) in [
            (-5, "0s"),
            (59, "59s"),
            (61, "1m01s"),
            (7_260, "2h01m"),
            (90_000, "1d01h"),
        ] {
            assert_eq!(age(Some(seconds)), text);
        }
        assert_eq!(age(None), "-");
    }
}
