//! The provider's events: message body → [`Event`].
//!
//! What callvault needs of an event is required and judged here; all else is kept as it was written,
//! character for character, so that the manifest can repeat it. Errors name fields and positions and
//! never quote the body: it holds what people said and their telephone numbers.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::{digest::Sha256, scan::OutsideStrings};

/// The event whose attachments are archived.
pub const CALL_ANALYZED: &str = "call.analyzed";

/// The largest body, in bytes: RabbitMQ's own limit since 4.0. The manifest repeats it.
const MAX_BODY: usize = 16 << 20;
/// The most attachments of one event: each has an entry in the manifest, and takes a request.
pub const MAX_ATTACHMENTS: usize = 1000;
/// The longest URL of an attachment, in bytes; signed ones have some 2 KiB.
const MAX_URL: usize = 16 << 10;
/// The longest host of a URL, in bytes, in whatever spelling; a name in DNS has 253. To find an international
/// name's ASCII form takes time that grows with the square of its length.
const MAX_HOST: usize = 1 << 10;
/// Deeper nesting than this makes an event invalid: whoever reads its manifest recurses over it.
const MAX_DEPTH: usize = 127;

/// One message body, understood.
#[derive(Debug)]
pub enum Event {
    /// `call.analyzed`: there is something to archive.
    Analyzed(Box<CallAnalyzed>),
    /// Any other event, by its name: nothing to do.
    Other(String),
}

/// A `call.analyzed` event.
#[derive(Debug)]
pub struct CallAnalyzed {
    /// `data.id`.
    pub call_id: Id,
    /// `request_id`, or the SHA-256 of the body where the event has none.
    pub request_id: Id,
    /// `data.created_at`.
    pub created_at: DateTime<Utc>,
    /// `data.updated_at`, where the event has one that can be read.
    pub updated_at: Option<DateTime<Utc>>,
    /// `data.attachments`, in the event's order.
    pub attachments: Vec<Listed>,
    /// What the manifest repeats of `data`.
    pub call: Call,
    /// The whole body, as received.
    pub body: Box<RawValue>,
    /// Of the whole body.
    pub sha256: Sha256,
}

/// One attachment as the event lists it.
#[derive(Debug)]
pub struct Listed {
    /// Where it is, signed query and all: only the fetcher may see the whole of it.
    pub url: Url,
    /// As written; usually a string.
    pub agent_id: Option<Box<RawValue>>,
    /// What the event says that it is.
    pub content_type: Option<String>,
    /// From the URL's `organization_<uuid>` path segment.
    pub organization_id: Option<Uuid>,
}

/// The fields of `data` that a manifest repeats, each as it was written.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
pub struct Call {
    /// The call's identifier, set from [`CallAnalyzed::call_id`]'s field.
    pub id: Option<Box<RawValue>>,
    /// The conversation that the call belongs to.
    pub conversation_id: Option<Box<RawValue>>,
    channel_id: Option<Box<RawValue>>,
    contact_id: Option<Box<RawValue>>,
    campaign_id: Option<Box<RawValue>>,
    user_id: Option<Box<RawValue>>,
    direction: Option<Box<RawValue>>,
    from: Option<Box<RawValue>>,
    to: Option<Box<RawValue>>,
    language: Option<Box<RawValue>>,
    delivery_status: Option<Box<RawValue>>,
    created_at: Option<Box<RawValue>>,
    updated_at: Option<Box<RawValue>>,
}

/// An identifier that may stand in an object key: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}` without `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id(String);

