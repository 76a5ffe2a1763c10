//! A server that says whatever it is told to, byte for byte.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A running server, one request a connection; it ends with its value.
pub(super) struct Gossip {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    by_path: Mutex<HashMap<String, Vec<u8>>>,
    otherwise: Mutex<Vec<u8>>,
}

impl Gossip {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let answers = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let answers = Arc::clone(&answers);
                // A peer that goes away before it was answered misses nothing that matters here.
                tokio::spawn(async move { serve(client, &answers).await });
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this to whoever asks for a path; what stands in the way of the query is not part of it.
    pub(super) fn at(&self, path: &str, answer: Vec<u8>) {
        let mut answers = self.shared.by_path.lock().unwrap();
        answers.insert(path.to_owned(), answer);
    }

    /// Says this to everybody else.
    pub(super) fn otherwise(&self, answer: Vec<u8>) {
        *self.shared.otherwise.lock().unwrap() = answer;
    }
}

impl Drop for Gossip {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with its length; `head` is the status line and headers, each line ended by CR LF.
pub(super) fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {head}content-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

async fn serve(mut client: TcpStream, answers: &Shared) -> io::Result<()> {
    let (path, left) = read_request(&mut client).await?;
    let answer = {
        let by_path = answers.by_path.lock().unwrap();
        let answer = by_path.get(&path).cloned();
        answer.unwrap_or_else(|| answers.otherwise.lock().unwrap().clone())
    };
    io::copy(&mut (&mut client).take(left), &mut io::sink()).await?;
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// The path that is asked for, and how much of the body is still to come.
async fn read_request(client: &mut TcpStream) -> io::Result<(String, u64)> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |value| value.trim().parse().unwrap());
    let had = u64::try_from(read.len() - end).unwrap();
    Ok((path, u64::saturating_sub(length, had)))
}
