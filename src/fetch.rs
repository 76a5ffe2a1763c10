//! Downloads: URL and limits → a complete [`Body`], or why not.
//!
//! The only place that speaks HTTP to origins. URLs come from events that anybody may have written, so
//! each one, and each redirect, passes the [`Guard`]; so does the address that a socket connects to.
//! What is kept are the bytes as the origin sends them: nothing is decompressed, so no length lies and
//! nothing inflates.

pub mod expiry;
pub mod guard;
mod resolve;

use std::{
    error::Error as StdError,
    io, iter,
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::Utc;
use reqwest::{
    Certificate, Client, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LAST_MODIFIED,
        LOCATION, RETRY_AFTER,
    },
    redirect,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use self::guard::{Forbidden, Guard};
use crate::{
    body::{Body, Budget, Share, WriteError},
    config, roots,
};

/// Quick tries of one download before the job gives up for this attempt.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// An origin that asks for a longer pause than this gets no quick tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest header value that is kept, in bytes.
const LONGEST_HEADER: usize = 1 << 10;

/// Downloads attachments. Cheap to share: connections are pooled.
#[derive(Debug)]
pub struct Fetcher {
    client: Client,
    guard: Arc<Guard>,
    max_redirects: u32,
}

/// A download that arrived whole.
#[derive(Debug)]
pub struct Fetched {
    /// Its bytes.
    pub body: Body,
    /// What the origin said of it.
    pub source: Source,
}

/// What an origin said of a file.
#[derive(Debug, Default)]
pub struct Source {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// Why an attachment could not be had. No message names more of a URL than its host.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The guard refuses scheme, host or address.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// The origin declared, or sent, more than this kind of attachment may have.
    #[error("the attachment has more than the {most} bytes that its kind and limits.spool allow")]
    TooLarge {
        /// The limit, in bytes.
        most: u64,
    },
    /// The origin answered, and not with the file.
    #[error("the origin answered {status}")]
    Status {
        /// Any status but 200.
        status: StatusCode,
        /// How long the origin asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The origin refused a URL whose own signed time is over: it will never be taken again.
    #[error("the origin answered {status}, and the URL's own signed time is over")]
    Expired {
        /// The refusal.
        status: StatusCode,
    },
    /// Redirected once too often.
    #[error("the origin redirected more than {0} times")]
    TooManyRedirects(u32),
    /// No connection.
    #[error("cannot connect to the origin: {0}")]
    Connect(String),
    /// Nothing came for too long.
    #[error("the origin was silent for too long: {0}")]
    Timeout(String),
    /// The origin's certificate or its TLS is not right.
    #[error("no TLS session with the origin: {0}")]
    Tls(String),
    /// The body ended early, or broke off.
    #[error("the attachment did not arrive whole: {0}")]
    BodyIncomplete(String),
    /// This machine could not take the bytes: no fault of the origin.
    #[error("this machine cannot take the download")]
    Local(#[source] io::Error),
    /// The spool is full of others' bodies; to be begun again once it is not.
    #[error("no room for {bytes} bytes in the spool")]
    NoRoom {
        /// What to wait for, in bytes.
        bytes: u64,
    },
}

/// What a failed download means for its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// This machine's fault: wait, and charge nothing.
    NotOurs,
    /// Try again later.
    MayPass,
    /// Refused: it may pass at first, and is final after some attempts.
    Refused,
    /// It will fail the same way for ever.
    Final,
}

impl FetchError {
    /// The documented problem code.
    pub fn code(&self) -> String {
        match self {
            Self::Forbidden(forbidden) => forbidden.code().into(),
            Self::TooLarge { .. } => "too_large".into(),
            Self::Status { status, .. } => format!("http_{}", status.as_u16()),
            Self::Expired { .. } => "url_expired".into(),
            Self::TooManyRedirects(_) => "too_many_redirects".into(),
            Self::Connect(_) => "connect".into(),
            Self::Timeout(_) => "timeout".into(),
            Self::Tls(_) => "tls".into(),
            Self::BodyIncomplete(_) => "body_incomplete".into(),
            Self::Local(_) | Self::NoRoom { .. } => "local".into(),
        }
    }

    /// What the failure means.
    pub fn class(&self) -> Class {
        match self {
            Self::Local(_) | Self::NoRoom { .. } => Class::NotOurs,
            Self::Connect(_) | Self::Timeout(_) | Self::Tls(_) | Self::BodyIncomplete(_) => {
                Class::MayPass
            }
            Self::Forbidden(_)
            | Self::TooLarge { .. }
            | Self::Expired { .. }
            | Self::TooManyRedirects(_) => Class::Final,
            Self::Status { status, .. } => match status.as_u16() {
                408 | 425 | 429 | 500..=599 => Class::MayPass,
                401 | 403 | 404 | 410 => Class::Refused,
                _ => Class::Final,
            },
        }
    }

    /// How long the origin asks to be left alone (RFC 9110, section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    fn status(response: &Response) -> Self {
        Self::Status {
            status: response.status(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?)),
        }
    }

    /// As an answer for `url`: a refusal is final once the URL's own time is over.
    fn for_url(self, url: &Url) -> Self {
        match self {
            Self::Status { status, .. }
                if self.class() == Class::Refused
                    && expiry::of(url).is_some_and(|end| end <= Utc::now()) =>
            {
                Self::Expired { status }
            }
            error => error,
        }
    }
}

