//! Why an attachment could not be had, and what that means for its event.

use std::{
    error::Error as StdError,
    io, iter,
    time::{Duration, SystemTime},
};

use chrono::Utc;
use reqwest::{Response, StatusCode, header::RETRY_AFTER};
use url::Url;

use super::{expiry, guard::Forbidden};
use crate::body::WriteError;

/// The longest that is told of what a library says, in characters.
const LONGEST_WORDS: usize = 200;

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
    /// The job's time was over before the whole file was there.
    #[error("the origin took longer than limits.job_time leaves it")]
    Late,
    /// The origin's certificate or its TLS is not right.
    #[error("no TLS session with the origin: {0}")]
    Tls(String),
    /// The body ended early, or broke off.
    #[error("the attachment did not arrive whole: {0}")]
    BodyIncomplete(String),
    /// The bytes came, and another event's lie where they belong. They are never taken for this one's.
    #[error("another event with these ids has stored other bytes under the same key")]
    KeyTaken,
    /// This machine could not take the bytes: no fault of the origin.
    #[error("this machine cannot take the download")]
    Local(#[source] io::Error),
    /// The spool is full of bodies; to be begun again once it is not.
    #[error("there was no room for {bytes} bytes in limits.spool")]
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
            Self::Timeout(_) | Self::Late | Self::NoRoom { .. } => "timeout".into(),
            Self::Tls(_) => "tls".into(),
            Self::BodyIncomplete(_) => "body_incomplete".into(),
            Self::KeyTaken => "key_taken".into(),
            Self::Local(_) => "local".into(),
        }
    }

    /// What the failure means.
    pub fn class(&self) -> Class {
        match self {
            Self::Local(_) | Self::NoRoom { .. } => Class::NotOurs,
            Self::Connect(_)
            | Self::Timeout(_)
            | Self::Late
            | Self::Tls(_)
            | Self::BodyIncomplete(_)
            // Once the other's manifest is there, this event is known for a second one.
            | Self::KeyTaken => Class::MayPass,
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

    pub(super) fn status(response: &Response) -> Self {
        Self::Status {
            status: response.status(),
            retry_after: response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| retry_after(value.to_str().ok()?)),
        }
    }

    /// As an answer for `url`: a refusal is final once the URL's own time is over.
    pub(super) fn for_url(self, url: &Url) -> Self {
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

/// `Retry-After`: seconds, or a date in one of the three forms that HTTP has.
fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    let until = |date: SystemTime| date.duration_since(SystemTime::now()).unwrap_or_default();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok().map(until),
    }
}

#[derive(Clone, Copy)]
pub(super) enum Phase {
    Head,
    Body,
}

/// Sorts the client's one error type; URLs are taken out, for their queries are credentials.
pub(super) fn classify(error: reqwest::Error, phase: Phase) -> FetchError {
    let error = error.without_url();
    let forbidden = causes(&error).find_map(|cause| cause.downcast_ref::<Forbidden>());
    if let Some(forbidden) = forbidden {
        return FetchError::Forbidden(forbidden.clone());
    }
    // Too many open files or threads, in this process or on this machine.
    if let Some(error) = causes(&error).find_map(out_of_files) {
        return FetchError::Local(error);
    }
    let tls = causes(&error).any(|cause| cause.downcast_ref::<rustls::Error>().is_some());
    // The innermost cause says what happened; the ones around it say where.
    let words = causes(&error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let words = in_short(&words);
    match phase {
        _ if error.is_timeout() => FetchError::Timeout(words),
        _ if tls => FetchError::Tls(words),
        Phase::Head => FetchError::Connect(words),
        Phase::Body => FetchError::BodyIncomplete(words),
    }
}

/// What a library says, as far as a log's line, a header and a manifest have room: it may quote each of the
/// thousand names in a certificate.
fn in_short(words: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = words.chars().take(LONGEST_WORDS).map(clean).collect();
    if words.chars().nth(LONGEST_WORDS).is_some() {
        short.push('…');
    }
    short
}

fn out_of_files(cause: &(dyn StdError + 'static)) -> Option<io::Error> {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    /// No thread for a look-up.
    const EAGAIN: i32 = 11;
    let code = cause.downcast_ref::<io::Error>()?.raw_os_error()?;
    matches!(code, EMFILE | ENFILE | EAGAIN).then(|| io::Error::from_raw_os_error(code))
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
    fn what_a_library_says_is_told_on_one_short_line() {
        assert_eq!(in_short("certificate expired"), "certificate expired");
        assert_eq!(in_short("a\r\nb\x1b[2J"), "a\u{fffd}\u{fffd}b\u{fffd}[2J");
        assert_eq!(
            in_short(&"ü".repeat(LONGEST_WORDS)).chars().count(),
            LONGEST_WORDS
        );
        let cut = in_short(&"ü".repeat(100_000));
        assert!(
            cut.chars().count() == LONGEST_WORDS + 1 && cut.ends_with("ü…"),
            "{cut}"
        );
    }

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
