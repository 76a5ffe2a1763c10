//! One attachment that drips or is huge must not hold up the others.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, interval};

use super::{RECORDING, Scenario, small_files};
use crate::{
    args::Who,
    bench::Bench,
    crew::{Crew, Plan},
    events::{Event, put_recording, put_silence, recording},
    origin::Origin,
    stores::Store,
    table::{median, number, p99},
    targets::Figures,
    worker::{PATIENCE, Settled, settle},
};

const DRIPPING: &str = "apart-drips.wav";
const HUGE: &str = "apart-huge.wav";

/// The neighbour goes to another store than the small events: what holds these up is callvault, not S3.
const APART: &str = r#"[attachments.apart]
file = "apart-*.wav"
check = "wav"
bucket = "apart"
"#;

/// Small ones a second: fewer than a worker can do, so that nothing waits in a queue.
const RATE: f64 = 40.0;

/// What is beside the small events.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Neighbour {
    None,
    Dripping,
    Huge,
}

impl Neighbour {
    const ALL: [Self; 3] = [Self::None, Self::Dripping, Self::Huge];

    fn name(self) -> &'static str {
        match self {
            Self::None => "alone",
            Self::Dripping => "dripping",
            Self::Huge => "huge",
        }
    }
}

pub(super) async fn measure(bench: &Bench) -> Result<Figures> {
    put_recording(&bench.files(), RECORDING, 300 << 10)?;
    let size = if bench.args.quick { 256 << 20 } else { 2 << 30 };
    put_silence(&bench.files(), HUGE, size)?;
    let mut runs: Vec<(Who, Vec<[f64; 3]>)> = Vec::new();
    runs.extend(
        bench
            .args
            .callvaults()
            .into_iter()
            .map(|who| (who, Vec::new())),
    );
    for round in 1..=bench.args.rounds {
        for (who, runs) in &mut runs {
            let mut p99s = [0.0; 3];
            for (neighbour, p99) in Neighbour::ALL.into_iter().zip(&mut p99s) {
                *p99 = beside(bench, *who, neighbour, round).await?;
            }
            runs.push(p99s);
        }
    }
    let (mut figures, mut rows) = (Figures::default(), Vec::new());
    for (who, runs) in runs {
        let p99 = |at: usize| number(median(runs.iter().map(|run| run[at])), 0);
        let ratio = |at: usize| median(runs.iter().map(|run| run[at] / run[0]));
        let (dripping, huge) = (ratio(1), ratio(2));
        rows.push((
            who,
            vec![p99(0), p99(1), p99(2), number(dripping, 2), number(huge, 2)],
        ));
        figures.add("dripping", who, dripping);
        figures.add("huge", who, huge);
    }
    let columns = [
        "alone: p99 ms",
        "dripping",
        "huge",
        "dripping / alone",
        "huge / alone",
    ];
    Scenario::Neighbours.report(bench, &columns, rows);
    Ok(figures)
}

/// The p99 of the small events' durations, in ms.
async fn beside(bench: &Bench, who: Who, neighbour: Neighbour, round: u32) -> Result<f64> {
    let mut files = small_files()?;
    files.push((DRIPPING, recording(64 << 10)?));
    let origin = Origin::start(files, Duration::ZERO, DRIPPING).await?;
    let s3 = Store::s3(bench.seaweedfs.url()).await?;
    let mut buckets = Store::sink(bench.nginx.url()).toml();
    buckets.extend(["[buckets.apart]\n", &s3.bucket("apart")]);
    let name = format!("neighbours-{round}-{}", neighbour.name());
    let plan = Plan {
        name: &name,
        who,
        workers: 1,
        prefetch: 32,
        buckets,
        kinds: APART,
    };
    let large = match neighbour {
        Neighbour::None => None,
        Neighbour::Dripping => Some(Event::of(&origin.url(), &[DRIPPING])?),
        Neighbour::Huge => Some(Event::of(bench.nginx.url(), &[HUGE])?),
    };
    bench.begin(&format!("{name}, {}", who.name()), bench.args.amount(200));
    let mut crew = plan.start(bench, large.as_slice()).await?;
    let mut settled = paced(bench, &mut crew, &origin.url()).await?;
    origin.release();
    if let Some(large) = large {
        let of_large = settled
            .iter()
            .position(|event| event.request_id == large.request_id);
        if let Some(at) = of_large {
            settled.remove(at);
            bench.note(&format!(
                "{name}: the neighbour was done before the small events were"
            ));
        } else {
            settle(&mut crew.workers, 1, |_| ()).await?;
        }
    }
    let done = crew.end(bench, settled).await?;
    s3.remove().await?;
    // The first one had connections to make.
    let small = done.settled.iter().skip(1);
    let p99 = p99(small.map(|event| event.took_ms)).context("no small events")?;
    bench.note(&format!("{name}, {}: p99 {p99:.0} ms", who.name()));
    Ok(p99)
}

/// Publishes a small event, and once that is archived the others at their pace; returns when all are.
async fn paced(bench: &Bench, crew: &mut Crew, origin: &str) -> Result<Vec<Settled>> {
    let all = 1 + bench.args.amount(200);
    let (mut small, mut settled) = (HashSet::new(), Vec::<Settled>::new());
    let mut ticks = interval(Duration::from_secs_f64(1.0 / RATE));
    let mut last = Instant::now();
    while settled
        .iter()
        .filter(|event| small.contains(&event.request_id))
        .count()
        < all
    {
        if small.is_empty() || small.len() < all && !settled.is_empty() {
            let event = Event::new(origin, RECORDING)?;
            bench
                .broker
                .publish(&crew.queue, std::slice::from_ref(&event))
                .await?;
            small.insert(event.request_id);
            bench.at(small.len());
        }
        ticks.tick().await;
        for worker in &mut crew.workers {
            let more = worker.settled()?;
            let wrong = more.iter().find(|event| event.outcome != "archived");
            ensure!(wrong.is_none(), "not archived: {wrong:?}");
            if !more.is_empty() {
                last = Instant::now();
            }
            settled.extend(more);
        }
        ensure!(
            last.elapsed() < PATIENCE,
            "nothing was settled for {PATIENCE:?}"
        );
    }
    Ok(settled)
}