impl From<WriteError> for FetchError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::TooLarge { most } => Self::TooLarge { most },
            WriteError::NoRoom { bytes } => Self::NoRoom { bytes },
            WriteError::Spool(error) => Self::Local(error),
        }
    }
}

impl Fetcher {
    /// A fetcher that keeps to the given rules.
    pub fn new(rules: &config::Fetch) -> Result<Self, reqwest::Error> {
        let guard = Arc::new(Guard::new(rules));
        let roots = roots::beside_the_environments();
        let roots = roots
            .iter()
            .filter_map(|der| Certificate::from_der(der).ok());
        let client = Client::builder()
            .tls_certs_merge(roots)
            // A proxy would connect in our stead, past the guard.
            .no_proxy()
            // Followed by hand, so that each hop is judged before it is taken.
            .redirect(redirect::Policy::none())
            .dns_resolver(resolve::Guarded::new(Arc::clone(&guard)))
            .referer(false)
            .http1_only()
            .connect_timeout(rules.connect_timeout)
            .read_timeout(rules.read_timeout)
            .user_agent(concat!("callvault/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            client,
            guard,
            max_redirects: rules.max_redirects,
        })
    }

    /// Downloads `url`, at most `most` bytes of it, until `deadline`; a few quick tries where the failure
    /// may pass. Where the spool is full the download is given up and begun again when there is room:
    /// an origin is not kept waiting, nor blamed, for what is ours.
    pub async fn fetch(
        &self,
        url: &Url,
        most: u64,
        budget: &Budget,
        deadline: Instant,
    ) -> Result<Fetched, FetchError> {
        let mut pause = FIRST_PAUSE;
        let mut tried = 0;
        let mut room = None;
        loop {
            let late = |_| Err(FetchError::Timeout("the job's time is over".into()));
            let fetched = self.try_fetch(url, most, budget, room.take());
            match timeout_at(deadline, fetched).await.unwrap_or_else(late) {
                Err(FetchError::NoRoom { bytes }) => {
                    room = Some(wait_for_room(budget, bytes, deadline).await?);
                }
                Err(error) if error.class() == Class::MayPass && tried + 1 < TRIES => {
                    let asked = error.retry_after().unwrap_or_default().max(pause);
                    if asked > LONGEST_PAUSE || Instant::now() + asked >= deadline {
                        return Err(error);
                    }
                    tracing::debug!(%error, tried, "trying a download again");
                    tokio::time::sleep(asked).await;
                    pause *= 2;
                    tried += 1;
                }
                result => return result.map_err(|error| error.for_url(url)),
            }
        }
    }

