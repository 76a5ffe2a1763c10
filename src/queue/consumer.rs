//! Taking deliveries: one task a delivery, settled when its job has ended.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions, BasicRejectOptions,
    },
    types::FieldTable,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use super::{
    QueueError, message,
    publisher::Publisher,
    session::connect,
    topology::{self, Names},
    within,
};
use crate::{
    config,
    pipeline::{Archivist, Job},
    settle::{Decision, Rules},
    telemetry,
};

/// For an answer of the broker's that needs no disk.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a message is kept that goes back to the work queue itself, lest it comes back at once.
const BEFORE_REQUEUE: Duration = Duration::from_secs(1);

/// A consumer tag that tells the operator whose it is.
const TAG: &str = "callvault";

/// Whether a worker takes deliveries, or why not.
pub type Readiness = Result<(), String>;

/// Takes events from the work queue until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    archivist: Archivist,
    queue: config::Queue,
    names: Names,
    rules: Rules,
    job_time: Duration,
    publisher: Publisher,
    jobs: TaskTracker,
    readiness: watch::Sender<Readiness>,
}

impl Worker {
    /// A worker on the configured queue.
    pub fn new(
        archivist: Archivist,
        queue: config::Queue,
        refusals: u32,
        job_time: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            archivist,
            names: Names::of(&queue),
            rules: Rules {
                delays: queue.retry_delays.clone(),
                refusals,
            },
            publisher: Publisher::new(queue.url.clone()),
            queue,
            job_time,
            jobs: TaskTracker::new(),
            readiness: watch::Sender::new(Err("not connected to the broker yet".into())),
        })
    }

    /// Watches whether deliveries are taken.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Consumes until `stop`, through whatever happens to the broker; then finishes what is in flight
    /// within `grace`. What is not finished goes back to the queue.
    pub async fn run(self: &Arc<Self>, stop: &CancellationToken, grace: Duration) {
        let mut pauses = backoff().build();
        loop {
            let error = tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish(grace).await,
                opened = self.open() => match opened {
                    Ok(session) => {
                        pauses = backoff().build();
                        match self.consume(session, stop, grace).await {
                            Ok(()) => return,
                            Err(error) => error,
                        }
                    }
                    Err(error) => error,
                },
            };
            let pause = pauses.next().unwrap_or(ANSWER);
            let reason = telemetry::chain(&error);
            tracing::warn!(
                error = reason,
                retry_in_ms = pause.as_millis(),
                "not consuming"
            );
            self.set_readiness(Err(format!("not consuming: {reason}")));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn set_readiness(&self, readiness: Readiness) {
        let _before = self.readiness.send_replace(readiness);
    }

    async fn open(&self) -> Result<Session, QueueError> {
        let connection = connect(&self.queue.url, "consumer").await?;
        let channel = within(ANSWER, "open a channel", connection.create_channel()).await?;
        topology::ensure(&channel, &self.queue).await?;
        // Before consuming: the limit holds for consumers that start after it.
        let qos = channel.basic_qos(self.queue.prefetch, BasicQosOptions::default());
        within(ANSWER, "limit the prefetch", qos).await?;
        let consume = channel.basic_consume(
            self.names.work.as_str().into(),
            TAG.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(ANSWER, "start consuming", consume).await?;
        Ok(Session {
            _connection: connection,
            channel,
            consumer,
        })
    }

    /// Takes deliveries of one session. Jobs outlive it: what they store is found by the redelivery.
    async fn consume(
        self: &Arc<Self>,
        mut session: Session,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Result<(), QueueError> {
        tracing::info!(
            queue = self.names.work,
            prefetch = self.queue.prefetch,
            "consuming"
        );
        self.set_readiness(Ok(()));
        loop {
            let delivery = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                delivery = session.consumer.next() => delivery,
            };
            match delivery {
                Some(Ok(delivery)) => self.start(delivery),
                Some(Err(error)) => return Err(QueueError::broker("go on consuming")(error)),
                None => return Err(QueueError::Cancelled),
            }
        }
        self.drain(session, grace).await;
        Ok(())
    }

    /// The end of a session: nothing new is taken, what is in flight is finished.
    async fn drain(&self, session: Session, grace: Duration) {
        let cancel = session
            .channel
            .basic_cancel(TAG.into(), BasicCancelOptions::default());
        if let Err(error) = within(ANSWER, "cancel the consumer", cancel).await {
            tracing::warn!(%error, "the broker did not hear that this worker stops");
        }
        self.finish(grace).await;
        // Closing the channel hands back whatever is not settled.
        let close = session.channel.close(200, "stopping".into());
        if let Err(error) = within(ANSWER, "close the channel", close).await {
            tracing::warn!(%error, "the channel was not closed in order");
        }
    }

    /// Waits for the jobs in flight, as long as the grace lasts.
    async fn finish(&self, grace: Duration) {
        self.set_readiness(Err("stopping".into()));
        tracing::info!(
            in_flight = self.jobs.len(),
            grace_s = grace.as_secs_f64(),
            "stopping"
        );
        self.jobs.close();
        if tokio::time::timeout(grace, self.jobs.wait()).await.is_err() {
            tracing::warn!(
                in_flight = self.jobs.len(),
                "the grace is over; the rest goes back to the queue"
            );
        }
    }

    /// Starts the job of one delivery. Should it panic, that message alone is handed back, as failed.
    fn start(self: &Arc<Self>, delivery: Delivery) {
        // What was queued in this process when its channel broke is the broker's again.
        if !delivery.acker.usable() {
            return;
        }
        let (worker, acker) = (Arc::clone(self), delivery.acker.clone());
        self.jobs.spawn(async move {
            // Nothing that a panic may have left half done is looked at again.
            let job = AssertUnwindSafe(worker.handle(delivery)).catch_unwind();
            if job.await.is_err() {
                tracing::error!("a job panicked; its message goes back to the queue");
                let reject = acker.reject(BasicRejectOptions { requeue: true }).await;
                report_settled(&reject);
            }
        });
    }

    /// One delivery, from its arrival to its settlement.
    async fn handle(&self, mut delivery: Delivery) {
        let started = Instant::now();
        let tries = message::tries(&delivery.properties);
        let job = Job {
            body: Bytes::from(std::mem::take(&mut delivery.data)),
            attempt: tries.saturating_add(1),
            seen_before: delivery.redelivered
                || tries > 0
                || message::deliveries(&delivery.properties) > 0,
            deadline: started + self.job_time,
            patience: self.job_time,
        };
        let span = tracing::info_span!("event", attempt = job.attempt);
        let outcome = self.archivist.archive(&job).instrument(span).await;
        let decision = self.rules.decide(&outcome, job.attempt);
        self.settle(&delivery, &job, &decision).await;
        telemetry::settled(&outcome, &decision, job.attempt, started.elapsed());
    }

    /// Carries a decision out. The message is acknowledged last: until then it is the broker's to give
    /// to somebody else.
    async fn settle(&self, delivery: &Delivery, job: &Job, decision: &Decision) {
        let tries = job.attempt;
        match decision {
            Decision::Ack => {}
            Decision::Retry { delay, charged } => {
                let tries = if *charged { tries } else { tries - 1 };
                let properties = message::retried(&delivery.properties, tries);
                if !self
                    .move_to(&self.names.retry(*delay), properties, job, delivery)
                    .await
                {
                    return;
                }
            }
            Decision::Dead(death) => {
                let properties = message::dead(&delivery.properties, tries, death);
                if !self
                    .move_to(&self.names.dead, properties, job, delivery)
                    .await
                {
                    return;
                }
            }
            Decision::Requeue => {
                tokio::time::sleep(BEFORE_REQUEUE).await;
                let nack = delivery.acker.nack(BasicNackOptions {
                    requeue: true,
                    ..Default::default()
                });
                return report_settled(&nack.await);
            }
        }
        report_settled(&delivery.acker.ack(BasicAckOptions::default()).await);
    }

    /// Publishes a message to another queue of ours, for as long as it takes. Whether it is there: it
    /// need not be any more once the delivery is void, for then the broker gives it to somebody else.
    async fn move_to(
        &self,
        queue: &str,
        properties: lapin::BasicProperties,
        job: &Job,
        delivery: &Delivery,
    ) -> bool {
        let publish = || {
            self.publisher
                .publish("", queue, properties.clone(), &job.body)
        };
        let moved = publish
            .retry(backoff())
            .when(|_| delivery.acker.usable())
            .notify(|error, _| {
                let error = telemetry::chain(error);
                tracing::warn!(
                    error,
                    queue,
                    "cannot move a message; it stays unacknowledged meanwhile"
                );
            })
            .await;
        moved.is_ok()
    }
}

struct Session {
    // Dropping the connection would close the channel.
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
}

/// A settlement on a channel that is gone is lost, and harmless: the redelivery finds the manifest.
fn report_settled(settled: &lapin::Result<bool>) {
    match settled {
        Ok(true) => {}
        Ok(false) => {
            tracing::info!(
                "a settlement came too late for its channel; the message is redelivered"
            );
        }
        Err(error) => {
            tracing::info!(%error, "a settlement was lost with its channel; the message is redelivered");
        }
    }
}
