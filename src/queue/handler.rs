//! One delivery, from its arrival to its settlement.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use backon::BackoffBuilder;
use bytes::Bytes;
use chrono::Utc;
use lapin::{BasicProperties, message::Delivery, options::BasicAckOptions};
use tokio::time::{Instant, sleep};
use tracing::Instrument;

use super::{
    QueueError, backoff, message,
    publisher::Publisher,
    topology::{self, Names},
};
use crate::{
    config,
    digest::Sha256,
    flights::{Flight, Stage},
    outage::Outage,
    pipeline::{Archivist, Job},
    settle::{Decision, Rules},
    status::Watched,
    telemetry,
    traces::Told,
};

/// What a queue of ours is to do, in the log.
const TAKE: &str = "take a message";
/// The longest pause between two tries to move a message.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A message that came back so often waits for nothing, lest it reaches the delivery limit while a store
/// is down and the broker restarts. In the retry queue its returns are counted anew.
const WEARY: u32 = 10;

/// So many digits of a body's SHA-256 are enough to name a dead letter by.
const SHORT_DIGEST: usize = 16;

/// Archives deliveries, and settles each by what became of it.
#[derive(Debug)]
pub(super) struct Handler {
    archivist: Archivist,
    queue: Arc<config::Queue>,
    names: Names,
    rules: Rules,
    job_time: Duration,
    publisher: Publisher,
    /// How each queue that messages are moved to is doing.
    outages: HashMap<String, Outage>,
}

impl Handler {
    pub(super) fn new(
        archivist: Archivist,
        queue: Arc<config::Queue>,
        refusals: u32,
        job_time: Duration,
    ) -> Self {
        let names = Names::of(&queue);
        let queues = names.all(&queue.retry_delays);
        let outage = |queue: String| (queue.clone(), Outage::of(format!("queue {queue}")));
        Self {
            archivist,
            outages: queues.map(outage).collect(),
            names,
            rules: Rules {
                delays: queue.retry_delays.clone(),
                refusals,
            },
            job_time,
            publisher: Publisher::new(queue.url.clone()),
            queue,
        }
    }

    /// Waits until nothing is left to tidy of jobs that were given up; whether that was in time.
    pub(super) async fn tidied(&self, within: Duration) -> bool {
        self.archivist.stores.cleaned(within).await
    }

    /// What the worker is at, and how all is doing that it depends on.
    pub(super) fn outages(&self) -> Vec<Watched> {
        let mut buckets: Vec<_> = self.archivist.stores.iter().collect();
        buckets.sort_by_key(|bucket| bucket.name());
        let buckets = buckets.into_iter().map(|bucket| Watched {
            outage: bucket.outage().clone(),
            bucket: Some(bucket.name().to_owned()),
        });
        let names = self.names.all(&self.queue.retry_delays);
        let queues = names.filter_map(|name| self.outages.get(&name));
        let others = [&self.archivist.spool].into_iter().chain(queues);
        let others = others.map(|outage| Watched {
            outage: outage.clone(),
            bucket: None,
        });
        buckets.chain(others).collect()
    }

    /// `arrived` is when the broker began to wait for the settlement.
    pub(super) async fn handle(&self, mut delivery: Delivery, arrived: Instant, flight: Flight) {
        let job = Job {
            body: Bytes::from(std::mem::take(&mut delivery.data)),
            attempt: message::attempt(&delivery.properties),
            seen_before: delivery.redelivered || message::seen_before(&delivery.properties),
            started: arrived,
            time: self.job_time,
            patience: if message::returns(&delivery.properties) < WEARY {
                self.job_time
            } else {
                Duration::ZERO
            },
            flight,
        };
        let (call_id, request_id) = (tracing::field::Empty, tracing::field::Empty);
        let span = tracing::info_span!("event", attempt = job.attempt, call_id, request_id);
        let outcome = self.archivist.archive(&job).instrument(span).await;
        let decision = self.rules.decide(&outcome, job.attempt, Utc::now());
        let label = telemetry::label(&outcome, &decision);
        let settling = self.settle(&delivery, &job, &decision);
        let tell = |told: &bool, span: &mut Told| {
            if !told {
                span.fails("too_late");
            }
        };
        let settled = self
            .archivist
            .told_stage(&job, Stage::Settling, settling, tell);
        let settled = settled.await;
        job.flight.span().ends(label, || match &decision {
            Decision::Ack => None,
            Decision::Dead(death) => Some(death.reason.as_str().into()),
            Decision::Retry { .. } | Decision::Requeue { .. } => outcome.code(),
        });
        if settled {
            let letter = Sha256::of(&job.body).to_string();
            let (letter, took) = (&letter[..SHORT_DIGEST], arrived.elapsed());
            self.archivist.metrics.settled(label, took);
            telemetry::settled(&outcome, &decision, letter, job.attempt, took);
        }
    }

