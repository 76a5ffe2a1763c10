//! How soon a worker works.

use std::time::Duration;

use anyhow::Result;

use super::{RECORDING, Scenario, small_files};
use crate::{
    bench::Bench,
    crew::Plan,
    events::Event,
    origin::Origin,
    stores::Store,
    table::{median, number},
    targets::Figures,
    worker,
};

/// Starts of each.
const STARTS: usize = 10;

pub(super) async fn measure(bench: &Bench) -> Result<Figures> {
    let mut times: Vec<_> = bench
        .args
        .callvaults()
        .into_iter()
        .map(|who| (who, Vec::new()))
        .collect();
    for n in 1..=STARTS {
        for (who, times) in &mut times {
            let origin = Origin::start(small_files()?, Duration::ZERO, "").await?;
            let name = format!("start-{n}");
            let plan = Plan {
                name: &name,
                who: *who,
                workers: 1,
                prefetch: 32,
                buckets: Store::sink(bench.nginx.url()).toml(),
                kinds: "",
            };
            bench.begin(&format!("{name}, {}", who.name()), 1);
            let event = Event::new(&origin.url(), RECORDING)?;
            let mut crew = plan.start(bench, &[event]).await?;
            let settled = worker::settle(&mut crew.workers, 1, |done| bench.at(done)).await?;
            let started = crew.workers.first().map(worker::Worker::started);
            let took = started
                .zip(origin.first())
                .map(|(started, first)| first - started);
            crew.end(bench, settled).await?;
            times.extend(took.map(|took| took.as_secs_f64() * 1000.0));
        }
    }
    let (mut figures, mut rows) = (Figures::default(), Vec::new());
    for (who, times) in times {
        let (least, most) = times
            .iter()
            .fold((f64::MAX, 0.0_f64), |(least, most), time| {
                (least.min(*time), most.max(*time))
            });
        let median = median(times);
        rows.push((
            who,
            vec![
                number(median, 0),
                number(Some(least), 0),
                number(Some(most), 0),
            ],
        ));
        figures.add("start", who, median);
    }
    Scenario::Start.report(bench, &["median ms", "least", "most"], rows);
    Ok(figures)
}
