//! `/livez` and `/readyz`, for whoever runs the worker.

use std::{io, net::SocketAddr};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::queue::consumer::Readiness;

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

    /// Answers until `stop`.
    pub async fn serve(
        self,
        readiness: watch::Receiver<Readiness>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let routes = Router::new()
            .route("/livez", get(async || "alive\n"))
            .route("/readyz", get(readyz))
            .with_state(readiness);
        axum::serve(self.0, routes)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
    }
}

async fn readyz(State(readiness): State<watch::Receiver<Readiness>>) -> (StatusCode, String) {
    match &*readiness.borrow() {
        Ok(()) => (StatusCode::OK, "consuming\n".into()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
