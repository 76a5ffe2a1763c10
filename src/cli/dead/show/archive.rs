//! What the archive holds of a dead message's call.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    attachment::manifest_key,
    event::Event,
    manifest::{EntryStatus, Object, Status},
    pipeline::Archivist,
    telemetry,
};

/// How long a store that does not work is waited for: a person is waiting too.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Archive {
    /// The body is no event that is archived.
    NoEvent { why: String },
    /// There is no manifest.
    Nothing { bucket: String, key: String },
    /// There is a manifest.
    Manifest {
        bucket: String,
        key: String,
        #[serde(flatten)]
        found: Found,
    },
    /// The bucket, or what is in it, cannot be read.
    Unreadable {
        bucket: String,
        key: String,
        why: String,
    },
}

/// What a desk needs of a manifest.
#[derive(Serialize, Deserialize)]
pub(super) struct Found {
    status: Status,
    archived_at: Option<String>,
    attachments: Vec<Attachment>,
}

#[derive(Serialize, Deserialize)]
struct Attachment {
    kind: String,
    status: EntryStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<Object>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Problem>,
}

/// Of its origin's answer a desk needs nothing.
#[derive(Serialize, Deserialize)]
struct Source {
    url: String,
}

/// Its detail stays in the manifest: it may quote the file.
#[derive(Serialize, Deserialize)]
struct Problem {
    code: String,
}

impl Archive {
    pub(super) async fn of(archivist: &Archivist, body: &[u8]) -> Self {
        let call = match Event::parse(&Bytes::copy_from_slice(body)) {
            Ok(Event::Analyzed(call)) => call,
            Ok(Event::Other(name)) => {
                let why = format!("nothing is archived for the event {name:?}");
                return Self::NoEvent { why };
            }
            Err(error) => {
                let why = error.to_string();
                return Self::NoEvent { why };
            }
        };
        let (bucket, key) = (archivist.manifests.name().to_owned(), manifest_key(&call));
        let unreadable = |bucket, key, why| Self::Unreadable { bucket, key, why };
        match archivist.manifests.find(&key, PATIENCE).await {
            Ok(None) => Self::Nothing { bucket, key },
            Ok(Some(manifest)) => match serde_json::from_slice(&manifest.bytes) {
                Ok(found) => Self::Manifest { bucket, key, found },
                Err(error) => unreadable(bucket, key, format!("not a manifest: {error}")),
            },
            Err(error) => unreadable(bucket, key, telemetry::chain(&error)),
        }
    }

    /// Whether the store answered.
    pub(super) fn was_reached(&self) -> bool {
        !matches!(self, Self::Unreadable { .. })
    }

    pub(super) fn in_words(&self) -> Vec<String> {
        match self {
            Self::NoEvent { why } => vec![why.clone()],
            Self::Nothing { bucket, key } => vec![format!("nothing: no {key} in {bucket}")],
            Self::Unreadable { bucket, key, why } => {
                vec![format!("cannot tell: {key} in {bucket}: {why}")]
            }
            Self::Manifest { bucket, key, found } => {
                let status = match found.status {
                    Status::Complete => "complete",
                    Status::Partial => "partial",
                };
                let at = found.archived_at.as_deref().unwrap_or("-");
                let mut words = vec![format!("{status} since {at}: {key} in {bucket}")];
                words.extend(found.attachments.iter().map(Attachment::in_words));
                words
            }
        }
    }
}

impl Attachment {
    fn in_words(&self) -> String {
        // Of several of a kind the one that lacks is told by its file.
        let file = self.source.as_ref().filter(|_| self.object.is_none());
        let file = file.and_then(|source| source.url.rsplit('/').next());
        let file = file.map_or_else(String::new, |file| format!(" {file}"));
        let problem = self.problem.as_ref();
        let problem = problem.map_or_else(String::new, |problem| format!(" ({})", problem.code));
        let object = self.object.as_ref().map_or_else(String::new, |object| {
            let Object {
                key, bucket, size, ..
            } = object;
            format!(": {key} in {bucket}, {size} bytes")
        });
        let status = self.status.as_str();
        format!("{status:<11} {}{file}{problem}{object}", self.kind)
    }
}
