//! What a broker says of itself before it asks who is there. The client keeps it to itself.

use std::{io, time::Duration};

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::{
    protocol::{AMQPClass, connection::AMQPMethod, parse_class},
    runtime,
    tcp::AMQPUriTcpExt,
    types::{AMQPValue, FieldTable},
};
use secrecy::SecretString;
use tokio::time::timeout;

use super::{QueueError, session};

/// For connection, TLS and greeting together.
const PATIENCE: Duration = Duration::from_secs(10);
/// The protocol's name and version 0-9-1.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// RabbitMQ's greeting has some 500 bytes.
const LONGEST: usize = 64 << 10;

/// What a broker says of itself. Anybody may say so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// `RabbitMQ`.
    pub product: String,
    /// `3.10.8`.
    pub version: String,
}

impl Greeting {
    /// Its version's first three numbers, where it is RabbitMQ.
    pub fn rabbitmq(&self) -> Option<(u32, u32, u32)> {
        let mut numbers = self.version.split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next()?.parse().ok();
        (self.product == "RabbitMQ").then_some((next()?, next()?, next().unwrap_or(0)))
    }
}

/// Asks for the greeting, and hangs up.
pub async fn greeting(url: &SecretString) -> Result<Greeting, QueueError> {
    let (uri, tls) = session::address(url).await?;
    session::reach(&uri).await?;
    let asked = async {
        let runtime = runtime::default_runtime()?;
        let mut stream = uri
            .connect_with_config_async(tls.as_ref(), &runtime)
            .await?;
        stream.write_all(HELLO).await?;
        stream.flush().await?;
        // Type, channel, length; the method; the frame's end.
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if head[0] != 1 || length > LONGEST {
            return Err(unlike());
        }
        let mut method = vec![0; length];
        stream.read_exact(&mut method).await?;
        match parse_class(&method[..]) {
            Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) => {
                Ok(of(&start.server_properties))
            }
            _ => Err(unlike()),
        }
    };
    match timeout(PATIENCE, asked).await {
        Ok(greeting) => greeting.map_err(|error: lapin::Error| super::refusal::at_the_door(error)),
        Err(_) => Err(QueueError::Silent {
            what: "say which broker it is",
            within: PATIENCE,
        }),
    }
}

fn of(properties: &FieldTable) -> Greeting {
    let text = |name| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    Greeting {
        product: text("product"),
        version: text("version"),
    }
}

fn unlike() -> lapin::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its greeting is not AMQP's").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_far_as_it_is_rabbitmqs() {
        for (product, version, numbers) in [
            ("RabbitMQ", "3.10.8", Some((3, 10, 8))),
            ("RabbitMQ", "4.3.0-rc.1", Some((4, 3, 0))),
            ("RabbitMQ", "4.3", Some((4, 3, 0))),
            ("RabbitMQ", "", None),
            ("LavinMQ", "2.0.0", None),
        ] {
            let (product, version) = (product.to_owned(), version.to_owned());
            let greeting = Greeting { product, version };
            assert_eq!(greeting.rabbitmq(), numbers, "{greeting:?}");
        }
    }
}
