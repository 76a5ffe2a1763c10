//! A manifest as rows of an index: one an attachment, for whoever loads them as a table. Pure.

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    audit::days::{Day, ManifestKey},
    digest::Sha256,
    event::{Items, MAX_ATTACHMENTS, text_of},
    manifest::{EntryStatus, SCHEMA, Status},
};

/// The longest text of a column, in bytes; longer ones are cut. None of those that the provider documents comes near.
const LONGEST: usize = 1 << 10;

/// One line of an index. A field that there is no value for is null, so that each row has each column.
#[derive(Debug, Serialize)]
struct Row<'a> {
    manifest: &'a str,
    day: Day,
    manifest_size: u64,
    manifest_sha256: Sha256,
    status: Sealed,
    archived_at: Option<String>,
    call_id: &'a str,
    request_id: &'a str,
    created_at: Option<String>,
    conversation_id: Option<String>,
    campaign_id: Option<String>,
    direction: Option<String>,
    language: Option<String>,
    delivery_status: Option<String>,
    attachments: usize,
    attachment: Option<usize>,
    #[serde(flatten)]
    of: Columns,
}

/// The columns of an attachment.
#[derive(Debug, Default, Serialize)]
struct Columns {
    kind: Option<String>,
    outcome: Option<EntryStatus>,
    agent_id: Option<String>,
    organization_id: Option<String>,
    bucket: Option<String>,
    key: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
    content_type: Option<String>,
    codec: Option<String>,
    channels: Option<u16>,
    sample_rate_hz: Option<u32>,
    bits_per_sample: Option<u16>,
    duration_ms: Option<u64>,
    problem: Option<String>,
}

/// What a manifest was when it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sealed {
    /// It is never to change.
    Complete,
    /// A later attempt may replace it.
    Partial,
    /// It is not one that callvault writes; its bytes are sealed all the same.
    Unreadable,
}

/// The rows of one manifest.
#[derive(Debug)]
pub struct Rows {
    /// Each with its newline.
    pub lines: Vec<u8>,
    /// How many.
    pub count: u64,
    /// What they say of the manifest.
    pub status: Sealed,
    /// Each object that it names.
    pub objects: Vec<Object>,
}

/// An object that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The bucket's name in the configuration.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// Of its bytes, in hex.
    pub sha256: String,
}

/// What a row says of a manifest, read back.
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) manifest: String,
    pub(super) manifest_size: u64,
    pub(super) manifest_sha256: String,
    pub(super) status: Sealed,
    bucket: Option<String>,
    key: Option<String>,
    sha256: Option<String>,
}

impl Line {
    /// Whether its texts are no longer than a row has them: whoever made the index may not fill the memory with them.
    pub(super) fn is_sound(&self) -> bool {
        let short = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= LONGEST);
        short(&self.bucket) && short(&self.key) && short(&self.sha256)
    }

    /// The object that it tells of.
    pub(super) fn object(self) -> Option<Object> {
        Some(Object {
            bucket: self.bucket?,
            key: self.key?,
            sha256: self.sha256?,
        })
    }
}

/// The rows of a manifest that lies under that key.
pub fn rows(key: &ManifestKey, bytes: &[u8]) -> Result<Rows, serde_json::Error> {
    let text = std::str::from_utf8(bytes).ok();
    let read = text.and_then(Manifest::read);
    of(key, bytes.len() as u64, Sha256::of(bytes), read)
}

/// The row of what is too long for a manifest, and was hashed alone.
pub fn unread(key: &ManifestKey, size: u64, sha256: Sha256) -> Result<Rows, serde_json::Error> {
    of(key, size, sha256, None)
}

