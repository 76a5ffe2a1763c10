//! The workloads, in interleaved rounds.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;

use crate::{
    access::Access,
    args::{Args, Who},
    bench::Bench,
    events::{ANALYSIS, TRANSCRIPT, put_recording},
    run::{Run, Task, run},
    servers::target,
    stores::Store,
    table::{markdown, median, number},
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Where a workload stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    S3,
    Sink,
    /// A folder in memory.
    Shm,
    /// A folder on the disk.
    Disk,
}

/// So many events with a recording of such a size.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    place: Place,
    events: usize,
    recording: (&'static str, u64),
}

impl Workload {
    const fn w1(name: &'static str, place: Place) -> Self {
        Self {
            name,
            place,
            events: 2000,
            recording: ("call-300k.wav", 300 * KIB),
        }
    }

    const fn w2(name: &'static str, place: Place) -> Self {
        Self {
            name,
            place,
            events: 300,
            recording: ("call-10m.wav", 10 * MIB),
        }
    }

    const fn w3(name: &'static str, place: Place) -> Self {
        Self {
            name,
            place,
            events: 8,
            recording: ("call-512m.wav", 512 * MIB),
        }
    }

    /// Whether it is of the large files, which are measured when asked for.
    pub(crate) fn is_large(&self) -> bool {
        self.name.starts_with("w3")
    }

    /// What it is, in a line.
    pub(crate) fn about(&self) -> String {
        let (_, size) = self.recording;
        let size = if size < MIB {
            format!("{} KiB", size / KIB)
        } else {
            format!("{} MiB", size / MIB)
        };
        let place = match self.place {
            Place::S3 => "S3 (SeaweedFS)",
            Place::Sink => "a sink (nginx)",
            Place::Shm => "a folder in memory",
            Place::Disk => "a folder on the disk",
        };
        format!(
            "{} events of {} KiB analysis, {} KiB transcript and {size} recording, to {place}",
            self.events,
            ANALYSIS.1 / KIB,
            TRANSCRIPT.1 / KIB,
        )
    }
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 7] = [
    Workload::w1("w1-s3", Place::S3),
    Workload::w1("w1-sink", Place::Sink),
    Workload::w1("w1-shm", Place::Shm),
    Workload::w2("w2-s3", Place::S3),
    Workload::w2("w2-folder", Place::Disk),
    Workload::w3("w3-s3", Place::S3),
    Workload::w3("w3-folder", Place::Disk),
];

/// What was measured of a workload.
pub(crate) struct Measured {
    workload: &'static Workload,
    events: usize,
    /// Of one event.
    bytes: u64,
    /// Each round's, in their order.
    runs: BTreeMap<Who, Vec<Run>>,
}

/// Each contender once a round.
pub(crate) async fn measure(bench: &Bench, workload: &'static Workload) -> Result<Measured> {
    let (recording, size) = workload.recording;
    put_recording(&bench.files(), recording, size)?;
    let mut measured = Measured {
        workload,
        events: bench.args.amount(workload.events),
        bytes: ANALYSIS.1 + TRANSCRIPT.1 + size,
        runs: BTreeMap::new(),
    };
    let mut access = Access::of(bench.nginx.dir());
    let rounds = bench.args.rounds;
    for round in 1..=rounds {
        for who in Who::ALL.into_iter().filter(|who| bench.args.has(*who)) {
            let what = format!(
                "{}, round {round} of {rounds}, {}",
                workload.name,
                who.name()
            );
            bench.begin(&what, measured.events);
            let name = format!("{}-{round}", workload.name);
            let task = Task {
                name: &name,
                recording,
                events: measured.events,
                bytes: measured.bytes,
            };
            let store = match workload.place {
                Place::S3 => Store::s3(bench.seaweedfs.url()).await?,
                Place::Sink => Store::sink(bench.nginx.url()),
                Place::Shm => Store::folder(&shm(bench))?,
                Place::Disk => Store::folder(bench.dir())?,
            };
            let run = run(bench, &mut access, who, &task, store).await?;
            bench.note(&format!(
                "{what}: {:.1} s, CPU {:.2} s, {:.0} MiB",
                run.wall,
                run.used.cpu.total(),
                run.used.memory
            ));
            measured.runs.entry(who).or_default().push(run);
        }
    }
    Ok(measured)
}

