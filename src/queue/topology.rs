//! Exchange, queues and bindings.
//!
//! All queues are quorum queues: replicated, on disk, and counting how often a message came back. A
//! delayed message waits in a queue of its delay's own, for RabbitMQ looks at the head of a queue alone
//! when it expires messages; from there it goes straight back to the work queue, never through the
//! exchange, so that no other queue sees an event twice.

use std::time::Duration;

use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{QueueError, refusal, within};
use crate::config;

/// For one declaration. A quorum queue may have to elect a leader first.
const ANSWER: Duration = Duration::from_secs(30);
/// How often a message may come back because its worker died. Innocent messages are counted too when
/// they lie in the prefetch window of a worker that another message kills, so it is not small.
const DELIVERY_LIMIT: i32 = 20;

/// The names of a work queue's companions.
#[derive(Debug, Clone)]
pub struct Names {
    /// The work queue.
    pub work: String,
    /// Where messages end that cannot be archived.
    pub dead: String,
}

impl Names {
    /// Of the configured queue.
    pub fn of(queue: &config::Queue) -> Self {
        Self {
            work: queue.name.clone(),
            dead: format!("{}.dead", queue.name),
        }
    }

    /// The queue in which messages wait for `delay`.
    pub fn retry(&self, delay: Duration) -> String {
        let delay = humantime::format_duration(delay)
            .to_string()
            .replace(' ', "");
        format!("{}.retry.{delay}", self.work)
    }

    /// All queues that messages are published to by name.
    pub fn all(&self, delays: &[Duration]) -> impl Iterator<Item = String> {
        let retries = delays.iter().map(|delay| self.retry(*delay));
        [self.work.clone(), self.dead.clone()]
            .into_iter()
            .chain(retries)
    }
}

/// As [`ensure`], on a channel of its own.
pub async fn ensure_on(connection: &Connection, queue: &config::Queue) -> Result<(), QueueError> {
    let channel = within(ANSWER, "open a channel", connection.create_channel()).await?;
    ensure(&channel, queue).await
}

/// Declares everything, or with `declare = false` finds everything there.
pub async fn ensure(channel: &Channel, queue: &config::Queue) -> Result<(), QueueError> {
    visit(channel, queue, queue.declare).await
}

/// All queues with their arguments, each after those that it leads to.
fn queues(queue: &config::Queue) -> Vec<(String, FieldTable)> {
    let names = Names::of(queue);
    // RabbitMQ 4 deletes what was returned 20 times from a queue that says nothing else. Looking at
    // a dead letter returns it.
    let dead = quorum([("x-delivery-limit", AMQPValue::LongInt(i32::MAX))]);
    let retry = |delay: &Duration| {
        let ttl = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let arguments = quorum([("x-message-ttl", AMQPValue::LongLongInt(ttl))]);
        (names.retry(*delay), dead_lettering(arguments, &names.work))
    };
    let work = quorum([("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT))]);
    let work = dead_lettering(work, &names.dead);
    let mut queues = vec![(names.dead.clone(), dead)];
    queues.extend(queue.retry_delays.iter().map(retry));
    queues.push((names.work.clone(), work));
    queues
}

/// Declares one of the queues.
pub(super) async fn queue(
    channel: &Channel,
    settings: &config::Queue,
    name: &str,
) -> Result<(), QueueError> {
    for (queue, arguments) in queues(settings) {
        if queue == name {
            declare(channel, name, arguments, true).await?;
        }
    }
    Ok(())
}

async fn visit(channel: &Channel, queue: &config::Queue, create: bool) -> Result<(), QueueError> {
    exchange(channel, queue, create).await?;
    for (name, arguments) in queues(queue) {
        declare(channel, &name, arguments, create).await?;
    }
    let names = Names::of(queue);
    if create {
        for key in &queue.routing_keys {
            let bind = channel.queue_bind(
                names.work.as_str().into(),
                queue.exchange.as_str().into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            answered(bind, &format!("queue {:?}", names.work)).await?;
        }
    }
    Ok(())
}

pub(super) async fn exchange(
    channel: &Channel,
    queue: &config::Queue,
    create: bool,
) -> Result<(), QueueError> {
    let options = ExchangeDeclareOptions {
        passive: !create,
        durable: true,
        ..Default::default()
    };
    let name = ShortString::from(queue.exchange.as_str());
    let declare =
        channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
    answered(declare, &format!("exchange {:?}", queue.exchange)).await
}

/// How many messages are ready in a queue, and how many take from it. Where there is no such queue, the channel is gone.
pub(super) async fn count(channel: &Channel, name: &str) -> Result<(u64, u64), QueueError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let count = channel.queue_declare(name.into(), options, FieldTable::default());
    let queue = within(ANSWER, "count a queue", count).await?;
    Ok((queue.message_count().into(), queue.consumer_count().into()))
}

async fn declare(
    channel: &Channel,
    name: &str,
    arguments: FieldTable,
    create: bool,
) -> Result<(), QueueError> {
    let options = QueueDeclareOptions {
        passive: !create,
        durable: true,
        ..Default::default()
    };
    let declare = channel.queue_declare(name.into(), options, arguments);
    answered(declare, &format!("queue {name:?}"))
        .await
        .map(drop)
}

async fn answered<T>(
    declare: impl Future<Output = lapin::Result<T>>,
    what: &str,
) -> Result<T, QueueError> {
    match within(ANSWER, "declare an exchange or a queue", declare).await {
        Err(QueueError::Broker { source, .. }) => Err(refusal::explained(source, what)),
        answer => answer,
    }
}

fn quorum<const N: usize>(more: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    for (name, value) in more {
        arguments.insert(name.into(), value);
    }
    arguments
}

/// What expires, or comes back too often, moves to queue `to`. By default RabbitMQ lets go of such a
/// message before the target has it; `at-least-once` keeps it until then, and works only where an
/// overflow refuses publishers instead of dropping messages.
fn dead_lettering(mut arguments: FieldTable, to: &str) -> FieldTable {
    for (name, value) in [
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-routing-key", to),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_queue_is_named_after_its_delay() {
        let names = Names {
            work: "callvault".into(),
            dead: "callvault.dead".into(),
        };
        for (seconds, name) in [(10, "10s"), (60, "1m"), (90, "1m30s"), (21_600, "6h")] {
            assert_eq!(
                names.retry(Duration::from_secs(seconds)),
                format!("callvault.retry.{name}")
            );
        }
    }
}
