//! `callvault publish`: what the webhook ingress does.

use std::{path::Path, pin::pin};

use backon::{ExponentialBuilder, Retryable};
use futures_util::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Exit, Failure,
    events::{Files, Found},
    say, say_error, say_json, setup,
};
use crate::{
    event::{CALL_ANALYZED, text_of},
    queue::{QueueError, message, publisher::Publisher, topology},
};

/// Publishes events with publisher confirms, as the webhook ingress does.
///
/// Each event goes to the exchange `queue.exchange`, with its name as routing key. What is no event is not
/// published, and an event that no queue is bound for is reported. Exits with 1 if a body is no event, or a
/// call.analyzed reached no queue.
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

/// What became of an event that was not stopped by the broker's failure.
enum Outcome {
    Published,
    /// No queue wants it: usual for all events but the one that callvault archives.
    Unrouted(String),
    /// No queue takes the event that callvault archives.
    Unroutable(String),
    /// Not an event.
    Invalid(String),
}

impl Publish {
    pub(super) async fn execute(self, config: &Path) -> Result<Exit, Failure> {
        let queue = setup::settings(config)?.queue;
        let mut events = pin!(self.files.stream()?);
        if queue.declare {
            // A broker may break a connection over a declaration when it has much to do.
            (|| declare(&queue))
                .retry(ExponentialBuilder::default())
                .when(|error| matches!(error, QueueError::Broker { .. }))
                .await
                .map_err(Failure::unreachable)?;
        }
        let publisher = Publisher::new(queue.url.clone());
        let bar = self.files.progress();
        let (mut published, mut unrouted, mut refused) = (0_u64, 0_u64, 0_u64);
        while let Some(found) = events.next().await {
            let found = found.map_err(Failure::usage)?;
            let outcome = publish(&publisher, &queue.exchange, &found)
                .await
                .map_err(|error| {
                    let done = format!("{published} events were published before {}", found.place);
                    Failure::unreachable(anyhow::Error::new(error).context(done))
                })?;
            match outcome {
                Outcome::Published => published += 1,
                Outcome::Unrouted(_) => unrouted += 1,
                Outcome::Unroutable(_) | Outcome::Invalid(_) => refused += 1,
            }
            bar.inc(found.body.len() as u64 + 1);
            bar.suspend(|| self.report(&found, outcome));
        }
        bar.finish_and_clear();
        if !self.json {
            let mut words = vec![format!(
                "{published} published to exchange {:?}",
                queue.exchange
            )];
            for (count, what) in [
                (unrouted, "that no queue is bound for"),
                (refused, "not published"),
            ] {
                if count > 0 {
                    words.push(format!("{count} {what}"));
                }
            }
            say(&words.join(", "));
        }
        Ok(if refused > 0 {
            Exit::Problems
        } else {
            Exit::Done
        })
    }

    fn report(&self, found: &Found, outcome: Outcome) {
        let (outcome, reason) = match outcome {
            Outcome::Published => ("published", None),
            Outcome::Unrouted(reason) => ("unrouted", Some(reason)),
            Outcome::Unroutable(reason) => ("unroutable", Some(reason)),
            Outcome::Invalid(reason) => ("invalid", Some(reason)),
        };
        let place = &found.place;
        if self.json {
            say_json(&Line {
                place,
                outcome,
                reason,
            });
        } else if let Some(reason) = reason {
            say(&format!("{place}: {outcome}: {reason}"));
        }
    }
}

/// So that a first event does not come before the queue that is to take it.
async fn declare(queue: &crate::config::Queue) -> Result<(), QueueError> {
    let connection = crate::queue::connect(&queue.url, crate::queue::Role::Publisher).await?;
    topology::ensure_on(&connection, queue).await
}

async fn publish(
    publisher: &Publisher,
    exchange: &str,
    found: &Found,
) -> Result<Outcome, QueueError> {
    let envelope: Envelope = match serde_json::from_slice(&found.body) {
        Ok(envelope) => envelope,
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            return Ok(Outcome::Invalid(format!(
                "not a JSON object (at line {line}, column {column})"
            )));
        }
    };
    // A routing key and a message id hold at most 255 bytes.
    let short = |raw: &RawValue| text_of(raw).filter(|text| (1..=255).contains(&text.len()));
    let Some(name) = envelope.event.as_deref().and_then(short) else {
        return Ok(Outcome::Invalid(
            "it has no event name, which is its routing key".into(),
        ));
    };
    let id = envelope.request_id.as_deref().and_then(short);
    let properties = message::fresh(id.as_deref());
    let turn = publisher.turn(exchange).await;
    let published = turn.publish(exchange, &name, properties, &found.body, |_, blocked| {
        if blocked {
            say_error("callvault: the broker blocks publishers (memory or disk alarm); waiting");
        }
        blocked
    });
    match published.await {
        Ok(()) => Ok(Outcome::Published),
        Err(error @ QueueError::Unroutable { .. }) => {
            let outcome = if name == CALL_ANALYZED {
                Outcome::Unroutable
            } else {
                Outcome::Unrouted
            };
            Ok(outcome(error.to_string()))
        }
        Err(error) => Err(error),
    }
}
