//! The provider's file server: a real one on loopback, which fails as told.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::pending,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Response, StatusCode, header},
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{net::TcpListener, task::JoinHandle};

/// How a request for a file is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// 200 with the file and its `Content-Length`.
    Whole,
    /// 200 with the file, its length not told.
    Chunked,
    /// A status and nothing else.
    Status(u16),
    /// A status with `Retry-After`.
    RetryAfter(u16, String),
    /// 302 to a URL, absolute or relative.
    Redirect(String),
    /// The `Content-Length` of the whole, then only this many bytes and the end of the connection.
    CutAt(usize),
    /// The `Content-Length` of the whole and this many bytes, then silence.
    StallAt(usize),
    /// Silence from the beginning.
    Mute,
    /// The whole file, so many bytes at a time, with a pause before each.
    Drip { bytes: usize, pause: Duration },
}

/// A running file server; it ends with its value.
pub(crate) struct Origin {
    address: std::net::SocketAddr,
    paths: Paths,
    task: JoinHandle<()>,
}

type Paths = Arc<Mutex<HashMap<String, Entry>>>;

/// What there is to say about one path.
#[derive(Default)]
struct Entry {
    file: Option<(Bytes, String)>,
    /// Used up first, one a request.
    first: VecDeque<Reply>,
    then: Option<Reply>,
    /// The headers of every request, in order.
    requests: Vec<HeaderMap>,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let paths = Paths::default();
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&paths));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            paths,
            task,
        }
    }

    /// Serves a file at a path, which begins with a slash.
    pub(crate) fn put(&self, path: &str, body: impl Into<Bytes>, content_type: &str) {
        self.entry(path, |entry| {
            entry.file = Some((body.into(), content_type.to_owned()));
        });
    }

    /// Answers the next `times` requests for a path like this.
    pub(crate) fn first(&self, path: &str, times: usize, reply: &Reply) {
        self.entry(path, |entry| entry.first.extend(vec![reply.clone(); times]));
    }

    /// Answers requests for a path like this from now on.
    pub(crate) fn always(&self, path: &str, reply: Reply) {
        self.entry(path, |entry| entry.then = Some(reply));
    }

    /// How many requests there were for a path.
    pub(crate) fn hits(&self, path: &str) -> usize {
        self.requests(path).len()
    }

    /// The headers of the requests for a path.
    pub(crate) fn requests(&self, path: &str) -> Vec<HeaderMap> {
        self.entry(path, |entry| entry.requests.clone())
    }

    /// What an event holds: `http://127.0.0.1:PORT/…`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn entry<T>(&self, path: &str, act: impl FnOnce(&mut Entry) -> T) -> T {
        act(self
            .paths
            .lock()
            .unwrap()
            .entry(path.to_owned())
            .or_default())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    State(paths): State<Paths>,
    request: Request,
) -> Result<Response<Body>, Infallible> {
    let (reply, file) = {
        let mut paths = paths.lock().unwrap();
        let entry = paths.entry(request.uri().path().to_owned()).or_default();
        entry.requests.push(request.headers().clone());
        let reply = entry
            .first
            .pop_front()
            .or_else(|| entry.then.clone())
            .unwrap_or(Reply::Whole);
        (reply, entry.file.clone())
    };
    Ok(match reply {
        Reply::Status(code) => status(code),
        Reply::RetryAfter(code, pause) => {
            let mut response = status(code);
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, pause.parse().unwrap());
            response
        }
        Reply::Redirect(to) => {
            let mut response = status(302);
            response
                .headers_mut()
                .insert(header::LOCATION, to.parse().unwrap());
            response
        }
        Reply::Mute => pending().await,
        of_the_file => match file {
            Some((body, content_type)) => send(&of_the_file, body, &content_type),
            None => status(404),
        },
    })
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn send(reply: &Reply, file: Bytes, content_type: &str) -> Response<Body> {
    let length = file.len();
    let body = match *reply {
        Reply::CutAt(end) => pieces(file.slice(..end), end, Duration::ZERO, End::Abort),
        Reply::StallAt(end) => pieces(file.slice(..end), end, Duration::ZERO, End::Stall),
        Reply::Drip { bytes, pause } => pieces(file, bytes, pause, End::Finish),
        Reply::Chunked => pieces(file, 8192, Duration::ZERO, End::Finish),
        _ => Body::from(file),
    };
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type.parse().unwrap());
    if !matches!(reply, Reply::Chunked) {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

/// What comes after the last byte.
#[derive(Clone, Copy)]
enum End {
    Finish,
    Abort,
    Stall,
}

/// A body whose pieces are really sent one by one.
fn pieces(left: Bytes, size: usize, pause: Duration, end: End) -> Body {
    Body::from_stream(stream::unfold(left, move |mut left| async move {
        // Also without a pause: what was handed over before is written out meanwhile.
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        if !left.is_empty() {
            let piece = left.split_to(size.clamp(1, left.len()));
            return Some((Ok(piece), left));
        }
        match end {
            End::Finish => None,
            End::Abort => Some((Err(io::Error::other("cut short on purpose")), left)),
            End::Stall => pending().await,
        }
    }))
}
