//! `callvault publish`: what the webhook ingress does.

use std::path::Path;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Exit, Failure,
    events::{Files, Found},
    say, setup,
};
use crate::{
    event::{Id, text_of},
    queue::{QueueError, message, publisher::Publisher, topology},
};

/// Publishes events with publisher confirms, as the webhook ingress does.
///
/// Each event goes to the exchange `queue.exchange`, with its name as routing key. Exits with 1 if the
/// broker has no queue for one of them.
#[derive(Debug, clap::Args)]
pub(super) struct Publish {
    #[command(flatten)]
    files: Files,
    /// Report as JSON lines, one per event.
    #[arg(long)]
    json: bool,
}

/// What an ingress looks at in a body that it does not otherwise judge.
#[derive(serde::Deserialize)]
struct Envelope {
    event: Option<Box<RawValue>>,
    request_id: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Line<'a> {
    place: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Publish {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let config = setup::settings(config)?;
        let events = self.files.open()?;
        if config.queue.declare {
            declare(&config.queue).await.map_err(Failure::unreachable)?;
        }
        let publisher = Publisher::new(config.queue.url.clone());
        let (mut taken, mut refused) = (0_u64, 0_u64);
        for found in events {
            let found = found.map_err(Failure::usage)?;
            let (outcome, reason) = match publish(&publisher, &config.queue.exchange, &found).await
            {
                Ok(()) => ("published", None),
                Err(Refusal::Event(reason)) => ("invalid", Some(reason)),
                Err(Refusal::Broker(error @ QueueError::Unroutable { .. })) => {
                    ("unroutable", Some(error.to_string()))
                }
                Err(Refusal::Broker(error)) => {
                    let done = format!("{taken} events were published before {}", found.place);
                    return Err(Failure::unreachable(
                        anyhow::Error::new(error).context(done),
                    ));
                }
            };
            if reason.is_some() {
                refused += 1;
            } else {
                taken += 1;
            }
            let place = &found.place;
            match &reason {
                _ if self.json => {
                    if let Ok(line) = serde_json::to_string(&Line {
                        place,
                        outcome,
                        reason,
                    }) {
                        say(&line);
                    }
                }
                Some(reason) => say(&format!("{place}: {outcome}: {reason}")),
                None => {}
            }
        }
        if !self.json {
            let rest = if refused > 0 {
                format!(", {refused} not")
            } else {
                String::new()
            };
            say(&format!(
                "{taken} published to exchange {:?}{rest}",
                config.queue.exchange
            ));
        }
        Ok(if refused > 0 {
            Exit::Problems
        } else {
            Exit::Done
        })
    }
}

/// So that a first event does not come before the queue that is to take it.
async fn declare(queue: &crate::config::Queue) -> Result<(), QueueError> {
    let connection = crate::queue::connect(&queue.url, "publisher").await?;
    topology::ensure_on(&connection, queue).await
}

enum Refusal {
    Event(String),
    Broker(QueueError),
}

async fn publish(publisher: &Publisher, exchange: &str, found: &Found) -> Result<(), Refusal> {
    let envelope: Envelope = serde_json::from_slice(&found.body).map_err(|error| {
        Refusal::Event(format!(
            "not a JSON object (at line {}, column {})",
            error.line(),
            error.column()
        ))
    })?;
    // An AMQP routing key holds at most 255 bytes.
    let name = envelope
        .event
        .as_deref()
        .and_then(text_of)
        .filter(|name| name.len() <= 255);
    let name = name
        .ok_or_else(|| Refusal::Event("it has no event name, which is its routing key".into()))?;
    let id = envelope.request_id.as_deref().and_then(text_of);
    let id = id.as_deref().and_then(Id::new);
    let properties = message::fresh(id.as_ref().map(Id::as_str));
    publisher
        .publish(exchange, &name, properties, &found.body)
        .await
        .map_err(Refusal::Broker)
}
