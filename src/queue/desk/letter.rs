//! What a dead message tells of itself. Anybody may have put it there: no header is taken for granted.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    digest::Sha256,
    event::{Id, text_of},
    queue::message::{self, DETAIL, FAILED_AT, REASON},
};

/// Why the broker itself moved a message, the newest move first.
const DEATHS: &str = "x-death";
/// The broker's word for a message that killed its worker each time. Its note is newer than any of
/// callvault's: what callvault publishes has no note of the broker's.
const DELIVERY_LIMIT: &str = "delivery_limit";
/// A message that does not say why it is dead.
const UNKNOWN: &str = "unknown";

/// The longest reason and detail that are kept of a message, in bytes. callvault's own are shorter.
const LONGEST_REASON: usize = 64;
const LONGEST_DETAIL: usize = 512;
/// How much of a body's SHA-256 stands for a message without an identifier, in hex digits.
const SHORT_DIGEST: usize = 16;
/// A shorter text is no prefix of a SHA-256: it would name strangers by chance.
pub const SHORTEST_PREFIX: usize = 8;

/// One dead message, without its body.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its `message_id`, where it has one.
    pub message_id: Option<String>,
    /// Of its body.
    pub sha256: Sha256,
    /// The event's `data.id`, where it can be read and is an identifier.
    pub call_id: Option<String>,
    /// `x-callvault-reason`, or the broker's word.
    pub reason: String,
    /// `x-callvault-detail`.
    pub detail: Option<String>,
    /// How often it was tried, where callvault counted.
    pub attempt: Option<u32>,
    /// How often it was replayed before.
    pub replays: u32,
    /// When it died.
    pub died_at: Option<DateTime<Utc>>,
    /// The length of its body.
    pub bytes: usize,
}

impl Letter {
    pub(super) fn of(properties: &BasicProperties, body: &[u8]) -> Self {
        let nothing = FieldTable::default();
        let headers = properties.headers().as_ref().unwrap_or(&nothing);
        let header = |name| text(headers.inner().get(name)?);
        let message_id = properties.message_id().as_ref();
        let of_broker = Death::latest(headers);
        let killer = of_broker
            .as_ref()
            .filter(|death| death.reason == DELIVERY_LIMIT);
        let (reason, died_at) = if let Some(killer) = killer {
            (killer.reason.to_string(), killer.at)
        } else {
            let reason = header(REASON).or_else(|| Some(of_broker.as_ref()?.reason.clone()));
            let at = header(FAILED_AT).and_then(|at| DateTime::parse_from_rfc3339(&at).ok());
            let at = at.map(|at| at.to_utc());
            (
                reason.unwrap_or(UNKNOWN.into()).into_owned(),
                at.or_else(|| of_broker.as_ref()?.at),
            )
        };
        Self {
            message_id: message_id
                .map(|id| id.as_str().to_owned())
                .filter(|id| !id.is_empty()),
            sha256: Sha256::of(body),
            call_id: call_id(body),
            reason: cut(reason, LONGEST_REASON),
            detail: header(DETAIL)
                .filter(|_| killer.is_none())
                .map(|detail| cut(detail.into_owned(), LONGEST_DETAIL)),
            attempt: message::tries(properties),
            replays: message::replays(properties),
            died_at,
            bytes: body.len(),
        }
    }

    /// What names it: its `message_id`, else the beginning of its body's SHA-256.
    pub fn id(&self) -> Cow<'_, str> {
        self.message_id.as_deref().map_or_else(
            || {
                let mut digest = self.sha256.to_string();
                digest.truncate(SHORT_DIGEST);
                digest.into()
            },
            Cow::Borrowed,
        )
    }

    /// Whether `id` names it. Several messages may have one `message_id`, or one body: it names them all.
    pub fn is_named(&self, id: &str) -> bool {
        let is_prefix = || {
            id.len() >= SHORTEST_PREFIX
                && self
                    .sha256
                    .to_string()
                    .starts_with(&id.to_ascii_lowercase())
        };
        self.message_id.as_deref() == Some(id) || is_prefix()
    }
}

/// A move of the broker's.
struct Death<'a> {
    reason: Cow<'a, str>,
    at: Option<DateTime<Utc>>,
}

