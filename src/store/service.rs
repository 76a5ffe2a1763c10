//! What carries the stores' requests: the place where bodies take the place of their stand-ins.

use std::{
    error::Error,
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use object_store::client::{
    HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use reqwest::{Body, Client, Request, header::CONTENT_LENGTH};
use tokio::{
    task::yield_now,
    time::{Instant, timeout_at},
};

use super::{
    clock,
    outgoing::{Outgoing, is_stand_in},
};
use crate::body::MEDIUM;

/// The slowest line on which a body may go up, in bytes a second: its request has so much more time altogether.
const SLOWEST: u64 = 256 << 10;

/// Sends what the store library asks to be sent.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) client: Client,
    /// The longest that a request may take, and of one that streams a body, the longest silence.
    pub(super) timeout: Option<Duration>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse().map_err(refused)?;
        let mut request = Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        let payload = payload(body).await?;
        let mut progress = None;
        match stood_for(&payload).map_err(refused)? {
            None => *request.body_mut() = Some(real(payload)),
            Some(outgoing) => {
                // By this the other side knows where the body ends, and it was signed.
                let declared = request.headers().get(CONTENT_LENGTH);
                if declared.is_none_or(|length| length != outgoing.len().to_string().as_str()) {
                    return Err(refused("a body that is not as long as its request says"));
                }
                let longer = Duration::from_secs(outgoing.len() / SLOWEST);
                *request.timeout_mut() = self.timeout.map(|time| time + longer);
                let taken = progress.insert(Progress::default()).clone();
                let large = outgoing.len() > MEDIUM;
                let pieces = outgoing.pieces().then(move |piece| {
                    taken.made();
                    async move {
                        // A connection sends as long as there is something to send, and would keep others from the thread.
                        if large {
                            yield_now().await;
                        }
                        piece
                    }
                });
                *request.body_mut() = Some(Body::wrap_stream(pieces));
            }
        }
        let sent = self.client.execute(request);
        let response = match (progress, self.timeout) {
            (Some(progress), Some(longest)) => progress.watch(longest, sent).await?,
            _ => sent.await,
        };
        let response = response.map_err(failed)?;
        clock::heard(response.headers());
        let (parts, body) = hyper::Response::<Body>::from(response).into_parts();
        let body = HttpResponseBody::new(body.map_err(failed));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

/// When a connection last took something of a body. A store that falls silent in the middle of a long one is not to be
/// waited for as long as all of it may take.
#[derive(Debug, Clone)]
struct Progress(Arc<Mutex<Instant>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Progress {
    fn made(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    async fn watch<T>(
        &self,
        longest: Duration,
        sent: impl Future<Output = T>,
    ) -> Result<T, HttpError> {
        let mut sent = pin!(sent);
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= longest {
                let what = format!("the store took nothing and said nothing for {longest:?}");
                let silent = io::Error::new(io::ErrorKind::TimedOut, what);
                return Err(HttpError::new(HttpErrorKind::Timeout, silent));
            }
            if let Ok(answer) = timeout_at(last + longest, &mut sent).await {
                return Ok(answer);
            }
        }
    }
}

/// The bytes that a request of the library's has: they are all there.
async fn payload(mut body: HttpRequestBody) -> Result<Vec<Bytes>, HttpError> {
    let mut payload = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            payload.push(bytes);
        }
    }
    Ok(payload)
}

/// The body that a payload stands for, if it does. Part of one, or one that is not here, is never sent.
fn stood_for(payload: &[Bytes]) -> Result<Option<Outgoing>, &'static str> {
    let stand_ins = payload.iter().filter(|bytes| is_stand_in(bytes)).count();
    if stand_ins == 0 {
        return Ok(None);
    }
    let len: u64 = payload.iter().map(|bytes| bytes.len() as u64).sum();
    match Outgoing::here() {
        Some(outgoing) if stand_ins == payload.len() && outgoing.len() == len => Ok(Some(outgoing)),
        _ => Err("a body was to be sent that is not at hand"),
    }
}

fn real(mut payload: Vec<Bytes>) -> Body {
    match payload.len() {
        0 => Body::from(Bytes::new()),
        1 => Body::from(payload.remove(0)),
        _ => Body::wrap_stream(stream::iter(payload.into_iter().map(Ok::<_, io::Error>))),
    }
}

/// What is wrong with a request before it is sent; it will be so with the next try.
fn refused(error: impl Into<Box<dyn Error + Send + Sync>>) -> HttpError {
    HttpError::new_boxed(HttpErrorKind::Unknown, error.into())
}

