//! `callvault dead list`.

use std::{collections::BTreeMap, path::Path};

use chrono::Utc;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{Row, age, letters, note_others, open, plain};
use crate::{
    cli::{Exit, Failure, say, setup},
    queue::desk::Look,
};

/// Lists the dead letters: how many there are for each reason, then a line for each, the oldest first.
///
/// Nothing of a message's body is printed but the call's identifier. Exits with 0, also if there are none.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Only those that are dead for this reason.
    #[arg(long)]
    reason: Option<String>,
    /// At most so many lines; the counts are of all messages.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Report as JSON lines: the queue, a line for each reason, a line for each message.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct QueueLine {
    what: &'static str,
    ready: u32,
    seen: u32,
    other_consumers: u32,
}

#[derive(Serialize)]
struct ReasonLine<'a> {
    what: &'static str,
    reason: &'a str,
    count: u32,
}

impl List {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let queue = setup::settings(config)?.queue;
        let (desk, count) = open(&queue).await?;
        let mut reasons = BTreeMap::<String, u32>::new();
        let mut rows = 0;
        let limit = self.limit.unwrap_or(usize::MAX);
        let never = CancellationToken::new();
        let walk = desk.walk(count.ready, &never, |letter, _| {
            if self.reason.as_ref().is_some_and(|r| *r != letter.reason) {
                return Look::Pass;
            }
            match reasons.get_mut(&letter.reason) {
                Some(count) => *count += 1,
                None => drop(reasons.insert(letter.reason.clone(), 1)),
            }
            if rows == limit {
                return Look::Pass;
            }
            rows += 1;
            Look::Keep(letter.clone())
        });
        let mut walk = walk.await.map_err(Failure::unreachable)?;
        let (kept, seen) = (std::mem::take(&mut walk.kept), walk.seen);
        note_others(count, &walk);
        // Before a word is printed: whoever reads may take their time.
        desk.put_back(walk).await.map_err(Failure::unreachable)?;

        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let now = Utc::now();
        let rows = kept.iter().map(|letter| Row::of(letter, now));
        if self.json {
            plain::tell(&QueueLine {
                what: "queue",
                ready: count.ready,
                seen,
                other_consumers: count.consumers,
            });
            for (reason, count) in &reasons {
                plain::tell(&ReasonLine {
                    what: "reason",
                    reason,
                    count: *count,
                });
            }
            rows.for_each(|row| plain::tell(&row));
            return Ok(Exit::Done);
        }
        let all: u32 = reasons.iter().map(|(_, count)| count).sum();
        say(&letters(all));
        for (reason, count) in &reasons {
            say(&format!("{count:>7}  {}", plain::line(reason)));
        }
        print(&rows.map(|row| cells(&row)).collect::<Vec<_>>());
        let more = u64::from(all).saturating_sub(kept.len() as u64);
        if more > 0 {
            say(&format!("and {more} more"));
        }
        Ok(Exit::Done)
    }
}

/// The table's columns; the last one is as wide as it is.
const HEAD: [&str; 7] = ["id", "call", "reason", "tries", "replays", "age", "detail"];

fn cells(row: &Row<'_>) -> [String; 7] {
    [
        plain::line(&row.id),
        row.call_id.unwrap_or("-").to_owned(),
        plain::line(row.reason),
        row.attempt.map_or("-".into(), |tries| tries.to_string()),
        row.replays.to_string(),
        age(row.age_s),
        plain::line(row.detail.unwrap_or_default()),
    ]
}

/// One message on a terminal that has no room for the table. An identifier is never cut: it is to be copied.
fn block(row: &[String; 7], columns: usize) {
    let [id, call, reason, tries, replays, age, detail] = row;
    say(id);
    let about = format!("{reason}, {age} ago, tries {tries}, replays {replays}, call {call}");
    for text in [about.as_str(), detail] {
        for line in plain::wrapped(text, columns.saturating_sub(2)) {
            say(&format!("  {line}"));
        }
    }
}

fn print(rows: &[[String; 7]]) {
    if rows.is_empty() {
        return;
    }
    let mut widths = HEAD.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths[6] = 0;
    say("");
    let details = rows.iter().map(|row| row[6].chars().count());
    let widest = widths.iter().sum::<usize>() + 2 * 6 + details.max().unwrap_or(0);
    if let Some(columns) = plain::columns().filter(|columns| *columns < widest) {
        rows.iter().for_each(|row| block(row, columns));
        return;
    }
    let line = |cells: [&str; 7]| {
        let padded = cells.iter().zip(widths);
        let line = padded.map(|(cell, width)| format!("{cell:width$}"));
        say(line.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(HEAD);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}
