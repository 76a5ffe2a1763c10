//! Going through the dead letters, one after the other.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{ANSWER, Hold, Letter, Message, count_on};
use crate::queue::{QueueError, within};

/// So long without a message makes a desk ask whether there are any.
const QUIET: Duration = Duration::from_secs(2);
/// A broker reads what it is about to send into its memory, as much as a consumer may have. So messages
/// are taken in pages, each by a consumer of its own that may have no more: the first one small, the
/// others of about [`PAGE_BYTES`] by the bodies seen so far.
const FIRST_PAGE: u32 = 4;
const PAGE_BYTES: usize = 32 << 20;
/// With more consumers than 32 on a queue RabbitMQ returns what they held in no order, consumer by
/// consumer; others may be there too. Larger pages rather than more.
const MOST_PAGES: u32 = 24;
/// But never larger ones than this, in bytes by the bodies seen so far: rather no order than no memory.
const LARGEST_PAGE: usize = 128 << 20;
/// RabbitMQ sends so many acknowledgements of a channel on to the queue's log without an answer, twice over,
/// and keeps the others in the channel: closed meanwhile, it forgets them. So the desk waits for the log
/// after so many.
const UNANSWERED: u32 = 16;
/// The number of the consumer that is there for nothing else, after all pages.
const CATCHING_UP: u32 = 99_999;

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

impl<T> Walk<T> {
    pub(super) fn new(queue: ShortString) -> Self {
        Self {
            kept: Vec::new(),
            seen: 0,
            came_short: false,
            channel: None,
            queue,
            acknowledged: AtomicU32::new(0),
        }
    }

    pub(super) async fn go(
        &mut self,
        channel: Channel,
        most: u32,
        stop: &CancellationToken,
        mut look: impl FnMut(&Letter, Message) -> Look<T>,
    ) -> Result<(), QueueError> {
        let channel = self.channel.insert(channel);
        let (mut bytes, mut pages, mut goes_on) = (0_usize, 0, true);
        while goes_on && self.seen < most {
            let page = page(most - self.seen, self.seen, bytes, pages);
            let mut consumer = consume(channel, &self.queue, page, pages).await?;
            pages += 1;
            for _ in 0..page {
                let delivery = tokio::select! {
                    biased;
                    () = stop.cancelled() => None,
                    next = next(channel, &self.queue, &mut consumer) => {
                        let next = next?;
                        self.came_short = next.is_none();
                        next
                    }
                };
                let Some(delivery) = delivery else {
                    goes_on = false;
                    break;
                };
                self.seen += 1;
                bytes = bytes.saturating_add(delivery.data.len());
                let message = Message::from(delivery);
                match look(&message.letter(), message) {
                    Look::Keep(kept) => self.kept.push(kept),
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
        Ok(())
    }

    pub(super) fn acknowledged(&self) -> u32 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub(super) fn into_channel(self) -> Option<Channel> {
        self.channel
    }

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
    pub(super) async fn catch_up(&self) -> Result<(), QueueError> {
        let Some(channel) = &self.channel else {
            return Ok(());
        };
        let consumer = consume(channel, &self.queue, 1, CATCHING_UP).await?;
        cancel(channel, &consumer).await
    }
}

/// The next message, or none where there are no more: somebody else has them.
async fn next(
    channel: &Channel,
    queue: &ShortString,
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
        let nothing = count_on(channel, queue).await?.ready == 0;
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
        let most = u32::try_from(LARGEST_PAGE / body).unwrap_or(u32::MAX);
        fitting.max(left.div_ceil(pages_left).min(most)).max(1)
    };
    u16::try_from(page.min(left)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_small_where_bodies_are_large_and_few_where_memory_allows() {
        for (messages, body) in [
            (1, 1),
            (100, 16 << 20),
            (10_000, 300),
            (10_000, 24 << 10),
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
        assert_eq!(page(9_996, 4, 64 << 20, 1), 8, "of 16 MiB each");
        assert_eq!(page(10_000, 0, 0, 0), 4);
        assert_eq!(page(9_996, 4, 4 * 300, 1), 9_996);
        assert_eq!(page(40, 4, 64 << 20, 1), 2);
    }
}
