//! What the seals of a day hold together, and what a manifest is by them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{
    Flaw, Statement,
    chain::{Chain, seal_key},
    index::{self, IndexError},
    row::{Object, Sealed},
};
use crate::{
    audit::{
        Code,
        days::{Day, ManifestKey},
    },
    body::{Budget, blocking},
    digest::Sha256,
    store::{Bucket, Listed, StoreError},
};

/// How long a store that does not work is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far the clocks of a store and of who seals may differ.
const SKEW: TimeDelta = TimeDelta::minutes(5);

/// The sealed manifests of a day. About 250 bytes each are held in memory.
#[derive(Debug)]
pub struct Contents {
    day: Day,
    /// By what follows the day in their keys, without the last segment.
    manifests: HashMap<Box<str>, Entry>,
    /// When the day was last listed for a seal.
    listed_at: DateTime<Utc>,
    /// Whether all indexes could be read.
    is_whole: bool,
    /// What is wrong with the seals' indexes.
    pub flaws: Vec<Flaw>,
}

#[derive(Debug)]
struct Entry {
    size: u64,
    sha256: Sha256,
    status: Sealed,
    seen: bool,
    /// Of a partial one: what has to stay when it is replaced.
    objects: Vec<Object>,
}

/// What a manifest that is there is by the day's seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Sealed, with these very bytes.
    Sealed,
    /// Sealed as partial, and other bytes now.
    Replaced,
    /// Sealed, never to change, and other bytes now.
    Altered,
    /// Not sealed.
    Unsealed,
}

impl Contents {
    /// Reads all indexes of a day; `None` where it was never sealed.
    pub async fn read(
        bucket: &Arc<Bucket>,
        budget: &Budget,
        chain: &Chain,
        day: Day,
    ) -> Result<Option<Self>, StoreError> {
        let mut contents: Option<Self> = None;
        for statement in chain.of_day(day) {
            let contents = contents.get_or_insert_with(|| Self {
                day,
                manifests: HashMap::new(),
                listed_at: statement.listed_at,
                is_whole: true,
                flaws: Vec::new(),
            });
            contents.listed_at = contents.listed_at.max(statement.listed_at);
            let flaw = match bucket.size_of(&statement.index).await? {
                None => Some((
                    Code::IndexMissing,
                    "it is gone, and a seal names it".to_owned(),
                )),
                Some(size) if size != statement.packed.size => {
                    Some((Code::IndexAltered, IndexError::Other.to_string()))
                }
                Some(_) => {
                    let read = contents.add(bucket, budget, statement).await?;
                    read.err()
                        .map(|error| (Code::IndexAltered, error.to_string()))
                }
            };
            let flaw = flaw.map(|(code, what)| {
                let of = format!("{what} (seal {})", seal_key(statement.sequence));
                Flaw::new(code, &statement.index, of)
            });
            contents.is_whole &= flaw.is_none();
            contents.flaws.extend(flaw);
        }
        Ok(contents)
    }

    async fn add(
        &mut self,
        bucket: &Arc<Bucket>,
        budget: &Budget,
        statement: &Statement,
    ) -> Result<Result<(), IndexError>, StoreError> {
        let index = bucket.get(&statement.index, budget, PATIENCE).await?;
        let (body, statement) = (index.body, statement.clone());
        let seal = seal_key(statement.sequence);
        let mut manifests = std::mem::take(&mut self.manifests);
        let unpacked = blocking(move || {
            let mut flaws = Vec::new();
            // What a replaced manifest named, and its successor has to name too.
            let mut owed: HashMap<Box<str>, Vec<Object>> = HashMap::new();
            let unpacked = index::unpack(&body, &statement, |key, sha256, line| {
                let entry = manifests.get(&*short(&key));
                let begun = entry.is_some_and(|entry| entry.sha256 == sha256);
                if !begun && entry.is_some_and(|entry| entry.status != Sealed::Partial) {
                    let what = format!("{key} was sealed before, as another than here");
                    flaws.push(Flaw::new(Code::SealContradictory, &seal, what));
                    return;
                }
                if !begun {
                    let entry = Entry {
                        size: line.manifest_size,
                        sha256,
                        status: line.status,
                        seen: false,
                        objects: Vec::new(),
                    };
                    if let Some(before) = manifests.insert(short(&key), entry) {
                        owed.insert(short(&key), before.objects);
                    }
                }
                let (status, object) = (line.status, line.object());
                if let Some(owed) = owed.get_mut(&*short(&key)) {
                    owed.retain(|owed| Some(owed) != object.as_ref());
                }
                if status == Sealed::Partial
                    && let Some(entry) = manifests.get_mut(&*short(&key))
                {
                    entry.objects.extend(object);
                }
            });
            for (short, _) in owed.iter().filter(|(_, owed)| !owed.is_empty()) {
                let what = format!("{short} no longer names all that was sealed of it before");
                flaws.push(Flaw::new(Code::SealContradictory, &seal, what));
            }
            Ok((unpacked, manifests, flaws))
        });
        // Reading a body that is there fails only with its disk, and then as its index.
        match unpacked.await {
            Ok((unpacked, manifests, flaws)) => {
                self.manifests = manifests;
                self.flaws.extend(flaws);
                Ok(unpacked)
            }
            Err(error) => Ok(Err(error.into())),
        }
    }

