//! `callvault completions`: for shells, from the command line's own definition.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit};

/// Prints what a shell completes commands and options by.
///
/// bash: `callvault completions bash > /etc/bash_completion.d/callvault`; zsh: into a file `_callvault` in a folder of
/// `$fpath`; fish: `callvault completions fish > ~/.config/fish/completions/callvault.fish`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(&self) -> Exit {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "callvault", &mut script);
        // A reader that has gone is no error.
        let _ = std::io::stdout().write_all(&script);
        Exit::Done
    }
}
