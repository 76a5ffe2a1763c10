//! An origin that is far away: what a worker waits for must not hold it up.

use std::time::Duration;

use anyhow::Result;

use super::{RECORDING, Scenario, small_files};
use crate::{
    args::Who,
    bench::Bench,
    crew::Plan,
    events::Event,
    origin::Origin,
    stores::Store,
    table::{median, number},
    targets::Figures,
};

const AWAY: Duration = Duration::from_millis(100);

pub(super) async fn far(bench: &Bench) -> Result<Figures> {
    let origin = Origin::start(small_files()?, AWAY, "").await?;
    let (mut figures, mut rows) = (Figures::default(), Vec::new());
    let mut rates: Vec<(Who, Vec<f64>)> = callvaults(bench);
    for round in 1..=bench.args.rounds {
        for (who, rates) in &mut rates {
            let name = format!("far-{round}");
            rates.push(
                rate(
                    bench,
                    &origin,
                    *who,
                    &name,
                    (1, 32),
                    bench.args.amount(2000),
                )
                .await?,
            );
        }
    }
    for (who, rates) in rates {
        let rate = median(rates);
        rows.push((who, vec![number(rate, 1)]));
        figures.add("far", who, rate);
    }
    Scenario::Far.report(bench, &["events/s"], rows);
    Ok(figures)
}

pub(super) async fn workers(bench: &Bench) -> Result<Figures> {
    let origin = Origin::start(small_files()?, AWAY, "").await?;
    let (mut figures, mut rows) = (Figures::default(), Vec::new());
    let mut rates: Vec<(Who, Vec<[f64; 2]>)> = callvaults(bench);
    for round in 1..=bench.args.rounds {
        for (who, rates) in &mut rates {
            let one = format!("workers-{round}-of-1");
            let four = format!("workers-{round}-of-4");
            let events = bench.args.amount(640);
            rates.push([
                rate(bench, &origin, *who, &one, (1, 8), events).await?,
                rate(bench, &origin, *who, &four, (4, 8), 4 * events).await?,
            ]);
        }
    }
    for (who, rates) in rates {
        let ratio = median(rates.iter().map(|[one, four]| four / one));
        rows.push((
            who,
            vec![
                number(median(rates.iter().map(|[one, _]| *one)), 1),
                number(median(rates.iter().map(|[_, four]| *four)), 1),
                number(ratio, 2),
            ],
        ));
        figures.add("workers", who, ratio);
    }
    Scenario::Workers.report(bench, &["1: events/s", "4: events/s", "ratio"], rows);
    Ok(figures)
}

fn callvaults<T>(bench: &Bench) -> Vec<(Who, Vec<T>)> {
    bench
        .args
        .callvaults()
        .into_iter()
        .map(|who| (who, Vec::new()))
        .collect()
}

/// Events a second, from the start of the processes.
async fn rate(
    bench: &Bench,
    origin: &Origin,
    who: Who,
    name: &str,
    (workers, prefetch): (usize, u16),
    events: usize,
) -> Result<f64> {
    let plan = Plan {
        name,
        who,
        workers,
        prefetch,
        buckets: Store::sink(bench.nginx.url()).toml(),
        kinds: "",
    };
    let url = origin.url();
    let events: Vec<_> = (0..events)
        .map(|_| Event::new(&url, RECORDING))
        .collect::<Result<_>>()?;
    let rate = plan.run(bench, &events).await?.rate();
    bench.note(&format!("{name}, {}: {rate:.1} events/s", who.name()));
    Ok(rate)
}
