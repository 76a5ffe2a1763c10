//! What the broker says when it refuses a declaration, in an operator's words.

use std::{error::Error, io, iter::successors};

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};

use super::QueueError;

/// An argument that differs between what is there and what was to be declared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Inequivalent {
    argument: String,
    wanted: String,
    found: String,
}

/// Says what is wrong with `what`, such as `queue "callvault"`, and what to do.
pub(super) fn explained(error: lapin::Error, what: &str) -> QueueError {
    let what = what.to_owned();
    let ErrorKind::ProtocolError(refusal) = error.kind() else {
        return QueueError::broker(format!("declare the {what}"))(error);
    };
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => QueueError::Missing { what },
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => QueueError::Forbidden {
            what,
            source: error,
        },
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => {
            match inequivalent(refusal.get_message().as_str()) {
                Some(Inequivalent {
                    argument,
                    wanted,
                    found,
                }) => QueueError::Mismatch {
                    what,
                    argument,
                    wanted,
                    found,
                },
                None => QueueError::broker(format!("declare the {what}"))(error),
            }
        }
        _ => QueueError::broker(format!("declare the {what}"))(error),
    }
}

/// Says why there is no connection, of which TCP's part was made.
pub(super) fn at_the_door(error: lapin::Error) -> QueueError {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => QueueError::Login(error),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => QueueError::VirtualHost(error),
            _ => QueueError::broker("open a connection")(error),
        },
        ErrorKind::IOError(io) if of_tls(io) => QueueError::Tls(error),
        ErrorKind::IOError(_)
        | ErrorKind::ParsingError(_)
        | ErrorKind::InvalidProtocolVersion(_) => QueueError::NoBroker(error),
        _ => QueueError::broker("open a connection")(error),
    }
}

fn of_tls(error: &io::Error) -> bool {
    let first = error.get_ref().map(|e| e as &(dyn Error + 'static));
    let mut causes = successors(first, |&cause| cause.source());
    causes.any(|cause| {
        let nested = cause.downcast_ref::<io::Error>().is_some_and(of_tls);
        nested || cause.is::<rustls::Error>()
    })
}

/// RabbitMQ's own words, which have been the same since 3.8: `PRECONDITION_FAILED - inequivalent arg
/// 'x-message-ttl' for queue 'q' in vhost '/': received the value '200' of type 'signedint' but current is
/// none`, or for exchanges and flags `received 'topic' but current is 'direct'`.
fn inequivalent(message: &str) -> Option<Inequivalent> {
    let (_, rest) = message.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (wanted, found) = rest.split_once(" but current is ")?;
    let value = |words: &str| {
        let words = words.trim_start_matches("the value ");
        let value = words
            .split_once(" of type ")
            .map_or(words, |(value, _)| value);
        match value.trim_matches('\'') {
            "" => "\"\"".to_owned(),
            value => value.to_owned(),
        }
    };
    Some(Inequivalent {
        argument: argument.to_owned(),
        wanted: value(wanted),
        found: value(found),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_s_words_tell_which_argument_differs() {
        for (message, argument, wanted, found) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '200' \
                 of type 'long' but current is the value '1000' of type 'signedint'",
                "x-message-ttl",
                "200",
                "1000",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'a 'quoted' one' in vhost '/': received \
                 the value '20' of type 'signedint' but current is none",
                "x-delivery-limit",
                "20",
                "none",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received the \
                 value '' of type 'longstr' but current is none",
                "x-dead-letter-exchange",
                "\"\"",
                "none",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'calls' in vhost '/': received 'topic' but \
                 current is 'direct'",
                "type",
                "topic",
                "direct",
            ),
        ] {
            let expected = Inequivalent {
                argument: argument.into(),
                wanted: wanted.into(),
                found: found.into(),
            };
            assert_eq!(inequivalent(message), Some(expected));
        }
        assert_eq!(
            inequivalent("PRECONDITION_FAILED - unknown delivery tag 3"),
            None
        );
    }
}
