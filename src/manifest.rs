//! What is kept about an archived event: `callvault.manifest/v1`. Pure.
//!
//! The manifest is written last, after every object that it names is durable; its presence is what
//! makes an event done.

use chrono::{SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use url::Url;

use crate::{
    attachment::Planned,
    check::{Facts, Problem},
    digest::Sha256,
    event::{CALL_ANALYZED, Call, CallAnalyzed},
    fetch::{FetchError, Source},
};

/// The version of the manifest's shape.
pub const SCHEMA: &str = "callvault.manifest/v1";

/// The manifest of one event.
#[derive(Debug, Serialize)]
pub struct Manifest<'a> {
    schema: &'static str,
    status: Status,
    call: &'a Call,
    event: EventRecord<'a>,
    attachments: &'a [Entry],
    worker: &'a Worker,
    archived_at: String,
}

/// Whether anything is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Each attachment is archived or quarantined. Never replaced.
    Complete,
    /// Some attachment's bytes could not be had. Replaced when a later attempt gets further.
    Partial,
}

#[derive(Debug, Serialize)]
struct EventRecord<'a> {
    r#type: &'static str,
    request_id: &'a str,
    sha256: Sha256,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
}

/// Who wrote it.
#[derive(Debug, Serialize)]
pub struct Worker {
    name: &'static str,
    version: &'static str,
    host: String,
}

impl Worker {
    /// This program on this machine.
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
        }
    }
}

/// What became of one attachment.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// The attachment's kind.
    pub kind: String,
    /// Where it is, or that it is not.
    pub status: EntryStatus,
    agent_id: Option<Box<RawValue>>,
    organization_id: Option<String>,
    source: SourceRecord,
    /// The stored object; absent where there are no bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
    /// What the check found in bytes that passed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Kept<Facts>>,
    /// Why it is quarantined or unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Kept<Problem>>,
}

/// What becomes of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryStatus {
    /// Checked and stored.
    Archived,
    /// Its check failed; its bytes are stored in the quarantine.
    Quarantined,
    /// Its bytes could not be had.
    Unavailable,
}

impl EntryStatus {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Archived => "archived",
            Self::Quarantined => "quarantined",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SourceRecord {
    url: String,
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

/// One stored object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Object {
    /// The bucket's name in the configuration.
    pub bucket: String,
    /// Its key, below the bucket's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Of its bytes, in hex.
    pub sha256: String,
    /// Its media type.
    pub content_type: Option<String>,
}

/// A part of a manifest: made now, or kept as an earlier attempt wrote it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Kept<T> {
    /// Made by this attempt.
    New(T),
    /// Repeated from the manifest that an earlier attempt left.
    Old(serde_json::Value),
}

impl Entry {
    /// An attachment whose bytes are stored: archived with facts, or quarantined with a problem.
    pub fn stored(
        planned: &Planned<'_>,
        source: Source,
        object: Object,
        verdict: Result<Facts, Problem>,
    ) -> Self {
        let (status, check, problem) = match verdict {
            Ok(facts) => (EntryStatus::Archived, Some(Kept::New(facts)), None),
            Err(problem) => (EntryStatus::Quarantined, None, Some(Kept::New(problem))),
        };
        Self {
            object: Some(object),
            check,
            problem,
            ..Self::new(planned, status, source)
        }
    }

    /// An attachment whose bytes could not be had.
    pub fn unavailable(planned: &Planned<'_>, error: &FetchError) -> Self {
        let problem = Problem::new(error.code(), error.to_string());
        let entry = Self::new(planned, EntryStatus::Unavailable, Source::default());
        Self {
            problem: Some(Kept::New(problem)),
            ..entry
        }
    }

    /// The code of its problem, if it has one.
    pub fn problem_code(&self) -> Option<&str> {
        match self.problem.as_ref()? {
            Kept::New(problem) => Some(&problem.code),
            Kept::Old(problem) => problem.get("code")?.as_str(),
        }
    }

    fn new(planned: &Planned<'_>, status: EntryStatus, source: Source) -> Self {
        Self {
            kind: planned.kind.name.clone(),
            status,
            agent_id: planned.listed.agent_id.clone(),
            organization_id: planned.listed.organization_id.map(|id| id.to_string()),
            source: SourceRecord {
                url: public(&planned.listed.url),
                content_type: source
                    .content_type
                    .or_else(|| planned.listed.content_type.clone()),
                etag: source.etag,
                last_modified: source.last_modified,
            },
            object: None,
            check: None,
            problem: None,
        }
    }
}

