//! What became of everything, found out from outside: queues, folders and the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::Scene;
use crate::support::{
    amqp::Message,
    audit::{Archive, hex},
    config::BUCKETS,
};

/// How many events ended in which way, and what is kept.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) archived: usize,
    pub(super) dead: usize,
    pub(super) ignored: usize,
    pub(super) duplicate: usize,
    /// The attachments of complete manifests.
    pub(super) kept: Vec<Kept>,
}

impl Ends {
    pub(super) fn total(&self) -> usize {
        self.archived + self.dead + self.ignored + self.duplicate
    }

    /// How many attachments have a status.
    pub(super) fn files(&self, status: &str) -> usize {
        self.kept
            .iter()
            .filter(|kept| kept.status == status)
            .count()
    }
}

/// What the worker itself says, one line a settled event.
pub(super) fn settled(log: &str) -> Ends {
    let count = |outcome: &str| log.matches(&format!(" outcome=\"{outcome}\"")).count();
    Ends {
        archived: count("archived"),
        dead: count("dead"),
        ignored: count("ignored"),
        duplicate: count("duplicate"),
        kept: Vec::new(),
    }
}

// Without the event: it may hold what only its own kind of reader takes.
#[derive(Deserialize)]
struct Manifest {
    status: String,
    event: Event,
    attachments: Vec<Kept>,
}

#[derive(Deserialize)]
struct Event {
    sha256: String,
}

/// An attachment, as a manifest has it.
#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    pub(super) status: String,
    source: Source,
    pub(super) object: Option<Object>,
    pub(super) check: Option<Value>,
    problem: Option<Problem>,
}

#[derive(Debug, Deserialize)]
struct Source {
    url: String,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Object {
    bucket: String,
    pub(super) key: String,
    size: usize,
    sha256: String,
}

/// What there is after a run.
pub(super) struct Audit<'a> {
    pub(super) scene: &'a Scene,
    pub(super) archive: Archive,
    pub(super) dead: Vec<Message>,
    pub(super) log: String,
}