fn of(
    key: &ManifestKey,
    size: u64,
    sha256: Sha256,
    read: Option<(Manifest<'_>, Vec<Attachment<'_>>)>,
) -> Result<Rows, serde_json::Error> {
    let whole = key.to_string();
    let status = match read.as_ref().map(|(manifest, _)| manifest.status) {
        Some(Status::Complete) => Sealed::Complete,
        Some(Status::Partial) => Sealed::Partial,
        None => Sealed::Unreadable,
    };
    let (manifest, entries) = read.unwrap_or_default();
    let call = &manifest.call;
    let row = |attachment, of| Row {
        manifest: &whole,
        day: key.day,
        manifest_size: size,
        manifest_sha256: sha256,
        status,
        archived_at: manifest.archived_at.clone().map(short),
        call_id: key.call_id.as_str(),
        request_id: key.request_id.as_str(),
        created_at: call.created_at.and_then(moment),
        conversation_id: word(call.conversation_id),
        campaign_id: word(call.campaign_id),
        direction: word(call.direction),
        language: word(call.language),
        delivery_status: word(call.delivery_status),
        attachments: entries.len(),
        attachment,
        of,
    };
    let mut rows = Rows {
        lines: Vec::new(),
        count: 0,
        status,
        objects: Vec::new(),
    };
    for (at, entry) in entries.iter().enumerate() {
        rows.push(&row(Some(at), entry.columns()))?;
        rows.objects
            .extend(entry.object.as_ref().map(|object| Object {
                bucket: object.bucket.clone(),
                key: object.key.clone(),
                sha256: object.sha256.clone(),
            }));
    }
    if rows.count == 0 {
        rows.push(&row(None, Columns::default()))?;
    }
    Ok(rows)
}

impl Rows {
    fn push(&mut self, row: &Row<'_>) -> Result<(), serde_json::Error> {
        serde_json::to_writer(&mut self.lines, row)?;
        self.lines.push(b'\n');
        self.count += 1;
        Ok(())
    }
}

// A stored manifest, as far as its rows repeat it. It may have been written by anybody who may write there, and is
// read by itself: an audit finds more wrong with one, and an index must not depend on what it does.

#[derive(Deserialize)]
struct Manifest<'a> {
    schema: String,
    status: Status,
    #[serde(borrow)]
    call: Call<'a>,
    #[serde(borrow)]
    attachments: &'a RawValue,
    #[serde(default)]
    archived_at: Option<String>,
}

/// Of an unreadable one nothing is repeated.
impl Default for Manifest<'_> {
    fn default() -> Self {
        Self {
            schema: String::new(),
            status: Status::Partial,
            call: Call::default(),
            attachments: RawValue::NULL,
            archived_at: None,
        }
    }
}

#[derive(Default, Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation_id: Option<&'a RawValue>,
    #[serde(borrow)]
    campaign_id: Option<&'a RawValue>,
    #[serde(borrow)]
    direction: Option<&'a RawValue>,
    #[serde(borrow)]
    language: Option<&'a RawValue>,
    #[serde(borrow)]
    delivery_status: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Attachment<'a> {
    kind: String,
    status: EntryStatus,
    #[serde(borrow)]
    agent_id: Option<&'a RawValue>,
    #[serde(borrow)]
    organization_id: Option<&'a RawValue>,
    object: Option<crate::manifest::Object>,
    #[serde(borrow)]
    check: Option<&'a RawValue>,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}

/// What the table has of a check's facts: all of them a recording's.
#[derive(Default, Deserialize)]
struct Facts {
    codec: Option<String>,
    channels: Option<u16>,
    sample_rate_hz: Option<u32>,
    bits_per_sample: Option<u16>,
    duration_ms: Option<u64>,
}

