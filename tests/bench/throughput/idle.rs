//! What a worker takes to start, which is not the events' cost.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::{
    args::Who,
    bench::Bench,
    run::start,
    stores::Store,
    table::{markdown, median, number},
    wait::eventually,
};

const STARTUP: Duration = Duration::from_mins(1);

/// Of one that has begun to consume, and has nothing to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Idle {
    /// CPU seconds.
    pub(crate) cpu: f64,
    /// Seconds until then.
    pub(crate) wall: f64,
    /// MiB.
    memory: f64,
}

/// Of each worker that takes part. The other contenders have nothing to start.
pub(crate) type Idles = BTreeMap<Who, Idle>;

/// The medians of some starts, and their table.
pub(crate) async fn measure(bench: &Bench) -> Result<Idles> {
    let workers = [Who::Callvault, Who::Other, Who::Python].into_iter();
    let workers: Vec<_> = workers.filter(|who| bench.args.has(*who)).collect();
    let mut starts: BTreeMap<Who, Vec<Idle>> = BTreeMap::new();
    for round in 1..=bench.args.rounds {
        for who in &workers {
            bench.begin(&format!("starting, round {round}, {}", who.name()), 1);
            let idle = once(bench, *who, round).await?;
            starts.entry(*who).or_default().push(idle);
        }
    }
    let of = |starts: &[Idle], of: fn(&Idle) -> f64| median(starts.iter().map(of));
    let (mut idles, mut rows) = (Idles::new(), Vec::new());
    for (who, starts) in starts {
        let cpu = of(&starts, |idle| idle.cpu);
        let wall = of(&starts, |idle| idle.wall);
        let memory = of(&starts, |idle| idle.memory);
        let (name, memory_shown) = (who.name().to_owned(), number(memory, 0));
        rows.push(vec![name, number(cpu, 2), number(wall, 2), memory_shown]);
        let idle = Idle {
            cpu: cpu.unwrap_or_default(),
            wall: wall.unwrap_or_default(),
            memory: memory.unwrap_or_default(),
        };
        idles.insert(who, idle);
    }
    if !rows.is_empty() {
        bench.print(&format!(
            "\n**idle**: what a worker takes until it consumes from an empty queue. The ratios below leave this out.\n\n{}",
            markdown(&["idle", "CPU s", "after s", "RSS MiB"], rows)
        ));
    }
    Ok(idles)
}

async fn once(bench: &Bench, who: Who, round: u32) -> Result<Idle> {
    let dir = bench.folder(&format!("idle-{round}-{}", who.name()))?;
    let name = format!("bench-{}", Uuid::new_v4().simple());
    let queue = bench.broker.declare(&name).await?;
    let store = Store::sink(bench.nginx.url());
    let mut worker = start(bench, who, &dir, &queue, &store)?;
    let what = format!("{} to consume; see {}", who.name(), dir.display());
    eventually(STARTUP, &what, async || {
        ensure!(worker.settled()?.is_empty(), "an event in an empty queue");
        Ok((bench.broker.consumers(&queue).await? > 0).then_some(()))
    })
    .await?;
    let (wall, used) = (worker.started().elapsed().as_secs_f64(), worker.used()?);
    worker.stop().await?;
    bench.broker.delete(&queue).await?;
    Ok(Idle {
        cpu: used.cpu.total(),
        wall,
        memory: used.memory,
    })
}
