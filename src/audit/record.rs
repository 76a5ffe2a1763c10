//! A stored manifest, read by somebody who did not write it. Pure.
//!
//! Whoever can write to the bucket can write anything here. So nothing is taken for granted that callvault would have
//! written, and what the event's own text holds is not looked into: it may have numbers and escapes that JSON allows and
//! no type of ours holds.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    days::{Day, ManifestKey},
    finding::Code,
};
use crate::{
    digest::{Hasher, Sha256},
    event::{Items, MAX_ATTACHMENTS, text_of},
    manifest::{EntryStatus, Object, SCHEMA, Status},
};

/// How much the clocks of two machines may differ, and more.
const DAY: TimeDelta = TimeDelta::days(1);
/// White space that is tried before and after an event's text, in characters, for the digest of the message to fit.
const SPACE_BEFORE: usize = 1;
const SPACE_AFTER: usize = 4;

/// What an audit needs of a manifest.
#[derive(Debug)]
pub(super) struct Record {
    /// Its objects, in the manifest's order.
    pub(super) objects: Vec<Object>,
    /// Whether it was written for all attachments.
    pub(super) status: Status,
    /// What is wrong with the manifest itself.
    pub(super) problems: Vec<(Code, String)>,
    /// Whether the event was received as it stands there; `None` where the manifest does not repeat it.
    pub(super) event: Option<bool>,
    /// Whether it is the manifest of the event that its key names.
    pub(super) in_place: bool,
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    status: Status,
    #[serde(borrow)]
    call: CallFields<'a>,
    #[serde(borrow)]
    event: EventFields<'a>,
    #[serde(borrow)]
    attachments: &'a RawValue,
    archived_at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct CallFields<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    created_at: &'a RawValue,
}

#[derive(Deserialize)]
struct EventFields<'a> {
    #[serde(borrow)]
    request_id: Cow<'a, str>,
    #[serde(borrow)]
    sha256: Cow<'a, str>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct EntryFields {
    status: EntryStatus,
    object: Option<Object>,
}

impl Record {
    /// Reads the manifest that was found under a key; `Err` is why it is none. It may be partial for as long as `partial`.
    pub(super) fn read(
        json: &[u8],
        at: &ManifestKey,
        now: DateTime<Utc>,
        partial: TimeDelta,
    ) -> Result<Self, (Code, String)> {
        let invalid = |error: serde_json::Error| {
            // Its own words may quote the file.
            let (line, column) = (error.line(), error.column());
            let what = match error.classify() {
                serde_json::error::Category::Data => "not of a manifest's shape",
                _ => "not JSON",
            };
            (
                Code::ManifestInvalid,
                format!("{what} (line {line}, column {column})"),
            )
        };
        let versioned: Versioned<'_> = serde_json::from_slice(json).map_err(invalid)?;
        match versioned.schema.and_then(text_of) {
            Some(schema) if schema == SCHEMA => {}
            Some(other) => {
                return Err((Code::ManifestSchema, format!("{other:.64}, not {SCHEMA}")));
            }
            None => {
                return Err((
                    Code::ManifestInvalid,
                    "it names no schema: not a manifest".into(),
                ));
            }
        }
        let fields: Fields<'_> = serde_json::from_slice(json).map_err(invalid)?;
        let items: Items<'_> = serde_json::from_str(fields.attachments.get()).map_err(|_| {
            let what = "its attachments are no list".to_owned();
            (Code::ManifestInvalid, what)
        })?;
        if items.count > MAX_ATTACHMENTS {
            let count = items.count;
            let what = format!("{count} attachments: an event has at most {MAX_ATTACHMENTS}");
            return Err((Code::ManifestInvalid, what));
        }
        let entries = items.first.iter();
        let entries = entries.map(|raw| serde_json::from_str(raw.get()));
        let entries: Result<Vec<EntryFields>, _> = entries.collect();
        let entries = entries.map_err(|_| {
            let what = "an attachment is not of a manifest's shape";
            (Code::ManifestInvalid, what.to_owned())
        })?;

        let mut hashes = entries.iter().filter_map(|entry| entry.object.as_ref());
        if !hashes.all(|object| is_sha256(&object.sha256)) {
            let what = "an object's sha256 is none".to_owned();
            return Err((Code::ManifestInvalid, what));
        }

        let mut problems = Vec::new();
        let misplaced = misplaced(&fields, at);
        let in_place = misplaced.is_none();
        problems.extend(misplaced.map(|what| (Code::ManifestMisplaced, what)));
        let contradiction = contradiction(fields.status, &entries);
        problems.extend(contradiction.map(|what| (Code::ManifestContradictory, what.into())));
        let age = now.signed_duration_since(fields.archived_at);
        if fields.status == Status::Partial && (age >= partial || age < -DAY) {
            let missing = entries.iter().filter(|entry| entry.object.is_none());
            let missing = missing.count();
            let what = format!(
                "{missing} of {} attachments missing since {}",
                entries.len(),
                fields.archived_at.format("%FT%TZ")
            );
            problems.push((Code::PartialStale, what));
        }
        let event = fields
            .event
            .body
            .map(|body| is_of(body.get(), &fields.event.sha256));
        if event == Some(false) {
            let what = "event.body is not of event.sha256".into();
            problems.push((Code::EventAltered, what));
        }
        let objects = entries.into_iter().filter_map(|entry| entry.object);
        Ok(Self {
            objects: objects.collect(),
            status: fields.status,
            problems,
            event,
            in_place,
        })
    }
}

