//! A client of the broker that reads and writes frames itself: messages as no client library makes them,
//! and as none can read them.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const ANSWER: Duration = Duration::from_secs(15);

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// A content header's flags.
pub(crate) const HEADERS: u16 = 1 << 13;
pub(crate) const DELIVERY_MODE: u16 = 1 << 12;
pub(crate) const MESSAGE_ID: u16 = 1 << 7;

/// A connection with one channel, with publisher confirms.
pub(crate) struct Wire(TcpStream);

/// A message in the broker's bytes.
#[derive(Debug)]
pub(crate) struct Raw {
    /// Flags and values.
    pub(crate) properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Persistent, with a table of headers, encoded but for its length.
pub(crate) fn with_headers(table: &[u8]) -> Vec<u8> {
    let mut properties = (HEADERS | DELIVERY_MODE).to_be_bytes().to_vec();
    properties.extend(long(table));
    properties.push(2);
    properties
}

/// Persistent, with a `message_id`.
pub(crate) fn with_message_id(id: &[u8]) -> Vec<u8> {
    let mut properties = (DELIVERY_MODE | MESSAGE_ID).to_be_bytes().to_vec();
    properties.push(2);
    properties.extend(short(id));
    properties
}

/// The header `a`: arrays in arrays.
pub(crate) fn nested_arrays(depth: usize) -> Vec<u8> {
    nested(depth, b'A', b"")
}

/// The header `a`: tables in tables.
pub(crate) fn nested_tables(depth: usize) -> Vec<u8> {
    nested(depth, b'F', b"\0")
}

/// Each level is a type, a length, and what comes before the next one.
fn nested(depth: usize, kind: u8, before: &[u8]) -> Vec<u8> {
    let mut table = short(b"a");
    for level in (1..=depth).rev() {
        let inside = (level - 1) * (5 + before.len()) + before.len() + 1;
        table.push(kind);
        table.extend(u32::try_from(inside).unwrap().to_be_bytes());
        table.extend(before);
    }
    table.push(b'V');
    table
}

pub(crate) fn short(text: &[u8]) -> Vec<u8> {
    let mut encoded = vec![u8::try_from(text.len()).unwrap()];
    encoded.extend(text);
    encoded
}

pub(crate) fn long(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = u32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    encoded.extend(bytes);
    encoded
}

impl Wire {
    /// As `guest`, at `amqp://…@HOST:PORT/%2f`.
    pub(crate) async fn connect(url: &str) -> Self {
        let mut wire = Self(
            TcpStream::connect(super::servers::address(url))
                .await
                .unwrap(),
        );
        wire.0.write_all(b"AMQP\0\0\x09\x01").await.unwrap();
        wire.answer(10, 10).await;
        let start_ok = [
            long(b""),
            short(b"PLAIN"),
            long(b"\0guest\0guest"),
            short(b"en_US"),
        ];
        wire.method(0, 10, 11, &start_ok.concat()).await;
        let tune = wire.answer(10, 30).await;
        // As the broker would have it, without heartbeats.
        wire.method(0, 10, 31, &[&tune[..6], &[0, 0]].concat())
            .await;
        wire.method(0, 10, 40, &[short(b"/"), vec![0, 0]].concat())
            .await;
        wire.answer(10, 41).await;
        wire.method(1, 20, 10, &short(b"")).await;
        wire.answer(20, 11).await;
        wire.method(1, 85, 10, &[0]).await;
        wire.answer(85, 11).await;
        wire
    }

    /// Publishes, and waits for the confirm. `properties` are flags and values.
    pub(crate) async fn publish(
        &mut self,
        exchange: &str,
        key: &str,
        properties: &[u8],
        body: &[u8],
    ) {
        let to = [
            vec![0, 0],
            short(exchange.as_bytes()),
            short(key.as_bytes()),
            vec![0],
        ];
        self.method(1, 60, 40, &to.concat()).await;
        let length = u64::try_from(body.len()).unwrap().to_be_bytes();
        let header = [&[0, 60, 0, 0], &length[..], properties].concat();
        self.frame(HEADER, 1, &header).await;
        self.frame(BODY, 1, body).await;
        self.answer(60, 80).await;
    }

    /// Takes a message, if one is ready, for good.
    pub(crate) async fn take(&mut self, queue: &str) -> Option<Raw> {
        let get = [vec![0, 0], short(queue.as_bytes()), vec![1]];
        self.method(1, 60, 70, &get.concat()).await;
        let (_, got) = self.next().await;
        if got[..4] == [0, 60, 0, 72] {
            return None;
        }
        assert_eq!(got[..4], [0, 60, 0, 71], "{got:?}");
        let (kind, header) = self.next().await;
        assert_eq!(kind, HEADER);
        let length = u64::from_be_bytes(header[4..12].try_into().unwrap());
        let mut body = Vec::new();
        while (body.len() as u64) < length {
            body.extend(self.next().await.1);
        }
        Some(Raw {
            properties: header[12..].to_vec(),
            body,
        })
    }

    /// The arguments of the answer, which is that method.
    async fn answer(&mut self, class: u8, method: u8) -> Vec<u8> {
        let (kind, payload) = self.next().await;
        let what = String::from_utf8_lossy(&payload);
        assert_eq!(
            (kind, &payload[..4]),
            (METHOD, &[0, class, 0, method][..]),
            "{what}"
        );
        payload[4..].to_vec()
    }

    async fn next(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            loop {
                let mut head = [0; 7];
                self.0.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes(head[3..].try_into().unwrap());
                let mut payload = vec![0; usize::try_from(length).unwrap() + 1];
                self.0.read_exact(&mut payload).await.unwrap();
                payload.pop();
                if head[0] != HEARTBEAT {
                    return (head[0], payload);
                }
            }
        };
        timeout(ANSWER, read)
            .await
            .expect("a frame of the broker's")
    }

    async fn method(&mut self, channel: u8, class: u8, method: u8, arguments: &[u8]) {
        let payload = [&[0, class, 0, method], arguments].concat();
        self.frame(METHOD, channel, &payload).await;
    }

    async fn frame(&mut self, kind: u8, channel: u8, payload: &[u8]) {
        let frame = [&[kind, 0, channel], &long(payload)[..], &[0xce]].concat();
        self.0.write_all(&frame).await.unwrap();
    }
}
