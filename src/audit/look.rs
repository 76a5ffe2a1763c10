//! One manifest, and each object that it names.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Auditor, MEMORY, Unread,
    days::{Day, ManifestKey},
    finding::{Code, Finding},
    objects::{Name, Objects},
    record::is_key,
    state::Tally,
    unread,
};
use crate::{
    digest::Sha256,
    manifest::{Object, Status},
    store::{Bucket, Seen, Small, StoreError},
};

/// A manifest is read with this much room, in bytes, unless its listing says that it is larger.
const USUAL: u64 = 256 << 10;
/// Objects of one manifest that are looked at side by side.
const SIDE_BY_SIDE: usize = 8;

/// What came of a manifest.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) key: String,
    pub(super) findings: Vec<Finding>,
    pub(super) unread: Vec<Unread>,
    pub(super) tally: Tally,
    /// Of the manifest's bytes, where it is to be held against a seal.
    pub(super) sha256: Option<Sha256>,
}

/// What came of an object.
enum Verdict {
    /// As it should be.
    Fine,
    Wrong(Code, String),
    Unread(Unread),
}

/// A manifest's bytes, and their share of the memory.
pub(super) enum Read {
    Missing,
    TooLarge(u64),
    Whole(Bytes, OwnedSemaphorePermit),
}

impl Auditor {
    /// Looks at a manifest that was listed with so many bytes.
    pub(super) async fn look(
        &self,
        at: ManifestKey,
        size: u64,
        objects: &Objects,
    ) -> Result<Look, StoreError> {
        let mut look = Look {
            key: at.to_string(),
            findings: Vec::new(),
            unread: Vec::new(),
            tally: Tally::default(),
            sha256: None,
        };
        let bucket = self.manifests.name();
        let key = look.key.clone();
        let find = |code, detail: String| Finding::of(code, &at, (bucket, &key), detail);
        let record = match self.read_manifest(&key, size).await {
            Ok(Read::Whole(json, _share)) => {
                look.sha256 = self.seals.is_some().then(|| Sha256::of(&json));
                self.record(&json, &at)
            }
            Ok(Read::Missing) => Err((Code::ManifestGone, "listed, and not there".into())),
            Ok(Read::TooLarge(size)) => {
                if self.seals.is_some() {
                    // It may have been sealed as it is.
                    match self.manifests.digest(&key, size).await {
                        Ok(seen) => look.sha256 = seen.and_then(|seen| seen.sha256),
                        Err(error) => look.unread.push(unread(&self.manifests, &key, error)?),
                    }
                }
                let what = format!("{size} bytes: callvault writes none so large");
                Err((Code::ManifestInvalid, what))
            }
            Err(error) => {
                look.unread.push(unread(&self.manifests, &key, error)?);
                return Ok(look);
            }
        };
        let record = match record {
            Ok(record) => record,
            Err((code, detail)) => {
                look.tally.manifests = u64::from(code != Code::ManifestGone);
                look.findings.push(find(code, detail));
                return Ok(look);
            }
        };
        look.tally = Tally {
            manifests: 1,
            partial: u64::from(record.status == Status::Partial),
            events: u64::from(record.event == Some(true)),
            ..Tally::default()
        };
        let problems = record.problems.into_iter();
        look.findings
            .extend(problems.map(|(code, detail)| find(code, detail)));

        let mut names = HashSet::new();
        let twice = |object: &Object| !names.insert((object.bucket.clone(), object.key.clone()));
        let twice: Vec<bool> = record.objects.iter().map(twice).collect();
        let in_place = record.in_place;
        let verdicts = record
            .objects
            .into_iter()
            .zip(twice)
            .map(|(object, twice)| {
                let at = &at;
                async move {
                    let owner = in_place.then_some(at);
                    let verdict = self.verify(&object, owner, twice, objects).await;
                    (object, verdict)
                }
            });
        let mut verdicts = stream::iter(verdicts).buffered(SIDE_BY_SIDE);
        while let Some((object, verdict)) = verdicts.next().await {
            match verdict? {
                Verdict::Fine => {
                    look.tally.objects += 1;
                    look.tally.bytes += object.size;
                }
                Verdict::Wrong(code, detail) => {
                    look.tally.objects += 1;
                    let place = (object.bucket.as_str(), object.key.as_str());
                    look.findings.push(Finding::of(code, &at, place, detail));
                }
                Verdict::Unread(unread) => look.unread.push(unread),
            }
        }
        Ok(look)
    }

