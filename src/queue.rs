//! The broker: the only place that speaks AMQP 0-9-1.
//!
//! [`consumer`] takes deliveries and `handler` archives and settles each; [`publisher`] puts messages into
//! queues and waits for the broker's confirms; [`topology`] declares what they need; [`message`] reads and
//! writes the headers that travel with an event; [`desk`] looks through the dead letters; [`examine`] finds out
//! what may be done at a broker without doing it.

pub mod consumer;
mod counting;
pub mod desk;
pub mod examine;
mod greeting;
mod handler;
pub mod message;
pub mod publisher;
mod refusal;
mod session;
mod suspects;
pub mod topology;
mod waiting;

use std::{path::PathBuf, time::Duration};

use backon::ExponentialBuilder;

pub use self::{
    greeting::{Greeting, greeting},
    session::{Role, connect},
};

/// What can go wrong between callvault and its broker. Messages name no credentials.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No TCP connection to the broker.
    #[error("cannot reach the broker at {address}, where queue.url says that it is")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The broker's name leads nowhere.
    #[error("the broker's host {host:?} has no address")]
    Unknown {
        /// As in the URI.
        host: String,
        /// The resolver's word.
        #[source]
        source: std::io::Error,
    },
    /// The broker knows no such user, or the password is not theirs.
    #[error("the broker refuses the user or the password in queue.url")]
    Login(#[source] lapin::Error),
    /// There is no such virtual host, or it is not the user's.
    #[error("the broker does not let callvault's user into the virtual host of queue.url")]
    VirtualHost(#[source] lapin::Error),
    /// What answers does not prove who it is, or does not speak TLS.
    #[error("there is no TLS session with the broker")]
    Tls(#[source] lapin::Error),
    /// What answers closed the connection, or said something else.
    #[error("what answers where queue.url leads does not speak AMQP as callvault does")]
    NoBroker(#[source] lapin::Error),
    /// The configured URI cannot be used.
    #[error("queue.url is not an AMQP URI")]
    Uri,
    /// A file that the URI names cannot be read.
    #[error("cannot read {} ({parameter} in queue.url)", path.display())]
    File {
        /// The parameter of the URI.
        parameter: &'static str,
        /// What it names.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The broker did not answer.
    #[error("the broker did not {what} within {} s", within.as_secs())]
    Silent {
        /// What it was asked for.
        what: &'static str,
        /// For how long it was waited for.
        within: Duration,
    },
    /// An exchange or a queue is not there.
    #[error(
        "the {what} is not there: import deploy/rabbitmq/definitions.json with your names in it, or set queue.declare = true"
    )]
    Missing {
        /// Which.
        what: String,
    },
    /// An exchange or a queue is there, and is not what callvault needs.
    #[error(
        "the {what} is there already, and its {argument} is {found} where callvault declares {wanted}: give callvault \
         another name in the configuration, or empty and delete the {what} and let callvault declare it, or set \
         queue.declare = false to use it as it is"
    )]
    Mismatch {
        /// Which.
        what: String,
        /// The argument that differs.
        argument: String,
        /// What callvault declares.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// The broker's user may not do this.
    #[error(
        "the broker's user may not declare or use the {what}: give it the permission, or set queue.declare = false if \
         it lacks configure alone"
    )]
    Forbidden {
        /// Which.
        what: String,
        /// The broker's word.
        #[source]
        source: lapin::Error,
    },
    /// The broker ended the consumer: its queue was deleted, or the queue's node went away.
    #[error(
        "the broker cancelled the consumer: its queue was deleted or is unavailable, or a message was held for longer \
         than the broker's delivery acknowledgement timeout"
    )]
    Cancelled,
    /// The session ended while nothing was asked of it.
    #[error("the connection to the broker, or the channel on it, broke")]
    Lost,
    /// The broker, or the connection to it, failed.
    #[error("the broker refuses, or the connection to it broke: cannot {what}")]
    Broker {
        /// What was to be done.
        what: String,
        /// The broker's or the client's word.
        #[source]
        source: lapin::Error,
    },
    /// A published message reached no queue and came back.
    #[error(
        "no queue takes a message published to exchange {exchange:?} with routing key {routing_key:?}"
    )]
    Unroutable {
        /// Where it was published.
        exchange: String,
        /// How it was addressed.
        routing_key: String,
    },
    /// The broker said that it did not take a message.
    #[error("the broker did not take a message (negative publisher confirm)")]
    Nacked,
}

impl QueueError {
    /// Whether something is not there that was looked for.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What to do about it, where the message itself does not say so.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "correct the host in queue.url, or this machine's DNS",
            Self::Unreachable { source, .. } => match source.kind() {
                std::io::ErrorKind::ConnectionRefused => {
                    "nothing listens there: start the broker, or correct host and port in queue.url (usual are 5672, and \
                     5671 for amqps://)"
                }
                _ => {
                    "no answer comes: look at firewalls and network policies on the way, and at the host in queue.url"
                }
            },
            Self::Login(_) => {
                "correct them (special characters percent-encoded), or add the user: rabbitmqctl add_user; the user guest may \
                 come from the broker's own machine alone"
            }
            Self::VirtualHost(_) => {
                "end queue.url with the virtual host's name (`/%2f` is the default one), or add it and let the user in: \
                 rabbitmqctl add_vhost, rabbitmqctl set_permissions"
            }
            Self::Tls(_) => {
                "name the authority that signed the broker's certificate in queue.url's cacertfile, and the host as the \
                 certificate does; if the port is one without TLS, amqps is usually at 5671"
            }
            Self::NoBroker(_) => {
                "correct host and port in queue.url: AMQP is usually at 5672, with TLS (amqps://) at 5671; 15672 is the \
                 management page"
            }
            Self::Silent { .. } => {
                "something listens there and says nothing: correct host and port in queue.url, or look at the broker's log and \
                 load"
            }
            _ => "",
        }
    }

    fn broker(what: impl Into<String>) -> impl FnOnce(lapin::Error) -> Self {
        let what = what.into();
        |source| Self::Broker { what, source }
    }
}

/// The pauses between tries with a broker that does not work.
fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
}

/// Gives the broker a time limit for an answer: the protocol has none.
async fn within<T>(
    limit: Duration,
    what: &'static str,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, QueueError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer.map_err(QueueError::broker(what)),
        Err(_) => Err(QueueError::Silent {
            what,
            within: limit,
        }),
    }
}
