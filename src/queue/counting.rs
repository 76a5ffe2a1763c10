//! Counting what lies in the queues, for whoever watches; and whether messages wait that none come of.

use std::{convert::Infallible, time::Duration};

use lapin::{Channel, Connection};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    QueueError,
    topology::{self, Names},
    within,
};
use crate::{
    config,
    status::{Counted, Queue, Session},
    telemetry,
};

/// How often the work queue is counted: one small question, which the broker answers from memory.
const OFTEN: Duration = Duration::from_secs(5);
/// The other queues are counted once in so many times: there may be dozens of workers.
const SELDOM: u32 = 3;
/// For the broker's answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Counts as long as a session lasts, on a channel of its own: the broker closes the channel of whoever asks for a
/// queue that is not there, and keeps one waiting that has no leader. No acknowledgement waits behind that.
pub(super) struct Counting<'a> {
    pub(super) connection: &'a Connection,
    pub(super) queue: &'a config::Queue,
    pub(super) session: &'a Session,
}

impl Counting<'_> {
    /// `free` says whether this worker could take a message.
    pub(super) async fn run(self, free: impl Fn() -> bool) -> Infallible {
        let names = Names::of(self.queue);
        let others: Vec<_> = names.all(&self.queue.retry_delays).skip(1).collect();
        let (mut channel, mut counted) = (None, Vec::new());
        let mut ticks = interval(OFTEN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u32.. {
            ticks.tick().await;
            match self.count(&mut channel, &names.work).await {
                Ok(work) => {
                    let messages = work.messages;
                    let free = free();
                    self.session
                        .counted(Counted { messages, free }, Instant::now());
                    counted.retain(|queue: &Queue| queue.name != work.name);
                    counted.insert(0, work);
                }
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::debug!(error, "cannot count the work queue");
                    counted.retain(|queue| queue.name != names.work);
                }
            }
            if round % SELDOM == 0 {
                counted.retain(|queue| queue.name == names.work);
                for name in &others {
                    match self.count(&mut channel, name).await {
                        Ok(queue) => counted.push(queue),
                        Err(error) => {
                            let error = telemetry::chain(&error);
                            tracing::debug!(error, queue = name, "cannot count a queue");
                        }
                    }
                }
            }
            self.session.has(counted.clone());
        }
        std::future::pending().await
    }

    async fn count(&self, channel: &mut Option<Channel>, name: &str) -> Result<Queue, QueueError> {
        let open = match channel.take().filter(|open| open.status().connected()) {
            Some(open) => open,
            None => within(ANSWER, "open a channel", self.connection.create_channel()).await?,
        };
        let (messages, consumers) = topology::count(&open, name).await?;
        *channel = Some(open);
        Ok(Queue {
            name: name.to_owned(),
            messages,
            consumers,
        })
    }
}