/// What tells one file from another: host and path.
fn file(url: &str) -> Option<(String, String)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str().unwrap_or_default();
    let path = if url.cannot_be_a_base() {
        ""
    } else {
        url.path()
    };
    Some((host.to_owned(), path.to_owned()))
}

/// A URL without query, fragment and user information: those can be credentials.
fn public(url: &Url) -> String {
    if url.cannot_be_a_base() {
        // `data:`, `blob:` and the like are opaque: anything may stand in them.
        return format!("{}:", url.scheme());
    }
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

impl<'a> Manifest<'a> {
    /// The manifest of `call` with what became of its attachments, as of now.
    pub fn new(
        call: &'a CallAnalyzed,
        attempt: u32,
        include_event: bool,
        attachments: &'a [Entry],
        worker: &'a Worker,
    ) -> Self {
        let missing = attachments
            .iter()
            .any(|entry| entry.status == EntryStatus::Unavailable);
        Self {
            schema: SCHEMA,
            status: if missing {
                Status::Partial
            } else {
                Status::Complete
            },
            call: &call.call,
            event: EventRecord {
                r#type: CALL_ANALYZED,
                request_id: call.request_id.as_str(),
                sha256: call.sha256,
                attempt,
                body: include_event.then_some(&*call.body),
            },
            attachments,
            worker,
            archived_at: Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true),
        }
    }

    /// Whether nothing is missing.
    pub fn status(&self) -> Status {
        self.status
    }

    /// As it is stored.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }
}

/// What an earlier attempt wrote of the same event.
#[derive(Debug, Deserialize)]
pub struct Known {
    /// Whether there is anything left to do.
    pub status: Status,
    event: KnownEvent,
    attachments: Vec<KnownEntry>,
}

#[derive(Debug, Deserialize)]
struct KnownEvent {
    sha256: String,
}

#[derive(Debug, Deserialize)]
struct KnownEntry {
    status: EntryStatus,
    source: SourceRecord,
    object: Option<Object>,
    check: Option<serde_json::Value>,
    problem: Option<serde_json::Value>,
}

impl Known {
    /// Reads a stored manifest.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Whether it was written for a body of that digest.
    pub fn is_of(&self, sha256: Sha256) -> bool {
        self.event.sha256 == sha256.to_string()
    }

    /// Whether it tells of the very files that an event lists, in whichever order. Their signatures may
    /// differ: a provider that sends an event again signs it anew.
    pub fn lists(&self, call: &CallAnalyzed) -> bool {
        let known = self.attachments.iter().map(|entry| file(&entry.source.url));
        let listed = call
            .attachments
            .iter()
            .map(|listed| file(listed.url.as_str()));
        let (mut known, mut listed): (Vec<_>, Vec<_>) = (known.collect(), listed.collect());
        known.sort_unstable();
        listed.sort_unstable();
        known == listed
    }

    /// How many attachments it lacks.
    pub fn missing(&self) -> usize {
        self.attachments
            .iter()
            .filter(|entry| entry.status == EntryStatus::Unavailable)
            .count()
    }

    /// The entry of an attachment whose bytes are stored already, so that they need not be fetched again.
    pub fn stored(&self, at: usize, planned: &Planned<'_>) -> Option<Entry> {
        let known = self.attachments.get(at)?;
        let object = known.object.as_ref()?;
        let bucket = match known.status {
            EntryStatus::Archived => &planned.bucket,
            EntryStatus::Quarantined => &planned.quarantine,
            EntryStatus::Unavailable => return None,
        };
        // The configuration may have changed in between: only what would go there again is there.
        let same = object.key == planned.key
            && object.bucket == *bucket
            && known.source.url == public(&planned.listed.url);
        same.then(|| {
            let source = Source {
                content_type: known.source.content_type.clone(),
                etag: known.source.etag.clone(),
                last_modified: known.source.last_modified.clone(),
            };
            Entry {
                object: Some(object.clone()),
                check: known.check.clone().map(Kept::Old),
                problem: known.problem.clone().map(Kept::Old),
                ..Entry::new(planned, known.status, source)
            }
        })
    }
}
