//! The command line: one file a command.

mod archive;
mod check;
mod completions;
mod dead;
mod demo;
mod events;
mod man;
mod publish;
mod run;
mod seal;
mod setup;
mod sweep;
mod trust;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::Mistakes,
    telemetry::{LogFormat, chain},
};

/// Archives the recordings, transcripts and analyses of AI phone calls, from RabbitMQ events to
/// object storage.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 done, with problems found; 2 the command line or the \
    configuration is wrong; 3 something needed could not be reached.\n\
    Any key of the configuration can be set by an environment variable: CALLVAULT__QUEUE__URL.\n\
    First steps: `callvault demo` shows the whole pipeline with nothing installed.";

#[derive(Debug, Args)]
struct Global {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CALLVAULT_CONFIG",
        default_value = "config/callvault.toml",
        value_hint = clap::ValueHint::FilePath
    )]
    config: PathBuf,
    /// How log lines on standard error are written; RUST_LOG says which.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
}

/// What each one does stands at its own type: said here too, the short text would hide the long one.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Run),
    Demo(demo::Demo),
    Archive(archive::Archive),
    Publish(publish::Publish),
    Check(check::Check),
    Sweep(sweep::Sweep),
    Verify(verify::Verify),
    Seal(seal::Seal),
    Dead(dead::Dead),
    Man(man::Man),
    Completions(completions::Completions),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Done, with problems found.
    Problems = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Something needed could not be reached.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not be carried out.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Usage,
            error: error.into(),
        }
    }

    fn unreachable(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Unreachable,
            error: error.into(),
        }
    }
}

impl Cli {
    /// How logs are to be written.
    pub fn log_format(&self) -> LogFormat {
        self.global.log_format
    }

    /// What is logged unless `RUST_LOG` says otherwise: a command that reports to a person need not log
    /// what goes well, and the demo's own origin is never at the same address twice.
    pub fn log_level(&self) -> &'static str {
        match self.command {
            Command::Run(_) => "info",
            Command::Demo(_) => "error",
            _ => "warn",
        }
    }

    /// Carries the command out.
    pub async fn execute(self) -> Exit {
        let config = &self.global.config;
        let result = match self.command {
            Command::Run(run) => run.execute(config).await,
            Command::Demo(demo) => demo.execute().await,
            Command::Archive(archive) => archive.execute(config).await,
            Command::Publish(publish) => publish.execute(config).await,
            Command::Check(check) => check.execute(config).await,
            Command::Sweep(sweep) => sweep.execute(config).await,
            Command::Verify(verify) => verify.execute(config).await,
            Command::Seal(seal) => seal.execute(config).await,
            Command::Dead(dead) => dead.execute(config).await,
            Command::Man(man) => man.execute(),
            Command::Completions(completions) => Ok(completions.execute()),
        };
        result.unwrap_or_else(|failure| {
            match failure.error.downcast_ref::<Mistakes>() {
                // One a line, each beginning with its place, as editors read it.
                Some(mistakes) => say_error(&mistakes.to_string()),
                None => say_error(&format!("callvault: {}", chain(failure.error.as_ref()))),
            }
            failure.exit
        })
    }
}

/// The report of a command, on standard output. A reader that has gone, as `head` does, is no error.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// One line of a `--json` report.
fn say_json(report: &impl serde::Serialize) {
    // By way of a value: what repeats the text of an event or a manifest may hold newlines.
    if let Ok(value) = serde_json::to_value(report) {
        say(&value.to_string());
    }
}

fn say_error(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}