impl<'a> Manifest<'a> {
    /// Reads one whose rows say all that it says of objects.
    fn read(text: &'a str) -> Option<(Self, Vec<Attachment<'a>>)> {
        let manifest: Self = serde_json::from_str(text).ok()?;
        let items: Items<'_> = serde_json::from_str(manifest.attachments.get()).ok()?;
        if manifest.schema != SCHEMA || items.count > MAX_ATTACHMENTS {
            return None;
        }
        let entries = items.first.iter();
        let entries = entries.map(|raw| serde_json::from_str::<Attachment<'a>>(raw.get()).ok());
        let entries: Vec<_> = entries.collect::<Option<_>>()?;
        let sound = entries.iter().all(Attachment::is_sound);
        sound.then_some((manifest, entries))
    }
}

impl Attachment<'_> {
    fn is_sound(&self) -> bool {
        let stored = self.status != EntryStatus::Unavailable;
        stored == self.object.is_some()
            && self.object.as_ref().is_none_or(|object| {
                object.bucket.len() <= LONGEST
                    && object.key.len() <= LONGEST
                    && Sha256::from_hex(&object.sha256).is_some()
            })
    }

    fn columns(&self) -> Columns {
        let facts = self
            .check
            .and_then(|facts| serde_json::from_str::<Facts>(facts.get()).ok());
        let facts = facts.unwrap_or_default();
        let object = self.object.as_ref();
        Columns {
            kind: Some(short(self.kind.clone())),
            outcome: Some(self.status),
            agent_id: word(self.agent_id),
            organization_id: word(self.organization_id),
            bucket: object.map(|object| object.bucket.clone()),
            key: object.map(|object| object.key.clone()),
            size: object.map(|object| object.size),
            sha256: object.map(|object| object.sha256.clone()),
            content_type: object
                .and_then(|object| object.content_type.clone())
                .map(short),
            codec: facts.codec.map(short),
            channels: facts.channels,
            sample_rate_hz: facts.sample_rate_hz,
            bits_per_sample: facts.bits_per_sample,
            duration_ms: facts.duration_ms,
            problem: self
                .problem
                .as_ref()
                .map(|problem| short(problem.code.clone())),
        }
    }
}

/// A value as a column of texts has it: what the event writes otherwise is JSON there.
fn word(raw: Option<&RawValue>) -> Option<String> {
    raw.map(|raw| short(text_of(raw).unwrap_or_else(|| raw.get().to_owned())))
}

