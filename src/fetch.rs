//! Downloads: URL and limits → a complete [`Body`], or why not.
//!
//! The only place that speaks HTTP to origins. URLs come from events that anybody may have written, so
//! each one, and each redirect, passes the [`Guard`]; so does the address that a socket connects to.
//! What is kept are the bytes as the origin sends them: nothing is decompressed, so no length lies and
//! nothing inflates.

mod error;
pub mod expiry;
pub mod guard;
mod resolve;
mod threads;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use reqwest::{
    Certificate, Client, Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
        HeaderValue, LAST_MODIFIED, LOCATION, TRANSFER_ENCODING,
    },
    redirect,
};
use tokio::time::{Instant, timeout_at};
use url::Url;

pub use self::error::{Class, FetchError};
use self::{
    error::{Phase, classify},
    guard::Guard,
    threads::Threads,
};
use crate::{
    body::{Body, Budget, MEDIUM, Share},
    config, roots,
};

/// Quick tries of one download before the job gives up for this attempt.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// An origin that asks for a longer pause than this gets no quick tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The most headers that an answer may have, and trailers too. Their size is bounded by the client: 408 KiB
/// of head, 16 KiB of trailers, 16 KiB of chunk extensions. `fetch.read_timeout` is for the whole head, not
/// for each read of it, and so for all the `1xx` answers that may come before it.
const MOST_HEADERS: usize = 100;
/// How long after its deadline a download may still say itself why it ended.
const LAST_WORD: Duration = Duration::from_secs(1);
/// The longest `Location` that is followed, in bytes: as long as an event's URLs may be.
const LONGEST_LOCATION: usize = 16 << 10;
/// The longest header value that is kept, in bytes.
const LONGEST_HEADER: usize = 1 << 10;

/// Downloads attachments. Cheap to share: connections are pooled.
#[derive(Debug)]
pub struct Fetcher {
    downloads: Arc<Downloads>,
    threads: Threads,
}

