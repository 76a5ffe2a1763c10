//! The ingress: declares a queue as callvault does, and publishes events to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callvault::{
    config,
    queue::{Role, connect, message, topology},
};
use lapin::{
    Channel, Connection,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    types::FieldTable,
};

use crate::events::Event;

/// Messages on their way at once.
const AHEAD: usize = 100;

/// A connection to a broker.
pub(crate) struct Broker {
    url: String,
    connection: Connection,
    channel: Channel,
}

/// A work queue and what belongs to it, under a name of its own.
#[derive(Debug)]
pub(crate) struct Queue(config::Queue);

impl Queue {
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn exchange(&self) -> &str {
        &self.0.exchange
    }
}

impl Broker {
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let connection = connect(&url.to_owned().into(), Role::Publisher).await?;
        let channel = connection.create_channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        Ok(Self {
            url: url.to_owned(),
            connection,
            channel,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What a worker with `name` and the default delays declares.
    pub(crate) async fn declare(&self, name: &str) -> Result<Queue> {
        let delays = [10, 60, 600, 3_600, 21_600].map(Duration::from_secs);
        let queue = config::Queue {
            url: self.url.clone().into(),
            exchange: format!("{name}-calls"),
            routing_keys: vec!["call.analyzed".to_owned()],
            name: name.to_owned(),
            prefetch: 1,
            retry_delays: delays.to_vec(),
            declare: true,
        };
        topology::ensure_on(&self.connection, &queue).await?;
        Ok(Queue(queue))
    }

    /// Returns once the broker has confirmed all of them.
    pub(crate) async fn publish(&self, queue: &Queue, events: &[Event]) -> Result<()> {
        for events in events.chunks(AHEAD) {
            let mut confirms = Vec::with_capacity(events.len());
            for event in events {
                let options = BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                };
                let properties = message::fresh(Some(&event.request_id));
                let (exchange, key) = (queue.exchange().into(), "call.analyzed".into());
                let publish =
                    self.channel
                        .basic_publish(exchange, key, options, &event.body, properties);
                confirms.push(publish.await.context("cannot publish")?);
            }
            for confirm in confirms {
                let confirm = confirm.await.context("the broker did not confirm")?;
                ensure!(
                    confirm.is_ack() && confirm.take_message().is_none(),
                    "the broker did not take an event"
                );
            }
        }
        Ok(())
    }

    /// How many consume from a queue.
    pub(crate) async fn consumers(&self, queue: &Queue) -> Result<u32> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let (name, arguments) = (queue.name().into(), FieldTable::default());
        let found = self.channel.queue_declare(name, options, arguments).await?;
        Ok(found.consumer_count())
    }

    /// Removes a queue and what belongs to it.
    pub(crate) async fn delete(&self, queue: &Queue) -> Result<()> {
        for name in topology::Names::of(&queue.0).all(&queue.0.retry_delays) {
            let options = QueueDeleteOptions::default();
            self.channel.queue_delete(name.into(), options).await?;
        }
        let options = ExchangeDeleteOptions::default();
        self.channel
            .exchange_delete(queue.exchange().into(), options)
            .await?;
        Ok(())
    }
}