    /// Reads a manifest with no more memory than there is for all of them. Of whose size nothing is known, the usual
    /// is believed first.
    pub(super) async fn read_manifest(&self, key: &str, size: u64) -> Result<Read, StoreError> {
        for most in [size.max(USUAL), Bucket::LARGEST_MANIFEST] {
            let most = most.min(Bucket::LARGEST_MANIFEST);
            let share = usize::try_from(most).unwrap_or(MEMORY).min(MEMORY) >> 10;
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            // It is never closed.
            let share = Arc::clone(&self.memory).acquire_many_owned(share).await;
            let Ok(share) = share else { break };
            let _turn = self.requests.acquire().await;
            match self.manifests.read_small(key, most).await? {
                Small::Missing => return Ok(Read::Missing),
                Small::Whole(bytes) => return Ok(Read::Whole(bytes, share)),
                Small::TooLarge(size) if size > Bucket::LARGEST_MANIFEST => {
                    return Ok(Read::TooLarge(size));
                }
                Small::TooLarge(_) => {}
            }
        }
        Ok(Read::TooLarge(Bucket::LARGEST_MANIFEST))
    }

    /// Judges an object by the manifest that names it; `owner` is the event whose manifest it is, if that is sure.
    async fn verify(
        &self,
        object: &Object,
        owner: Option<&ManifestKey>,
        twice: bool,
        objects: &Objects,
    ) -> Result<Verdict, StoreError> {
        let wrong = |code, detail: &str| Ok(Verdict::Wrong(code, detail.to_owned()));
        if !is_key(&object.key) {
            return wrong(Code::ObjectKeyInvalid, "the manifest names this key");
        }
        let Some(bucket) = self.stores.get(&object.bucket) else {
            return wrong(Code::BucketUnknown, "the manifest names this bucket");
        };
        if twice {
            return wrong(Code::ObjectShared, "two attachments of the manifest's");
        }
        if owner.is_some_and(|owner| !is_of(&object.key, owner)) {
            return wrong(
                Code::ObjectForeign,
                "its key is not of the manifest's event",
            );
        }
        let name = Name::of(bucket, &object.key);
        if owner.is_some() && !objects.name(name) {
            return wrong(
                Code::ObjectShared,
                "another manifest of the same day names it, too",
            );
        }
        if self.quick && objects.size(name) == Some(object.size) {
            return Ok(Verdict::Fine);
        }
        let seen = {
            let _turn = self.requests.acquire().await;
            self.see(bucket, object).await
        };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => return Ok(Verdict::Unread(unread(bucket, &object.key, error)?)),
        };
        Ok(judge(object, seen))
    }

    async fn see(&self, bucket: &Bucket, object: &Object) -> Result<Option<Seen>, StoreError> {
        if self.quick {
            let size = bucket.size_of(&object.key).await?;
            return Ok(size.map(|size| Seen { size, sha256: None }));
        }
        bucket.digest(&object.key, object.size).await
    }
}

fn judge(object: &Object, seen: Option<Seen>) -> Verdict {
    let Some(seen) = seen else {
        let detail = format!("{} bytes are to be there, and nothing is", object.size);
        return Verdict::Wrong(Code::ObjectMissing, detail);
    };
    if seen.size != object.size {
        let code = if seen.size < object.size {
            Code::ObjectTruncated
        } else {
            Code::ObjectLonger
        };
        let detail = format!("{} bytes, {} by its manifest", seen.size, object.size);
        return Verdict::Wrong(code, detail);
    }
    match seen.sha256.map(|sha256| sha256.to_string()) {
        Some(sha256) if sha256 != object.sha256 => {
            let detail = format!("SHA-256 {sha256}, {} by its manifest", object.sha256);
            Verdict::Wrong(Code::ObjectAltered, detail)
        }
        _ => Verdict::Fine,
    }
}

/// Whether a key can be of an event's object. Every template, today's or an earlier one's, has both identifiers in
/// segments of their own, perhaps with text around them.
fn is_of(key: &str, owner: &ManifestKey) -> bool {
    let has = |id: &str| key.split('/').any(|segment| segment.contains(id));
    let day = key.get(..10).and_then(|day| day.parse::<Day>().ok());
    has(owner.call_id.as_str())
        && has(owner.request_id.as_str())
        && day.is_none_or(|day| day == owner.day)
}
