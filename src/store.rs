//! Object storage: the only place that speaks to buckets.
//!
//! Objects are created, never overwritten: the first writer wins, and a later one is told that the key
//! is taken. A failing store is nobody's fault but the store's, so each operation is repeated with
//! backoff until it succeeds or the caller's patience ends.

mod open;
mod upload;

use std::{collections::HashMap, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{
    Attribute, AttributeValue, Attributes, Error as BackendError, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, UpdateVersion, path::Path,
};

use crate::{
    body::{Body, Budget},
    config,
    outage::Outage,
};

/// The largest manifest that is read back, in bytes.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// All configured buckets, by name.
#[derive(Debug)]
pub struct Stores(HashMap<String, Arc<Bucket>>);

/// One bucket, and the prefix in it that is callvault's.
#[derive(Debug)]
pub struct Bucket {
    name: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The directory, where the bucket is a folder.
    folder: Option<PathBuf>,
    outage: Outage,
}

/// A store's failure, after all patience.
#[derive(Debug, thiserror::Error)]
#[error("bucket {bucket:?}: cannot {what}")]
pub struct StoreError {
    /// The bucket's name in the configuration.
    pub bucket: String,
    /// What was to be done, and on what.
    pub what: String,
    #[source]
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

/// A mistake in a bucket's configuration that only its store can judge.
#[derive(Debug)]
pub struct OptionMistake {
    /// The key below the bucket's: `url`, `options`, or one of them, `options.region`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there, with these bytes: written now, or by somebody before.
    Stored,
    /// The key holds other bytes. Nothing was written.
    Occupied,
}

/// What goes with an object's bytes.
#[derive(Debug, Default)]
pub struct About {
    /// The object's media type.
    pub content_type: Option<String>,
    /// User metadata, made fit for headers (see [`crate::metadata`]).
    pub metadata: Vec<(&'static str, String)>,
}

/// A write over an object that needs one more request. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct Staged {
    path: Path,
    parts: Option<upload::Unfinished>,
}

/// An object read back.
#[derive(Debug)]
pub struct Stored {
    /// Its bytes.
    pub body: Body,
    /// Its media type, where the store has it.
    pub content_type: Option<String>,
}

/// A small object read back, with what it takes to replace just this version of it.
#[derive(Debug)]
pub struct Found {
    /// The object's bytes.
    pub bytes: Bytes,
    version: UpdateVersion,
}

impl Stores {
    /// From buckets that were opened one by one.
    pub fn new(buckets: impl IntoIterator<Item = Bucket>) -> Self {
        let named = |bucket: Bucket| (bucket.name.clone(), Arc::new(bucket));
        Self(buckets.into_iter().map(named).collect())
    }

    /// The bucket of that name in the configuration.
    pub fn get(&self, name: &str) -> Option<&Arc<Bucket>> {
        self.0.get(name)
    }

    /// Every bucket.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bucket>> {
        self.0.values()
    }
}

impl Bucket {
    /// Builds a bucket's client; no request is made. All mistakes are returned together.
    pub fn open(settings: &config::Bucket) -> Result<Self, Vec<OptionMistake>> {
        let (store, prefix, folder) = open::open(&settings.url, &settings.options)?;
        let name = settings.name.clone();
        Ok(Self {
            outage: Outage::of(format!("bucket {name}")),
            name,
            store,
            prefix,
            folder,
        })
    }

    /// The bucket's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Stores a body under a key that nothing else is at. Bodies of more than 16 MiB go up in
    /// parts, for which stores have no create-if-absent: there the key is looked at first, and two
    /// writers at the very same time would both write.
    pub async fn put(
        &self,
        key: &str,
        body: &Body,
        about: &About,
        budget: &Budget,
        patience: Duration,
    ) -> Result<Put, StoreError> {
        let path = self.path(key)?;
        let attempt = || self.put_new(&path, body, about, budget);
        self.patiently(patience, "store an object", attempt).await
    }

    /// Stores small bytes under a key where nothing is yet.
    pub async fn create(
        &self,
        key: &str,
        bytes: Bytes,
        about: &About,
        patience: Duration,
    ) -> Result<Put, StoreError> {
        let path = self.path(key)?;
        let attempt = || async {
            let options = PutOptions {
                attributes: self.attributes(about),
                ..PutMode::Create.into()
            };
            match self
                .store
                .put_opts(&path, bytes.clone().into(), options)
                .await
            {
                Ok(_) => Ok(Put::Stored),
                Err(BackendError::AlreadyExists { .. }) => Ok(Put::Occupied),
                Err(error) => Err(error.into()),
            }
        };
        self.patiently(patience, "create a manifest", attempt).await
    }

    /// Reads a small object, if there is one.
    pub async fn find(&self, key: &str, patience: Duration) -> Result<Option<Found>, StoreError> {
        let path = self.path(key)?;
        let attempt = || async {
            let result = match self.store.get(&path).await {
                Ok(result) => result,
                Err(BackendError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if result.meta.size > LARGEST_MANIFEST {
                return Err(io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    "larger than any manifest",
                )
                .into());
            }
            let version = UpdateVersion {
                e_tag: result.meta.e_tag.clone(),
                version: result.meta.version.clone(),
            };
            Ok(Some(Found {
                bytes: result.bytes().await?,
                version,
            }))
        };
        self.patiently(patience, "read a manifest", attempt).await
    }

    /// Replaces an object, if it still is what was found. `Occupied`: somebody else was faster.
    pub async fn replace(
        &self,
        key: &str,
        found: &Found,
        bytes: Bytes,
        about: &About,
        patience: Duration,
    ) -> Result<Put, StoreError> {
        let path = self.path(key)?;
        let attempt = || async {
            if let Some(folder) = &self.folder {
                self.replace_in_folder(folder, &path, found, bytes.clone())
                    .await
            } else {
                let mode = PutMode::Update(found.version.clone());
                let options = PutOptions {
                    attributes: self.attributes(about),
                    ..mode.into()
                };
                match self
                    .store
                    .put_opts(&path, bytes.clone().into(), options)
                    .await
                {
                    Ok(_) => Ok(Put::Stored),
                    Err(BackendError::Precondition { .. } | BackendError::NotFound { .. }) => {
                        Ok(Put::Occupied)
                    }
                    Err(error) => Err(error.into()),
                }
            }
        };
        self.patiently(patience, "replace a manifest", attempt)
            .await
    }

    /// Reads a whole object back into a body. The caller holds no other body meanwhile.
    pub async fn get(
        &self,
        key: &str,
        budget: &Budget,
        patience: Duration,
    ) -> Result<Stored, StoreError> {
        let path = self.path(key)?;
        let attempt = || self.read_back(&path, budget);
        self.patiently(patience, "read an object", attempt).await
    }

    /// Makes ready to write over whatever is under a key: of a large body all parts are sent. What is
    /// under the key is as it was.
    pub async fn stage(
        &self,
        key: &str,
        body: &Body,
        about: &About,
        budget: &Budget,
        patience: Duration,
    ) -> Result<Staged, StoreError> {
        let path = self.path(key)?;
        let attempt = || self.send_large(&path, body, about, budget);
        let parts = self.patiently(patience, "send an object", attempt).await?;
        Ok(Staged { path, parts })
    }

    /// Writes what was staged over whatever is there: one request.
    pub async fn overwrite(
        &self,
        staged: Staged,
        body: &Body,
        about: &About,
        budget: &Budget,
        patience: Duration,
    ) -> Result<(), StoreError> {
        let what = "overwrite an object";
        if let Some(parts) = staged.parts {
            return parts
                .complete()
                .await
                .map_err(|error| self.error(what, error));
        }
        let attempt = || self.write_small(&staged.path, body, about, budget);
        self.patiently(patience, what, attempt).await
    }

    /// One request that any working bucket answers.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let listed = self.store.list(Some(&self.prefix)).next().await.transpose();
        match listed {
            // Without the right to list, an answer to a request for one key will do.
            Err(BackendError::PermissionDenied { .. } | BackendError::Unauthenticated { .. }) => {
                let probe = self.path("callvault-check")?;
                match self.store.head(&probe).await {
                    Ok(_) | Err(BackendError::NotFound { .. }) => Ok(()),
                    Err(error) => Err(self.error("reach the store", error)),
                }
            }
            Err(error) => Err(self.error("reach the store", error)),
            Ok(_) => Ok(()),
        }
    }

    /// A folder has no conditional replace, so writers take turns under a lock of the folder's.
    async fn replace_in_folder(
        &self,
        folder: &std::path::Path,
        path: &Path,
        found: &Found,
        bytes: Bytes,
    ) -> Result<Put, Cause> {
        let lock = folder.join(".callvault.lock");
        let lock = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(lock)?;
            file.lock()?;
            Ok::<_, io::Error>(file)
        });
        let _lock = lock.await.map_err(io::Error::other)??;
        let there = match self.store.get(path).await {
            Ok(there) => there.bytes().await?,
            Err(BackendError::NotFound { .. }) => return Ok(Put::Occupied),
            Err(error) => return Err(error.into()),
        };
        if there != found.bytes {
            return Ok(Put::Occupied);
        }
        self.store.put(path, bytes.into()).await?;
        Ok(Put::Stored)
    }

    /// What goes with an object; a folder keeps nothing beside the bytes and refuses to be asked.
    fn attributes(&self, about: &About) -> Attributes {
        if self.folder.is_some() {
            return Attributes::new();
        }
        let content_type = about
            .content_type
            .iter()
            .map(|value| (Attribute::ContentType, AttributeValue::from(value.clone())));
        let metadata = about.metadata.iter().map(|(name, value)| {
            (
                Attribute::Metadata((*name).into()),
                AttributeValue::from(value.clone()),
            )
        });
        content_type.chain(metadata).collect()
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let full = if self.prefix.as_ref().is_empty() {
            key.to_owned()
        } else {
            format!("{}/{key}", self.prefix)
        };
        Path::parse(&full).map_err(|error| self.error("use a key", BackendError::from(error)))
    }

    fn error(&self, what: &str, source: impl Into<Cause>) -> StoreError {
        StoreError {
            bucket: self.name.clone(),
            what: what.into(),
            source: source.into(),
        }
    }

    async fn patiently<T, F: Future<Output = Result<T, Cause>>>(
        &self,
        patience: Duration,
        what: &'static str,
        attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        self.outage
            .wait_out(what, patience, attempt)
            .await
            .map_err(|source| self.error(what, source))
    }
}