/// A time in UTC, so that all sort and compare as they are written.
fn moment(raw: &RawValue) -> Option<String> {
    let moment = DateTime::parse_from_rfc3339(&text_of(raw)?).ok()?;
    Some(moment.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn short(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "2023/08/24/c-1/r-1/manifest.json";

    fn read(manifest: &str) -> (Rows, Vec<Value>) {
        let rows = rows(&ManifestKey::parse(KEY).unwrap(), manifest.as_bytes()).unwrap();
        let lines = std::str::from_utf8(&rows.lines).unwrap().lines();
        let lines: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len() as u64, rows.count);
        (rows, lines)
    }

    fn manifest() -> Value {
        json!({
            "schema": "callvault.manifest/v1", "status": "complete",
            "call": {"id": "c-1", "created_at": "2023-08-24T12:05:18.432652+02:00", "campaign_id": 7,
                     "direction": "INBOUND", "from": "+15550100", "to": "+15550101", "language": null},
            "event": {"body": {"from": "+15550100"}},
            "attachments": [
                {"kind": "recording", "status": "archived", "agent_id": "a", "organization_id": null,
                 "source": {"url": "https://h/r.wav"},
                 "object": {"bucket": "recordings", "key": "k", "size": 812_044, "sha256": "ab".repeat(32),
                            "content_type": "audio/x-wav"},
                 "check": {"type": "wav", "codec": "pcm_s16le", "channels": 1, "sample_rate_hz": 8000,
                           "bits_per_sample": 16, "duration_ms": 50_750}},
                {"kind": "analysis", "status": "unavailable", "problem": {"code": "http_404", "detail": "x"}},
            ],
            "worker": {}, "archived_at": "2026-11-23T07:00:00.000000Z",
        })
    }

    #[test]
    fn a_manifest_is_one_row_an_attachment() {
        let (rows, lines) = read(&manifest().to_string());
        assert_eq!((rows.status, rows.count), (Sealed::Complete, 2));
        let text = manifest().to_string();
        assert_eq!(
            lines[0],
            json!({
                "manifest": KEY, "day": "2023-08-24", "manifest_size": text.len(),
                "manifest_sha256": Sha256::of(text.as_bytes()), "status": "complete",
                "archived_at": "2026-11-23T07:00:00.000000Z", "call_id": "c-1", "request_id": "r-1",
                "created_at": "2023-08-24T10:05:18.432652Z", "conversation_id": null,
                "campaign_id": "7", "direction": "INBOUND", "language": null,
                "delivery_status": null, "attachments": 2, "attachment": 0, "kind": "recording",
                "outcome": "archived", "agent_id": "a", "organization_id": null,
                "bucket": "recordings", "key": "k", "size": 812_044, "sha256": "ab".repeat(32),
                "content_type": "audio/x-wav", "codec": "pcm_s16le", "channels": 1,
                "sample_rate_hz": 8000, "bits_per_sample": 16, "duration_ms": 50_750, "problem": null,
            })
        );
        let missing = &lines[1];
        assert_eq!(
            (&missing["outcome"], &missing["problem"], &missing["key"]),
            (&json!("unavailable"), &json!("http_404"), &Value::Null)
        );
        assert_eq!(
            lines[0].as_object().unwrap().len(),
            missing.as_object().unwrap().len()
        );
        assert_eq!(rows.objects.len(), 1);
        // An index goes to more people than manifests do.
        assert!(!String::from_utf8(rows.lines).unwrap().contains("+1555"));
    }

    #[test]
    fn a_manifest_without_attachments_has_a_row_too() {
        let mut manifest = manifest();
        manifest["attachments"] = json!([]);
        let (_, lines) = read(&manifest.to_string());
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (
                &lines[0]["attachments"],
                &lines[0]["attachment"],
                &lines[0]["kind"]
            ),
            (&json!(0), &Value::Null, &Value::Null)
        );
    }

    #[test]
    fn what_is_no_manifest_of_callvaults_is_a_row_without_values() {
        let change = |at: &str, to: Value| {
            let mut manifest = manifest();
            *manifest.pointer_mut(at).unwrap() = to;
            manifest.to_string()
        };
        for manifest in [
            String::new(),
            "[]".into(),
            "{".repeat(100_000),
            change("/schema", json!("callvault.manifest/v2")),
            change("/status", json!("finished")),
            change("/attachments/0/object", Value::Null),
            change("/attachments/0/object/sha256", json!("AB".repeat(32))),
            change("/attachments/0/object/key", json!("k".repeat(1025))),
            change("/attachments/0/object/size", json!(-1)),
            change(
                "/attachments",
                json!(vec![manifest()["attachments"][0].clone(); 1001]),
            ),
            manifest()
                .to_string()
                .replacen('{', "{\"status\":\"partial\",", 1),
        ] {
            let (rows, lines) = read(&manifest);
            assert_eq!(
                (rows.status, lines.len()),
                (Sealed::Unreadable, 1),
                "{}",
                lines[0]
            );
            assert!(rows.objects.is_empty());
            assert_eq!(
                lines[0]["manifest_sha256"],
                Sha256::of(manifest.as_bytes()).to_string()
            );
        }
    }

    #[test]
    fn what_an_event_may_hold_makes_no_manifest_unreadable() {
        let text = manifest().to_string();
        for (from, to) in [
            ("\"+15550100\"", "1e999"),
            ("\"INBOUND\"", "\"\\ud800\""),
            ("\"INBOUND\"", "{\"a\":[1e999]}"),
            ("\"body\":{", "\"body\":{\"x\":1,\"x\":2,"),
        ] {
            let (rows, lines) = read(&text.replace(from, to));
            assert_eq!(rows.status, Sealed::Complete, "{to}");
            assert!(lines[0]["direction"].is_string());
        }
        let (_, lines) = read(&text.replace("INBOUND", &"ü".repeat(2000)));
        assert!(lines[0]["direction"].as_str().unwrap().len() <= LONGEST);
    }
}
