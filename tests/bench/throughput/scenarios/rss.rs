//! Memory must not grow with the size of recordings.

use anyhow::Result;

use super::Scenario;
use crate::{
    bench::Bench,
    crew::Plan,
    events::{Event, put_silence},
    stores::Store,
    table::number,
    targets::Figures,
};

/// In flight at once.
const RECORDINGS: usize = 8;
/// In MiB; the files are silence, for they are many.
const SIZES: [(&str, u64); 3] = [
    ("silence-64m.wav", 64),
    ("silence-512m.wav", 512),
    ("silence-2g.wav", 2048),
];

pub(super) async fn measure(bench: &Bench) -> Result<Figures> {
    let (mut figures, mut rows) = (Figures::default(), Vec::new());
    for who in bench.args.callvaults() {
        let mut peaks = Vec::new();
        for (file, mib) in SIZES {
            let mib = if bench.args.quick { mib / 10 } else { mib };
            put_silence(&bench.files(), file, mib << 20)?;
            let store = Store::s3(bench.seaweedfs.url()).await?;
            let plan = Plan {
                name: &format!("rss-{mib}m"),
                who,
                workers: 1,
                prefetch: 32,
                buckets: store.toml(),
                kinds: "",
            };
            let url = bench.nginx.url();
            let events: Vec<_> = (0..RECORDINGS)
                .map(|_| Event::new(url, file))
                .collect::<Result<_>>()?;
            let done = plan.run(bench, &events).await?;
            let peak = done.used.iter().map(|used| used.memory).fold(0.0, f64::max);
            bench.note(&format!(
                "{}, {}: {peak:.0} MiB, {:.1} s, CPU {:.2} s",
                plan.name,
                who.name(),
                done.wall,
                done.used.iter().map(|used| used.cpu.total()).sum::<f64>()
            ));
            peaks.push(peak);
            store.remove().await?;
        }
        let [small, middle, large] = peaks[..] else {
            continue;
        };
        let ratio = large / small;
        let mut cells: Vec<_> = peaks.iter().map(|peak| number(Some(*peak), 0)).collect();
        cells.push(number(Some(ratio), 2));
        rows.push((who, cells));
        figures.add("rss 512", who, Some(middle));
        figures.add("rss ratio", who, Some(ratio));
    }
    let columns = ["64 MiB: RSS MiB", "512 MiB", "2 GiB", "2 GiB / 64 MiB"];
    Scenario::Rss.report(bench, &columns, rows);
    Ok(figures)
}
