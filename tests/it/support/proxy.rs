//! A TCP proxy of the test's own, which loses, cuts and delays as told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What becomes of bytes and of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Everything goes through.
    Pass,
    /// Nothing listens, and no connection is left.
    Refuse,
    /// Connections are accepted and kept, and every byte is swallowed, either way. One that lost a byte
    /// stays mute for ever: what came after the gap would make no sense.
    BlackHole,
    /// Everything goes through, so many bytes at a time, with a pause before each.
    Slow { bytes: usize, pause: Duration },
}

/// A running proxy; it ends with its value, and its connections with it. Its port is the same all along.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// `host:port`.
    target: Arc<Mutex<String>>,
    state: watch::Sender<State>,
    /// Bound, never listening: nobody else gets the port while nothing listens there.
    _reservation: TcpSocket,
    task: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections of an earlier one are cut.
    generation: u64,
}

impl Proxy {
    /// A proxy in front of `host:port`.
    pub(crate) fn to(target: &str) -> Self {
        let reservation = reusing(([127, 0, 0, 1], 0).into());
        let address = reservation.local_addr().unwrap();
        let state = watch::Sender::new(State {
            mode: Mode::Pass,
            generation: 0,
        });
        let target = Arc::new(Mutex::new(target.to_owned()));
        let task = tokio::spawn(accept(address, Arc::clone(&target), state.subscribe()));
        Self {
            address,
            target,
            state,
            _reservation: reservation,
            task,
        }
    }

    /// A proxy in front of the server of a URL.
    pub(crate) fn before(url: &str) -> Self {
        Self::to(host_and_port(url))
    }

    /// New connections go to the server of another URL, as with a load balancer.
    pub(crate) fn aim_at(&self, url: &str) {
        host_and_port(url).clone_into(&mut self.target.lock().unwrap());
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A URL with its host and port replaced by the proxy's.
    pub(crate) fn instead(&self, url: &str) -> String {
        let (scheme, rest) = url.split_once("//").unwrap();
        let (authority, path) = rest
            .split_once('/')
            .map_or((rest, None), |(a, p)| (a, Some(p)));
        let user = authority
            .rsplit_once('@')
            .map_or(String::new(), |(user, _)| format!("{user}@"));
        let path = path.map_or(String::new(), |path| format!("/{path}"));
        format!("{scheme}//{user}{}{path}", self.address)
    }

    /// From now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.generation += u64::from(mode == Mode::Refuse);
        });
    }

    /// Closes every connection that there is; new ones are as before.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn host_and_port(url: &str) -> &str {
    let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap()
}

/// A socket on an address that others may be bound to, as long as one of them listens.
fn reusing(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

fn listen(address: SocketAddr) -> TcpListener {
    reusing(address).listen(1024).unwrap()
}

async fn accept(
    address: SocketAddr,
    target: Arc<Mutex<String>>,
    mut state: watch::Receiver<State>,
) {
    let mut connections = JoinSet::new();
    let mut listener = Some(listen(address));
    loop {
        tokio::select! {
            changed = state.changed() => {
                if changed.is_err() {
                    return;
                }
                match state.borrow_and_update().mode {
                    Mode::Refuse => listener = None,
                    _ if listener.is_none() => listener = Some(listen(address)),
                    _ => {}
                }
            }
            Some(client) = next(listener.as_ref()) => {
                let generation = state.borrow().generation;
                let target = target.lock().unwrap().clone();
                connections.spawn(carry(client, target, state.clone(), generation));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> Option<TcpStream> {
    let (stream, _) = listener?.accept().await.unwrap();
    Some(stream)
}

/// One connection, until both ends are done with it or it is cut.
async fn carry(
    mut client: TcpStream,
    target: String,
    state: watch::Receiver<State>,
    generation: u64,
) {
    let mut watched = state.clone();
    let carried = async {
        // Also into a black hole: there its bytes are swallowed.
        let Ok(mut server) = TcpStream::connect(&target).await else {
            return;
        };
        let lost = AtomicBool::new(false);
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::join!(
            pump(from_client, to_server, &state, &lost),
            pump(from_server, to_client, &state, &lost)
        );
    };
    tokio::select! {
        _ = watched.wait_for(|state| state.generation != generation) => {}
        () = carried => {}
    }
}

/// One direction of a connection, until its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &watch::Receiver<State>,
    lost: &AtomicBool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mode = state.borrow().mode;
        let most = match mode {
            Mode::Slow { bytes, .. } => bytes.min(buffer.len()),
            _ => buffer.len(),
        };
        let read = from.read(&mut buffer[..most]).await.unwrap_or(0);
        if state.borrow().mode == Mode::BlackHole {
            lost.store(true, Ordering::Relaxed);
        }
        // In a black hole an end is swallowed as well.
        if !lost.load(Ordering::Relaxed) {
            if let Mode::Slow { pause, .. } = mode {
                tokio::time::sleep(pause).await;
            }
            let passed = match read {
                0 => to.shutdown().await,
                _ => to.write_all(&buffer[..read]).await,
            };
            if passed.is_err() {
                return;
            }
        }
        if read == 0 {
            return;
        }
    }
}
