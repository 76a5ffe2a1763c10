//! A server that plays a script of bytes, pauses and endings: what no HTTP library would send.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

/// The longest request head that is taken in.
const LONGEST_HEAD: usize = 64 << 10;

/// One act of a script. A script that is over ends its connection in order.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Takes in one request's head.
    Read,
    /// Says this.
    Send(Bytes),
    /// Says this over and over, as fast as it is taken, until nobody takes it.
    Flood(Bytes),
    /// Says this over and over, with a pause before each time.
    Steady(Bytes, Duration),
    /// Says this a byte at a time, over and over, with a pause before each.
    Drip(Bytes, Duration),
    /// Waits.
    Pause(Duration),
    /// Says nothing more until the client goes.
    Hang,
    /// Throws the connection away: `RST`.
    Reset,
    /// Says no more, under TLS without a word of farewell: the bare end of the stream.
    Cut,
    /// Goes on below TLS: what follows is said in the clear.
    Unwrap,
}

/// What a server has seen and done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// Connections that were accepted.
    pub(crate) connections: usize,
    /// Connections that are open still.
    pub(crate) open: usize,
    /// The head of each request, in order.
    pub(crate) requests: Vec<String>,
    /// Bytes that the client, or its buffers, took.
    pub(crate) sent: u64,
}

/// A running server; it ends with its value, and its connections with it.
pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Plays the first script on its first connection, and so on; the last one on all others.
    pub(crate) async fn start(scripts: Vec<Vec<Act>>) -> Self {
        Self::launch(scripts, None).await
    }

    /// The same after a TLS handshake.
    pub(crate) async fn start_tls(scripts: Vec<Vec<Act>>, tls: Arc<ServerConfig>) -> Self {
        let mut server = Self::launch(scripts, Some(TlsAcceptor::from(tls))).await;
        server.scheme = "https";
        server
    }

    async fn launch(scripts: Vec<Vec<Act>>, tls: Option<TlsAcceptor>) -> Self {
        assert!(!scripts.is_empty(), "a server without a script");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = {
                    let mut seen = shared.lock().unwrap();
                    seen.connections += 1;
                    seen.open += 1;
                    seen.connections - 1
                };
                let script = scripts[number.min(scripts.len() - 1)].clone();
                let (tls, seen) = (tls.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    // That a client goes in the middle is its right.
                    let _ = play(stream, tls, &script, &seen).await;
                    seen.lock().unwrap().open -= 1;
                });
            }
        });
        Self {
            address,
            scheme: "http",
            seen,
            task,
        }
    }

    /// A URL of this server's, by another scheme than its own where `scheme` is one.
    pub(crate) fn url(&self, scheme: Option<&str>, path: &str) -> String {
        format!("{}://{}{path}", scheme.unwrap_or(self.scheme), self.address)
    }

    /// What it is a server of: `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    script: &[Act],
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut pipe = match tls {
        None => Pipe::Plain(stream),
        Some(tls) => Pipe::Tls(Box::new(tls.accept(stream).await?)),
    };
    for act in script {
        match act {
            Act::Read => {
                if !read(&mut pipe, seen).await? {
                    return Ok(());
                }
            }
            Act::Send(bytes) => send(&mut pipe, bytes, seen).await?,
            Act::Flood(bytes) => loop {
                send(&mut pipe, bytes, seen).await?;
                // A task that always can write starves the others.
                tokio::task::yield_now().await;
            },
            Act::Steady(bytes, pause) => loop {
                tokio::time::sleep(*pause).await;
                send(&mut pipe, bytes, seen).await?;
            },
            Act::Drip(bytes, pause) => {
                for byte in bytes.iter().cycle() {
                    tokio::time::sleep(*pause).await;
                    send(&mut pipe, &[*byte], seen).await?;
                }
            }
            Act::Pause(pause) => tokio::time::sleep(*pause).await,
            Act::Hang => return linger(&mut pipe, seen).await,
            Act::Reset => return pipe.tcp().set_zero_linger(),
            Act::Cut => {
                pipe = Pipe::Plain(pipe.into_tcp());
                break;
            }
            Act::Unwrap => pipe = Pipe::Plain(pipe.into_tcp()),
        }
    }
    pipe.shutdown().await?;
    linger(&mut pipe, seen).await
}

/// Reads one head; whether there was one.
async fn read(pipe: &mut Pipe, seen: &Mutex<Seen>) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if head.len() == LONGEST_HEAD || pipe.read(&mut byte).await? == 0 {
            return Ok(false);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    seen.lock().unwrap().requests.push(head);
    Ok(true)
}

async fn send(pipe: &mut Pipe, mut bytes: &[u8], seen: &Mutex<Seen>) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = pipe.write(bytes).await?;
        bytes = &bytes[sent..];
        seen.lock().unwrap().sent += u64::try_from(sent).unwrap();
    }
    pipe.flush().await
}

/// Until the client goes. What it asks meanwhile is seen, and not answered.
async fn linger(pipe: &mut Pipe, seen: &Mutex<Seen>) -> io::Result<()> {
    while read(pipe, seen).await? {}
    Ok(())
}

/// A connection, under TLS or not.
enum Pipe {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

impl Pipe {
    fn both(&mut self) -> &mut dyn Both {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream,
        }
    }

    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.both().read(into).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.both().write(bytes).await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.both().flush().await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.both().shutdown().await
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    fn into_tcp(self) -> TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.into_inner().0,
        }
    }
}