impl Id {
    /// The text as an identifier, if it is one.
    pub fn new(text: &str) -> Option<Self> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=128).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(rest)
            && !text.contains("..");
        fits.then(|| Self(text.to_owned()))
    }

    /// The identifier's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a message body is not an event that callvault can archive. Final: it will read the same again.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EventError {
    /// The body is not UTF-8, as JSON must be (RFC 8259, section 8.1).
    #[error("the body is not UTF-8 (at byte {at})")]
    NotUtf8 {
        /// The first byte that is not.
        at: usize,
    },
    /// The body is not JSON.
    #[error("the body is not JSON (at line {line}, column {column})")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The body is larger than any event.
    #[error("the body has {len} bytes, of at most {MAX_BODY}")]
    TooLarge {
        /// Bytes.
        len: usize,
    },
    /// The event lists more attachments than any call has.
    #[error("data.attachments lists {count}, of at most {MAX_ATTACHMENTS}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// The body nests arrays and objects too deep.
    #[error("the body nests deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Its ids are another event's, whose archive is never replaced.
    #[error("another event with these ids, which lists other attachments, was here before")]
    Taken,
    /// A required field is not there, or null.
    #[error("{field} is missing")]
    Missing {
        /// Its path in the body.
        field: String,
    },
    /// A field is there and cannot be used.
    #[error("{field} is not {expected}")]
    Wrong {
        /// Its path in the body.
        field: String,
        /// What it should have been.
        expected: &'static str,
    },
}

impl Event {
    /// Reads one message body.
    pub fn parse(body: &Bytes) -> Result<Self, EventError> {
        if body.len() > MAX_BODY {
            return Err(EventError::TooLarge { len: body.len() });
        }
        let text = std::str::from_utf8(body).map_err(|e| EventError::NotUtf8 {
            at: e.valid_up_to(),
        })?;
        let whole: Box<RawValue> = serde_json::from_str(text).map_err(|e| EventError::NotJson {
            line: e.line(),
            column: e.column(),
        })?;
        if depth(whole.get()) > MAX_DEPTH {
            return Err(EventError::TooDeep);
        }
        let envelope: Envelope<'_> = object(&whole, "the body")?;
        let name = string(required(envelope.event, "event")?, "event")?;
        if name != CALL_ANALYZED {
            return Ok(Self::Other(name));
        }
        let sha256 = Sha256::of(body);
        let request_id = match envelope.request_id {
            Some(raw) => id(raw, "request_id")?,
            None => Id(sha256.to_string()),
        };
        let data = required(envelope.data, "data")?;
        let call: Call = object(data, "data")?;
        let list: AttachmentList<'_> = object(data, "data")?;
        let list = required(list.attachments, "data.attachments")?;
        Ok(Self::Analyzed(Box::new(CallAnalyzed {
            call_id: id(required(call.id.as_deref(), "data.id")?, "data.id")?,
            request_id,
            created_at: timestamp(required(call.created_at.as_deref(), "data.created_at")?)?,
            updated_at: call.updated_at.as_deref().and_then(moment),
            attachments: listed(list)?,
            call,
            body: whole,
            sha256,
        })))
    }
}

impl CallAnalyzed {
    /// Whether the call last changed within `span` of `now`, by the event's own account.
    pub fn changed_within(&self, span: TimeDelta, now: DateTime<Utc>) -> bool {
        let changed = self.updated_at.unwrap_or(self.created_at);
        now.signed_duration_since(changed).abs() < span
    }
}

// What is looked at on the way is not copied: a body may be large, and many are under way at once.

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct AttachmentList<'a> {
    #[serde(borrow)]
    attachments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ListedFields<'a> {
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    agent_id: Option<Box<RawValue>>,
    #[serde(borrow)]
    content_type: Option<&'a RawValue>,
}

/// The items of a list, of which those beyond the most that there may be are only counted: a body has room
/// for millions.
#[derive(Debug, Default)]
pub struct Items<'a> {
    /// Those that there may be.
    pub first: Vec<&'a RawValue>,
    /// How many there are.
    pub count: usize,
}

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Items::default();
                while items.first.len() < MAX_ATTACHMENTS
                    && let Some(item) = list.next_element()?
                {
                    items.first.push(item);
                }
                items.count = items.first.len();
                while list.next_element::<IgnoredAny>()?.is_some() {
                    items.count += 1;
                }
                Ok(items)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

