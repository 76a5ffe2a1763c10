//! How a body gets into a bucket: small ones in one request, large ones in parts.

use std::{io, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use chrono::Utc;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, AttributeValue, Error as BackendError, MultipartUpload, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutPayload, path::Path,
};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::{About, Bucket, Cause, EVENT_SHA256, Put, Stored, caught};
use crate::{
    body::{Body, Budget, Share, WriteError},
    digest::{Hasher, Sha256},
    telemetry,
};

/// A body up to this many bytes is one PUT: create-if-absent, and a single request.
const SINGLE_PUT: u64 = 16 << 20;
/// One part of a multipart upload, in bytes. All parts but the last are of this size, as some
/// stores ask for; 10,000 of them, as many as S3 allows, hold 80 GiB.
const PART: u64 = 8 << 20;
/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 2;
/// What one request reads of an object, in bytes.
const RANGE: usize = 8 << 20;

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
        match self.write(path, payload, about, PutMode::Create).await {
            Ok(()) => Ok(Put::Stored),
            // Taken: by another worker, by an earlier attempt, or by this very request, whose answer
            // was lost and which the client sent again.
            Err(BackendError::AlreadyExists { .. }) => {
                match self.holds(path, body).await? {
                    Some(true) => Ok(Put::Stored),
                    Some(false) => Ok(Put::Occupied),
                    // S3 refuses one of two writers at the same time, of which the other then failed.
                    None => Err(io::Error::other("refused for an object that is not there").into()),
                }
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
        if let Some(same) = self.holds(path, body).await? {
            return Ok(if same { Put::Stored } else { Put::Occupied });
        }
        let upload = self.send(path, body, about, budget).await?;
        // Sending may have taken minutes. Completing writes over what came to be there meanwhile.
        if let Some(same) = self.holds(path, body).await? {
            return Ok(if same { Put::Stored } else { Put::Occupied });
        }
        self.complete(upload, path, body).await?;
        Ok(Put::Stored)
    }

    /// Completes an upload. Where that fails, it may have succeeded all the same: the answer was lost,
    /// the client asked again, and there was no such upload any more. So it is looked for.
    pub(super) async fn complete(
        &self,
        mut upload: Unfinished,
        path: &Path,
        body: &Body,
    ) -> Result<(), Cause> {
        let Err(error) = upload.complete().await else {
            return Ok(());
        };
        if let Ok(Some(true)) = self.holds(path, body).await {
            upload.forget();
            return Ok(());
        }
        Err(error.into())
    }

    /// Sends the parts of a large body; a small one has none.
    pub(super) async fn send_large(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Option<Unfinished>, Cause> {
        if body.len() <= SINGLE_PUT {
            return Ok(None);
        }
        self.send(path, body, about, budget).await.map(Some)
    }

    /// Writes a small body over whatever is there.
    pub(super) async fn write_small(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<(), Cause> {
        let (payload, _share) = self.payload(body, budget).await?;
        self.write(path, payload, about, PutMode::Overwrite).await?;
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

    /// Sends all parts; the upload is still to be completed.
    async fn send(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Unfinished, Cause> {
        let options = PutMultipartOptions {
            attributes: self.attributes(about),
            ..Default::default()
        };
        self.there()?;
        let upload = self.store.put_multipart_opts(path, options).await?;
        let mut upload = Unfinished {
            upload: Some(upload),
            tidying: self.tidying.clone(),
        };
        if let Some(upload) = &mut upload.upload {
            send_parts(&mut **upload, body, budget).await?;
        }
        Ok(upload)
    }

    /// Whether an object has these very bytes; `None` where there is no object.
    async fn holds(&self, path: &Path, body: &Body) -> Result<Option<bool>, Cause> {
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
        let hash = self.hash(path, there.meta.size).await?;
        Ok(Some(hash == body.sha256()))
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

/// A multipart upload that is aborted when it is dropped: by an error, or because its job was. Parts
/// that nobody completes are invisible, and billed.
#[derive(Debug)]
pub(super) struct Unfinished {
    upload: Option<Box<dyn MultipartUpload>>,
    tidying: TaskTracker,
}

impl Unfinished {
    async fn complete(&mut self) -> Result<(), BackendError> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.forget();
        Ok(())
    }

    /// Nothing is to be aborted any more.
    fn forget(&mut self) {
        self.upload = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let abort = async move {
            let mut pauses = aborting().build();
            loop {
                let error = match caught(upload.abort()).await {
                    // Completed, or aborted by a sweep.
                    Ok(()) | Err(BackendError::NotFound { .. }) => return,
                    Err(error) => error,
                };
                // What made the upload fail keeps it from being aborted, too.
                let Some(pause) = pauses.next() else {
                    let error = telemetry::chain(&error);
                    tracing::warn!(error, "could not abort an upload: callvault sweep does");
                    return;
                };
                sleep(pause).await;
            }
        };
        self.tidying.spawn_on(abort, &runtime);
    }
}

/// The pauses between tries to abort an upload: for an hour, as long as the process lives.
fn aborting() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(Duration::from_hours(1)))
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
    Ok(())
}
