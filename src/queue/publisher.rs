//! Publishing with confirms: a message counts as published once the broker says that it has it.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use secrecy::SecretString;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{
    QueueError,
    session::{Role, connect},
    within,
};

/// For a confirm; a quorum queue answers once a majority has the message on disk.
pub const CONFIRM: Duration = Duration::from_secs(30);

/// Publishes messages, on a connection of its own: a broker under memory or disk alarm blocks the
/// connections that publish, and must not block acknowledgements with them.
///
/// Messages go one at a time in each lane, so that a returned message is known to be the one that was
/// published last. A queue without a leader holds up its own lane alone.
#[derive(Debug)]
pub struct Publisher {
    url: SecretString,
    connection: AsyncMutex<Option<Arc<Connection>>>,
    lanes: Mutex<HashMap<String, Lane>>,
}

/// What messages to one place go through; empty until the first, and after a failure.
type Lane = Arc<AsyncMutex<Option<Open>>>;

#[derive(Debug)]
struct Open {
    connection: Arc<Connection>,
    channel: Channel,
}

impl Publisher {
    /// Connects when first used, and anew after a failure.
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            connection: AsyncMutex::default(),
            lanes: Mutex::default(),
        }
    }

    /// Waits until nobody else publishes in the lane of that name.
    pub async fn turn(&self, lane: &str) -> Turn<'_> {
        let lane = self.lane(lane);
        Turn {
            publisher: self,
            open: lane.lock_owned().await,
        }
    }

    fn lane(&self, name: &str) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(lanes.entry(name.to_owned()).or_default())
    }

    async fn open(&self) -> Result<Open, QueueError> {
        let connection = self.connection().await?;
        let channel = within(CONFIRM, "open a channel", connection.create_channel()).await?;
        let confirm = channel.confirm_select(ConfirmSelectOptions::default());
        within(CONFIRM, "switch publisher confirms on", confirm).await?;
        Ok(Open {
            connection,
            channel,
        })
    }

    /// The connection of all lanes, opened anew where it broke.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, QueueError> {
        let mut connection = self.connection.lock().await;
        if let Some(open) = connection.as_ref().filter(|open| open.status().connected()) {
            return Ok(Arc::clone(open));
        }
        let opened = Arc::new(connect(&self.url, Role::Publisher).await?);
        *connection = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// The right to publish one message.
#[derive(Debug)]
pub struct Turn<'a> {
    publisher: &'a Publisher,
    open: OwnedMutexGuard<Option<Open>>,
}

impl Turn<'_> {
    /// Publishes a message that must reach a queue, and waits until it is safe there.
    ///
    /// Each time that the broker has not answered for [`CONFIRM`], `go_on` says whether to wait on; it is told
    /// whether the broker blocks publishers, under a memory or disk alarm. The message may be with the broker
    /// all the same, so whoever publishes it again makes a second one.
    pub async fn publish(
        mut self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
        go_on: impl FnMut(&QueueError, bool) -> bool,
    ) -> Result<(), QueueError> {
        // Taken out while in use: after an error, or when this future is dropped with a confirm
        // outstanding, the next message starts on a channel whose confirms are its own.
        let using = match self.open.take() {
            Some(open) if open.channel.status().connected() => open,
            _ => self.publisher.open().await?,
        };
        send(&using, exchange, routing_key, properties, body, go_on).await?;
        *self.open = Some(using);
        Ok(())
    }
}

/// Publishes an empty message to a queue that does not exist, which comes back as [`QueueError::Unroutable`]; and once
/// more, for a broker under alarm blocks a connection after its first message.
pub(super) async fn to_nobody(
    connection: &Connection,
    queue: &str,
    patience: Duration,
) -> Result<(), QueueError> {
    let channel = within(CONFIRM, "open a channel", connection.create_channel()).await?;
    let confirm = channel.confirm_select(ConfirmSelectOptions::default());
    within(CONFIRM, "switch publisher confirms on", confirm).await?;
    let publish = async || {
        let publish = send_on(&channel, "", queue, BasicProperties::default(), &[]);
        within(patience, "confirm a message", publish).await
    };
    let _first = publish().await?;
    settled(&publish().await?, "", queue)
}

async fn send_on(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    properties: BasicProperties,
    body: &[u8],
) -> lapin::Result<Confirmation> {
    // Mandatory: without it, what no queue takes is confirmed and gone.
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    let (exchange, routing_key) = (exchange.into(), routing_key.into());
    let publish = channel.basic_publish(exchange, routing_key, options, body, properties);
    publish.await?.await
}

fn settled(
    confirmation: &Confirmation,
    exchange: &str,
    routing_key: &str,
) -> Result<(), QueueError> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => {
            let (exchange, routing_key) = (exchange.into(), routing_key.into());
            Err(QueueError::Unroutable {
                exchange,
                routing_key,
            })
        }
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(QueueError::Nacked),
    }
}

async fn send(
    using: &Open,
    exchange: &str,
    routing_key: &str,
    properties: BasicProperties,
    body: &[u8],
    mut go_on: impl FnMut(&QueueError, bool) -> bool,
) -> Result<(), QueueError> {
    let publish = send_on(&using.channel, exchange, routing_key, properties, body);
    let mut publish = pin!(publish);
    let confirmation = loop {
        match within(CONFIRM, "confirm a message", publish.as_mut()).await {
            // A broker under memory or disk alarm answers when the alarm is over, and a queue when a
            // majority of its members is back. A dead connection is ended by its heartbeats.
            Err(silent @ QueueError::Silent { .. })
                if using.channel.status().connected()
                    && go_on(&silent, using.connection.status().blocked()) => {}
            confirmation => break confirmation?,
        }
    };
    settled(&confirmation, exchange, routing_key)
}
