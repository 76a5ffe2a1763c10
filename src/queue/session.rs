//! Connecting.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lapin::{
    Connection, ConnectionProperties, runtime,
    tcp::{OwnedIdentity, OwnedTLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{
    fs,
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use url::Url;

use super::{QueueError, refusal, within};
use crate::roots;

/// For the TCP connection.
const REACH: Duration = Duration::from_secs(10);
/// For the AMQP handshake. A handshake that is given up leaves a thread behind until the peer speaks or
/// closes, so it is given up late, and only with a peer that accepts connections.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Seconds between heartbeats, unless the URI or the broker asks for less.
const HEARTBEAT: u16 = 15;
/// The longest frame, in bytes: as long as RabbitMQ takes. Without it a broker could ask for 4 GiB. Not less for a
/// consumer, though the client's two buffers are each 32 times as long: a message's headers come in one frame however
/// long they are, and the client ends the connection at one that is longer than this.
const FRAME_MAX: u32 = 128 << 10;

/// Whether the last handshake was given up because the broker said nothing.
static WAS_MUTE: AtomicBool = AtomicBool::new(false);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes deliveries.
    Consumer,
    /// Publishes.
    Publisher,
    /// Does both, for an operator.
    Desk,
    /// Looks whether the broker is there.
    Check,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Publisher => "publisher",
            Self::Desk => "desk",
            Self::Check => "check",
        }
    }
}

/// Opens a connection; `role` is what the broker's operator sees it is for.
///
/// Connections do not recover by themselves: a consumer on a channel that the broker closed would wait
/// for ever. Whoever uses one builds it anew.
pub async fn connect(url: &SecretString, role: Role) -> Result<Connection, QueueError> {
    let (uri, tls) = address(url).await?;
    reach(&uri).await?;
    let host = gethostname::gethostname();
    let name = format!("callvault {} {}", role.name(), host.to_string_lossy());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connected = async {
        let runtime = runtime::default_runtime()?;
        Connection::connect_uri_with_config(uri, properties, tls, runtime).await
    };
    let connection = within(HANDSHAKE, "open a connection", connected).await;
    let mute = matches!(connection, Err(QueueError::Silent { .. }));
    WAS_MUTE.store(mute, Ordering::Relaxed);
    connection.map_err(|error| match error {
        QueueError::Broker { source, .. } => refusal::at_the_door(source),
        error => error,
    })
}

/// Where the broker is, with what callvault asks for by itself, and what it takes to trust it.
pub(super) async fn address(url: &SecretString) -> Result<(AMQPUri, OwnedTLSConfig), QueueError> {
    let mut uri: AMQPUri = url.expose_secret().parse().map_err(|_| QueueError::Uri)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    let tls = match uri.scheme {
        AMQPScheme::AMQP => OwnedTLSConfig::default(),
        AMQPScheme::AMQPS => tls(url).await?,
    };
    Ok((uri, tls))
}

/// Authorities and the client's certificate, read anew for each connection: certificates are renewed
/// while a worker runs.
async fn tls(url: &SecretString) -> Result<OwnedTLSConfig, QueueError> {
    let url = Url::parse(url.expose_secret()).map_err(|_| QueueError::Uri)?;
    let mut authorities = roots::beside_the_environments_in_pem();
    if let Some(pem) = file(&url, "cacertfile").await? {
        authorities.push_str(&String::from_utf8_lossy(&pem));
    }
    let certificate = file(&url, "certfile").await?;
    let identity = match (certificate, file(&url, "keyfile").await?) {
        (Some(pem), Some(key)) => Some(OwnedIdentity::PKCS8 { pem, key }),
        _ => None,
    };
    Ok(OwnedTLSConfig {
        identity,
        cert_chain: (!authorities.is_empty()).then_some(authorities),
    })
}

/// The file that a parameter of the URI names, if it names one.
async fn file(url: &Url, parameter: &'static str) -> Result<Option<Vec<u8>>, QueueError> {
    let mut parameters = url.query_pairs();
    let Some((_, path)) = parameters.find(|(name, _)| name == parameter) else {
        return Ok(None);
    };
    let path = PathBuf::from(path.into_owned());
    let read = fs::read(&path).await;
    read.map(Some).map_err(|source| QueueError::File {
        parameter,
        path,
        source,
    })
}

/// Whether anything listens there, before the client commits a thread to it. Something that listens and
/// never speaks has cost one already; after that it has to say a word first.
pub(super) async fn reach(uri: &AMQPUri) -> Result<(), QueueError> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let found = timeout(REACH, lookup_host((host, port))).await;
    let found = found.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let addresses: Vec<_> = found
        .map_err(|source| QueueError::Unknown {
            host: host.to_owned(),
            source,
        })?
        .collect();
    let reached = async {
        let mut stream = TcpStream::connect(&addresses[..]).await?;
        if WAS_MUTE.load(Ordering::Relaxed) {
            // A broker answers that with a frame, a TLS listener with an alert.
            stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
            stream.read_u8().await?;
        }
        Ok(())
    };
    let reached = timeout(REACH, reached).await;
    match reached.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(()) => Ok(()),
        Err(source) => Err(QueueError::Unreachable {
            address: format!("{host}:{port}"),
            source,
        }),
    }
}
