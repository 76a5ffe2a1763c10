//! An audit from outside: what was published against what is archived, dead, queued and was downloaded.
//! It shares no code with the worker's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use lapin::{options::QueueDeclareOptions, types::FieldTable};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    amqp::{Amqp, Message},
    config::BUCKETS,
    load::{Call, Load},
    origin::Origin,
    s3::S3,
    wait::eventually,
};

/// Where the archive is, past any proxy.
pub(crate) enum Archive {
    /// In [`S3::BUCKET`], each bucket under `prefix/bucket`.
    S3 { s3: S3, prefix: String },
    /// Each bucket a folder in this one.
    Folder(PathBuf),
}

/// What the faults of a scenario explain; by default nothing.
#[derive(Default)]
pub(crate) struct Explained {
    /// Requests at the origin beyond one a file, over all files.
    pub(crate) downloads: usize,
    /// Attempts may have been charged: the origin was at fault.
    pub(crate) charged: bool,
    /// The `request_id`s of events that are dead.
    pub(crate) dead: Vec<String>,
    /// A worker was killed, which can abort no upload.
    pub(crate) uploads: bool,
}

impl Explained {
    /// Uploads that nobody could abort, and nothing else.
    pub(crate) fn uploads() -> Self {
        Self {
            uploads: true,
            ..Self::default()
        }
    }
}

impl Archive {
    /// The keys of a bucket, in order.
    pub(crate) async fn keys(&self, bucket: &str) -> Vec<String> {
        match self {
            Self::S3 { s3, prefix } => {
                let prefix = format!("{prefix}/{bucket}/");
                let keys = s3.list(S3::BUCKET, &prefix).await;
                keys.iter()
                    .map(|key| key.strip_prefix(&prefix).unwrap().to_owned())
                    .collect()
            }
            Self::Folder(folder) => {
                let mut keys = Vec::new();
                files_below(&folder.join(bucket), "", &mut keys);
                keys.retain(|key| key != ".callvault.lock");
                keys.sort();
                keys
            }
        }
    }

    /// An object, if it is there.
    pub(crate) async fn read(&self, bucket: &str, key: &str) -> Option<Bytes> {
        match self {
            Self::S3 { s3, prefix } => {
                let got = s3
                    .get(S3::BUCKET, &format!("{prefix}/{bucket}/{key}"))
                    .await;
                got.map(|(_, bytes)| bytes)
            }
            Self::Folder(folder) => fs::read(folder.join(bucket).join(key))
                .ok()
                .map(Bytes::from),
        }
    }

    /// Uploads that nobody completed or aborted. Those of a folder are files with names of their own,
    /// which [`Self::keys`] tells.
    pub(crate) async fn uploads(&self) -> Vec<String> {
        match self {
            Self::S3 { s3, prefix } => s3.list_uploads(S3::BUCKET, &format!("{prefix}/")).await,
            Self::Folder(_) => Vec::new(),
        }
    }

    /// The manifests' keys.
    pub(crate) async fn manifests(&self) -> Vec<String> {
        let mut keys = self.keys("documents").await;
        keys.retain(|key| key.ends_with("/manifest.json"));
        keys
    }

    /// Waits until so many manifests are complete.
    pub(crate) async fn wait_complete(&self, count: usize, deadline: Duration) {
        let mut complete = BTreeSet::new();
        let what = format!("{count} complete manifests");
        eventually(deadline, &what, async || {
            for key in self.manifests().await {
                if !complete.contains(&key) && self.is_complete(&key).await {
                    complete.insert(key);
                }
            }
            (complete.len() >= count).then_some(())
        })
        .await;
    }

    async fn is_complete(&self, key: &str) -> bool {
        let Some(bytes) = self.read("documents", key).await else {
            return false;
        };
        serde_json::from_slice::<Value>(&bytes)
            .is_ok_and(|manifest| manifest["status"] == "complete")
    }