    async fn try_fetch(
        &self,
        url: &Url,
        most: u64,
        budget: &Budget,
        room: Option<Share>,
    ) -> Result<Fetched, FetchError> {
        let response = self.follow(url).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::status(&response));
        }
        let source = Source::of(response.headers());
        let body = receive(response, most, budget, room).await?;
        Ok(Fetched { body, source })
    }

    /// The answer at the end of the redirects.
    async fn follow(&self, url: &Url) -> Result<Response, FetchError> {
        let mut url = url.clone();
        for _ in 0..=self.max_redirects {
            self.guard.judge_url(&url)?;
            // What an event writes before the `@` is nobody's credential here.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            let request = self
                .client
                .get(url.clone())
                .header(ACCEPT, "*/*")
                .header(ACCEPT_ENCODING, "identity");
            let response = request.send().await.map_err(|e| classify(e, Phase::Head))?;
            match next_hop(&url, &response)? {
                None => return Ok(response),
                Some(next) => url = next,
            }
        }
        Err(FetchError::TooManyRedirects(self.max_redirects))
    }
}

/// Where a redirect leads; a redirect that leads nowhere is the answer itself, and final.
fn next_hop(url: &Url, response: &Response) -> Result<Option<Url>, FetchError> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let next = location.and_then(|location| url.join(location).ok());
    next.map(Some).ok_or_else(|| FetchError::status(response))
}

/// `Retry-After`: seconds, or a date in one of the three forms that HTTP has.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok().map(until),
    }
}

async fn wait_for_room(
    budget: &Budget,
    bytes: u64,
    deadline: Instant,
) -> Result<Share, FetchError> {
    let late = |_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the spool was full all the time",
        ))
    };
    let room = timeout_at(deadline, budget.room(bytes)).await;
    room.unwrap_or_else(late).map_err(FetchError::Local)
}

/// Takes in a whole body, counting what comes whatever was declared.
async fn receive(
    mut response: Response,
    most: u64,
    budget: &Budget,
    room: Option<Share>,
) -> Result<Body, FetchError> {
    let declared = response.content_length();
    if declared.is_some_and(|length| length > most) {
        return Err(FetchError::TooLarge { most });
    }
    let mut writer = budget.writer(declared, most, room).await?;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| classify(e, Phase::Body))?
    {
        writer.write(chunk).await?;
    }
    writer.finish().await.map_err(FetchError::Local)
}

impl Source {
    fn of(headers: &HeaderMap) -> Self {
        // An origin may send hundreds of kilobytes of header; the manifest keeps what is one.
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            (value.len() <= LONGEST_HEADER).then(|| value.to_owned())
        };
        Self {
            content_type: text(CONTENT_TYPE),
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
        }
    }
}

#[derive(Clone, Copy)]
enum Phase {
    Head,
    Body,
}

/// Sorts the client's one error type; URLs are taken out, for their queries are credentials.
fn classify(error: reqwest::Error, phase: Phase) -> FetchError {
    let error = error.without_url();
    let forbidden = causes(&error).find_map(|cause| cause.downcast_ref::<Forbidden>());
    if let Some(forbidden) = forbidden {
        return FetchError::Forbidden(forbidden.clone());
    }
    // Too many open files, in this process or on this machine.
    if let Some(error) = causes(&error).find_map(out_of_files) {
        return FetchError::Local(error);
    }
    let tls = causes(&error).any(|cause| cause.downcast_ref::<rustls::Error>().is_some());
    // The innermost cause says what happened; the ones around it say where.
    let words = causes(&error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    match phase {
        _ if error.is_timeout() => FetchError::Timeout(words),
        _ if tls => FetchError::Tls(words),
        Phase::Head => FetchError::Connect(words),
        Phase::Body => FetchError::BodyIncomplete(words),
    }
}

fn out_of_files(cause: &(dyn StdError + 'static)) -> Option<io::Error> {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let code = cause.downcast_ref::<io::Error>()?.raw_os_error()?;
    matches!(code, EMFILE | ENFILE).then(|| io::Error::from_raw_os_error(code))
}

/// An error and all that lies under it. `io::Error` hides what it wraps from `source`, so it is looked
/// into as well.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |&error| {
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_asks_for_a_pause_in_seconds_or_until_a_date() {
        assert_eq!(retry_after(" 120 "), Some(Duration::from_mins(2)));
        let past = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(past), Some(Duration::ZERO));
        let soon = SystemTime::now() + Duration::from_mins(10);
        let asked = retry_after(&httpdate::fmt_http_date(soon)).unwrap();
        assert!((595..=600).contains(&asked.as_secs()), "{asked:?}");
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999"] {
            assert_eq!(retry_after(nonsense), None, "{nonsense}");
        }
    }
}
