//! Some callvaults at one queue.

use std::time::Instant;

use anyhow::Result;
use uuid::Uuid;

use crate::{
    args::Who,
    bench::{self, Bench},
    broker::Queue,
    events::Event,
    worker::{self, Config, Settled, Used, Worker},
};

/// What a scenario asks of its workers.
pub(crate) struct Plan<'a> {
    /// Names the folders of its logs.
    pub(crate) name: &'a str,
    pub(crate) who: Who,
    pub(crate) workers: usize,
    pub(crate) prefetch: u16,
    pub(crate) buckets: String,
    pub(crate) kinds: &'a str,
}

/// Running workers, and their queue.
pub(crate) struct Crew {
    pub(crate) queue: Queue,
    pub(crate) workers: Vec<Worker>,
    pub(crate) started: Instant,
}

/// What they did.
pub(crate) struct Done {
    pub(crate) settled: Vec<Settled>,
    /// From the start of the processes to the last event, in seconds.
    pub(crate) wall: f64,
    pub(crate) used: Vec<Used>,
}

impl Done {
    /// Events a second, from the start of the processes.
    pub(crate) fn rate(&self) -> f64 {
        self.settled.len() as f64 / self.wall
    }
}

impl Plan<'_> {
    /// Starts the workers, with these events in the queue already.
    pub(crate) async fn start(&self, bench: &Bench, events: &[Event]) -> Result<Crew> {
        let name = format!("bench-{}", Uuid::new_v4().simple());
        let queue = bench.broker.declare(&name).await?;
        bench.broker.publish(&queue, events).await?;
        bench::sync()?;
        let started = Instant::now();
        let mut workers = Vec::new();
        for n in 1..=self.workers {
            let dir = bench.folder(&format!("{}-{}-{n}", self.name, self.who.name()))?;
            let config = Config {
                broker: bench.broker.url(),
                queue: &queue,
                prefetch: self.prefetch,
                buckets: self.buckets.clone(),
                kinds: self.kinds,
            };
            workers.push(Worker::callvault(&bench.program(self.who), &dir, &config)?);
        }
        Ok(Crew {
            queue,
            workers,
            started,
        })
    }

    /// Has these events archived.
    pub(crate) async fn run(&self, bench: &Bench, events: &[Event]) -> Result<Done> {
        bench.begin(&format!("{}, {}", self.name, self.who.name()), events.len());
        let mut crew = self.start(bench, events).await?;
        let settled =
            worker::settle(&mut crew.workers, events.len(), |done| bench.at(done)).await?;
        crew.end(bench, settled).await
    }
}

impl Crew {
    /// Stops the workers, now that all is done, and removes their queue.
    pub(crate) async fn end(self, bench: &Bench, settled: Vec<Settled>) -> Result<Done> {
        let wall = self.started.elapsed().as_secs_f64();
        let used = self
            .workers
            .iter()
            .map(Worker::used)
            .collect::<Result<_>>()?;
        for worker in self.workers {
            worker.stop().await?;
        }
        bench.broker.delete(&self.queue).await?;
        Ok(Done {
            settled,
            wall,
            used,
        })
    }
}
