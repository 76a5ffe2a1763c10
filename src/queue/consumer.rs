//! Taking deliveries: one task each, through whatever happens to the broker.

use std::{pin::pin, sync::Arc, time::Duration};

use backon::BackoffBuilder;
use chrono::Utc;
use futures_util::StreamExt;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    QueueError, backoff,
    counting::Counting,
    handler::Handler,
    message,
    session::{Role, connect},
    suspects::Suspects,
    topology,
    waiting::Waiting,
    within,
};
use crate::{
    config,
    flights::Flights,
    outage::Outage,
    pipeline::{Archivist, due_of},
    status::{self, Status, Watched},
    telemetry,
    traces::Traces,
};

/// For an answer of the broker's that needs no disk.
const ANSWER: Duration = Duration::from_secs(30);
/// For the broker's answers when a worker stops, lest a mute one keeps it past its orchestrator's grace.
const GOODBYE: Duration = Duration::from_secs(3);
/// A session that lived so long ended for a new reason: the next one is tried at once.
const STEADY: Duration = Duration::from_secs(30);

/// What a worker does with the broker, in its log.
const CONSUME: &str = "consume";

/// A consumer tag that tells the operator whose it is.
const TAG: &str = "callvault";

/// Takes events from the work queue until it is told to stop.
#[derive(Debug)]
pub struct Worker {
    queue: Arc<config::Queue>,
    handler: Arc<Handler>,
    jobs: TaskTracker,
    /// One permit a job. The broker counts the deliveries of one session; jobs outlive theirs.
    places: Arc<Semaphore>,
    suspects: Arc<Suspects>,
    /// Cancelled when the grace is over: then jobs are dropped where they stand.
    give_up: CancellationToken,
    outage: Outage,
    status: Arc<Status>,
    traces: Option<Traces>,
}

impl Worker {
    /// A worker on the configured queue.
    pub fn new(
        archivist: Archivist,
        queue: config::Queue,
        refusals: u32,
        job_time: Duration,
        traces: Option<Traces>,
    ) -> Self {
        let queue = Arc::new(queue);
        let outage = Outage::of("the broker");
        let (metrics, budget) = (Arc::clone(&archivist.metrics), archivist.budget.clone());
        let handler = Handler::new(archivist, Arc::clone(&queue), refusals, job_time);
        let broker = Watched {
            outage: outage.clone(),
            bucket: None,
        };
        let status = Status {
            started: Utc::now(),
            metrics,
            flights: Flights::default(),
            prefetch: queue.prefetch.into(),
            budget,
            session: status::Session::default(),
            outages: [broker].into_iter().chain(handler.outages()).collect(),
        };
        Self {
            handler: Arc::new(handler),
            places: Arc::new(Semaphore::new(queue.prefetch.into())),
            queue,
            jobs: TaskTracker::new(),
            suspects: Arc::default(),
            give_up: CancellationToken::new(),
            outage,
            status: Arc::new(status),
            traces,
        }
    }

