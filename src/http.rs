//! `/livez`, `/readyz` and `/metrics`, and a page at `/`, for whoever runs the worker.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, Uri, header::CONTENT_TYPE},
    response::Response,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{metrics, page::Page, status::Status};

/// Connections at once. A probe takes one for a moment; whoever holds more than that, or holds one and says
/// nothing, would take the sockets that downloads need.
const CONNECTIONS: usize = 64;
/// The longest that a request may take to come.
const REQUEST: Duration = Duration::from_secs(5);
/// The longest that a connection may last, with its one request and its answer.
const CONNECTION: Duration = Duration::from_secs(30);
/// The pause after a connection that could not be taken, for want of sockets most likely.
const PAUSE: Duration = Duration::from_secs(1);

/// A listener for health checks, bound and not yet serving.
#[derive(Debug)]
pub struct Health(TcpListener);

impl Health {
    /// Binds the address; port 0 is any free one.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(listen).await.map(Self)
    }

    /// The address that is listened on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers for as long as it is polled.
    pub async fn serve(self, status: Arc<Status>, page: Page) {
        let page = Arc::new(page);
        let routes = Router::new()
            .route("/", get(index).with_state(Arc::clone(&page)))
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(status);
        tokio::join!(self.accept(routes), page.sample());
    }

    async fn accept(self, routes: Router) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        // Not `axum::serve`, which waits for a request as long as the peer pleases.
        while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
            let Ok((stream, _)) = self.0.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            let routes = routes.clone();
            tokio::spawn(async move {
                let _permit = permit;
                // How it ends is the peer's business.
                let _ = timeout(CONNECTION, one_request(stream, routes)).await;
            });
        }
    }
}

async fn one_request(stream: TcpStream, routes: Router) -> hyper::Result<()> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
        .await
}

async fn index(State(page): State<Arc<Page>>, uri: Uri, headers: HeaderMap) -> Response {
    page.answer(&headers, uri.query())
}

async fn readyz(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    let reasons = status.not_ready();
    if reasons.is_empty() {
        (StatusCode::OK, "consuming\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

async fn metrics(State(status): State<Arc<Status>>) -> ([(HeaderName, &'static str); 1], String) {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], status.metrics())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_connects_and_says_nothing_is_put_out_and_keeps_nobody_from_asking() {
        let health = Health::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = health.address().unwrap();
        let status = Status::idle();
        status.session.consumes();
        let status = Arc::new(status);
        let page = Page::new(Arc::clone(&status), Vec::new(), Duration::from_mins(20));
        let serving = tokio::spawn(health.serve(status, page));
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut probe = TcpStream::connect(address).await.unwrap();
        probe
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("consuming\n"), "{answer}");
        for mut silent in silent {
            silent.read_to_end(&mut Vec::new()).await.unwrap();
        }
        serving.abort();
    }
}
