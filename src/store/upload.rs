//! How a body gets into a bucket: in one request, the largest in parts, into a folder as a file.

use std::{io, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use object_store::{
    Attribute, AttributeValue, Error as BackendError, MultipartUpload, ObjectStoreExt, PutMode,
    PutMultipartOptions, UploadPart, path::Path,
};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::{
    About, Bucket, Cause, EVENT_SHA256, Payload, Put, Stored, caught, folder::Written, open::Sends,
    outgoing::Outgoing, uploads::Uploads,
};
use crate::{
    body::{Body, Budget, PIECE, Share, WriteError},
    digest::{Hasher, Sha256},
    telemetry,
};

/// How a body is cut up for a store.
struct Bounds {
    /// A body up to this many bytes is one PUT: create-if-absent, and a single request.
    single: u64,
    /// One part of a multipart upload, in bytes. All parts but the last are of this size, as some stores ask for;
    /// S3 allows 10,000 of them.
    part: u64,
}

/// Streamed: an hour of speech (16 kHz, 8 bit) is one request. What a line that breaks down costs is at most so much once
/// more; on the slowest line that is reckoned with it takes four minutes. No proxy's usual limit for a body (100 MB) is in
/// the way. 10,000 parts hold 156 GiB.
const STREAMED: Bounds = Bounds {
    single: 64 << 20,
    part: 16 << 20,
};
/// As bytes in memory.
const IN_MEMORY: Bounds = Bounds {
    single: 16 << 20,
    part: 8 << 20,
};
/// Memory of a request that streams from a file, in bytes: what its connection holds.
const STREAM: u64 = 2 * PIECE as u64;
/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 2;
/// What one request reads of an object, in bytes.
const RANGE: usize = 8 << 20;

/// What was sent of a body, and waits for its name.
#[derive(Debug)]
pub(super) enum Sent {
    Parts(Unfinished),
    File(Written),
}

impl Bucket {
    /// Writes a body where nothing is yet. What was tried before may be there although the answer was lost, or a store
    /// that refused it closed the connection while it was sent: before a large one is sent `again`, it is looked for.
    pub(super) async fn put_new(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
        again: bool,
    ) -> Result<Put, Cause> {
        let in_parts = self.uploads.folder().is_none() && body.len() > self.bounds().single;
        if (in_parts || again && body.chunks().is_none())
            && let Some(put) = self.found(path, body).await?
        {
            return Ok(put);
        }
        if in_parts {
            self.put_parts(path, body, about, budget).await
        } else {
            self.put_whole(path, body, about, budget).await
        }
    }

    fn bounds(&self) -> Bounds {
        match self.sends {
            Sends::Streams { .. } => STREAMED,
            Sends::Bytes => IN_MEMORY,
        }
    }

    /// What a write would come to, by what is there already.
    async fn found(&self, path: &Path, body: &Body) -> Result<Option<Put>, Cause> {
        let same = self.holds(path, body).await?;
        Ok(same.map(|same| if same { Put::Stored } else { Put::Occupied }))
    }

    async fn put_whole(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Put, Cause> {
        let written = match self.as_file(path, body).await {
            Ok(Some(file)) => file.create().await,
            Ok(None) => {
                self.write_whole(path, body, about, PutMode::Create, budget)
                    .await
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(Put::Stored),
            // Taken: by another worker, by an earlier attempt, or by this very request, whose answer
            // was lost and which the client sent again.
            Err(Cause::Backend(BackendError::AlreadyExists { .. })) => {
                // S3 refuses one of two writers at the same time, of which the other then failed.
                let nothing = || io::Error::other("refused for an object that is not there");
                let found = self.found(path, body).await?;
                Ok(found.ok_or_else(nothing)?)
            }
            Err(error) => Err(error),
        }
    }

    /// A body that lies in a file, as a file of this bucket's folder, where it is one.
    async fn as_file(&self, path: &Path, body: &Body) -> Result<Option<Written>, Cause> {
        match &self.uploads {
            Uploads::Folder { files, .. } if body.chunks().is_none() => {
                self.there()?;
                let written = Written::new(files, path, body, &self.tidying).await?;
                Ok(Some(written))
            }
            _ => Ok(None),
        }
    }

    async fn put_parts(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Put, Cause> {
        let upload = self.send(path, body, about, budget).await?;
        // Sending may have taken minutes. Completing writes over what came to be there meanwhile.
        if let Some(put) = self.found(path, body).await? {
            return Ok(put);
        }
        self.complete(Sent::Parts(upload), path, body).await?;
        Ok(Put::Stored)
    }

    /// Completes an upload. Where that fails, it may have succeeded all the same: the answer was lost,
    /// the client asked again, and there was no such upload any more. So it is looked for.
    pub(super) async fn complete(&self, sent: Sent, path: &Path, body: &Body) -> Result<(), Cause> {
        let mut upload = match sent {
            Sent::Parts(upload) => upload,
            Sent::File(file) => {
                self.there()?;
                return file.replace().await;
            }
        };
        let Err(error) = upload.complete().await else {
            return Ok(());
        };
        if let Ok(Some(true)) = self.holds(path, body).await {
            upload.forget();
            return Ok(());
        }
        Err(error.into())
    }

    /// Sends the parts of a large body, or writes it beside where it is to be; a small one has nothing to be sent.
    pub(super) async fn send_large(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        budget: &Budget,
    ) -> Result<Option<Sent>, Cause> {
        if self.uploads.folder().is_some() {
            return Ok(self.as_file(path, body).await?.map(Sent::File));
        }
        if body.len() <= self.bounds().single {
            return Ok(None);
        }
        let upload = self.send(path, body, about, budget).await?;
        Ok(Some(Sent::Parts(upload)))
    }

    /// Writes a body in one request.
    pub(super) async fn write_whole(
        &self,
        path: &Path,
        body: &Body,
        about: &About,
        mode: PutMode,
        budget: &Budget,
    ) -> Result<(), Cause> {
        let (payload, _share) = self.payload(body, budget).await?;
        self.write(path, payload, about, mode).await?;
        Ok(())
    }

    /// What one request sends, and the memory that it takes beside the body's own.
    async fn payload(
        &self,
        body: &Body,
        budget: &Budget,
    ) -> Result<(Payload, Option<Share>), Cause> {
        let in_memory = body.chunks();
        let takes = match (in_memory, &self.sends) {
            (Some(_), _) => 0,
            (None, Sends::Streams { .. }) => STREAM.min(body.len()),
            (None, Sends::Bytes) => body.len(),
        };
        let share = budget.work(takes).await?;
        let payload = match (in_memory, &self.sends) {
            (_, Sends::Streams { .. }) => Payload::Body(Outgoing::whole(body)),
            (Some(chunks), Sends::Bytes) => Payload::Bytes(chunks.iter().cloned().collect()),
            (None, Sends::Bytes) => {
                let len = usize::try_from(body.len()).map_err(io::Error::other)?;
                Payload::Bytes(body.range(0, len).await?.into())
            }
        };
        Ok((payload, Some(share)))
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
        let store = match &self.sends {
            Sends::Streams { parts, .. } => parts,
            Sends::Bytes => &self.store,
        };
        let upload = store.put_multipart_opts(path, options).await?;
        let mut upload = Unfinished {
            upload: Some(upload),
            tidying: self.tidying.clone(),
        };
        if let Some(upload) = &mut upload.upload {
            self.send_parts(&mut **upload, body, budget).await?;
        }
        Ok(upload)
    }

    /// Sends a body's parts, a few at a time, each holding its memory until the store has it.
    async fn send_parts(
        &self,
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
            let len = self.bounds().part.min(body.len() - at);
            let takes = match self.sends {
                Sends::Streams { .. } => STREAM,
                Sends::Bytes => len,
            };
            // Waited for beside the parts in flight, whose memory comes free only as they are polled.
            let share = loop {
                tokio::select! {
                    share = budget.work(takes) => break share?,
                    Some(sent) = in_flight.next() => sent?,
                }
            };
            let part: UploadPart = match self.sends {
                Sends::Streams { signed, .. } => {
                    let mut part = Outgoing::part(body, at, len);
                    if signed {
                        part = part.hashed().await?;
                    }
                    Box::pin(part.during(|stand_in| upload.put_part(stand_in)))
                }
                Sends::Bytes => {
                    let len = usize::try_from(len).map_err(io::Error::other)?;
                    upload.put_part(body.range(at, len).await?.into())
                }
            };
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
                Err(WriteError::NoRoom { bytes }) => room = Some(budget.room(bytes).await?),
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
