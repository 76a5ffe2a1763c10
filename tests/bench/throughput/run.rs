//! One run: a contender does a workload once, and what that took.

use std::{path::Path, time::Instant};

use anyhow::{Result, ensure};
use uuid::Uuid;

use crate::{
    access::{Access, Requests},
    args::Who,
    bench::{self, Bench},
    broker::Queue,
    events::Event,
    pipe,
    stores::Store,
    worker::{self, Config, Used, Worker},
};

/// The events that a contender is given.
pub(crate) struct Task<'a> {
    /// Names the run's folder.
    pub(crate) name: &'a str,
    /// At nginx.
    pub(crate) recording: &'a str,
    pub(crate) events: usize,
}

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) used: Used,
    /// From the start of the process to the last event, in seconds.
    pub(crate) wall: f64,
    pub(crate) requests: Requests,
    /// CPU seconds of the servers meanwhile.
    pub(crate) broker: f64,
    pub(crate) store: f64,
    pub(crate) nginx: f64,
}

/// The prefetch of all workers.
const PREFETCH: u16 = 32;

/// Has a contender do it, and removes what it stored.
pub(crate) async fn run(
    bench: &Bench,
    access: &mut Access,
    who: Who,
    task: &Task<'_>,
    store: Store,
) -> Result<Run> {
    let dir = bench.folder(&format!("{}-{}", task.name, who.name()))?;
    let origin = bench.nginx.url();
    let events: Vec<_> = (0..task.events)
        .map(|_| Event::new(origin, task.recording))
        .collect::<Result<_>>()?;
    let queue = match who {
        Who::Limit | Who::Curl => None,
        _ => {
            let queue = bench
                .broker
                .declare(&format!("bench-{}", Uuid::new_v4().simple()))
                .await?;
            bench.broker.publish(&queue, &events).await?;
            Some(queue)
        }
    };
    bench::sync()?;
    access.count().await?;

    let before = servers(bench);
    let started = Instant::now();
    let (used, worker) = if let Some(queue) = &queue {
        let worker = start(bench, who, &dir, queue, &store)?;
        let mut workers = [worker];
        worker::settle(&mut workers, task.events, |done| bench.at(done)).await?;
        let [worker] = workers;
        (worker.used()?, Some(worker))
    } else {
        (pipe::run(who, &events, &store, &dir).await?, None)
    };
    let wall = started.elapsed().as_secs_f64();
    let after = servers(bench);

    if let Some(worker) = worker {
        worker.stop().await?;
    }
    let mut requests = access.count().await?;
    if store.is_sink() {
        // A manifest, too, by whoever writes one.
        let least = task.events * if queue.is_some() { 4 } else { 3 };
        ensure!(
            requests.puts >= least,
            "{} stored {} of {least} objects; see {}",
            who.name(),
            requests.puts,
            dir.display()
        );
    } else {
        requests.puts = 0;
    }
    if let Some(queue) = &queue {
        bench.broker.delete(queue).await?;
    }
    store.remove().await?;
    let [broker, store, nginx] = std::array::from_fn(|at| after[at] - before[at]);
    Ok(Run {
        used,
        wall,
        requests,
        broker,
        store,
        nginx,
    })
}

/// Starts a callvault or the worker in Python.
pub(crate) fn start(
    bench: &Bench,
    who: Who,
    dir: &Path,
    queue: &Queue,
    store: &Store,
) -> Result<Worker> {
    let config = Config {
        broker: bench.broker.url(),
        queue,
        prefetch: PREFETCH,
        buckets: store.toml(),
        kinds: "",
    };
    if who == Who::Python {
        Worker::python(dir, &config, store)
    } else {
        Worker::callvault(&bench.program(who), dir, &config)
    }
}

fn servers(bench: &Bench) -> [f64; 3] {
    [
        bench.rabbitmq.cpu(),
        bench.seaweedfs.cpu(),
        bench.nginx.cpu(),
    ]
}
