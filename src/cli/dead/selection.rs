//! Which messages a command is about.

use std::collections::BTreeSet;

use super::say_error;
use crate::{
    cli::dead::plain,
    queue::desk::{Letter, SHORTEST_PREFIX},
};

/// So many reasons are told to who names none that there is.
const MOST_REASONS: usize = 20;

/// Messages of the dead-letter queue: by ID, by reason, or all.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Selection {
    /// Messages by their IDs, as `dead list` prints them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All messages that are dead for this reason, as `dead list` counts them.
    #[arg(long)]
    reason: Option<String>,
    /// All messages.
    #[arg(long)]
    all: bool,
}

/// Picks the messages of a selection, and remembers which were found.
pub(super) struct Picker<'a> {
    selection: &'a Selection,
    found: Vec<bool>,
    /// The reasons of the messages that `--reason` does not name, and whether it names any.
    other_reasons: BTreeSet<String>,
    named: bool,
}

impl Selection {
    pub(super) fn picker(&self) -> Picker<'_> {
        Picker {
            selection: self,
            found: vec![false; self.ids.len()],
            other_reasons: BTreeSet::new(),
            named: false,
        }
    }
}

impl<'a> Picker<'a> {
    /// Whether the message is asked for.
    pub(super) fn takes(&mut self, letter: &Letter) -> bool {
        if self.selection.all {
            return true;
        }
        if let Some(reason) = &self.selection.reason {
            if letter.reason == *reason {
                self.named = true;
                return true;
            }
            if self.other_reasons.len() < MOST_REASONS {
                self.other_reasons.insert(letter.reason.clone());
            }
            return false;
        }
        let mut takes = false;
        for (id, found) in self.selection.ids.iter().zip(&mut self.found) {
            if letter.is_named(id) {
                takes = true;
                *found = true;
            }
        }
        takes
    }

    /// What was asked for by name and is not there.
    pub(super) fn missing(&self) -> Vec<&'a str> {
        let ids = self.selection.ids.iter().zip(&self.found);
        ids.filter(|(_, found)| !**found)
            .map(|(id, _)| id.as_str())
            .collect()
    }

    /// Says what is missing, and whether anything is.
    pub(super) fn say_missing(&self) -> bool {
        let missing = self.missing();
        for id in &missing {
            let is_digest = id.bytes().all(|digit| digit.is_ascii_hexdigit());
            let short = if is_digest && id.len() < SHORTEST_PREFIX {
                format!(": of a body's SHA-256 it takes at least {SHORTEST_PREFIX} digits")
            } else {
                String::new()
            };
            say_error(&format!(
                "callvault: no dead letter is named {}{short}",
                plain::line(id)
            ));
        }
        let mistyped =
            self.selection.reason.is_some() && !self.named && !self.other_reasons.is_empty();
        if mistyped {
            let reasons: Vec<_> = self
                .other_reasons
                .iter()
                .map(|reason| plain::line(reason))
                .collect();
            say_error(&format!(
                "callvault: no message is dead for that reason; there are: {}",
                reasons.join(", ")
            ));
        }
        mistyped || !missing.is_empty()
    }
}
