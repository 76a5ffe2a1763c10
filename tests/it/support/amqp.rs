//! The ingress and the operator at the broker: publishes events, looks into queues.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};

use super::wait::eventually;

/// A connection to a broker.
pub(crate) struct Amqp {
    connection: Connection,
    /// With publisher confirms.
    channel: Channel,
}

/// A message as it lay in a queue.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) redelivered: bool,
}

impl Message {
    pub(crate) fn message_id(&self) -> Option<&str> {
        self.properties
            .message_id()
            .as_ref()
            .map(lapin::types::ShortString::as_str)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name)
    }

    /// A header that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::ShortString(text) => Some(text.to_string()),
            _ => None,
        }
    }

    /// A header that is an integer, of whichever width.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        match *self.header(name)? {
            AMQPValue::ShortShortInt(n) => Some(n.into()),
            AMQPValue::ShortShortUInt(n) => Some(n.into()),
            AMQPValue::ShortInt(n) => Some(n.into()),
            AMQPValue::ShortUInt(n) => Some(n.into()),
            AMQPValue::LongInt(n) => Some(n.into()),
            AMQPValue::LongUInt(n) => Some(n.into()),
            AMQPValue::LongLongInt(n) => Some(n),
            _ => None,
        }
    }
}

impl Amqp {
    pub(crate) async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap()
    }

    pub(crate) async fn try_connect(url: &str) -> lapin::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            connection,
            channel,
        })
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(crate) async fn declare_quorum_queue(&self, queue: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        self.channel
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
            .await
            .unwrap();
    }

    /// Publishes as the webhook ingress does: a persistent JSON message.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        message_id: Option<&str>,
        body: &[u8],
    ) {
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        if let Some(id) = message_id {
            properties = properties.with_message_id(id.into());
        }
        self.publish_with(exchange, routing_key, properties, body)
            .await;
    }

    /// Returns once the broker has confirmed the message; panics when no queue took it.
    pub(crate) async fn publish_with(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let confirm = self.channel.basic_publish(
            exchange.into(),
            routing_key.into(),
            options,
            body,
            properties,
        );
        let confirmation = confirm.await.unwrap().await.unwrap();
        assert!(confirmation.is_ack(), "the broker refused the message");
        assert!(
            confirmation.take_message().is_none(),
            "no queue for {routing_key} at exchange {exchange:?}"
        );
    }

    /// Takes every message that is ready, and acknowledges it.
    pub(crate) async fn take_all(&self, queue: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.take(queue).await {
            messages.push(message);
        }
        messages
    }

    /// Takes one message, if one is ready.
    pub(crate) async fn take(&self, queue: &str) -> Option<Message> {
        let got = self
            .channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await
            .unwrap()?
            .delivery;
        assert!(
            got.ack(BasicAckOptions::default()).await.unwrap(),
            "the message was not acknowledged"
        );
        Some(Message {
            exchange: got.exchange.to_string(),
            routing_key: got.routing_key.to_string(),
            redelivered: got.redelivered,
            body: got.data,
            properties: got.properties,
        })
    }

    /// The number of messages ready, or none when there is no such queue.
    pub(crate) async fn count(&self, queue: &str) -> Option<u32> {
        // On a channel of its own, since the broker closes it when the queue is missing.
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .ok()?;
        Some(queue.message_count())
    }

    /// Waits until `count` messages are ready.
    pub(crate) async fn wait_count(&self, queue: &str, count: u32) {
        eventually(
            Duration::from_secs(15),
            &format!("{count} messages in {queue}"),
            async || (self.count(queue).await == Some(count)).then_some(()),
        )
        .await;
    }

    /// Waits for a message and takes it.
    pub(crate) async fn wait_take(&self, queue: &str) -> Message {
        let what = format!("a message in {queue}");
        eventually(Duration::from_secs(15), &what, async || {
            // A queue that is not there yet would cost the channel.
            self.count(queue).await?;
            self.take(queue).await
        })
        .await
    }

    pub(crate) async fn purge(&self, queue: &str) {
        self.channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, queue: &str) {
        self.channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .unwrap();
    }
}
