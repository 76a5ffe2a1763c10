//! Connecting.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, uri::AMQPUri};
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpStream, time::timeout};

use super::{QueueError, within};

/// For the TCP connection.
const REACH: Duration = Duration::from_secs(10);
/// For the AMQP handshake. A handshake that is given up leaves a thread behind until the peer speaks or
/// closes, so it is given up late, and only with a peer that accepts connections.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Seconds between heartbeats, unless the URI or the broker asks for less.
const HEARTBEAT: u16 = 15;
/// The client's buffers are a multiple of this; without it a broker could ask for 4 GiB.
const FRAME_MAX: u32 = 128 << 10;

/// Opens a connection; `role` is what the broker's operator sees it is for.
///
/// Connections do not recover by themselves: a consumer on a channel that the broker closed would wait
/// for ever. Whoever uses one builds it anew.
pub async fn connect(url: &SecretString, role: &str) -> Result<Connection, QueueError> {
    let mut uri: AMQPUri = url.expose_secret().parse().map_err(|_| QueueError::Uri)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    reach(&uri).await?;
    let name = format!(
        "callvault {role} {}",
        gethostname::gethostname().to_string_lossy()
    );
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    within(
        HANDSHAKE,
        "open a connection",
        Connection::connect_uri(uri, properties),
    )
    .await
}

/// Whether anything listens there, before the client commits a thread to it.
async fn reach(uri: &AMQPUri) -> Result<(), QueueError> {
    let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
    let connected = timeout(REACH, TcpStream::connect((host, port))).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(_) => Ok(()),
        Err(source) => Err(QueueError::Unreachable {
            address: format!("{host}:{port}"),
            source,
        }),
    }
}
