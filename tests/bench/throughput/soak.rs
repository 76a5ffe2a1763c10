//! A worker under a mixed load for a long time: what must not grow.

use std::{
    collections::HashMap,
    fs::File,
    io::{LineWriter, Write as _},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    args::Who,
    bench::Bench,
    crew::Plan,
    events::{Event, Source, put_bytes, put_recording},
    procs,
    stores::Store,
    table::{markdown, number},
    worker::Worker,
};

const MIB: u64 = 1 << 20;

/// What is published: so many, every so many seconds.
const PACE: [(&str, usize, u64); 5] = [
    ("call-300k.wav", 8, 1),
    ("call-10m.wav", 1, 4),
    ("call-64m.wav", 1, 30),
    ("missing.wav", 1, 10),
    ("broken.wav", 1, 10),
];
/// So many events may wait before the table warns that the worker does not keep up.
const BEHIND: usize = 100;

/// What a second or a minute was like.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    memory: f64,
    files: usize,
    threads: f64,
    cpu: f64,
    archived: usize,
    retried: usize,
    dead: usize,
    waiting: usize,
}

/// Publishes for so long, and reports a line a minute.
pub(crate) async fn soak(bench: &Bench, time: Duration, who: Who) -> Result<()> {
    let files = bench.files();
    for (name, size) in [
        ("call-300k.wav", 300 << 10),
        ("call-10m.wav", 10 * MIB),
        ("call-64m.wav", 64 * MIB),
    ] {
        put_recording(&files, name, size)?;
    }
    put_bytes(
        &files,
        "broken.wav",
        "this is no recording\n".repeat(1000).as_bytes(),
    )?;
    let store = Store::s3(bench.seaweedfs.url()).await?;
    let plan = Plan {
        name: "soak",
        who,
        workers: 1,
        prefetch: 32,
        buckets: store.toml(),
        kinds: "",
    };
    let mut crew = plan.start(bench, &[]).await?;
    let csv = bench.dir().join("soak.csv");
    let file = File::create(&csv).with_context(|| format!("cannot make {}", csv.display()))?;
    let mut lines = LineWriter::new(file);
    writeln!(
        lines,
        "second,rss_mib,open_files,threads,cpu_s,archived,retried,dead,waiting"
    )?;

    let seconds = time.as_secs();
    bench.begin("soak, seconds", usize::try_from(seconds)?);
    let mut under_way = HashMap::new();
    let (mut samples, mut so_far) = (Vec::new(), Sample::default());
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for second in 0..seconds {
        ticks.tick().await;
        let mut events = due(bench, second)?;
        bench.broker.publish(&crew.queue, &events).await?;
        under_way.extend(
            events
                .drain(..)
                .map(|event| (event.request_id, event.files)),
        );
        let [worker] = &mut crew.workers[..] else {
            continue;
        };
        for event in worker.settled()? {
            match event.outcome.as_str() {
                "archived" => so_far.archived += 1,
                "retried" => so_far.retried += 1,
                "dead" => so_far.dead += 1,
                other => ensure!(false, "the event {} was {other}", event.request_id),
            }
            // What was archived for good makes room on the disk.
            if event.outcome != "retried"
                && let Some(files) = under_way.remove(&event.request_id)
            {
                store.remove_objects(&stored(&files)).await?;
            }
        }
        so_far.waiting = under_way.len();
        let sample = look(worker, so_far)?;
        writeln!(
            lines,
            "{second},{:.1},{},{},{:.2},{},{},{},{}",
            sample.memory,
            sample.files,
            sample.threads,
            sample.cpu,
            sample.archived,
            sample.retried,
            sample.dead,
            sample.waiting
        )?;
        samples.push(sample);
        bench.at(usize::try_from(second)?);
    }
    crew.end(bench, Vec::new()).await?;
    store.remove().await?;
    bench.print(&report(&samples, who));
    bench.print(&format!("\nEach second is in {}.", csv.display()));
    Ok(())
}

/// The events of a second.
fn due(bench: &Bench, second: u64) -> Result<Vec<Event>> {
    let due = PACE
        .iter()
        .filter(|(_, _, every)| second.is_multiple_of(*every));
    let names = due.flat_map(|(name, count, _)| std::iter::repeat_n(*name, *count));
    names
        .map(|name| Event::new(bench.nginx.url(), name))
        .collect()
}

/// What an event may have stored.
fn stored(files: &[Source]) -> Vec<String> {
    let keys = files.iter().map(|file| file.key.clone());
    let folder = files.first().and_then(|file| file.key.rsplit_once('/'));
    let manifest = folder.map(|(folder, _)| format!("{folder}/manifest.json"));
    keys.chain(manifest).collect()
}

fn look(worker: &Worker, so_far: Sample) -> Result<Sample> {
    let process = worker.id();
    Ok(Sample {
        memory: procs::memory(process)?,
        files: procs::open_files(process)?,
        threads: procs::threads(process)?,
        cpu: procs::cpu(process)?.total(),
        ..so_far
    })
}

fn report(samples: &[Sample], who: Who) -> String {
    let mut rows = Vec::new();
    let mut before = Sample::default();
    for (n, minute) in samples.chunks(60).enumerate() {
        let Some(last) = minute.last() else { continue };
        let most = |of: fn(&Sample) -> f64| number(minute.iter().map(of).max_by(f64::total_cmp), 0);
        let mean = minute.iter().map(|sample| sample.memory).sum::<f64>() / minute.len() as f64;
        rows.push(vec![
            format!("{}", n + 1),
            number(Some(mean), 0),
            most(|sample| sample.memory),
            most(|sample| sample.files as f64),
            most(|sample| sample.threads),
            number(Some(last.cpu - before.cpu), 2),
            format!("{}", last.archived - before.archived),
            format!("{}", last.retried - before.retried),
            format!("{}", last.dead - before.dead),
            format!("{}", last.waiting),
        ]);
        before = *last;
    }
    let header = [
        "minute",
        "RSS MiB",
        "most",
        "open files, most",
        "threads, most",
        "CPU s",
        "archived",
        "retried",
        "dead",
        "waiting",
    ];
    let pace = PACE.map(|(name, count, every)| format!("{count} of {name} every {every} s"));
    let behind = samples.last().is_some_and(|last| last.waiting > BEHIND);
    format!(
        "\n**soak**: {}, to S3: {}.{}\n\n{}",
        who.name(),
        pace.join(", "),
        if behind {
            " The worker does not keep up."
        } else {
            ""
        },
        markdown(&header, rows)
    )
}
