//! More and more workers: up to where does each one add what the first did?

use std::time::Duration;

use anyhow::Result;

use super::{RECORDING, Scenario, small_files};
use crate::{
    args::Who,
    bench::Bench,
    crew::{Done, Plan},
    events::Event,
    origin::Origin,
    stores::Store,
    table::{median, number},
    targets::Figures,
};

/// Far enough for a worker to wait most of the time, as one does for an origin on the Internet.
const AWAY: Duration = Duration::from_secs(1);
const PREFETCH: u16 = 32;
const WORKERS: [usize; 5] = [1, 2, 4, 8, 16];
/// So many rounds of a full worker.
const EVENTS: usize = 20 * PREFETCH as usize;

pub(super) async fn measure(bench: &Bench) -> Result<Figures> {
    let origin = Origin::start(small_files()?, AWAY, "").await?;
    let mut rows = Vec::new();
    for who in bench.args.callvaults() {
        let mut one = None;
        for workers in WORKERS {
            let mut rounds = Vec::new();
            for round in 1..=bench.args.rounds {
                rounds.push(run(bench, &origin, who, workers, round).await?);
            }
            let rate = median(rounds.iter().map(Done::rate));
            let one = *one.get_or_insert(rate);
            let cpu = |done: &Done| {
                let used: f64 = done.used.iter().map(|used| used.cpu.total()).sum();
                used * 1e3 / done.settled.len() as f64
            };
            let memory = |done: &Done| done.used.iter().map(|used| used.memory).reduce(f64::max);
            rows.push((
                who,
                vec![
                    workers.to_string(),
                    number(rate, 1),
                    number(rate.map(|rate| rate * 3600.0), 0),
                    number(rate.zip(one).map(|(rate, one)| rate / one), 2),
                    number(median(rounds.iter().map(cpu)), 2),
                    number(median(rounds.iter().filter_map(memory)), 0),
                ],
            ));
        }
    }
    let columns = [
        "workers", "events/s", "an hour", "over 1", "CPU s", "RSS MiB",
    ];
    Scenario::Scale.report(bench, &columns, rows);
    Ok(Figures::default())
}

async fn run(bench: &Bench, origin: &Origin, who: Who, workers: usize, round: u32) -> Result<Done> {
    let plan = Plan {
        name: &format!("scale-{round}-of-{workers}"),
        who,
        workers,
        prefetch: PREFETCH,
        buckets: Store::sink(bench.nginx.url()).toml(),
        kinds: "",
    };
    let url = origin.url();
    let events = (0..bench.args.amount(EVENTS * workers)).map(|_| Event::new(&url, RECORDING));
    plan.run(bench, &events.collect::<Result<Vec<_>>>()?).await
}