    /// Carries a decision out, and says whether the broker was told. The message is acknowledged last:
    /// until then it is the broker's to give to somebody else.
    async fn settle(&self, delivery: &Delivery, job: &Job, decision: &Decision) -> bool {
        let moved = match decision {
            Decision::Ack => true,
            Decision::Retry { delay, charged } => {
                let tries = if *charged {
                    job.attempt
                } else {
                    job.attempt - 1
                };
                let properties = message::retried(&delivery.properties, tries);
                self.move_to(&self.names.retry(*delay), properties, job, delivery)
                    .await
            }
            Decision::Dead(death) => {
                let properties = message::dead(&delivery.properties, job.attempt, death);
                self.move_to(&self.names.dead, properties, job, delivery)
                    .await
            }
            // A copy at the queue's end, not a return: returns are counted, and too many are a death.
            Decision::Requeue { after } => {
                sleep(*after).await;
                let properties = message::retried(&delivery.properties, job.attempt - 1);
                self.move_to(&self.names.work, properties, job, delivery)
                    .await
            }
        };
        moved && self.told(&delivery.acker.ack(BasicAckOptions::default()).await)
    }

    /// Publishes a message to another queue of ours, for as long as it takes. Whether it is there: it
    /// need not be any more once the delivery is void, for then the broker gives it to somebody else.
    async fn move_to(
        &self,
        queue: &str,
        properties: BasicProperties,
        job: &Job,
        delivery: &Delivery,
    ) -> bool {
        let Some(outage) = self.outages.get(queue) else {
            return false;
        };
        let dropped = message::dropped(&properties);
        if dropped > message::dropped(&delivery.properties) {
            let letter = &Sha256::of(&job.body).to_string()[..SHORT_DIGEST];
            tracing::warn!(
                letter,
                queue,
                dropped,
                "the headers of a message are too large to go along; the largest stay behind"
            );
        }
        let waiter = OnceLock::new();
        let fails = |error: &QueueError| {
            let waiter = waiter.get_or_init(|| outage.waiter());
            waiter.fails(TAKE, error, Instant::now());
        };
        let mut pauses = backoff().build();
        loop {
            let turn = self.publisher.turn(queue).await;
            // The broker has given a void delivery to somebody else: a copy would be one too many.
            if !delivery.acker.usable() {
                return false;
            }
            let go_on = |silent: &QueueError, _blocked| {
                fails(silent);
                delivery.acker.usable()
            };
            let published = turn.publish("", queue, properties.clone(), &job.body, go_on);
            match published.await {
                Ok(()) => break,
                Err(error) => {
                    fails(&error);
                    self.declare_what_is_missing(&error).await;
                }
            }
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
        match waiter.into_inner() {
            Some(waiter) => waiter.succeeds(),
            None => outage.works(),
        }
        true
    }

    /// A queue that somebody deleted comes back while its messages wait here.
    async fn declare_what_is_missing(&self, error: &QueueError) {
        if !self.queue.declare || !matches!(error, QueueError::Unroutable { .. }) {
            return;
        }
        let declared = async {
            let connection = self.publisher.connection().await?;
            topology::ensure_on(&connection, &self.queue).await
        };
        if let Err(error) = declared.await {
            let error = telemetry::chain(&error);
            tracing::debug!(error, "cannot declare the queues");
        }
    }

    /// Whether the broker was told of a settlement. On a channel that is gone it is lost: the message is
    /// delivered again, and its manifest found. One that was moved is then there twice, with one effect.
    fn told(&self, settlement: &lapin::Result<bool>) -> bool {
        let why = match settlement {
            Ok(true) => return true,
            Ok(false) => "its channel is gone".to_owned(),
            Err(error) => error.to_string(),
        };
        let lost = self.archivist.metrics.late();
        tracing::info!(
            why,
            lost,
            "a settlement came too late; the message is delivered again"
        );
        false
    }
}
