//! Which messages a command is about.

use super::say_error;
use crate::{cli::dead::plain, queue::desk::Letter};

/// Messages of the dead-letter queue: by ID, by reason, or all.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Selection {
    /// Messages by their IDs, as `dead list` prints them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// All messages that are dead for this reason.
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
}

impl Selection {
    pub(super) fn picker(&self) -> Picker<'_> {
        Picker {
            selection: self,
            found: vec![false; self.ids.len()],
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
            return letter.reason == *reason;
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
            say_error(&format!(
                "callvault: no dead letter is named {}",
                plain::line(id)
            ));
        }
        !missing.is_empty()
    }
}