/// How a manifest's key and contents disagree.
fn misplaced(fields: &Fields<'_>, at: &ManifestKey) -> Option<String> {
    if text_of(fields.call.id).is_none_or(|id| id != at.call_id.as_str()) {
        return Some("call.id is not that of its key".into());
    }
    if fields.event.request_id != at.request_id.as_str() {
        return Some("event.request_id is not that of its key".into());
    }
    let created = text_of(fields.call.created_at);
    let created = created.and_then(|text| DateTime::parse_from_rfc3339(&text).ok());
    match created {
        Some(created) if Day::of(created.to_utc().date_naive()) == at.day => None,
        _ => Some("call.created_at is not of the day of its key".into()),
    }
}

fn contradiction(status: Status, entries: &[EntryFields]) -> Option<&'static str> {
    let missing = |entry: &EntryFields| entry.status == EntryStatus::Unavailable;
    if entries
        .iter()
        .any(|entry| missing(entry) == entry.object.is_some())
    {
        return Some(
            "an attachment is stored without an object, or unavailable and has one nevertheless",
        );
    }
    let expected = if entries.iter().any(missing) {
        Status::Partial
    } else {
        Status::Complete
    };
    (status != expected).then_some("its status is not what its attachments say")
}

/// Whether a message with this JSON text had this digest. A manifest repeats the text to the character, but for white
/// space around it, which is not part of a JSON value. So that is tried: what a publisher might have put there.
fn is_of(text: &str, sha256: &str) -> bool {
    const SPACES: [&[u8]; 4] = [b"\n", b"\r", b" ", b"\t"];
    fn ends(hasher: &Hasher, left: usize, wanted: &str) -> bool {
        hasher.clone().finish().to_string() == wanted
            || (left > 0
                && SPACES.iter().any(|space| {
                    let mut hasher = hasher.clone();
                    hasher.update(space);
                    ends(&hasher, left - 1, wanted)
                }))
    }
    fn begins(hasher: &Hasher, text: &str, left: usize, wanted: &str) -> bool {
        let mut whole = hasher.clone();
        whole.update(text.as_bytes());
        ends(&whole, SPACE_AFTER, wanted)
            || (left > 0
                && SPACES.iter().any(|space| {
                    let mut hasher = hasher.clone();
                    hasher.update(space);
                    begins(&hasher, text, left - 1, wanted)
                }))
    }
    Sha256::of(text.as_bytes()).to_string() == sha256
        || begins(&Hasher::default(), text, SPACE_BEFORE, sha256)
}

/// Whether a text can be a key that callvault made for an object, under any configuration: nothing in it climbs, hides
/// or needs escaping.
pub(super) fn is_key(key: &str) -> bool {
    const LONGEST: usize = 1024;
    let plain = |segment: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(allowed)
    };
    key.len() <= LONGEST && key.split('/').all(plain)
}