impl Audit<'_> {
    /// That each event ended in one way, nothing else is there, and all bytes are as they came.
    pub(super) async fn run(&self) -> Ends {
        self.log_is_one_of_lines();
        let manifests = self.manifests().await;
        let mut ends = self.ends(&manifests);
        let told = settled(&self.log);
        assert_eq!(
            [ends.archived, ends.dead, ends.ignored, ends.duplicate],
            [told.archived, told.dead, told.ignored, told.duplicate],
        );
        assert_eq!(ends.total(), self.scene.events.len());
        self.nothing_else_is_there(&manifests).await;
        for manifest in manifests.into_values() {
            for kept in &manifest.attachments {
                self.bytes_are_as_served(kept).await;
            }
            if manifest.status == "complete" {
                ends.kept.extend(manifest.attachments);
            }
        }
        ends
    }

    /// No event puts a line of its own into the log, or ends a job in a panic.
    fn log_is_one_of_lines(&self) {
        assert!(!self.log.contains("panicked"), "{}", self.log);
        for line in self.log.lines() {
            let begins = line.get(..20).is_some_and(|time| {
                DateTime::parse_from_rfc3339(&format!("{}Z", &time[..19])).is_ok()
            });
            assert!(begins && !line.contains(char::is_control), "{line:?}");
        }
    }

    async fn manifests(&self) -> BTreeMap<String, Manifest> {
        let mut manifests = BTreeMap::new();
        for key in self.archive.manifests().await {
            let bytes = self.archive.read("documents", &key).await.unwrap();
            let manifest =
                serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{key}: {error}"));
            manifests.insert(key, manifest);
        }
        manifests
    }

    fn ends(&self, manifests: &BTreeMap<String, Manifest>) -> Ends {
        let mut ends = Ends::default();
        let mut dead: BTreeMap<&[u8], usize> = BTreeMap::new();
        for letter in &self.dead {
            *dead.entry(&letter.body).or_default() += 1;
            assert!(letter.text("x-callvault-reason").is_some());
        }
        let complete = |manifest: &&Manifest| manifest.status == "complete";
        let mut archived: BTreeSet<&str> = manifests
            .values()
            .filter(complete)
            .map(|manifest| &*manifest.event.sha256)
            .collect();
        let all = archived.clone();
        for body in &self.scene.events {
            let sha256 = hex(body);
            if let Some(left) = dead.get_mut(&body[..]).filter(|left| **left > 0) {
                *left -= 1;
                ends.dead += 1;
            } else if archived.remove(&*sha256) {
                ends.archived += 1;
            } else if name(body).is_some_and(|name| name != "call.analyzed") {
                ends.ignored += 1;
            } else {
                // The same once more, or the same call and files in other words.
                let known = folder(body)
                    .and_then(|folder| manifests.get(&format!("{folder}/manifest.json")));
                let duplicate =
                    all.contains(&*sha256) || known.is_some_and(|known| complete(&known));
                assert!(duplicate, "lost: {}", body.escape_ascii());
                ends.duplicate += 1;
            }
        }
        assert!(
            archived.is_empty(),
            "archived, and never published: {archived:?}"
        );
        assert!(
            dead.values().all(|left| *left == 0),
            "dead, and never published: {dead:?}"
        );
        let of_dead: BTreeSet<String> = self.dead.iter().map(|letter| hex(&letter.body)).collect();
        for (key, manifest) in manifests {
            assert!(
                complete(&manifest) || of_dead.contains(&manifest.event.sha256),
                "{key} is partial"
            );
        }
        ends
    }

    /// Each object is in a manifest. What came under the ids of another event, and is dead, may have left some.
    async fn nothing_else_is_there(&self, manifests: &BTreeMap<String, Manifest>) {
        let named: BTreeSet<(&str, &str)> = manifests
            .values()
            .flat_map(|manifest| &manifest.attachments)
            .filter_map(|kept| kept.object.as_ref())
            .map(|object| (&*object.bucket, &*object.key))
            .collect();
        let of_dead: Vec<String> = self
            .dead
            .iter()
            .filter_map(|letter| folder(&letter.body))
            .collect();
        for bucket in BUCKETS {
            for key in self.archive.keys(bucket).await {
                let known = named.contains(&(bucket, &key)) || manifests.contains_key(&key);
                let left = of_dead
                    .iter()
                    .any(|folder| key.starts_with(&format!("{folder}/")));
                assert!(known || left, "in {bucket}, and in no manifest: {key}");
            }
        }
    }

    async fn bytes_are_as_served(&self, kept: &Kept) {
        assert_eq!(
            kept.problem.is_none(),
            kept.status == "archived",
            "{kept:?}"
        );
        let Some(object) = &kept.object else {
            assert_eq!(kept.status, "unavailable");
            return;
        };
        assert_eq!(
            object.bucket == "quarantine",
            kept.status == "quarantined",
            "{kept:?}"
        );
        let checked = kept.problem.as_ref().is_none_or(|problem| {
            problem.code.starts_with("wav_") || problem.code.starts_with("json_")
        });
        assert!(checked, "{kept:?}");
        let stored = self.archive.read(&object.bucket, &object.key).await;
        let url = Url::parse(&kept.source.url).unwrap();
        let served = &self.scene.files[url.path()];
        assert!(
            stored.as_ref() == Some(served),
            "{kept:?} is not what was served"
        );
        assert_eq!(
            (object.size, &*object.sha256),
            (served.len(), &*hex(served)),
            "{kept:?}"
        );
    }
}

/// The event's name, by a reader that looks at nothing else.
fn name(body: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        event: String,
    }
    serde_json::from_slice(body)
        .ok()
        .map(|named: Named| named.event)
}

/// What the keys of an event begin with.
fn folder(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let created_at = value["data"]["created_at"].as_str()?;
    let date = DateTime::parse_from_rfc3339(created_at)
        .ok()?
        .to_utc()
        .format("%Y/%m/%d");
    let id = value["data"]["id"].as_str()?;
    let request_id = match &value["request_id"] {
        Value::Null => hex(body),
        id => id.as_str()?.to_owned(),
    };
    Some(format!("{date}/{id}/{request_id}"))
}
