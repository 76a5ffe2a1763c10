//! How a body gets into a bucket: in one request, the largest in parts, into a folder as a file.

use std::io;

use object_store::{Error as BackendError, PutMode, path::Path};

use super::{
    About, Bucket, Cause, Payload, Put, folder::Written, open::Sends, outgoing::Outgoing,
    parts::Unfinished, uploads::Uploads,
};
use crate::body::{Body, Budget, PIECE, Share};

/// How a body is cut up for a store.
pub(super) struct Bounds {
    /// A body up to this many bytes is one PUT: create-if-absent, and a single request.
    pub(super) single: u64,
    /// One part of a multipart upload, in bytes. All parts but the last are of this size, as some stores ask for;
    /// S3 allows 10,000 of them.
    pub(super) part: u64,
}

/// Streamed: an hour of speech (16 kHz, 8 bit) is one request. What a line that breaks down costs is at most so much once
/// more; on the slowest line that is reckoned with it takes four minutes. No proxy's usual limit for a body (100 MB) is in
/// the way. 10,000 parts hold 156 GiB.
const STREAMED: Bounds = Bounds {
    single: 64 << 20,
    part: 16 << 20,
};
/// What is longer is looked for before it is sent again, in bytes.
const LOOKED_FOR: u64 = 1 << 20;
/// As bytes in memory.
const IN_MEMORY: Bounds = Bounds {
    single: 16 << 20,
    part: 8 << 20,
};
/// Memory of a request that streams from a file, in bytes: what its connection holds.
pub(super) const STREAM: u64 = 2 * PIECE as u64;
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
        let large = body.len() > self.bounds().single;
        let in_parts = large && self.uploads.folder().is_none();
        if (large || again && body.len() > LOOKED_FOR)
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

    pub(super) fn bounds(&self) -> Bounds {
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
        let share = match (in_memory, &self.sends) {
            (Some(_), _) => None,
            (None, Sends::Streams { .. }) => Some(budget.work(STREAM.min(body.len())).await?),
            (None, Sends::Bytes) => Some(budget.work(body.len()).await?),
        };
        let payload = match (in_memory, &self.sends) {
            (_, Sends::Streams { .. }) => Payload::Body(Outgoing::whole(body)),
            (Some(chunks), Sends::Bytes) => Payload::Bytes(chunks.iter().cloned().collect()),
            (None, Sends::Bytes) => {
                let len = usize::try_from(body.len()).map_err(io::Error::other)?;
                Payload::Bytes(body.range(0, len).await?.into())
            }
        };
        Ok((payload, share))
    }
}