#[derive(Debug)]
struct Downloads {
    client: Client,
    guard: Arc<Guard>,
    max_redirects: u32,
    /// For large bodies.
    large: Threads,
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

impl Fetcher {
    /// A fetcher that keeps to the given rules, and so many connections to a host that are not in use: each
    /// holds a read buffer that has grown with what came through it.
    pub fn new(rules: &config::Fetch, idle_connections: usize) -> io::Result<Self> {
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
            .http1_max_headers(MOST_HEADERS)
            .pool_max_idle_per_host(idle_connections)
            .connect_timeout(rules.connect_timeout)
            .read_timeout(rules.read_timeout)
            .user_agent(concat!("callvault/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        let downloads = Downloads {
            client,
            guard,
            max_redirects: rules.max_redirects,
            large: Threads::start_nice()?,
        };
        Ok(Self {
            downloads: Arc::new(downloads),
            threads: Threads::start()?,
        })
    }

    /// What judges where downloads may lead.
    pub fn guard(&self) -> &Guard {
        &self.downloads.guard
    }

    /// Downloads `url`, at most `most` bytes of it, until `deadline`; a few quick tries where the failure
    /// may pass. Dropped, it ends. To `received` each byte is added as it comes.
    pub async fn fetch(
        &self,
        url: &Url,
        most: u64,
        budget: &Budget,
        deadline: Instant,
        received: &Arc<AtomicU64>,
    ) -> Result<Fetched, FetchError> {
        let (downloads, url) = (Arc::clone(&self.downloads), url.clone());
        let (budget, received) = (budget.clone(), Arc::clone(received));
        let download = async move {
            downloads
                .fetch(&url, most, &budget, deadline, &received)
                .await
        };
        // It ends by itself, unless those threads have no time for their own clock.
        timeout_at(deadline + LAST_WORD, self.threads.run(download))
            .await
            .unwrap_or(Err(FetchError::Late))
    }
}

impl Downloads {
    /// Where the spool is full the download is given up and begun again when there is room: an origin is
    /// not kept waiting, nor blamed, for what is ours.
    async fn fetch(
        &self,
        url: &Url,
        most: u64,
        budget: &Budget,
        deadline: Instant,
        received: &Arc<AtomicU64>,
    ) -> Result<Fetched, FetchError> {
        let mut pause = FIRST_PAUSE;
        let mut tried = 0;
        let mut room = None;
        let due = expiry::due(url, Utc::now());
        loop {
            let late = |_| Err(FetchError::Late);
            let fetched = self.try_fetch(url, most, budget, room.take(), received);
            match timeout_at(deadline, fetched).await.unwrap_or_else(late) {
                Err(FetchError::NoRoom { bytes }) => {
                    room = Some(wait_for_room(budget, bytes, due, deadline).await?);
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
        received: &Arc<AtomicU64>,
    ) -> Result<Fetched, FetchError> {
        let response = self.follow(url).await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::status(&response));
        }
        let source = Source::of(response.headers());
        let told = judge_coding(response.headers())?;
        let large = response
            .content_length()
            .is_some_and(|length| length > MEDIUM);
        let body = receive(response, most, budget.clone(), room, Arc::clone(received));
        let body = if large {
            self.large.run(body).await?
        } else {
            body.await?
        };
        match told.into_iter().find(|told| *told != Some(body.len())) {
            None => Ok(Fetched { body, source }),
            Some(_) => Err(FetchError::BodyIncomplete(
                "its Content-Length is not what its Transfer-Encoding has".into(),
            )),
        }
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
        .filter(|value| value.len() <= LONGEST_LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let next = location.and_then(|location| url.join(location).ok());
    next.map(Some).ok_or_else(|| FetchError::status(response))
}

async fn wait_for_room(
    budget: &Budget,
    bytes: u64,
    due: DateTime<Utc>,
    deadline: Instant,
) -> Result<Share, FetchError> {
    match timeout_at(deadline, budget.room(bytes, due)).await {
        Ok(room) => room.map_err(FetchError::Local),
        Err(_) => Err(FetchError::NoRoom { bytes }),
    }
}

/// Judges how a body is sent, and says the lengths that the client will not hold it to. One in a coding
/// that was not asked for is not the file's bytes; one in a coding that nobody knows would be taken for
/// whole wherever the connection ends, whatever its `Content-Length`; and who tells two lengths in two ways
/// has either sent too little, or means the rest for somebody else (RFC 9112, section 6.3).
fn judge_coding(headers: &HeaderMap) -> Result<Vec<Option<u64>>, FetchError> {
    let codings: Vec<_> = headers.get_all(TRANSFER_ENCODING).iter().collect();
    let plain = |coding: &[u8]| {
        let is = |name: &[u8]| coding.eq_ignore_ascii_case(name);
        is(b"chunked") || is(b"identity")
    };
    match codings[..] {
        [] => Ok(Vec::new()),
        [coding] if plain(coding.as_bytes()) => {
            let lengths = headers.get_all(CONTENT_LENGTH).iter();
            let parse = |length: &HeaderValue| length.to_str().ok()?.parse().ok();
            Ok(lengths.map(parse).collect())
        }
        _ => Err(FetchError::BodyIncomplete(
            "its Transfer-Encoding is not one \"chunked\", and no other was asked for".into(),
        )),
    }
}

/// Takes in a whole body, counting what comes whatever was declared.
async fn receive(
    mut response: Response,
    most: u64,
    budget: Budget,
    room: Option<Share>,
    received: Arc<AtomicU64>,
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
        received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        writer.write(chunk).await?;
    }
    writer.finish().await.map_err(FetchError::Local)
}

impl Source {
    fn of(headers: &HeaderMap) -> Self {
        // An origin may send hundreds of kilobytes of header; the manifest keeps what is one.
        let text = |name: HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            // A tab is but another space there, and a control character wherever the value goes.
            (value.len() <= LONGEST_HEADER).then(|| value.replace('\t', " "))
        };
        Self {
            content_type: text(CONTENT_TYPE),
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
        }
    }
}