fn listed(raw: &RawValue) -> Result<Vec<Listed>, EventError> {
    let items: Items<'_> = serde_json::from_str(raw.get()).map_err(|_| EventError::Wrong {
        field: "data.attachments".into(),
        expected: "an array",
    })?;
    if items.count > MAX_ATTACHMENTS {
        return Err(EventError::TooMany { count: items.count });
    }
    let one = |(at, item): (usize, &RawValue)| {
        let path = format!("data.attachments[{at}]");
        let fields: ListedFields<'_> = object(item, &path)?;
        let path = format!("{path}.url");
        let url = string(required(fields.url, &path)?, &path)?;
        let wrong = |expected| EventError::Wrong {
            field: path.clone(),
            expected,
        };
        let short = |url: &str| match url.len() {
            ..=MAX_URL => Ok(()),
            _ => Err(wrong("a URL of at most 16 KiB")),
        };
        short(&url)?;
        if host_len(&url) > MAX_HOST {
            return Err(wrong("a URL with a host of at most 1 KiB"));
        }
        let url = Url::parse(&url).map_err(|_| wrong("a URL"))?;
        // Parsed, it may be nine times as long: what is not ASCII is percent-encoded.
        short(url.as_str())?;
        Ok(Listed {
            organization_id: organization(&url),
            url,
            agent_id: fields.agent_id,
            content_type: fields.content_type.and_then(text_of),
        })
    };
    items.first.into_iter().enumerate().map(one).collect()
}

/// The length of what [`Url`] may read as a name, before it has, with the port: the schemes are those whose
/// hosts are names to it, and it overlooks tabs and line breaks, and too many slashes.
fn host_len(url: &str) -> usize {
    let overlooked = |c| matches!(c, '\t' | '\n' | '\r');
    let (scheme, rest) = url.split_once(':').unwrap_or_default();
    let scheme = scheme.trim_matches(|c| c <= ' ').replace(overlooked, "");
    let named = ["http", "https", "ws", "wss", "ftp", "file"];
    if !named
        .iter()
        .any(|named| named.eq_ignore_ascii_case(&scheme))
    {
        return 0;
    }
    let rest = rest.trim_start_matches(|c| overlooked(c) || matches!(c, '/' | '\\'));
    let authority = rest.split(['/', '\\', '?', '#']).next();
    let host = authority.and_then(|authority| authority.rsplit('@').next());
    host.map_or(0, str::len)
}

/// The UUID of the first path segment of the form `organization_<uuid>`.
fn organization(url: &Url) -> Option<Uuid> {
    url.path_segments()?
        .filter_map(|segment| segment.strip_prefix("organization_"))
        .find_map(|uuid| Uuid::try_parse(uuid).ok())
}

fn required<'a>(field: Option<&'a RawValue>, path: &str) -> Result<&'a RawValue, EventError> {
    field.ok_or_else(|| EventError::Missing { field: path.into() })
}

/// Reads a JSON object's known fields. The brace is asked for because serde would take an array too.
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue, path: &str) -> Result<T, EventError> {
    let wrong = |expected| EventError::Wrong {
        field: path.into(),
        expected,
    };
    if !raw.get().starts_with('{') {
        return Err(wrong("an object"));
    }
    // Syntax is known to be right: what remains is a known field that stands there twice, of which
    // another reader might see the other one.
    serde_json::from_str(raw.get()).map_err(|_| wrong("an object with each field once"))
}

fn string(raw: &RawValue, path: &str) -> Result<String, EventError> {
    text_of(raw).ok_or_else(|| EventError::Wrong {
        field: path.into(),
        expected: "a string",
    })
}

fn id(raw: &RawValue, path: &str) -> Result<Id, EventError> {
    Id::new(&string(raw, path)?).ok_or_else(|| EventError::Wrong {
        field: path.into(),
        expected: "an identifier of at most 128 of A-Z a-z 0-9 . _ -, first a letter or digit, without \"..\"",
    })
}

/// RFC 3339, in a year that a key can hold.
fn timestamp(raw: &RawValue) -> Result<DateTime<Utc>, EventError> {
    moment(raw)
        .filter(|moment| (1..=9999).contains(&moment.year()))
        .ok_or_else(|| EventError::Wrong {
            field: "data.created_at".into(),
            expected: "an RFC 3339 timestamp",
        })
}

fn moment(raw: &RawValue) -> Option<DateTime<Utc>> {
    let text = text_of(raw)?;
    Some(DateTime::parse_from_rfc3339(&text).ok()?.to_utc())
}

/// The text of a field that is a JSON string.
pub fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// How deep well-formed JSON nests, without recursion.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut outside = OutsideStrings::default();
    for byte in json.bytes().filter(|byte| outside.takes(*byte)) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