/// What the library goes by when it decides whether to try again; as its own service tells it.
fn failed(error: reqwest::Error) -> HttpError {
    let known = if error.is_timeout() {
        Some(HttpErrorKind::Timeout)
    } else if error.is_connect() {
        Some(HttpErrorKind::Connect)
    } else if error.is_decode() {
        Some(HttpErrorKind::Decode)
    } else {
        let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
        causes.find_map(kind)
    };
    // The library names the URL itself, where it may be told.
    HttpError::new(known.unwrap_or(HttpErrorKind::Unknown), error.without_url())
}

fn kind(cause: &(dyn Error + 'static)) -> Option<HttpErrorKind> {
    use io::ErrorKind as Io;
    if let Some(error) = cause.downcast_ref::<hyper::Error>() {
        if error.is_closed() || error.is_incomplete_message() || error.is_body_write_aborted() {
            return Some(HttpErrorKind::Request);
        }
        return error.is_timeout().then_some(HttpErrorKind::Timeout);
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        Io::TimedOut => Some(HttpErrorKind::Timeout),
        Io::ConnectionAborted | Io::ConnectionReset | Io::BrokenPipe | Io::UnexpectedEof => {
            Some(HttpErrorKind::Interrupted)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use object_store::{PutPayload, client::HttpClient};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{body::Body as Attachment, store::tests::body_of};

    /// Offers a payload to a server that answers nobody, and says whether it was even called.
    async fn offered(body: &Attachment, payload: PutPayload, length: u64) -> (String, bool) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = HttpClient::new(Service {
            client: Client::builder().no_proxy().build().unwrap(),
            timeout: Some(Duration::from_secs(1)),
        });
        let mut request = HttpRequest::new(payload.into());
        *request.method_mut() = reqwest::Method::PUT;
        let url = format!("http://{}/", server.local_addr().unwrap());
        *request.uri_mut() = url.parse().unwrap();
        request.headers_mut().insert(CONTENT_LENGTH, length.into());
        let sent = Outgoing::whole(body).during(|_| client.execute(request));
        tokio::select! {
            answer = sent => (answer.unwrap_err().source().unwrap().to_string(), false),
            _ = server.accept() => (String::new(), true),
        }
    }

    #[tokio::test]
    async fn a_stand_in_is_sent_as_its_body_or_not_at_all() {
        let body = body_of(&vec![1; 200_000]).await;
        let other = body_of(&vec![1; 200_001]).await;
        let of = |body: &Attachment| {
            let mut payload = PutPayload::default();
            let kept = Outgoing::whole(body).during(|stand_in| {
                payload = stand_in;
                std::future::ready(())
            });
            drop(kept);
            payload
        };
        let parts = |payload: &PutPayload| payload.iter().cloned().collect::<Vec<_>>();
        assert!(offered(&body, of(&body), 200_000).await.1);
        assert!(offered(&body, Bytes::from_static(b"x").into(), 1).await.1);

        let stand_in = of(&body);
        let real = [&parts(&stand_in)[..], &[Bytes::from_static(b"x")]].concat();
        let sliced = parts(&stand_in)[0].slice(10..20);
        for (what, payload, length) in [
            ("another body's", of(&other), 200_001),
            (
                "a part",
                parts(&stand_in)[1..].iter().cloned().collect(),
                134_464,
            ),
            ("with real bytes", real.into_iter().collect(), 200_001),
            ("a slice", sliced.into(), 10),
            ("of another declared length", stand_in, 199_999),
        ] {
            let (error, called) = offered(&body, payload, length).await;
            assert!(!called, "{what} was sent");
            assert!(error.contains("body"), "{what}: {error}");
        }
    }

    #[tokio::test]
    async fn a_stand_in_without_its_body_is_refused() {
        let body = body_of(b"abc").await;
        let mut payload = None;
        drop(Outgoing::whole(&body).during(|stand_in| {
            payload = Some(stand_in);
            std::future::ready(())
        }));
        let payload: Vec<Bytes> = payload.unwrap().into_iter().collect();
        assert!(stood_for(&payload).is_err());
        let task = Outgoing::whole(&body).during(|_| async {
            let elsewhere = tokio::spawn(async move { stood_for(&payload).is_err() });
            elsewhere.await.unwrap()
        });
        assert!(task.await, "another task has it at hand");
    }
}
