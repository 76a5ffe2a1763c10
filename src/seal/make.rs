//! Sealing a day.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Flaw, Seal, SigningKey, Statement,
    chain::{Chain, Link, seal_key},
    contents::{Contents, Standing},
    index::{Packed, Packer},
    row::{self, Rows, Sealed},
    statement::{Extent, index_key},
};
use crate::{
    audit::{
        Code,
        days::{self, Day, ManifestKey},
    },
    body::{Budget, WriteError, blocking},
    digest::Sha256,
    store::{About, Bucket, Listed, Put, Small, StoreError},
};

/// Manifests that are read at once.
const SIDE_BY_SIDE: usize = 32;
/// How long a store that does not work is waited for when something is written.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often an index's name is tried that something else has: what a seal that did not come about left behind.
const NAMES: u32 = 100;
/// Reasons for a refusal that are told one by one.
const TOLD: usize = 100;

/// What is said of a sealed manifest that is not there.
pub const GONE: &str = "sealed, and not there any more";

/// What it takes to seal.
#[derive(Debug)]
pub struct Sealer<'a> {
    /// The bucket of the manifests.
    pub bucket: &'a Arc<Bucket>,
    /// For the index, and for manifests while they are read.
    pub budget: &'a Budget,
    /// Who signs, if anybody.
    pub key: Option<&'a SigningKey>,
}

/// What became of a day.
#[derive(Debug)]
pub enum Outcome {
    /// It has a new seal, which is now the chain's last.
    Sealed(Box<Summary>),
    /// All of it is sealed already.
    Nothing,
    /// What was sealed is not there any more as it was: nothing was written. The first hundred reasons, and how many there
    /// are.
    Refused(Vec<Flaw>, u64),
    /// Somebody else sealed something meanwhile. Read the chain again, and try again.
    Overtaken,
}

/// What was sealed.
#[derive(Debug)]
pub struct Summary {
    /// The seal.
    pub seal: Seal,
    /// Manifests among them that are none of callvault's.
    pub unreadable: Vec<String>,
    /// Objects that lie in an index's place, and belong to no seal.
    pub stray: Vec<String>,
}

/// Why a day could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The index could not be written to the spool.
    #[error("cannot write the index to limits.spool_dir")]
    Spool(#[from] WriteError),
    /// A row or the seal could not be written as JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
    /// A name could not be found for the index.
    #[error(
        "{NAMES} objects that belong to no seal lie where the index is to be, up to {key}: remove them"
    )]
    NoName {
        /// The last that was tried.
        key: String,
    },
    /// A manifest was there when the day was listed, and not any more when it was to be read.
    #[error("{key} was removed while the day was sealed: find out by whom, and seal again")]
    Vanished {
        /// Its key.
        key: String,
    },
}

/// A manifest, read.
struct Read {
    key: ManifestKey,
    modified: DateTime<Utc>,
    sha256: Sha256,
    rows: Rows,
}

/// How a day's sealing goes on: manifests done, of how many.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

