//! `callvault verify`: is the archive what its manifests say?

mod bar;
mod report;

use std::{
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;

use self::{bar::Bar, report::Report};
use super::{
    Exit, Failure,
    run::stop_on_signal,
    say_error, setup,
    trust::{Trust, Trusted},
};
use crate::{
    audit::{
        Arguments, Auditor, How, Seals, State, Stopped, Told,
        days::{Day, Span},
    },
    pipeline::Archivist,
};

/// Audits the archive: every manifest's objects exist, with their size and SHA-256.
///
/// Reads every manifest, and every object that one names; tells what is missing, cut, altered, or named by no manifest.
/// Nothing is written to the archive. Memory grows with the largest day alone. Exits with 1 if anything is wrong, with 3
/// if a store could not be reached or something in it not be read: what was not verified is then said.
#[derive(Debug, clap::Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
pub(super) struct Verify {
    /// The first day to verify, as objects' keys have it.
    #[arg(long, value_name = "DATE")]
    since: Option<Day>,
    /// The last day to verify.
    #[arg(long, value_name = "DATE")]
    until: Option<Day>,
    /// Compare sizes alone: no object is read, so what was altered within its size is not found.
    #[arg(long)]
    quick: bool,
    /// Keep how far it is in a file: stopped or killed, the next run goes on there. A finished one begins anew.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Pass over days in which an earlier run with the same --state found nothing wrong, two days or more after they
    /// ended.
    #[arg(long, requires = "state")]
    only_new: bool,
    /// How old an object that no manifest names, or a partial manifest, has to be to be told: workers may still be at
    /// younger ones.
    #[arg(long, value_name = "AGE", default_value = "1d", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Hold the manifests against the seals that `callvault seal` made, too: what was changed, removed or slipped in since
    /// is told. What that proves depends on the keys and roots that are given.
    #[arg(long)]
    sealed: bool,
    #[command(flatten)]
    trust: Trust,
    /// Requests in flight.
    #[arg(long, value_name = "N", default_value = "64")]
    jobs: NonZeroU16,
    /// Report as JSON lines: one for each finding, the last one a summary.
    #[arg(long)]
    json: bool,
}

impl Verify {
    async fn seals(&self, archivist: &Archivist) -> Result<Option<Seals>, Failure> {
        if !self.sealed {
            return Ok(None);
        }
        let Trusted { keys, roots } = self.trust.read(false)?;
        let budget = archivist.budget.clone();
        let seals = Seals::read(&archivist.manifests, budget, &keys, &roots).await;
        seals.map(Some).map_err(Failure::unreachable)
    }

    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        if self.since.zip(self.until).is_some_and(|(a, b)| a > b) {
            return Err(Failure::usage(anyhow::anyhow!("--since is after --until")));
        }
        if self.trust.has_roots() && !self.sealed {
            let what = "a root is looked for among the seals: add --sealed";
            return Err(Failure::usage(anyhow::anyhow!(what)));
        }
        if self.trust.has_keys() && !self.sealed {
            say_error("callvault: the seals are not looked at, nor the public key: add --sealed");
        }
        let parts = setup::load_archive(config)?;
        let archivist = parts.archivist;
        let seals = self.seals(&archivist).await?;
        let arguments = Arguments {
            span: Span {
                since: self.since,
                until: self.until,
            },
            quick: self.quick,
            sealed: self.sealed,
            archive: Auditor::archive(&archivist.stores, &archivist.manifests, &parts.key),
        };
        let mut state = match &self.state {
            Some(file) => State::open(file, &arguments, self.only_new).map_err(Failure::usage)?,
            None => State::unkept(arguments),
        };
        let auditor = Auditor::new(
            archivist.planner,
            archivist.stores,
            archivist.manifests,
            How {
                quick: self.quick,
                jobs: usize::from(self.jobs.get()),
                older_than: TimeDelta::from_std(self.older_than).unwrap_or(TimeDelta::MAX),
            },
        );
        let about = seals.as_ref().map(|seals| seals.about().clone());
        let auditor = Arc::new(auditor.against(seals));
        let stop = stop_on_signal().map_err(Failure::unreachable)?;
        let report = Report {
            json: self.json,
            quick: self.quick,
            seals: about,
        };
        if state.is_resumed() {
            report.earlier(state.run());
        }
        let bar = Bar::begin(&auditor, &state);
        let mut tell = |told: Told<'_>| match told {
            Told::Day(day) => bar.day(day),
            Told::Strays(bucket) => bar.strays(bucket),
            Told::Tally(tally) => bar.tally(tally),
            Told::Finding(finding) => bar.suspend(|| report.finding(finding)),
            Told::Unread(unread) => bar.suspend(|| report.unread(unread)),
        };
        let ended = auditor.run(&mut state, &stop, &mut tell).await;
        bar.end();
        let run = state.run();
        report.summary(run, ended.as_ref().err(), self.state.is_some());
        Ok(match ended {
            Err(Stopped::Signal | Stopped::Store(_) | Stopped::State(_)) => Exit::Unreachable,
            Ok(()) if run.unread > 0 => Exit::Unreachable,
            Ok(()) if run.found() > 0 => Exit::Problems,
            Ok(()) => Exit::Done,
        })
    }
}
