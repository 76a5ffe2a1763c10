//! The client that spans are sent through.

use std::{
    fmt, io,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use reqwest::{Certificate, Client, redirect};
use tokio::runtime::Handle;

use super::either;
use crate::{roots, telemetry};

/// How long the collector may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise: as its own specification has it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes: it has a few when all is well.
const LONGEST_ANSWER: usize = 64 << 10;

/// Sends requests on the worker's runtime, with its roots and its TLS: the exporter waits for the answer on a thread of
/// its own. Where they fail it is told once, and once when they do no more.
pub(super) struct Collector {
    client: Client,
    runtime: Handle,
    fails: AtomicBool,
}

impl Collector {
    pub(super) fn new() -> io::Result<Self> {
        let timeout = either(
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        );
        let timeout = timeout.and_then(|(_, milliseconds)| milliseconds.parse().ok());
        let roots = roots::beside_the_environments();
        let roots = roots
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok());
        let client = Client::builder()
            .tls_certs_merge(roots)
            .timeout(timeout.map_or(PATIENCE, Duration::from_millis))
            // OTEL_EXPORTER_OTLP_HEADERS may hold a key, which is for the one that is named.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("callvault/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        Ok(Self {
            client,
            runtime: Handle::current(),
            fails: AtomicBool::new(false),
        })
    }

    fn failed(&self, why: &str) {
        if !self.fails.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "spans cannot be sent; events go on without them");
        }
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = async move { send(&client, request).await };
        let sent = self.runtime.spawn(sent).await;
        match sent.unwrap_or_else(|stopped| Err(stopped.into())) {
            Ok(answer) => {
                if !answer.status().is_success() {
                    self.failed(&format!("the collector answered {}", answer.status()));
                } else if self.fails.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are sent again");
                }
                Ok(answer)
            }
            Err(error) => {
                self.failed(&telemetry::chain(&*error));
                Err(error)
            }
        }
    }
}

async fn send(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let request = request.try_into().map_err(reqwest::Error::without_url)?;
    let sent = client.execute(request).await;
    let mut answer = sent.map_err(reqwest::Error::without_url)?;
    let status = answer.status();
    let headers = std::mem::take(answer.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(io::Error::other("its answer does not end").into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut whole = Response::builder().status(status).body(body.into())?;
    *whole.headers_mut() = headers;
    Ok(whole)
}