impl<'a> Death<'a> {
    fn latest(headers: &'a FieldTable) -> Option<Self> {
        let AMQPValue::FieldArray(deaths) = headers.inner().get(DEATHS)? else {
            return None;
        };
        let AMQPValue::FieldTable(death) = deaths.as_slice().first()? else {
            return None;
        };
        let at = match death.inner().get("time") {
            Some(AMQPValue::Timestamp(at)) => moment(*at),
            _ => None,
        };
        Some(Self {
            reason: text(death.inner().get("reason")?)?,
            at,
        })
    }
}

pub(super) fn moment(seconds: u64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, 0)
}

fn text(value: &AMQPValue) -> Option<Cow<'_, str>> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes())),
        AMQPValue::ShortString(text) => Some(ShortString::as_str(text).into()),
        _ => None,
    }
}

fn cut(mut text: String, longest: usize) -> String {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
        text.shrink_to_fit();
    }
    text
}

/// Looks for `data.id` in what need not be an event, nor JSON. What is no identifier is not repeated: it
/// could be anything, a telephone number too.
fn call_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope<'a> {
        #[serde(borrow)]
        data: Option<Data<'a>>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).ok()?;
    let id = text_of(envelope.data?.id?)?;
    Some(Id::new(&id)?.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    fn string(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn death(reason: &str) -> AMQPValue {
        let mut death = FieldTable::default();
        death.insert("reason".into(), string(reason));
        death.insert("time".into(), AMQPValue::Timestamp(1_700_000_000));
        AMQPValue::FieldTable(death)
    }

    fn letter(headers: &[(&str, AMQPValue)], body: &[u8]) -> Letter {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), value.clone());
        }
        Letter::of(&BasicProperties::default().with_headers(table), body)
    }

    #[test]
    fn the_newest_death_tells_the_reason() {
        let deaths = |reasons: &[&str]| {
            let deaths: Vec<_> = reasons.iter().map(|reason| death(reason)).collect();
            (DEATHS, AMQPValue::FieldArray(FieldArray::from(deaths)))
        };
        let own = || (REASON, string("too_large"));
        for (headers, reason) in [
            (vec![own()], "too_large"),
            (
                vec![deaths(&["delivery_limit", "expired"])],
                "delivery_limit",
            ),
            // Dead once, put back by hand with its headers, and then the killer of its worker.
            (vec![own(), deaths(&["delivery_limit"])], "delivery_limit"),
            (vec![own(), deaths(&["expired"])], "too_large"),
            (vec![deaths(&["expired"])], "expired"),
            (vec![deaths(&[])], UNKNOWN),
            (
                vec![(DEATHS, string("?")), (REASON, AMQPValue::Void)],
                UNKNOWN,
            ),
        ] {
            assert_eq!(letter(&headers, b"").reason, reason, "{headers:?}");
        }
        let killed = letter(&[deaths(&["delivery_limit"])], b"");
        assert_eq!(killed.died_at, moment(1_700_000_000));
    }

    #[test]
    fn a_call_is_read_only_where_it_is_an_identifier() {
        for (body, call) in [
            (
                &br#"{"data": {"id": "c-1", "id2": [[]]}, "event": 7}"#[..],
                Some("c-1"),
            ),
            (br#"{"data": {"id": "+14244023931"}}"#, None),
            (br#"{"data": {"id": 14244023931}}"#, None),
            (br#"{"data": []}"#, None),
            (b"\xff\x1b[2J", None),
            (b"", None),
        ] {
            assert_eq!(letter(&[], body).call_id.as_deref(), call);
        }
    }

    #[test]
    fn a_message_is_named_by_its_id_or_by_its_body() {
        // The SHA-256 of "abc".
        let digest = "ba7816bf8f01cfea";
        let anonymous = letter(&[], b"abc");
        assert_eq!(anonymous.id(), digest);
        assert!(anonymous.is_named(digest) && anonymous.is_named("BA7816BF"));
        assert!(!anonymous.is_named("ba7816b") && !anonymous.is_named(""));
        let properties = BasicProperties::default().with_message_id("r-1".into());
        let named = Letter::of(&properties, b"abc");
        assert!(named.id() == "r-1" && named.is_named("r-1") && named.is_named(digest));
        assert!(!named.is_named("r-"));
    }

    #[test]
    fn what_a_stranger_wrote_is_cut() {
        let long = "ä".repeat(5000);
        let letter = letter(&[(REASON, string(&long)), (DETAIL, string(&long))], b"");
        assert!(letter.reason.len() <= LONGEST_REASON + 3 && letter.reason.ends_with('…'));
        assert!(letter.detail.unwrap().len() <= LONGEST_DETAIL + 3);
    }
}