impl Sealer<'_> {
    /// Seals what of a day is not sealed yet. A chain with flaws must not be sealed any further. What was sealed is
    /// read again where it is `thorough`, or where the store says that it was written to; at least its size is compared.
    pub async fn seal(
        &self,
        chain: &mut Chain,
        day: Day,
        thorough: bool,
        progress: Progress<'_>,
    ) -> Result<Outcome, MakeError> {
        let mut sealed = Contents::read(self.bucket, self.budget, chain, day).await?;
        let mut refused = Refusal::default();
        for flaw in sealed.iter_mut().flat_map(|sealed| sealed.flaws.drain(..)) {
            refused.add(flaw);
        }
        if refused.count > 0 {
            return Ok(refused.into());
        }
        let listed_at = Utc::now().trunc_subsecs(0);
        let mut listed: Vec<(ManifestKey, Listed)> = days::manifests(self.bucket, day, None)
            .try_collect()
            .await?;
        // Not every store lists in the order of the keys.
        listed.sort_unstable_by(|(_, one), (_, other)| one.key.cmp(&other.key));
        listed.dedup_by(|(_, one), (_, other)| one.key == other.key);
        if let Some(sealed) = &mut sealed {
            listed.retain(|(key, listed)| {
                // Whatever is not sealed is read.
                let changed = sealed.notice(key, listed).unwrap_or(true);
                thorough || changed
            });
            for key in sealed.missing() {
                refused.add(Flaw::new(Code::SealedMissing, key, GONE));
            }
        }
        let total = listed.len() as u64;
        let reading = stream::iter(listed).map(|(key, listed)| self.read(key, listed));
        let mut reading = std::pin::pin!(reading.buffered(SIDE_BY_SIDE));
        let (mut packer, mut unreadable, mut done) =
            (Packer::new(self.budget).await?, Vec::new(), 0);
        progress(done, total);
        while let Some(read) = reading.try_next().await? {
            done += 1;
            progress(done, total);
            if let Some(sealed) = &mut sealed {
                let standing = match sealed.judge(&read.key, read.sha256) {
                    Standing::Sealed => continue,
                    Standing::Replaced if !sealed.keeps(&read.key, &read.rows.objects) => {
                        Standing::Altered
                    }
                    standing => standing,
                };
                if standing == Standing::Altered {
                    if let Some(flaw) = sealed.flaw(&read.key, standing, read.modified) {
                        refused.add(flaw);
                    }
                    continue;
                }
            }
            let key = read.key.to_string();
            packer.add(&key, read.sha256, &read.rows).await?;
            if read.rows.status == Sealed::Unreadable && unreadable.len() < TOLD {
                unreadable.push(key);
            }
        }
        if refused.count > 0 {
            return Ok(refused.into());
        }
        let packed = packer.finish().await?;
        if sealed.is_some() && packed.manifests == 0 {
            return Ok(Outcome::Nothing);
        }
        self.write(chain, day, listed_at, &packed, unreadable).await
    }

    async fn read(&self, key: ManifestKey, listed: Listed) -> Result<Read, MakeError> {
        let most = listed.size.clamp(1, self.budget.most_work());
        let _share = self.budget.work(most).await.map_err(WriteError::from)?;
        let modified = listed.modified;
        let vanished = || MakeError::Vanished {
            key: listed.key.clone(),
        };
        let read = self
            .bucket
            .read_small(&listed.key, Bucket::LARGEST_MANIFEST);
        let (sha256, rows) = match read.await? {
            Small::Missing => return Err(vanished()),
            Small::Whole(bytes) => {
                let of = key.clone();
                let rows = blocking(move || {
                    let rows = row::rows(&of, &bytes)?;
                    Ok((Sha256::of(&bytes), rows))
                });
                rows.await.map_err(WriteError::from)?
            }
            Small::TooLarge(size) => {
                let seen = self.bucket.digest(&listed.key, size).await?;
                let sha256 = seen.and_then(|seen| seen.sha256).ok_or_else(vanished)?;
                (sha256, row::unread(&key, size, sha256)?)
            }
        };
        Ok(Read {
            key,
            modified,
            sha256,
            rows,
        })
    }

    async fn write(
        &self,
        chain: &mut Chain,
        day: Day,
        listed_at: DateTime<Utc>,
        packed: &Packed,
        unreadable: Vec<String>,
    ) -> Result<Outcome, MakeError> {
        let before: Vec<String> = chain.of_day(day).map(|seal| seal.index.clone()).collect();
        let part = u32::try_from(before.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let (index, stray) = self.put(day, part, &before, packed).await?;
        let statement = Statement {
            sequence: chain.head().map_or(0, |head| head.seal.statement.sequence) + 1,
            day,
            part,
            previous: chain.head().map(|head| head.seal.sha256),
            listed_at,
            made_by: concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")).into(),
            manifests: packed.manifests,
            rows: packed.rows,
            root: packed.root,
            index,
            packed: Extent {
                size: packed.body.len(),
                sha256: packed.body.sha256(),
            },
            unpacked: packed.unpacked,
        };
        let signature = self.key.map(|key| key.sign(&statement.text()));
        let seal = Seal::new(statement, signature);
        let about = about("application/json");
        let (key, json) = (
            seal_key(seal.statement.sequence),
            Bytes::from(seal.to_json()?),
        );
        // The one place that two who seal at once both want: whoever comes second has written an index that no seal
        // names, and begins again.
        let put = self.bucket.create(&key, json, &about, PATIENCE).await?;
        if put == Put::Occupied {
            return Ok(Outcome::Overtaken);
        }
        chain.links.push(Link {
            seal: seal.clone(),
            proven: self.key.is_some(),
            holds: true,
        });
        Ok(Outcome::Sealed(Box::new(Summary {
            seal,
            unreadable,
            stray,
        })))
    }

    /// Stores an index under the first of its day's names that is free, or has it already: it may have been written for
    /// a seal that did not come about, because of a crash or of somebody else who was faster.
    async fn put(
        &self,
        day: Day,
        part: u32,
        sealed: &[String],
        packed: &Packed,
    ) -> Result<(String, Vec<String>), MakeError> {
        let about = about("application/zstd");
        let (mut stray, mut last) = (Vec::new(), String::new());
        for number in part..part.saturating_add(NAMES) {
            let key = index_key(day, number);
            if sealed.contains(&key) {
                continue;
            }
            let put = self
                .bucket
                .put(&key, &packed.body, &about, self.budget, PATIENCE);
            if put.await? == Put::Stored {
                return Ok((key, stray));
            }
            last.clone_from(&key);
            stray.push(key);
        }
        Err(MakeError::NoName { key: last })
    }
}

fn about(content_type: &str) -> About {
    About {
        content_type: Some(content_type.into()),
        metadata: Vec::new(),
    }
}

/// Reasons not to seal.
#[derive(Default)]
struct Refusal {
    told: Vec<Flaw>,
    count: u64,
}

impl Refusal {
    fn add(&mut self, flaw: Flaw) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(flaw);
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.told, refusal.count)
    }
}
