//! Looking through the dead-letter queue, and taking messages out of it.
//!
//! AMQP has no way to look: a message is taken, and what is not acknowledged goes back. To see the last
//! message of a queue all those before it must be held. RabbitMQ puts what was held back into its place
//! when the channel that held it closes, and then alone: a negative acknowledgement, of many messages or
//! of one, and `basic.get` shuffle them. So a [`Walk`] takes messages with consumers, acknowledges what was
//! decided about, and returns the rest by closing its channel. A desk that is killed does the same.

mod describe;
mod letter;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Acker, BasicProperties, Channel, Connection, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::{FieldTable, ShortString},
};
use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use self::letter::Letter;
use super::{
    QueueError, message, publisher::Publisher, refusal, session::connect, topology::Names, within,
};
use crate::config;

/// For an answer of the broker's.
const ANSWER: Duration = Duration::from_secs(30);
/// So long without a message makes a desk ask whether there are any.
const QUIET: Duration = Duration::from_secs(2);
/// Between two looks whether messages are back.
const BACK: Duration = Duration::from_millis(20);

/// A broker reads what it is about to send into its memory, as much as a consumer may have. So messages
/// are taken in pages, each by a consumer of its own that may have no more: the first one small, the
/// others of about [`PAGE_BYTES`] by the bodies seen so far.
const FIRST_PAGE: u32 = 4;
const PAGE_BYTES: usize = 32 << 20;
/// With more consumers than 32 on a queue RabbitMQ returns what they held in no order, consumer by
/// consumer; others may be there too. Larger pages rather than more.
const MOST_PAGES: u32 = 24;
/// RabbitMQ sends so many acknowledgements of a channel on to the queue's log without an answer, twice over,
/// and keeps the others in the channel: closed meanwhile, it forgets them. So the desk waits for the log
/// after so many.
const UNANSWERED: u32 = 16;
/// The number of the consumer that is there for nothing else, after all pages.
const CATCHING_UP: u32 = 99_999;

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

/// What to do with a message that a [`Walk`] has come to.
#[derive(Debug)]
pub enum Look<T> {
    /// Keep something of it: the message itself to decide about it later.
    Keep(T),
    /// Go on.
    Pass,
    /// Go no further. This message is not kept.
    Stop,
}

/// Messages taken from the queue, all of them held until they are put back.
#[derive(Debug)]
pub struct Walk<T> {
    /// What was kept, in the queue's order.
    pub kept: Vec<T>,
    /// How many messages were seen.
    pub seen: u32,
    /// Whether there were fewer than the broker had counted: others hold them, or took them away.
    pub came_short: bool,
    channel: Option<Channel>,
    queue: ShortString,
    acknowledged: AtomicU32,
}

/// A dead message, held.
#[derive(Debug)]
pub struct Message {
    properties: BasicProperties,
    body: Vec<u8>,
    hold: Hold,
}

/// The hold on a message, without its content.
#[derive(Debug)]
pub struct Hold(Acker);

impl Desk {
    /// Connects.
    pub async fn open(queue: &config::Queue) -> Result<Self, QueueError> {
        Ok(Self {
            connection: connect(&queue.url, "desk").await?,
            names: Names::of(queue),
            publisher: Publisher::new(queue.url.clone()),
        })
    }

    /// How many dead letters there are.
    pub async fn count(&self) -> Result<Count, QueueError> {
        let channel = self.channel().await?;
        self.count_on(&channel).await
    }

