//! How a body gets into a bucket: small ones in one request, large ones in parts.

use std::io;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, Error as BackendError, GetOptions, MultipartUpload, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, path::Path,
};

use super::{About, Bucket, Cause, Put};
use crate::{
    body::{Body, Budget, Share},
    digest::{Hasher, Sha256},
};

/// A body up to this many bytes is one PUT: create-if-absent, and a single request.
const SINGLE_PUT: u64 = 16 << 20;
/// One part of a multipart upload, in bytes. All parts but the last are of this size, as some
/// stores ask for; 10,000 of them, as many as S3 allows, hold 80 GiB.
const PART: u64 = 8 << 20;
/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 2;
impl Bucket {
    /// Writes a body where nothing is yet.
    pub(super) async fn put_new(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Put, Cause> {
        if body.len() <= SINGLE_PUT {
            self.put_whole(path, body, about, budget).await
        } else {
            self.put_parts(path, body, about, budget).await
        }
    }

    async fn put_whole(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Put, Cause> {
        let (payload, _share) = self.payload(body, budget).await?;
        let options = PutOptions {
            attributes: self.attributes(about),
            ..PutMode::Create.into()
        };
        match self.store.put_opts(path, payload, options).await {
            Ok(_) => Ok(Put::Stored),
            // Taken: by another worker, by an earlier attempt, or by this very request, whose answer
            // was lost and which the client sent again.
            Err(BackendError::AlreadyExists { .. }) => {
                let same = self.holds(path, body).await?.unwrap_or(false);
                Ok(if same { Put::Stored } else { Put::Occupied })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn put_parts(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Put, Cause> {
        match self.holds(path, body).await? {
            Some(true) => Ok(Put::Stored),
            Some(false) => Ok(Put::Occupied),
            None => self
                .upload_parts(path, body, about, budget)
                .await
                .map(|()| Put::Stored),
        }
    }

    /// Writes a body over whatever is there.
    pub(super) async fn upload(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<(), Cause> {
        if body.len() > SINGLE_PUT {
            return self.upload_parts(path, body, about, budget).await;
        }
        let (payload, _share) = self.payload(body, budget).await?;
        let options = PutOptions {
            attributes: self.attributes(about),
            ..Default::default()
        };
        self.store.put_opts(path, payload, options).await?;
        Ok(())
    }

    /// A small body's bytes, and the memory that they take where they come from a file.
    async fn payload(
        &self,
        body: &Body,
        budget: &Budget,
    ) -> Result<(PutPayload, Option<Share>), Cause> {
        if let Some(chunks) = body.chunks() {
            return Ok((chunks.iter().cloned().collect(), None));
        }
        let share = budget.work(body.len()).await?;
        let len = usize::try_from(body.len()).map_err(io::Error::other)?;
        Ok((body.range(0, len).await?.into(), Some(share)))
    }

    async fn upload_parts(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<(), Cause> {
        let options = PutMultipartOptions {
            attributes: self.attributes(about),
            ..Default::default()
        };
        let mut upload = self.store.put_multipart_opts(path, options).await?;
        match send_parts(&mut *upload, body, budget).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Parts that nobody completes are invisible, and billed.
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(bucket = self.name, error = %abort, "could not abort a multipart upload");
                }
                Err(error)
            }
        }
    }

    /// Whether an object has these very bytes; `None` where there is no object.
    async fn holds(&self, path: &Path, body: &Body) -> Result<Option<bool>, Cause> {
        let head = GetOptions {
            head: true,
            ..Default::default()
        };
        let there = match self.store.get_opts(path, head).await {
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
        Ok(Some(self.hash(path).await? == body.sha256()))
    }

    /// Reads an object for its SHA-256 alone.
    async fn hash(&self, path: &Path) -> Result<Sha256, Cause> {
        let chunks = self.store.get(path).await?.into_stream();
        let hasher = chunks
            .try_fold(Hasher::default(), async |mut hasher, chunk| {
                hasher.update(&chunk);
                Ok(hasher)
            })
            .await?;
        Ok(hasher.finish())
    }
}

/// Sends a body's parts, a few at a time, each holding its memory until the store has it.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    body: &Body,
    budget: &Budget,
) -> Result<(), Cause> {
    let mut in_flight = stream::FuturesUnordered::new();
    let mut at = 0;
    while at < body.len() {
        if in_flight.len() >= PARTS_IN_FLIGHT {
            in_flight.try_next().await?;
        }
        let len = PART.min(body.len() - at);
        // Waited for beside the parts in flight, whose memory comes free only as they are polled.
        let share = loop {
            tokio::select! {
                share = budget.work(len) => break share?,
                Some(sent) = in_flight.next() => sent?,
            }
        };
        let bytes = body
            .range(at, usize::try_from(len).map_err(io::Error::other)?)
            .await?;
        let part = upload.put_part(bytes.into());
        in_flight.push(async move {
            part.await?;
            drop(share);
            Ok::<(), Cause>(())
        });
        at += len;
    }
    while in_flight.try_next().await?.is_some() {}
    upload.complete().await?;
    Ok(())
}
