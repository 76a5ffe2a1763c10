//! The workloads, in interleaved rounds.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    access::Access,
    args::{Args, Who},
    bench::Bench,
    events::{ANALYSIS, TRANSCRIPT, put_recording},
    idle::Idles,
    measured::Measured,
    run::{Task, run},
    servers::target,
    stores::Store,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Where a workload stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
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
    pub(crate) place: Place,
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

    /// So many, or a tenth of them.
    pub(crate) fn events(&self, args: &Args) -> usize {
        args.amount(self.events)
    }

    /// Of one event's attachments together.
    pub(crate) fn bytes(&self) -> u64 {
        ANALYSIS.1 + TRANSCRIPT.1 + self.recording.1
    }

    /// What it is, in a line.
    pub(crate) fn about(&self, args: &Args) -> String {
        let (_, size) = self.recording;
        let size = if size < MIB {
            format!("{} KiB", size / KIB)
        } else {
            format!("{} MiB", size / MIB)
        };
        let place = match self.place {
            Place::S3 => "S3 (SeaweedFS, over plain http, payloads unsigned)",
            Place::Sink => "a sink (nginx, over plain http, payloads unsigned)",
            Place::Shm => "a folder in memory",
            Place::Disk => "a folder on the disk",
        };
        format!(
            "{} events of {} KiB analysis, {} KiB transcript and {size} recording, to {place}",
            self.events(args),
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

/// Each contender once a round.
pub(crate) async fn measure(
    bench: &Bench,
    workload: &'static Workload,
    idles: &Idles,
) -> Result<Measured> {
    let (recording, size) = workload.recording;
    put_recording(&bench.files(), recording, size)?;
    let events = workload.events(&bench.args);
    let mut measured = Measured::new(workload, idles);
    let mut access = Access::of(bench.nginx.dir());
    let rounds = bench.args.rounds;
    for round in 1..=rounds {
        for who in Who::ALL.into_iter().filter(|who| bench.args.has(*who)) {
            let what = format!(
                "{}, round {round} of {rounds}, {}",
                workload.name,
                who.name()
            );
            bench.begin(&what, events);
            let name = format!("{}-{round}", workload.name);
            let task = Task {
                name: &name,
                recording,
                events,
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
            measured.add(who, run);
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