    /// Looks at the first `most` messages, one after the other, and holds them. `stop` ends it early.
    pub async fn walk<T>(
        &self,
        most: u32,
        stop: &CancellationToken,
        mut look: impl FnMut(&Letter, Message) -> Look<T>,
    ) -> Result<Walk<T>, QueueError> {
        let mut walk = Walk {
            kept: Vec::new(),
            seen: 0,
            came_short: false,
            channel: None,
            queue: self.names.dead.as_str().into(),
            acknowledged: AtomicU32::new(0),
        };
        if most == 0 {
            return Ok(walk);
        }
        let channel = walk.channel.insert(self.channel().await?);
        let (mut bytes, mut pages, mut goes_on) = (0_usize, 0, true);
        while goes_on && walk.seen < most {
            let page = page(most - walk.seen, walk.seen, bytes, pages);
            let mut consumer = consume(channel, &walk.queue, page, pages).await?;
            pages += 1;
            for _ in 0..page {
                let delivery = tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    next = self.next(channel, &mut consumer) => {
                        let next = next?;
                        walk.came_short = next.is_none();
                        next
                    }
                };
                let Some(delivery) = delivery else {
                    goes_on = false;
                    break;
                };
                walk.seen += 1;
                bytes = bytes.saturating_add(delivery.data.len());
                let letter = Letter::of(&delivery.properties, &delivery.data);
                match look(&letter, delivery.into()) {
                    Look::Keep(kept) => walk.kept.push(kept),
                    Look::Pass => {}
                    Look::Stop => {
                        goes_on = false;
                        break;
                    }
                }
            }
            // Before anything is acknowledged: the broker would send it a message for each.
            cancel(channel, &consumer).await?;
        }
        Ok(walk)
    }

    /// Publishes a message to the work queue, its attempts to be counted anew, and waits until it is safe
    /// there; then lets go of the dead one. Between the two there are two, never none.
    ///
    /// `Ok(false)` where the dead one may come again although it was replayed.
    pub async fn replay<T>(&self, walk: &Walk<T>, message: &Message) -> Result<bool, QueueError> {
        let (queue, back) = (&self.names.work, message::replayed(&message.properties));
        let turn = self.publisher.turn(queue).await;
        // The broker takes messages back when a connection breaks, or after half an hour.
        if !message.hold.0.usable() {
            return Err(QueueError::Lost);
        }
        turn.publish("", queue, back, &message.body).await?;
        Ok(walk.let_go(&message.hold).await.is_ok())
    }

    /// Puts back what was not let go of, each message in its place, and waits until it is there.
    pub async fn put_back<T>(&self, walk: Walk<T>) -> Result<(), QueueError> {
        let acknowledged = walk.acknowledged.load(Ordering::Relaxed);
        if acknowledged > 0 {
            walk.catch_up().await?;
        }
        let Some(channel) = walk.channel else {
            return Ok(());
        };
        let close = channel.close(200, "seen".into());
        within(ANSWER, "take the messages back", close).await?;
        // The broker answers first and puts back then: the next command would find none. Others who are
        // at the queue may have taken them already, so it is not waited for long.
        let (channel, held) = (self.channel().await?, walk.seen - acknowledged);
        let since = Instant::now();
        while self.count_on(&channel).await?.ready < held && since.elapsed() < QUIET {
            sleep(BACK).await;
        }
        Ok(())
    }

    async fn channel(&self) -> Result<Channel, QueueError> {
        within(ANSWER, "open a channel", self.connection.create_channel()).await
    }

    async fn count_on(&self, channel: &Channel) -> Result<Count, QueueError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let dead = self.names.dead.as_str();
        let find = channel.queue_declare(dead.into(), passive, FieldTable::default());
        match within(ANSWER, "count the dead letters", find).await {
            Ok(queue) => Ok(Count {
                ready: queue.message_count(),
                consumers: queue.consumer_count(),
            }),
            Err(QueueError::Broker { source, .. }) => {
                Err(refusal::explained(source, &format!("queue {dead:?}")))
            }
            Err(error) => Err(error),
        }
    }

    /// The next message, or none where there are no more: somebody else has them.
    async fn next(
        &self,
        channel: &Channel,
        consumer: &mut Consumer,
    ) -> Result<Option<Delivery>, QueueError> {
        let (since, mut nothing_before) = (Instant::now(), false);
        loop {
            match timeout(QUIET, consumer.next()).await {
                Ok(Some(delivery)) => {
                    return delivery
                        .map(Some)
                        .map_err(QueueError::broker("go on through the dead letters"));
                }
                Ok(None) => return Err(QueueError::Cancelled),
                Err(_) => {}
            }
            let nothing = self.count_on(channel).await?.ready == 0;
            // The last ones may be on their way to this desk.
            if nothing && nothing_before {
                return Ok(None);
            }
            nothing_before = nothing;
            if since.elapsed() > ANSWER {
                return Err(QueueError::Silent {
                    what: "hand over the next dead letter",
                    within: ANSWER,
                });
            }
        }
    }
}

