//! Small objects that are read and replaced: manifests.
//!
//! A write whose answer was lost is sent again, by the client or by us, and then refused for the object
//! that it has made itself. So a refusal counts only where other bytes are there.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{Error as BackendError, ObjectStoreExt, PutMode, UpdateVersion, path::Path};

use super::{About, Bucket, Cause, Found, Put, StoreError};

/// The largest manifest that is read back, in bytes: that of the largest event, each of whose URLs grows by
/// percent-encoding, is well below.
pub(super) const LARGEST_MANIFEST: u64 = 128 << 20;

impl Bucket {
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
            let payload = bytes.clone().into();
            match self.write(&path, payload, about, PutMode::Create).await {
                Ok(()) => Ok(Put::Stored),
                Err(BackendError::AlreadyExists { .. }) => self.has(&path, &bytes).await,
                Err(error) => Err(error.into()),
            }
        };
        self.patiently(patience, "create a manifest", attempt).await
    }

    /// Reads a small object, if there is one.
    pub async fn find(&self, key: &str, patience: Duration) -> Result<Option<Found>, StoreError> {
        let path = self.path(key)?;
        let attempt = || self.read(&path);
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
            if let Some(folder) = self.uploads.folder() {
                let lock = folder.join(".callvault.lock");
                return self.replace_locked(lock, &path, found, bytes.clone()).await;
            }
            let mode = PutMode::Update(found.version.clone());
            match self.write(&path, bytes.clone().into(), about, mode).await {
                Ok(()) => Ok(Put::Stored),
                Err(
                    BackendError::Precondition { .. }
                    | BackendError::AlreadyExists { .. }
                    | BackendError::NotFound { .. },
                ) => self.has(&path, &bytes).await,
                Err(error) => Err(error.into()),
            }
        };
        self.patiently(patience, "replace a manifest", attempt)
            .await
    }

    async fn read(&self, path: &Path) -> Result<Option<Found>, Cause> {
        let result = match self.store.get(path).await {
            Ok(result) => result,
            Err(BackendError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if result.meta.size > LARGEST_MANIFEST {
            let error = io::Error::new(io::ErrorKind::FileTooLarge, "larger than any manifest");
            return Err(error.into());
        }
        let version = UpdateVersion {
            e_tag: result.meta.e_tag.clone(),
            version: result.meta.version.clone(),
        };
        let bytes = result.bytes().await?;
        // What it says may be acknowledged on its word.
        self.settle(path).await?;
        Ok(Some(Found { bytes, version }))
    }

    /// After a refusal: whether the object is what was to be written.
    async fn has(&self, path: &Path, bytes: &Bytes) -> Result<Put, Cause> {
        let there = self.read(path).await?;
        Ok(if there.is_some_and(|there| there.bytes == *bytes) {
            Put::Stored
        } else {
            Put::Occupied
        })
    }

    /// A folder has no conditional replace, so writers take turns under a lock of the folder's.
    async fn replace_locked(
        &self,
        lock: PathBuf,
        path: &Path,
        found: &Found,
        bytes: Bytes,
    ) -> Result<Put, Cause> {
        let _turn = self.replacing.lock().await;
        let lock = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::options()
                .create(true)
                .append(true)
                .open(lock)?;
            file.lock()?;
            Ok::<_, io::Error>(file)
        });
        let lock = lock.await.map_err(io::Error::other)??;
        let Some(there) = self.read(path).await? else {
            return Ok(Put::Occupied);
        };
        if there.bytes == bytes {
            return Ok(Put::Stored);
        }
        if there.bytes != found.bytes {
            return Ok(Put::Occupied);
        }
        // The lock is held until the file is written, also when this job is dropped meanwhile.
        let (store, path) = (Arc::clone(&self.store), path.clone());
        let write = async move {
            let _lock = lock;
            store.put(&path, bytes.into()).await
        };
        let written = self.tidying.spawn(write).await;
        written.map_err(io::Error::other)??;
        Ok(Put::Stored)
    }
}
