//! What there is at a broker, and what callvault's user may do there: found out by asking for what cannot be
//! done, so that nothing is done.
//!
//! AMQP has no list of rights. But RabbitMQ looks at a right before it looks at what is asked for: a queue with a
//! time to live of -1 is refused for that (406) to who may configure it, and as such (403) to who may not; a consumer
//! whose priority is a text, likewise; a binding that is not there may be removed by who may make it; and a message
//! to a queue that does not exist comes back. Each try has a channel of its own, for a refusal closes it.

use std::time::Duration;

use lapin::{
    Channel, Connection, ErrorKind,
    options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};
use uuid::Uuid;

use super::{
    QueueError, publisher, refusal, session,
    topology::{self, Names},
    within,
};
use crate::config;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// For the answer to a message: a broker that blocks publishers gives none.
const CONFIRM: Duration = Duration::from_secs(5);

/// A connection to look around with.
#[derive(Debug)]
pub struct Examiner {
    connection: Connection,
}

/// What a queue that is there tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Messages that nobody holds.
    pub ready: u32,
    /// Who consumes from it.
    pub consumers: u32,
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There<T> {
    /// It is.
    Yes(T),
    /// It is not.
    No,
    /// RabbitMQ 4.3 shows a queue or an exchange only to who has some right to it.
    Unseen,
}

/// Something that a user may or may not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    /// To declare a queue, and look at its arguments.
    ConfigureQueue(String),
    /// To declare the exchange.
    ConfigureExchange(String),
    /// To consume from a queue.
    Read(String),
    /// To bind a queue to the exchange: to write to the one, and read from the other.
    Bind {
        /// The queue.
        queue: String,
        /// The exchange.
        exchange: String,
    },
    /// To publish to a queue by its name: to write to `amq.default`.
    Publish,
}

/// What became of a message to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publishing {
    /// It came back, as it should.
    Works,
    /// The user may not publish.
    Refused,
    /// The broker takes nothing from publishers: a memory or disk alarm.
    Blocked,
}

impl Examiner {
    /// Connects.
    pub async fn connect(queue: &config::Queue) -> Result<Self, QueueError> {
        let connection = session::connect(&queue.url, session::Role::Check).await?;
        Ok(Self { connection })
    }

    /// Seconds between heartbeats, as agreed.
    pub fn heartbeat(&self) -> u16 {
        self.connection.configuration().heartbeat()
    }

    /// The longest frame, as agreed, in bytes.
    pub fn frame_max(&self) -> u32 {
        self.connection.configuration().frame_max()
    }

    /// The virtual host.
    pub fn virtual_host(&self) -> String {
        self.connection.status().vhost().to_string()
    }

    /// The user.
    pub fn user(&self) -> String {
        self.connection.status().username()
    }

    async fn channel(&self) -> Result<Channel, QueueError> {
        within(ANSWER, "open a channel", self.connection.create_channel()).await
    }

    /// A queue, where it is there.
    pub async fn queue(&self, name: &str) -> Result<There<Queue>, QueueError> {
        let passive = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = self.channel().await?;
        let find = channel.queue_declare(name.into(), passive, FieldTable::default());
        let found = within(ANSWER, "find a queue", find).await;
        let found = there(found, &format!("queue {name:?}"))?;
        Ok(match found {
            There::Yes(queue) => There::Yes(Queue {
                ready: queue.message_count(),
                consumers: queue.consumer_count(),
            }),
            There::No => There::No,
            There::Unseen => There::Unseen,
        })
    }

    /// Whether the exchange is there.
    pub async fn exchange(&self, name: &str) -> Result<There<()>, QueueError> {
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let channel = self.channel().await?;
        let kind = lapin::ExchangeKind::Topic;
        let find = channel.exchange_declare(name.into(), kind, passive, FieldTable::default());
        let found = within(ANSWER, "find an exchange", find).await;
        there(found, &format!("exchange {name:?}"))
    }