/// Whether a text is a SHA-256 as callvault writes it.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "2023/08/24/c-1/r-1/manifest.json";

    fn manifest(body: &str, sha256: &str) -> String {
        format!(
            r#"{{"schema": "callvault.manifest/v1", "status": "complete",
            "call": {{"id": "c-1", "created_at": "2023-08-24T23:30:00-00:10", "user_id": 1e999}},
            "event": {{"type": "call.analyzed", "request_id": "r-1", "sha256": "{sha256}", "attempt": 1, "body": {body}}},
            "attachments": [{{"kind": "other", "status": "archived", "source": {{"url": "\ud800"}},
              "object": {{"bucket": "b", "key": "k", "size": 1, "sha256": "{}", "content_type": null}}}}],
            "worker": {{"name": "callvault"}}, "archived_at": "2023-08-24T23:45:00Z"}}"#,
            Sha256::of(b"x")
        )
    }

    fn read(json: &str) -> Result<Record, (Code, String)> {
        let at = ManifestKey::parse(KEY).unwrap();
        Record::read(json.as_bytes(), &at, Utc::now(), DAY)
    }

    fn codes(json: &str) -> Vec<Code> {
        match read(json) {
            Ok(record) => record.problems.into_iter().map(|(code, _)| code).collect(),
            Err((code, _)) => vec![code],
        }
    }

    fn whole() -> String {
        let body = r#"{"n": 1e999, "text": "\ud800", "deep": [[[]]]}"#;
        manifest(body, &Sha256::of(body.as_bytes()).to_string())
    }

    #[test]
    fn an_events_odd_numbers_and_escapes_make_no_manifest_invalid() {
        let record = read(&whole()).unwrap();
        assert_eq!(
            (record.problems.len(), record.event, record.objects.len()),
            (0, Some(true), 1)
        );
        // Deeper than serde_json recurses.
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let json = manifest(&deep, &Sha256::of(deep.as_bytes()).to_string());
        assert_eq!(read(&json).unwrap().event, Some(true));
    }

    #[test]
    fn an_event_is_the_one_received_whatever_white_space_was_around_it() {
        for (message, known) in [
            ("{\"a\": 1}", true),
            ("{\"a\": 1}\n", true),
            ("{\"a\": 1}\r\n\r\n", true),
            (" {\"a\": 1}\n", true),
            ("{\"a\":1}", false),
            ("{\"a\": 2}", false),
        ] {
            let sha256 = Sha256::of(message.as_bytes()).to_string();
            let record = read(&manifest("{\"a\": 1}", &sha256)).unwrap();
            assert_eq!(record.event, Some(known), "{message:?}");
            assert_eq!(record.problems.is_empty(), known);
        }
    }

    #[test]
    fn what_is_wrong_with_a_manifest_is_told_apart() {
        use Code::{
            ManifestContradictory, ManifestInvalid, ManifestMisplaced, ManifestSchema, PartialStale,
        };
        let whole = whole();
        assert_eq!(codes(&whole), []);
        for (from, to, code) in [
            ("manifest/v1", "manifest/v2", ManifestSchema),
            ("\"schema\"", "\"other\"", ManifestInvalid),
            (
                "\"attachments\": [",
                "\"attachments\": [7,",
                ManifestInvalid,
            ),
            ("\"size\": 1", "\"size\": -1", ManifestInvalid),
            ("\"sha256\": \"2d71", "\"sha256\": \"2D71", ManifestInvalid),
            ("2023-08-24T23:45:00Z", "lately", ManifestInvalid),
            ("\"id\": \"c-1\"", "\"id\": \"c-2\"", ManifestMisplaced),
            ("\"id\": \"c-1\"", "\"id\": 1", ManifestMisplaced),
            ("\"r-1\"", "\"r-2\"", ManifestMisplaced),
            ("-00:10", "-01:00", ManifestMisplaced),
            ("\"archived\"", "\"unavailable\"", ManifestContradictory),
            ("\"complete\"", "\"partial\"", ManifestContradictory),
        ] {
            assert!(whole.contains(from), "{from}");
            assert_eq!(
                codes(&whole.replace(from, to)).first(),
                Some(&code),
                "{from} → {to}"
            );
        }
        let partial = whole
            .replace("complete", "partial")
            .replace("\"archived\"", "\"unavailable\"")
            .replace("\"object\"", "\"no_object\"");
        assert_eq!(codes(&partial), [PartialStale]);
        let now = Utc::now().to_rfc3339();
        assert_eq!(codes(&partial.replace("2023-08-24T23:45:00Z", &now)), []);
        assert_eq!(codes("[]"), [ManifestInvalid]);
        assert_eq!(codes("{}"), [ManifestInvalid]);
        assert_eq!(codes(""), [ManifestInvalid]);
        assert_eq!(codes("{\"schema\": \"\u{1}"), [ManifestInvalid]);
    }

    #[test]
    fn more_attachments_than_an_event_can_have_are_not_looked_at() {
        let many = vec!["{}"; 2_000_000].join(",");
        let json = whole().replace("\"attachments\": [", &format!("\"attachments\": [{many},"));
        assert_eq!(codes(&json), [Code::ManifestInvalid]);
    }

    #[test]
    fn a_key_that_climbs_or_hides_is_none() {
        assert!(is_key("2023/08/24/c/r/recording.wav"));
        assert!(is_key("_2023/08/24/c/r"));
        for key in [
            "",
            "/etc/passwd",
            "a/../b",
            "a//b",
            "a/./b",
            ".callvault.lock",
            "a b",
            "a\nb",
            "a#1",
            "a/",
            "ü",
            "a\\b",
        ] {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_key(&"x".repeat(1025)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(at in 0..600_usize, byte: u8, cut in 0..600_usize) {
            let mut json = whole().into_bytes();
            let at = at.min(json.len() - 1);
            json[at] = byte;
            let key = ManifestKey::parse(KEY).unwrap();
            let _ = Record::read(&json, &key, Utc::now(), DAY);
            let _ = Record::read(&json[..cut.min(json.len())], &key, Utc::now(), DAY);
        }
    }
}
