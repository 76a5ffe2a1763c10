//! `callvault check`: is the configuration right, and does everything answer?

use std::path::{Path, PathBuf};

use super::{
    Exit, Failure, say, say_json,
    setup::{self, Parts},
};
use crate::{
    config::Mistakes,
    doctor::{Finding, State, broker::broker, buckets::buckets, origins::origins},
};

/// Checks the configuration, and says how to mend each mistake and each weakness.
///
/// All mistakes are found in one run, each with file, line and key. With --connect it also examines this machine, the
/// broker and every bucket, and leaves nothing there: of the broker it asks for what cannot be done, to see what may be;
/// in each bucket it writes, replaces, reads, lists and deletes a small object of its own under `.callvault-check/`.
/// A `file:` bucket's folder that is missing is told, and is made by `run` and `archive`.
///
/// Exits with 2 if the configuration is wrong, with 3 if something does not answer or cannot be used, with 1 if something
/// fails, or --connect finds something weak. What is weak in the configuration alone is told, and changes no exit code: it
/// may be as you want it.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Examine this machine, the broker and every bucket, too.
    #[arg(long)]
    connect: bool,
    /// Report as JSON lines: what, state (ok, weak or fail), detail, mend.
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) async fn execute(self, path: &Path) -> Result<Exit, Failure> {
        let (parts, missing) = match setup::look(path) {
            Ok(found) => found,
            Err(failure) if self.json => {
                let mistakes = failure.error.downcast_ref::<Mistakes>();
                for mistake in mistakes.into_iter().flat_map(Mistakes::iter) {
                    self.report(&Finding::fail("configuration", mistake.to_string(), ""));
                }
                return Err(failure);
            }
            Err(failure) => return Err(failure),
        };
        self.report(&Finding::ok("configuration", path.display().to_string()));
        for kind in &parts.kinds {
            self.report(&Finding::ok("kind", kind));
        }
        for found in &parts.findings {
            self.report(found);
        }
        let mut exit = of(&parts.findings, State::Fail);
        if self.connect {
            let findings = Box::pin(examine(&parts, &missing)).await;
            for found in &findings {
                self.report(found);
            }
            exit = exit.max(of(&findings, State::Weak));
        }
        Ok(exit)
    }

    fn report(&self, finding: &Finding) {
        if self.json {
            return say_json(finding);
        }
        let mark = match finding.state {
            State::Ok => "ok  ",
            State::Weak => "WEAK",
            State::Fail => "FAIL",
        };
        let mend = match finding.mend.as_str() {
            "" => String::new(),
            mend => format!("; {mend}"),
        };
        say(&format!(
            "{mark}  {:<13} {}{mend}",
            finding.what, finding.detail
        ));
    }
}

async fn examine(parts: &Parts, missing: &[(String, PathBuf)]) -> Vec<Finding> {
    let archivist = &parts.archivist;
    let mut findings = parts.machine();
    let guarded = origins(
        &archivist.fetcher,
        &archivist.budget,
        parts.allow_private_addresses,
    );
    let (guarded, broker, buckets) = tokio::join!(
        guarded,
        broker(&parts.queue, parts.job_time),
        buckets(&archivist.stores, missing),
    );
    findings.extend(guarded.into_iter().chain(broker).chain(buckets));
    findings
}

/// How a check ends, where what is no better than `worst` is a problem.
fn of(findings: &[Finding], worst: State) -> Exit {
    let exits = findings.iter().map(|finding| match finding.state {
        _ if finding.unreachable => Exit::Unreachable,
        state if state >= worst => Exit::Problems,
        _ => Exit::Done,
    });
    exits.max().unwrap_or(Exit::Done)
}
