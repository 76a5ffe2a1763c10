//! Looking through the dead-letter queue, and taking messages out of it.
//!
//! AMQP has no way to look: a message is taken, and what is not acknowledged goes back. To see the last
//! message of a queue all those before it must be held. RabbitMQ puts what was held back into its place
//! when the channel that held it closes, and then alone: before 4.3 negative acknowledgements, of many
//! messages at once or one by one, shuffle them, and so does `basic.get`. So a [`Walk`] takes messages with consumers, acknowledges what was
//! decided about, and returns the rest by closing its channel. A desk that is killed does the same.

mod describe;
mod held;
mod letter;
mod walk;

use std::time::Duration;

use lapin::{
    Channel, Connection,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use self::{
    held::{Hold, Message},
    letter::{Letter, SHORTEST_PREFIX},
    walk::{Look, Walk},
};
use super::{
    QueueError,
    publisher::Publisher,
    refusal,
    session::{Role, connect},
    topology::Names,
    within,
};
use crate::config;

/// For an answer of the broker's.
const ANSWER: Duration = Duration::from_secs(30);
/// How long messages that were put back are waited for, and how often it is looked for them.
const BACK_WITHIN: Duration = Duration::from_secs(2);
const BACK: Duration = Duration::from_millis(20);

/// A connection to the queues of dead letters and of work. It declares nothing.
#[derive(Debug)]
pub struct Desk {
    connection: Connection,
    names: Names,
    publisher: Publisher,
}

/// What the broker says of the dead-letter queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    /// Messages that nobody holds.
    pub ready: u32,
    /// Consumers on it. What they hold cannot be seen.
    pub consumers: u32,
}

impl Desk {
    /// Connects.
    pub async fn open(queue: &config::Queue) -> Result<Self, QueueError> {
        Ok(Self {
            connection: connect(&queue.url, Role::Desk).await?,
            names: Names::of(queue),
            publisher: Publisher::new(queue.url.clone()),
        })
    }

    /// The dead-letter queue's name.
    pub fn queue(&self) -> &str {
        &self.names.dead
    }

    /// How many dead letters there are.
    pub async fn count(&self) -> Result<Count, QueueError> {
        let channel = self.channel().await?;
        count_on(&channel, &self.dead()).await
    }

    /// Looks at the first `most` messages, one after the other, and holds them. `stop` ends it early.
    pub async fn walk<T>(
        &self,
        most: u32,
        stop: &CancellationToken,
        look: impl FnMut(&Letter, Message) -> Look<T>,
    ) -> Result<Walk<T>, QueueError> {
        let mut walk = Walk::new(self.dead());
        if most > 0 {
            walk.go(self.channel().await?, most, stop, look).await?;
        }
        Ok(walk)
    }

    /// Publishes a message to the work queue, its attempts to be counted anew, and waits until it is safe
    /// there; then lets go of the dead one. Between the two there are two, never none.
    ///
    /// `Ok(false)` where the dead one may come again although it was replayed.
    pub async fn replay<T>(&self, walk: &Walk<T>, message: &Message) -> Result<bool, QueueError> {
        let (queue, back) = (&self.names.work, message.to_be_replayed());
        let turn = self.publisher.turn(queue).await;
        // The broker takes messages back when a connection breaks, or after half an hour.
        if !message.is_held() {
            return Err(QueueError::Lost);
        }
        // One that is given up stays dead; it may have gone to work all the same.
        turn.publish("", queue, back, message.body(), |_, _| false)
            .await?;
        Ok(walk.let_go(message.hold()).await.is_ok())
    }

    /// Puts back what was not let go of, each message in its place, and waits until it is there.
    pub async fn put_back<T>(&self, walk: Walk<T>) -> Result<(), QueueError> {
        let acknowledged = walk.acknowledged();
        if acknowledged > 0 {
            walk.catch_up().await?;
        }
        let held = walk.seen - acknowledged;
        let Some(channel) = walk.into_channel() else {
            return Ok(());
        };
        let close = channel.close(200, "seen".into());
        within(ANSWER, "take the messages back", close).await?;
        // The broker answers first and puts back then: the next command would find none. Others who are
        // at the queue may have taken them already, so it is not waited for long.
        let channel = self.channel().await?;
        let since = Instant::now();
        while count_on(&channel, &self.dead()).await?.ready < held && since.elapsed() < BACK_WITHIN
        {
            sleep(BACK).await;
        }
        Ok(())
    }

    fn dead(&self) -> ShortString {
        self.names.dead.as_str().into()
    }

    async fn channel(&self) -> Result<Channel, QueueError> {
        within(ANSWER, "open a channel", self.connection.create_channel()).await
    }
}

async fn count_on(channel: &Channel, queue: &ShortString) -> Result<Count, QueueError> {
    let passive = QueueDeclareOptions {
        passive: true,
        ..Default::default()
    };
    let find = channel.queue_declare(queue.clone(), passive, FieldTable::default());
    match within(ANSWER, "count the dead letters", find).await {
        Ok(queue) => Ok(Count {
            ready: queue.message_count(),
            consumers: queue.consumer_count(),
        }),
        Err(QueueError::Broker { source, .. }) => Err(refusal::explained(
            source,
            &format!("queue {:?}", queue.as_str()),
        )),
        Err(error) => Err(error),
    }
}
