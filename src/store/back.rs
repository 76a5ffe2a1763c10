//! Objects read back: whole ones, and whether one is what was to be written.

use std::{io, sync::Arc};

use bytes::Bytes;
use chrono::Utc;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use object_store::{Attribute, AttributeValue, Error as BackendError, ObjectStoreExt, path::Path};

use super::{Bucket, Cause, EVENT_SHA256, Stored, folder, uploads::Uploads};
use crate::{
    body::{Body, Budget, Share, WriteError},
    digest::{Hasher, Sha256},
};

/// What one request reads of an object, in bytes.
const RANGE: usize = 8 << 20;

impl Bucket {
    /// Whether an object has these very bytes; `None` where there is no object.
    pub(super) async fn holds(&self, path: &Path, body: &Body) -> Result<Option<bool>, Cause> {
        let there = match self.head(path).await {
            Ok(there) => there,
            Err(BackendError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if there.meta.size != body.len() {
            return Ok(Some(false));
        }
        let noted = there.attributes.get(&Attribute::Metadata("sha256".into()));
        if let Some(noted) = noted {
            return Ok(Some(noted.as_ref() == body.sha256().to_string()));
        }
        let same = self.hash(path, there.meta.size).await? == body.sha256();
        if same {
            self.settle(path).await?;
        }
        Ok(Some(same))
    }

    /// What lies in a folder and is taken for stored is synced, whoever wrote it.
    pub(super) async fn settle(&self, path: &Path) -> Result<(), Cause> {
        match &self.uploads {
            Uploads::Folder { files, .. } => folder::settle(files, path).await,
            _ => Ok(()),
        }
    }

    /// Reads an object for its SHA-256 alone.
    async fn hash(&self, path: &Path, size: u64) -> Result<Sha256, Cause> {
        let hasher = self
            .ranges(path, size)
            .try_fold(Hasher::default(), async |mut hasher, chunk| {
                hasher.update(&chunk);
                Ok(hasher)
            })
            .await?;
        Ok(hasher.finish())
    }

    /// Reads an object into a body.
    pub(super) async fn read_back(&self, path: &Path, budget: &Budget) -> Result<Stored, Cause> {
        let there = self.head(path).await?;
        let size = there.meta.size;
        let mut room = None;
        let body = loop {
            match self.read_whole(path, size, budget, room.take()).await {
                // Its job is nearly done, and gives back what it has.
                Err(WriteError::NoRoom { bytes }) => {
                    room = Some(budget.room(bytes, Utc::now()).await?);
                }
                Err(WriteError::Spool(error)) => return Err(error.into()),
                Err(too_large) => return Err(io::Error::other(too_large).into()),
                Ok(read) => break read?,
            }
        };
        let text = |attribute| {
            let value: Option<&AttributeValue> = there.attributes.get(&attribute);
            value.map(|value| value.as_ref().to_owned())
        };
        Ok(Stored {
            body,
            content_type: text(Attribute::ContentType),
            event: text(Attribute::Metadata(EVENT_SHA256.into())),
        })
    }

    async fn read_whole(
        &self,
        path: &Path,
        size: u64,
        budget: &Budget,
        room: Option<Share>,
    ) -> Result<Result<Body, Cause>, WriteError> {
        let mut writer = budget.writer(Some(size), size, room).await?;
        let mut ranges = Box::pin(self.ranges(path, size));
        loop {
            match ranges.try_next().await {
                Ok(Some(bytes)) => writer.write(bytes).await?,
                Ok(None) => return Ok(Ok(writer.finish().await?)),
                Err(error) => return Ok(Err(error.into())),
            }
        }
    }

    /// An object's bytes, by as many requests as it takes: one request has a time limit, of which a
    /// large object must not need more.
    fn ranges(&self, path: &Path, size: u64) -> impl Stream<Item = Result<Bytes, BackendError>> {
        let (store, path) = (Arc::clone(&self.store), path.clone());
        let starts = (0..size).step_by(RANGE);
        stream::iter(starts).then(move |start| {
            let (store, path) = (Arc::clone(&store), path.clone());
            async move {
                store
                    .get_range(&path, start..size.min(start + RANGE as u64))
                    .await
            }
        })
    }
}