    /// What is known of it while it runs.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Consumes until `stop`, through whatever happens to the broker; then finishes what is in flight
    /// within `grace`. What is not finished goes back to the queue.
    pub async fn run(&self, stop: &CancellationToken, grace: Duration) {
        let mut pauses = backoff().build();
        loop {
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => return self.finish(grace).await,
                opened = self.open() => opened,
            };
            let error = match opened {
                Ok(session) => {
                    let since = Instant::now();
                    match self.consume(session, stop, grace).await {
                        Ok(()) => return,
                        Err(error) => {
                            if since.elapsed() > STEADY {
                                pauses = backoff().build();
                            }
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            let pause = pauses.next().unwrap_or(ANSWER);
            self.outage.fails(CONSUME, &error, Instant::now());
            let reason = telemetry::chain(&error);
            tracing::debug!(reason, pause_ms = pause.as_millis(), "not consuming");
            let why = format!("not consuming: {reason}");
            self.status.session.broke(why);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn open(&self) -> Result<Session, QueueError> {
        let connection = connect(&self.queue.url, Role::Consumer).await?;
        let channel = within(ANSWER, "open a channel", connection.create_channel()).await?;
        topology::ensure(&channel, &self.queue).await?;
        // Before consuming: the limit holds for consumers that start after it.
        let qos = channel.basic_qos(self.queue.prefetch, BasicQosOptions::default());
        within(ANSWER, "limit the prefetch", qos).await?;
        let consume = channel.basic_consume(
            self.queue.name.as_str().into(),
            TAG.into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = within(ANSWER, "start consuming", consume).await?;
        Ok(Session {
            connection,
            channel,
            consumer,
        })
    }

    /// One session, to its end or the worker's. Jobs outlive it: what they store is found by the redelivery.
    async fn consume(
        &self,
        mut session: Session,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Result<(), QueueError> {
        self.take(&mut session, stop).await?;
        self.drain(session, grace).await;
        Ok(())
    }

    async fn take(
        &self,
        session: &mut Session,
        stop: &CancellationToken,
    ) -> Result<(), QueueError> {
        self.outage.works();
        tracing::info!(
            queue = self.queue.name,
            prefetch = self.queue.prefetch,
            "consuming"
        );
        self.status.session.consumes();
        // At most as many as the prefetch: the broker sends no more.
        let mut waiting = Waiting::new();
        let free = || self.places.available_permits() > 0;
        let counting = Counting {
            connection: &session.connection,
            queue: &self.queue,
            session: &self.status.session,
        };
        let mut counting = pin!(counting.run(free));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                // A full worker listens on, too: it would not notice the end of its session.
                delivery = session.consumer.next() => match delivery {
                    Some(Ok(delivery)) => {
                        let arrived = Instant::now();
                        self.status.session.delivered();
                        match Arc::clone(&self.places).try_acquire_owned() {
                            Ok(place) if waiting.is_empty() => self.start(delivery, arrived, place),
                            _ => {
                                let due = due_of(&delivery.data, Utc::now());
                                tracing::debug!(%due, "a delivery waits for a place");
                                waiting.push(due, (delivery, arrived));
                            }
                        }
                    }
                    Some(Err(error)) => return Err(QueueError::broker("go on consuming")(error)),
                    None => return Err(QueueError::Cancelled),
                },
                never = &mut counting => match never {},
                Ok(place) = Arc::clone(&self.places).acquire_owned(), if !waiting.is_empty() => {
                    if let Some((delivery, arrived)) = waiting.pop() {
                        self.start(delivery, arrived, place);
                    }
                }
            }
        }
    }

    /// The end of a session: nothing new is taken, what is in flight is finished.
    async fn drain(&self, session: Session, grace: Duration) {
        let cancel = session
            .channel
            .basic_cancel(TAG.into(), BasicCancelOptions::default());
        let (cancelled, ()) = tokio::join!(
            within(GOODBYE, "cancel the consumer", cancel),
            self.finish(grace)
        );
        // Closing the channel hands back whatever is not settled.
        let close = session.channel.close(200, "stopping".into());
        let closed = within(GOODBYE, "close the channel", close).await;
        if let Err(error) = cancelled.and(closed) {
            let error = telemetry::chain(&error);
            tracing::warn!(error, "the broker did not hear that this worker stops");
        }
    }

    /// Waits for the jobs in flight, as long as the grace lasts.
    async fn finish(&self, grace: Duration) {
        self.status.session.stops(grace);
        tracing::info!(
            in_flight = self.jobs.len(),
            grace_s = grace.as_secs_f64(),
            "stopping"
        );
        self.jobs.close();
        if timeout(grace, self.jobs.wait()).await.is_err() {
            tracing::warn!(
                in_flight = self.jobs.len(),
                "the grace is over; the rest goes back to the queue"
            );
            self.give_up.cancel();
            self.jobs.wait().await;
        }
        if !self.handler.tidied(GOODBYE).await {
            tracing::warn!("unfinished uploads may be left: callvault sweep removes them");
        }
    }

    /// Starts the job of one delivery.
    fn start(&self, delivery: Delivery, arrived: Instant, place: OwnedSemaphorePermit) {
        // What was queued in this process when its channel broke is the broker's again.
        if !delivery.acker.usable() {
            return;
        }
        let (handler, suspects) = (Arc::clone(&self.handler), Arc::clone(&self.suspects));
        let give_up = self.give_up.clone();
        let attempt = message::attempt(&delivery.properties);
        let header = |name: &str| message::text(&delivery.properties, name);
        let begin =
            |traces: &Traces| traces.begin(&self.queue.name, delivery.data.len(), attempt, header);
        let span = self.traces.as_ref().map(begin).unwrap_or_default();
        let flight = self.status.flights.begin(arrived, attempt, span);
        self.jobs.spawn(async move {
            let _place = place;
            let returns = message::returns(&delivery.properties);
            let job = Box::pin(async {
                if delivery.acker.usable() {
                    handler.handle(delivery, arrived, flight).await;
                }
            });
            give_up
                .run_until_cancelled(suspects.run(returns, job))
                .await;
        });
    }
}

struct Session {
    // Dropping it would close the channel.
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
}
