//! `callvault man`: the manual pages, from the command line's own definition.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::{CommandFactory, ValueHint};
use clap_mangen::Man as Page;

use super::{Cli, Exit, Failure, say};

/// Prints the manual page, or writes one for each command into a folder.
///
/// `callvault man | man -l -` shows it; `callvault man /usr/local/share/man/man1` installs them all, after which
/// `man callvault`, `man callvault-run` and `man callvault-dead-replay` show them.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where to write the pages of all commands; made where it is missing.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn execute(self) -> Result<Exit, Failure> {
        // Its pages would say what the commands' own do.
        let command = Cli::command().disable_help_subcommand(true);
        match self.dir {
            None => {
                let mut page = Vec::new();
                Page::new(command)
                    .render(&mut page)
                    .map_err(Failure::usage)?;
                // A reader that has gone is no error.
                let _ = std::io::stdout().write_all(&page);
            }
            Some(dir) => {
                let written = std::fs::create_dir_all(&dir)
                    .and_then(|()| clap_mangen::generate_to(command, &dir));
                written.map_err(|error| cannot(&dir, error))?;
                say(&format!("wrote the pages to {}", dir.display()));
            }
        }
        Ok(Exit::Done)
    }
}

fn cannot(dir: &Path, error: std::io::Error) -> Failure {
    let context = format!(
        "cannot write the pages to {}: name a folder that you may write to",
        dir.display()
    );
    Failure::usage(anyhow::Error::new(error).context(context))
}