/// A folder in memory, or on the disk where there is none.
fn shm(bench: &Bench) -> PathBuf {
    let shm = PathBuf::from("/dev/shm");
    if shm.is_dir() {
        return shm;
    }
    bench.note("there is no /dev/shm here: w1-shm stores on the disk");
    target().join("bench")
}

impl Measured {
    /// The rounds' median of something; none where a contender took no part.
    fn median(&self, who: Who, of: impl Fn(&Run) -> f64) -> Option<f64> {
        median(self.runs.get(&who)?.iter().map(of))
    }

    /// The median of the ratios within each round.
    pub(crate) fn ratio(&self, who: Who, to: Who, of: impl Fn(&Run) -> f64) -> Option<f64> {
        let (own, theirs) = (self.runs.get(&who)?.iter(), self.runs.get(&to)?.iter());
        median(own.zip(theirs).map(|(own, theirs)| of(own) / of(theirs)))
    }

    /// CPU against another contender.
    pub(crate) fn cpu_ratio(&self, who: Who, to: Who) -> Option<f64> {
        self.ratio(who, to, |run| run.used.cpu.total())
    }

    /// Events a second against another contender.
    pub(crate) fn rate_ratio(&self, who: Who, to: Who) -> Option<f64> {
        self.ratio(who, to, |run| 1.0 / run.wall)
    }

    /// MiB.
    pub(crate) fn memory(&self, who: Who) -> Option<f64> {
        self.median(who, |run| run.used.memory)
    }

    /// Requests of one event: GET and PUT.
    pub(crate) fn requests(&self, who: Who) -> Option<(f64, f64)> {
        let events = self.events as f64;
        Some((
            self.median(who, |run| run.requests.gets as f64 / events)?,
            self.median(who, |run| run.requests.puts as f64 / events)?,
        ))
    }

    pub(crate) fn name(&self) -> &'static str {
        self.workload.name
    }

    /// Its title and its table.
    pub(crate) fn report(&self, args: &Args) -> String {
        let (per, amount) = if self.name().starts_with("w1") {
            ("1000 events", self.events as f64 / 1000.0)
        } else {
            let bytes = self.bytes as f64 * self.events as f64;
            ("GiB", bytes / f64::from(1 << 30))
        };
        let row = |who: Who| {
            let events = self.events as f64;
            let per = |of: &dyn Fn(&Run) -> f64| self.median(who, |run| of(run) / amount);
            let puts = (self.workload.place == Place::Sink)
                .then(|| self.median(who, |run| run.requests.puts as f64 / events));
            let store = (self.workload.place == Place::S3).then(|| per(&|run| run.store));
            vec![
                who.name().to_owned(),
                number(per(&|run| run.used.cpu.total()), 2),
                number(per(&|run| run.used.cpu.user), 2),
                number(per(&|run| run.used.cpu.system), 2),
                number(self.cpu_ratio(who, Who::Python), 2),
                number(self.cpu_ratio(who, Who::Limit), 2),
                number(self.memory(who), 0),
                number(self.median(who, |run| events / run.wall), 1),
                number(
                    self.median(who, |run| events * self.bytes as f64 / 1e6 / run.wall),
                    1,
                ),
                number(self.median(who, |run| run.requests.gets as f64 / events), 2),
                number(puts.flatten(), 2),
                number(per(&|run| run.broker), 2),
                number(store.flatten(), 2),
                number(per(&|run| run.nginx), 2),
            ]
        };
        let took_part = Who::ALL
            .into_iter()
            .filter(|who| self.runs.contains_key(who));
        let header = [
            self.name(),
            "CPU s",
            "user",
            "system",
            "/ python",
            "/ limit",
            "RSS MiB",
            "events/s",
            "MB/s",
            "GET",
            "PUT",
            "broker",
            "store",
            "nginx",
        ];
        format!(
            "\n**{}**: {}. CPU seconds a {per}; requests an event; median of {}{}.\n\n{}",
            self.name(),
            self.workload.about(),
            args.rounds,
            if args.quick {
                ", a tenth of the work"
            } else {
                ""
            },
            markdown(&header, took_part.map(row).collect())
        )
    }
}