    /// Whether callvault's user has a right, of something that need not be there.
    pub async fn may(&self, right: &Right) -> Result<bool, QueueError> {
        let channel = self.channel().await?;
        let tried = match right {
            Right::ConfigureQueue(queue) => {
                let arguments = impossible("x-message-ttl", AMQPValue::LongInt(-1));
                let options = QueueDeclareOptions::durable();
                let declare = channel.queue_declare(queue.as_str().into(), options, arguments);
                within(ANSWER, "try to declare a queue", declare)
                    .await
                    .map(drop)
            }
            Right::ConfigureExchange(exchange) => {
                let arguments = impossible("alternate-exchange", AMQPValue::LongInt(0));
                let (name, kind) = (exchange.as_str().into(), lapin::ExchangeKind::Topic);
                let options = ExchangeDeclareOptions {
                    durable: true,
                    ..Default::default()
                };
                let declare = channel.exchange_declare(name, kind, options, arguments);
                within(ANSWER, "try to declare an exchange", declare).await
            }
            Right::Read(queue) => {
                let arguments = impossible("x-priority", AMQPValue::LongString("none".into()));
                let options = BasicConsumeOptions::default();
                let consume =
                    channel.basic_consume(queue.as_str().into(), "".into(), options, arguments);
                within(ANSWER, "try to consume", consume).await.map(drop)
            }
            Right::Bind { queue, exchange } => {
                let unbind = channel.queue_unbind(
                    queue.as_str().into(),
                    exchange.as_str().into(),
                    nobody().as_str().into(),
                    FieldTable::default(),
                );
                within(ANSWER, "try a binding", unbind).await
            }
            Right::Publish => return Ok(self.publishing().await? != Publishing::Refused),
        };
        match tried {
            Ok(()) => Ok(true),
            Err(QueueError::Broker { what, source }) => match refused(&source) {
                Some(AMQPSoftError::ACCESSREFUSED) => Ok(false),
                // Refused for what was asked, or because there is no such thing.
                Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::NOTFOUND) => Ok(true),
                _ => Err(QueueError::Broker { what, source }),
            },
            Err(error) => Err(error),
        }
    }

    /// Publishes a message to a queue that does not exist.
    pub async fn publishing(&self) -> Result<Publishing, QueueError> {
        match publisher::to_nobody(&self.connection, &nobody(), CONFIRM).await {
            // Unless somebody has a queue by that name it comes back.
            Ok(()) | Err(QueueError::Unroutable { .. }) => Ok(Publishing::Works),
            Err(QueueError::Broker { source, .. })
                if refused(&source) == Some(AMQPSoftError::ACCESSREFUSED) =>
            {
                Ok(Publishing::Refused)
            }
            Err(QueueError::Silent { .. }) if self.connection.status().blocked() => {
                Ok(Publishing::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the exchange or queue of that name, which is there, is as callvault would declare it: the first difference
    /// otherwise. It takes the right to configure it.
    pub async fn compare(
        &self,
        settings: &config::Queue,
        queue: Option<&str>,
    ) -> Result<(), QueueError> {
        let channel = self.channel().await?;
        match queue {
            None => topology::exchange(&channel, settings, true).await,
            Some(name) => topology::queue(&channel, settings, name).await,
        }
    }

    /// The names of all queues that callvault uses.
    pub fn names(settings: &config::Queue) -> Vec<String> {
        Names::of(settings).all(&settings.retry_delays).collect()
    }
}

/// A name that nothing has.
fn nobody() -> String {
    format!("callvault-check-{}", Uuid::new_v4().simple())
}

/// Arguments of a durable quorum queue, or of anything else, that no broker takes.
fn impossible(name: &'static str, value: AMQPValue) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(name.into(), value);
    arguments
}

fn refused(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}

fn there<T>(found: Result<T, QueueError>, what: &str) -> Result<There<T>, QueueError> {
    match found {
        Ok(found) => Ok(There::Yes(found)),
        Err(QueueError::Broker { source, .. }) => match refusal::explained(source, what) {
            QueueError::Missing { .. } => Ok(There::No),
            QueueError::Forbidden { .. } => Ok(There::Unseen),
            error => Err(error),
        },
        Err(error) => Err(error),
    }
}
