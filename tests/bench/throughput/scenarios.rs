//! What a table of workloads does not show: each scenario puts callvault into one difficulty.

mod far;
mod neighbours;
mod rss;
mod scale;
mod start;

use anyhow::Result;

use crate::{
    args::Who,
    bench::Bench,
    events::{ANALYSIS, TRANSCRIPT, analysis, recording, transcript},
    table::markdown,
    targets::Figures,
};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Far,
    Workers,
    Scale,
    Rss,
    Neighbours,
    Start,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Far,
        Self::Workers,
        Self::Scale,
        Self::Rss,
        Self::Neighbours,
        Self::Start,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Far => "far",
            Self::Workers => "workers",
            Self::Scale => "scale",
            Self::Rss => "rss",
            Self::Neighbours => "neighbours",
            Self::Start => "start",
        }
    }

    /// What it is, in a line.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Far => "W1's events from an origin 100 ms away, to a sink, with a prefetch of 32",
            Self::Workers => "the same with 4 workers of prefetch 8, over 1 worker of prefetch 8",
            Self::Scale => {
                "W1's events from an origin 1 s away, to a sink, by 1 to 16 workers with a prefetch of 32 on this machine"
            }
            Self::Rss => {
                "8 recordings at once to S3: of 512 MiB; of 2 GiB over of 64 MiB; one run each"
            }
            Self::Neighbours => {
                "200 small events, 40 a second, to a sink: alone; beside one recording that drips for longer than they \
                 take; beside one of 2 GiB; the last two to S3"
            }
            Self::Start => {
                "from the start of the process to its first request at the origin, an event waiting"
            }
        }
    }

    /// Measures it, reports it, and returns the figures for the targets.
    pub(crate) async fn measure(self, bench: &Bench) -> Result<Figures> {
        match self {
            Self::Far => far::far(bench).await,
            Self::Workers => far::workers(bench).await,
            Self::Scale => scale::measure(bench).await,
            Self::Rss => rss::measure(bench).await,
            Self::Neighbours => neighbours::measure(bench).await,
            Self::Start => start::measure(bench).await,
        }
    }

    /// Its title and its table; a row's first cell is a callvault.
    fn report(self, bench: &Bench, columns: &[&str], rows: Vec<(Who, Vec<String>)>) {
        let header: Vec<_> = [self.name()].iter().chain(columns).copied().collect();
        let row = |(who, cells): (Who, Vec<String>)| {
            let mut row = vec![who.name().to_owned()];
            row.extend(cells);
            row
        };
        let table = markdown(&header, rows.into_iter().map(row).collect());
        bench.print(&format!(
            "\n**{}**: {}.\n\n{table}",
            self.name(),
            self.about()
        ));
    }
}

/// Of W1.
const RECORDING: &str = "call-300k.wav";

/// W1's files, in memory.
fn small_files() -> Result<Vec<(&'static str, Vec<u8>)>> {
    Ok(vec![
        (ANALYSIS.0, analysis(ANALYSIS.1)),
        (TRANSCRIPT.0, transcript(TRANSCRIPT.1)),
        (RECORDING, recording(300 << 10)?),
    ])
}