async fn consume(
    channel: &Channel,
    queue: &ShortString,
    page: u16,
    number: u32,
) -> Result<Consumer, QueueError> {
    let qos = channel.basic_qos(page, BasicQosOptions::default());
    within(ANSWER, "limit the prefetch", qos).await?;
    let consume = channel.basic_consume(
        queue.clone(),
        // RabbitMQ returns what consumers held in the order of their tags.
        format!("callvault-desk-{number:05}").into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    within(ANSWER, "start consuming", consume).await
}

async fn cancel(channel: &Channel, consumer: &Consumer) -> Result<(), QueueError> {
    let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
    within(ANSWER, "end a consumer", cancel).await
}

/// How many messages the next page has, of `left`.
fn page(left: u32, seen: u32, bytes: usize, pages: u32) -> u16 {
    let page = if seen == 0 {
        FIRST_PAGE
    } else {
        let body = (bytes / usize::try_from(seen).unwrap_or(usize::MAX)).max(1);
        let fitting = u32::try_from(PAGE_BYTES / body).unwrap_or(u32::MAX);
        let pages_left = MOST_PAGES.saturating_sub(pages).max(1);
        fitting.max(left.div_ceil(pages_left)).max(1)
    };
    u16::try_from(page.min(left)).unwrap_or(u16::MAX)
}

impl<T> Walk<T> {
    /// With something else made of what was kept.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Walk<U> {
        Walk {
            kept: self.kept.into_iter().map(change).collect(),
            seen: self.seen,
            came_short: self.came_short,
            channel: self.channel,
            queue: self.queue,
            acknowledged: self.acknowledged,
        }
    }

    /// Has the broker delete a message.
    pub async fn let_go(&self, hold: &Hold) -> Result<(), QueueError> {
        let ack = hold.0.ack(BasicAckOptions::default()).await;
        if !ack.map_err(QueueError::broker("delete a dead letter"))? {
            return Err(QueueError::Lost);
        }
        if self.acknowledged.fetch_add(1, Ordering::Relaxed) % UNANSWERED == UNANSWERED - 1 {
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Waits until the queue's log has what was acknowledged. Nothing answers an acknowledgement; a consumer
    /// comes and goes by way of the same log, and that is answered.
    async fn catch_up(&self) -> Result<(), QueueError> {
        let Some(channel) = &self.channel else {
            return Ok(());
        };
        let consumer = consume(channel, &self.queue, 1, CATCHING_UP).await?;
        cancel(channel, &consumer).await
    }
}

impl Message {
    /// Its body, as it came.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Its properties, but for the headers.
    pub fn properties(&self) -> Map<String, Value> {
        describe::properties(&self.properties)
    }

    /// Its headers.
    pub fn headers(&self) -> Value {
        describe::headers(&self.properties)
    }

    /// About how much memory it takes, in bytes.
    pub fn weight(&self) -> usize {
        self.body.capacity() + describe::weight(&self.properties)
    }

    /// Forgets the content.
    pub fn into_hold(self) -> Hold {
        self.hold
    }
}

impl From<Delivery> for Message {
    fn from(mut delivery: Delivery) -> Self {
        // It grew frame by frame.
        delivery.data.shrink_to_fit();
        Self {
            properties: delivery.properties,
            body: delivery.data,
            hold: Hold(delivery.acker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_where_bodies_are_large_and_few_in_any_case() {
        for (messages, body) in [
            (1, 1),
            (100, 16 << 20),
            (10_000, 300),
            (10_000, 16 << 20),
            (1_000_000, 0),
        ] {
            let (mut seen, mut pages) = (0, 0);
            while seen < messages {
                let bytes = body * usize::try_from(seen).unwrap();
                seen += u32::from(page(messages - seen, seen, bytes, pages));
                pages += 1;
            }
            assert_eq!(seen, messages);
            assert!(pages <= MOST_PAGES, "{messages} of {body}: {pages} pages");
        }
        assert_eq!(page(10_000, 0, 0, 0), 4);
        assert_eq!(page(9_996, 4, 4 * 300, 1), 9_996);
        assert_eq!(page(40, 4, 64 << 20, 1), 2);
    }
}