    /// That every event is archived, whole and once, or dead for a reason that is the event's own; that
    /// nothing else is there, and nothing was downloaded or charged without a fault that explains it.
    pub(crate) async fn audit(
        &self,
        load: &Load,
        origin: &Origin,
        dead: &[Message],
        explained: &Explained,
    ) {
        let dead: BTreeSet<_> = dead.iter().filter_map(Message::message_id).collect();
        let may_be_dead: BTreeSet<_> = explained.dead.iter().map(String::as_str).collect();
        assert_eq!(dead, may_be_dead, "dead letters");

        let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for call in load
            .calls
            .iter()
            .filter(|call| !dead.contains(&*call.request_id))
        {
            self.audit_call(call, explained.charged).await;
            named
                .entry("documents")
                .or_default()
                .insert(call.manifest());
            for file in &call.files {
                named
                    .entry(file.bucket)
                    .or_default()
                    .insert(file.key.clone());
            }
        }
        // Of what is dead any part may be there; how much is for its partial manifest to say.
        let dead_calls = load
            .calls
            .iter()
            .filter(|call| dead.contains(&*call.request_id));
        let of_the_dead: Vec<_> = dead_calls.map(|call| &*call.folder).collect();
        for bucket in BUCKETS {
            let there: BTreeSet<_> = self.keys(bucket).await.into_iter().collect();
            let named = named.remove(bucket).unwrap_or_default();
            let mut stray: Vec<_> = there.difference(&named).collect();
            stray.retain(|key| !of_the_dead.iter().any(|folder| key.starts_with(folder)));
            assert!(
                stray.is_empty(),
                "in {bucket}, and in no manifest: {stray:?}"
            );
        }
        if !explained.uploads {
            let uploads = self.uploads().await;
            assert!(
                uploads.is_empty(),
                "uploads that were left behind: {uploads:?}"
            );
        }
        audit_downloads(load, origin, &dead, explained.downloads);
    }

    async fn audit_call(&self, call: &Call, charged: bool) {
        let key = call.manifest();
        let manifest = self.read("documents", &key).await;
        let manifest = manifest.unwrap_or_else(|| panic!("neither archived nor dead: {key}"));
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["status"], "complete", "{key}");
        assert_eq!(manifest["event"]["sha256"], hex(&call.body), "{key}");
        let attempt = &manifest["event"]["attempt"];
        assert!(
            charged || *attempt == 1,
            "{key} was charged: attempt {attempt}"
        );
        let entries = manifest["attachments"].as_array().unwrap();
        assert_eq!(entries.len(), call.files.len(), "{key}");
        for (entry, file) in entries.iter().zip(&call.files) {
            let (object, key) = (&entry["object"], &file.key);
            assert_eq!(entry["status"], "archived", "{key}");
            assert_eq!(object["bucket"], file.bucket, "{key}");
            assert_eq!(object["key"], **key);
            assert_eq!(object["size"], file.bytes.len(), "{key}");
            assert_eq!(object["sha256"], hex(&file.bytes), "{key}");
            let stored = self.read(file.bucket, key).await;
            assert!(
                stored == Some(file.bytes.clone()),
                "{key} is not what the origin served"
            );
        }
    }
}

fn audit_downloads(load: &Load, origin: &Origin, dead: &BTreeSet<&str>, explained: usize) {
    let mut repeated = Vec::new();
    for call in load
        .calls
        .iter()
        .filter(|call| !dead.contains(&*call.request_id))
    {
        for file in &call.files {
            let hits = origin.hits(&file.path);
            assert!(hits > 0, "archived without a download: {}", file.path);
            repeated.extend((hits > 1).then_some((&file.path, hits)));
        }
    }
    let more: usize = repeated.iter().map(|(_, hits)| hits - 1).sum();
    assert!(
        more <= explained,
        "{more} downloads more than one a file, and no more than {explained} are explained: {repeated:?}"
    );
}

/// The number of consumers of a queue.
pub(crate) async fn consumers(amqp: &Amqp, queue: &str) -> u32 {
    let passive = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = amqp
        .channel()
        .queue_declare(queue.into(), passive, FieldTable::default());
    queue.await.unwrap().consumer_count()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn files_below(folder: &Path, prefix: &str, keys: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let key = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), &format!("{key}/"), keys);
        } else {
            keys.push(key);
        }
    }
}
