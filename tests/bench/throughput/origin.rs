//! An origin in the benchmark's own process: far away, or dripping.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, StatusCode, header},
};
use futures_util::{StreamExt as _, stream};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

/// The pause between two pieces of what drips.
const DROP: Duration = Duration::from_millis(100);

/// A running origin; it ends with its value.
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    files: HashMap<&'static str, Bytes>,
    /// Before each answer.
    delay: Duration,
    /// The file that comes a byte at a time.
    dripping: &'static str,
    /// Whether it still does.
    drips: watch::Sender<bool>,
    first: OnceLock<Instant>,
}

impl Origin {
    /// Serves files by the last segment of any path, each answer so late.
    pub(crate) async fn start(
        files: impl IntoIterator<Item = (&'static str, Vec<u8>)>,
        delay: Duration,
        dripping: &'static str,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let files = files.into_iter().map(|(name, bytes)| (name, bytes.into()));
        let shared = Arc::new(Shared {
            files: files.collect(),
            delay,
            dripping,
            drips: watch::Sender::new(true),
            first: OnceLock::new(),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            // It never ends by itself, whatever befalls a connection.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            shared,
            task,
        })
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When the first request came.
    pub(crate) fn first(&self) -> Option<Instant> {
        self.shared.first.get().copied()
    }

    /// What drips comes at once, from now on.
    pub(crate) fn release(&self) {
        self.shared.drips.send_replace(false);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let _ = shared.first.set(Instant::now());
    tokio::time::sleep(shared.delay).await;
    let name = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut response = Response::new(Body::empty());
    let Some(file) = shared.files.get(name) else {
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, file.len().into());
    *response.body_mut() = if name == shared.dripping {
        drip(file.clone(), shared.drips.subscribe())
    } else {
        file.clone().into()
    };
    response
}

fn drip(file: Bytes, drips: watch::Receiver<bool>) -> Body {
    let pieces = stream::unfold((file, drips), async |(mut rest, mut drips)| {
        if rest.is_empty() {
            return None;
        }
        let released = drips.wait_for(|drips| !drips);
        let piece = match tokio::time::timeout(DROP, released).await {
            Ok(_) => rest.split_to(rest.len()),
            Err(_) => rest.split_to(1),
        };
        Some((piece, (rest, drips)))
    });
    Body::from_stream(pieces.map(Ok::<_, std::convert::Infallible>))
}
