//! What was asked for, and what was measured.

use std::collections::BTreeMap;

use crate::{
    args::{Args, Who},
    table::{markdown, number},
};

/// What was measured, by the names that [`TARGETS`] has.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<(String, Who), f64>);

impl Figures {
    /// Unless there is none.
    pub(crate) fn add(&mut self, name: impl Into<String>, who: Who, figure: Option<f64>) {
        self.0
            .extend(figure.map(|figure| ((name.into(), who), figure)));
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    fn get(&self, name: &str, who: Who) -> Option<f64> {
        self.0.get(&(name.to_owned(), who)).copied()
    }
}

/// The words, the figure's name, the target, the stretch, and how many digits the figure is told with.
const TARGETS: [(&str, &str, &str, &str, usize); 19] = [
    (
        "W1 to S3: CPU an event, against Python",
        "w1-s3 python",
        "0.25",
        "0.18",
        2,
    ),
    (
        "W1 to a sink: CPU an event, against Python",
        "w1-sink python",
        "0.25",
        "0.18",
        2,
    ),
    (
        "W1 to a folder in memory: CPU an event, against Python",
        "w1-shm python",
        "0.40",
        "0.30",
        2,
    ),
    (
        "W2 to S3: CPU a GiB, against the limit",
        "w2-s3 limit",
        "1.0",
        "0.8",
        2,
    ),
    (
        "W2 to a folder: CPU a GiB, against the limit",
        "w2-folder limit",
        "1.0",
        "0.8",
        2,
    ),
    (
        "W3 to S3: CPU a GiB, against the limit",
        "w3-s3 limit",
        "1.0",
        "0.8",
        2,
    ),
    (
        "W3 to a folder: CPU a GiB, against the limit",
        "w3-folder limit",
        "1.0",
        "0.8",
        2,
    ),
    (
        "W1 to a sink: events/s, against Python",
        "w1-sink rate",
        "3.5",
        "6",
        2,
    ),
    (
        "events/s, origin 100 ms away, prefetch 32 (at most 320)",
        "far",
        "250",
        "300",
        0,
    ),
    (
        "events/s, origin 100 ms away, 4 workers with prefetch 8 over 1",
        "workers",
        "3.6",
        "3.9",
        2,
    ),
    (
        "GET an event of three attachments",
        "w1-sink GET",
        "3",
        "3",
        2,
    ),
    (
        "PUT an event of three attachments",
        "w1-sink PUT",
        "4",
        "4",
        2,
    ),
    ("peak RSS, W1 to S3, MiB", "w1-s3 rss", "40", "32", 0),
    ("peak RSS, W2 to S3, MiB", "w2-s3 rss", "96", "48", 0),
    (
        "peak RSS, 8 recordings of 512 MiB at once to S3, MiB",
        "rss 512",
        "96",
        "64",
        0,
    ),
    (
        "RSS at 8 recordings of 2 GiB over 8 of 64 MiB",
        "rss ratio",
        "1.1",
        "1.0",
        2,
    ),
    (
        "p99 of small events beside a dripping attachment",
        "dripping",
        "1.2",
        "1.05",
        2,
    ),
    (
        "p99 of small events beside a huge attachment",
        "huge",
        "1.2",
        "1.05",
        2,
    ),
    (
        "from the start to the first request, ms",
        "start",
        "150",
        "50",
        0,
    ),
];

/// A row for each target of which something was measured.
pub(crate) fn report(args: &Args, figures: &Figures) -> Option<String> {
    let callvaults = args.callvaults();
    let mut header = vec!["", "target", "stretch"];
    header.extend(callvaults.iter().map(|who| who.name()));
    let mut rows = Vec::new();
    for (words, name, target, stretch, digits) in TARGETS {
        let measured = |who: &Who| figures.get(name, *who);
        if callvaults.iter().all(|who| measured(who).is_none()) {
            continue;
        }
        let mut row = vec![words.to_owned(), target.to_owned(), stretch.to_owned()];
        row.extend(callvaults.iter().map(|who| number(measured(who), digits)));
        rows.push(row);
    }
    (!rows.is_empty()).then(|| format!("\n**Targets**\n\n{}", markdown(&header, rows)))
}
