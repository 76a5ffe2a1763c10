//! `callvault dead show`.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use chrono::Utc;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::{Row, age, note_others, open, plain, selection::Selection};
use crate::{
    cli::{
        Exit, Failure, say,
        setup::{self, Parts},
    },
    queue::desk::{Count, Desk, Letter, Look, Message, Walk},
};

use archive::Archive;

mod archive;

/// Shows messages: headers and body, and what the archive holds of the call already.
///
/// The body is printed as it came, but for what a terminal would obey; of `--json`, `body` is exactly it, or
/// `body_base64` where it is no UTF-8. Exits with 1 if an ID names nothing, with 3 if the archive cannot be asked.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    selection: Selection,
    /// Report as JSON lines, one for each message.
    #[arg(long)]
    json: bool,
}

/// Bodies that are held in memory at once, in bytes.
const HELD_BYTES: usize = 64 << 20;

#[derive(Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    properties: Map<String, Value>,
    headers: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    archive: Archive,
}

impl Show {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let parts = setup::load(config)?;
        let (desk, count) = open(&parts.queue).await?;
        let mut picker = self.selection.picker();
        let (mut shown, mut reached) = (0, true);
        loop {
            let (walk, full) = take(&desk, count, &mut picker, shown).await?;
            if !full {
                note_others(count, &walk);
            }
            shown += walk.kept.len();
            for (letter, message) in put_back(&desk, walk).await? {
                reached &= self.show(&parts, &letter, &message).await;
            }
            if !full {
                break;
            }
        }
        Ok(if !reached {
            Exit::Unreachable
        } else if picker.say_missing() {
            Exit::Problems
        } else {
            Exit::Done
        })
    }

    /// Prints one message. Whether the archive could be asked about it.
    async fn show(&self, parts: &Parts, letter: &Letter, message: &Message) -> bool {
        let archive = Archive::of(&parts.archivist, message.body()).await;
        let reached = archive.was_reached();
        let row = Row::of(letter, Utc::now());
        if self.json {
            let body = std::str::from_utf8(message.body()).ok();
            plain::tell(&Whole {
                row,
                properties: message.properties(),
                headers: message.headers(),
                body,
                body_base64: body
                    .is_none()
                    .then(|| BASE64_STANDARD.encode(message.body())),
                archive,
            });
        } else {
            print(&row, message, &archive);
        }
        reached
    }
}

/// Takes what is asked for after the first `skip` of it, as much as may be held at once. Whether that is
/// why it stopped.
async fn take(
    desk: &Desk,
    count: Count,
    picker: &mut super::selection::Picker<'_>,
    skip: usize,
) -> Result<(Walk<(Letter, Message)>, bool), Failure> {
    let (mut bytes, mut asked_for, mut full) = (0, 0, false);
    let never = CancellationToken::new();
    let walk = desk.walk(count.ready, &never, |letter, message| {
        if !picker.takes(letter) {
            return Look::Pass;
        }
        asked_for += 1;
        if asked_for <= skip {
            return Look::Pass;
        }
        bytes += message.weight();
        // One of any size is shown.
        if bytes > HELD_BYTES && asked_for > skip + 1 {
            full = true;
            return Look::Stop;
        }
        Look::Keep((letter.clone(), message))
    });
    let walk = walk.await.map_err(Failure::unreachable)?;
    Ok((walk, full))
}

/// Before a word is printed: whoever reads may take their time, and a store too.
async fn put_back<T>(desk: &Desk, mut walk: Walk<T>) -> Result<Vec<T>, Failure> {
    let kept = std::mem::take(&mut walk.kept);
    desk.put_back(walk).await.map_err(Failure::unreachable)?;
    Ok(kept)
}

fn print(row: &Row<'_>, message: &Message, archive: &Archive) {
    let field = |name: &str, value: &str| say(&format!("  {name:<14} {}", plain::line(value)));
    say(&format!("message {}", plain::line(&row.id)));
    field("call", row.call_id.unwrap_or("-"));
    field("reason", row.reason);
    field("detail", row.detail.unwrap_or("-"));
    let tries = row.attempt.map_or("-".into(), |tries| tries.to_string());
    field("tries", &tries);
    field("replays", &row.replays.to_string());
    let died = row.died_at.as_deref().unwrap_or("-");
    field("died", &format!("{died} ({} ago)", age(row.age_s)));
    field("sha256", &row.sha256);
    field("bytes", &row.bytes.to_string());
    say("properties");
    for (name, value) in message.properties() {
        field(&plain::line(&name), &text(&value));
    }
    say("headers");
    if let Value::Object(headers) = message.headers() {
        for (name, value) in headers {
            field(&plain::line(&name), &text(&value));
        }
    }
    say("archive");
    for line in archive.in_words() {
        say(&format!("  {}", plain::line(&line)));
    }
    say("body");
    say(&plain::lines(message.body()));
    say("");
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