    /// How many manifests are sealed.
    pub fn len(&self) -> usize {
        self.manifests.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.manifests.is_empty()
    }

    /// Notes that a manifest is there, and says whether its size or time gives a reason to read it again; `None` where
    /// it is not sealed.
    pub(super) fn notice(&mut self, key: &ManifestKey, listed: &Listed) -> Option<bool> {
        let since = self.listed_at - SKEW;
        let entry = self.manifests.get_mut(&*short(key))?;
        entry.seen = true;
        Some(entry.size != listed.size || listed.modified >= since)
    }

    /// Notes that a manifest is there with these bytes, and says what it is.
    pub fn judge(&mut self, key: &ManifestKey, sha256: Sha256) -> Standing {
        let Some(entry) = self.manifests.get_mut(&*short(key)) else {
            return Standing::Unsealed;
        };
        entry.seen = true;
        if entry.sha256 == sha256 {
            Standing::Sealed
        } else if entry.status == Sealed::Partial {
            Standing::Replaced
        } else {
            Standing::Altered
        }
    }

    /// Whether a partial manifest's successor still names all that it named.
    pub(super) fn keeps(&self, key: &ManifestKey, objects: &[Object]) -> bool {
        let entry = self.manifests.get(&*short(key));
        entry.is_none_or(|entry| entry.objects.iter().all(|object| objects.contains(object)))
    }

    /// What is to be said of a manifest that was found so. Where an index could not be read, what it does not have may
    /// well be sealed.
    pub fn flaw(
        &self,
        key: &ManifestKey,
        standing: Standing,
        modified: DateTime<Utc>,
    ) -> Option<Flaw> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (sealed, written) = (time(self.listed_at), time(modified));
        let (code, what) = match standing {
            Standing::Sealed => return None,
            Standing::Altered => (
                Code::SealedAltered,
                format!("written at {written}, by the store's account, and not what was sealed"),
            ),
            Standing::Replaced | Standing::Unsealed if !self.is_whole => return None,
            Standing::Replaced => (
                Code::Unsealed,
                format!(
                    "sealed as partial, and written again at {written}, by the store's account"
                ),
            ),
            Standing::Unsealed if modified + SKEW < self.listed_at => (
                Code::SlippedIn,
                format!(
                    "written at {written}, by the store's account, and not there when the day was sealed at {sealed}"
                ),
            ),
            Standing::Unsealed => (
                Code::Unsealed,
                format!(
                    "written at {written}, by the store's account; the day was sealed at {sealed}"
                ),
            ),
        };
        Some(Flaw::new(code, key.to_string(), what))
    }

    /// The keys of the sealed manifests that were not found, in order.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.manifests.iter().filter(|(_, entry)| !entry.seen);
        let mut missing: Vec<_> = missing.map(|(short, _)| self.key(short)).collect();
        missing.sort_unstable();
        missing
    }

    fn key(&self, short: &str) -> String {
        format!("{}/{short}/manifest.json", self.day.folder())
    }
}

/// What tells a manifest from others of its day.
fn short(key: &ManifestKey) -> Box<str> {
    format!("{}/{}", key.call_id, key.request_id).into()
}
