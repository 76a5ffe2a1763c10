//! What `cargo bench --bench throughput -- …` takes.

use std::{path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};

/// What callvault costs, beside what the job must cost: CPU, memory, speed and requests, measured with a
/// RabbitMQ, an S3 server and an origin of the benchmark's own, in interleaved rounds.
///
/// Prints Markdown: a table a workload, the medians of its rounds, and at the end the targets and what was
/// measured. Nothing else should run on the machine. Logs and configurations stay in target/bench/runs.
#[derive(Debug, Clone, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches")]
#[command(bin_name = "cargo bench --bench throughput --")]
pub(crate) struct Args {
    /// How often each contender runs; the tables hold medians.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Only these workloads and scenarios (see --list).
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Only these contenders.
    #[arg(long, value_name = "WHO", value_delimiter = ',')]
    pub(crate) with: Vec<Who>,
    /// Also W3: recordings of 512 MiB.
    #[arg(long)]
    pub(crate) large: bool,
    /// A tenth of the work, to try the benchmark: what it prints means nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Another callvault to measure in the same rounds, as `other`.
    #[arg(long, value_name = "PATH")]
    pub(crate) worker: Option<PathBuf>,
    /// A mixed load at a steady pace for so long, and nothing else: memory, open files and threads of a worker,
    /// each second, in target/bench/soak.csv.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) soak: Option<Duration>,
    /// Say what there is to measure, and stop.
    #[arg(long)]
    pub(crate) list: bool,
    /// Cargo says this to each benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who does a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Who {
    /// The worker that was built with the benchmark.
    Callvault,
    /// The one of --worker.
    Other,
    /// A worker in Python: tests/bench/worker.py.
    Python,
    /// The least that the job can cost: tests/bench/limit.c, which has no broker, checks or manifest.
    Limit,
    /// curl, sha256sum, curl: tests/bench/curl.sh.
    Curl,
}

impl Who {
    pub(crate) const ALL: [Self; 5] = [
        Self::Callvault,
        Self::Other,
        Self::Python,
        Self::Limit,
        Self::Curl,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Callvault => "callvault",
            Self::Other => "other",
            Self::Python => "python",
            Self::Limit => "limit",
            Self::Curl => "curl",
        }
    }
}

impl Args {
    /// Whether a contender takes part.
    pub(crate) fn has(&self, who: Who) -> bool {
        (who != Who::Other || self.worker.is_some())
            && (self.with.is_empty() || self.with.contains(&who))
    }

    /// The callvaults that take part.
    pub(crate) fn callvaults(&self) -> Vec<Who> {
        let both = [Who::Callvault, Who::Other].into_iter();
        both.filter(|who| self.has(*who)).collect()
    }

    /// So much, or a tenth of it with --quick, at least 1.
    pub(crate) fn amount(&self, whole: usize) -> usize {
        if self.quick {
            (whole / 10).max(1)
        } else {
            whole
        }
    }
}
