//! An HTTP proxy of the test's own before the S3 server, which answers, holds and refuses as told.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Method, Response, StatusCode, header},
};
use reqwest::Client;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::wait::eventually;

/// More than the largest body that goes up in one request.
const LARGEST: usize = 80 << 20;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The server answers.
    Pass,
    /// 503 with `Retry-After`, as a store answers that is overloaded.
    Busy,
    /// None is answered, nor does it reach the server, until the rule changes.
    Hold,
    /// As [`Self::Hold`], for the parts of multipart uploads alone.
    HoldParts,
}

/// A running gateway; it ends with its value.
pub(crate) struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: String,
    client: Client,
    rule: watch::Sender<Rule>,
    /// How many requests were held, ever.
    held: AtomicUsize,
    /// Method, and path with query, of each request, in order.
    seen: Mutex<Vec<(Method, String)>>,
}

impl Gateway {
    /// A gateway before the server at an endpoint, `http://host:port`.
    pub(crate) async fn before(endpoint: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: endpoint.to_owned(),
            client: super::http_client(),
            rule: watch::Sender::new(Rule::Pass),
            held: AtomicUsize::new(0),
            seen: Mutex::default(),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            task,
        }
    }

    /// For the configuration: `http://127.0.0.1:PORT`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; requests that are held are judged again.
    pub(crate) fn set(&self, rule: Rule) {
        self.shared.rule.send_replace(rule);
    }

    /// How many requests were held, ever.
    pub(crate) fn held(&self) -> usize {
        self.shared.held.load(Ordering::Relaxed)
    }

    /// Waits until `more` requests than `before` have been held.
    pub(crate) async fn wait_held(&self, before: usize, more: usize) {
        let what = format!("{more} requests to be held by the gateway");
        eventually(Duration::from_secs(30), &what, async || {
            (self.held() >= before + more).then_some(())
        })
        .await;
    }

    /// How many requests there were that a predicate picks by method, and path with query.
    pub(crate) fn count(&self, picks: impl Fn(&Method, &str) -> bool) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter()
            .filter(|(method, path)| picks(method, path))
            .count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    let method = request.method().clone();
    shared
        .seen
        .lock()
        .unwrap()
        .push((method.clone(), path.clone()));
    let is_part = method == Method::PUT && path.contains("partNumber=");
    let holds = |rule: Rule| rule == Rule::Hold || (rule == Rule::HoldParts && is_part);
    let mut rule = shared.rule.subscribe();
    let now = *rule.borrow_and_update();
    if holds(now) {
        shared.held.fetch_add(1, Ordering::Relaxed);
        let _ = rule.wait_for(|rule| !holds(*rule)).await;
    }
    let now = *rule.borrow();
    if now == Rule::Busy {
        let mut response = status(503);
        response.headers_mut().insert(header::RETRY_AFTER, 1.into());
        // What was sent is not read; the connection is of no use any more.
        response
            .headers_mut()
            .insert(header::CONNECTION, "close".parse().unwrap());
        return response;
    }
    forward(&shared, method, &path, request)
        .await
        .unwrap_or_else(|| status(502))
}

/// The server's answer; none where either end fell silent.
async fn forward(
    shared: &Shared,
    method: Method,
    path: &str,
    request: Request,
) -> Option<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.ok()?;
    let request = shared
        .client
        .request(method, format!("{}{path}", shared.upstream));
    let headers = without(parts.headers, &[header::HOST, header::CONTENT_LENGTH]);
    let answer = request.headers(headers).body(body).send().await.ok()?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = Response::new(Body::from(answer.bytes().await.ok()?));
    *response.status_mut() = status;
    *response.headers_mut() = without(headers, &[]);
    Some(response)
}

/// Headers that are of one connection do not go along.
fn without(mut headers: HeaderMap, more: &[HeaderName]) -> HeaderMap {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING]
        .iter()
        .chain(more)
    {
        headers.remove(name);
    }
    headers
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
