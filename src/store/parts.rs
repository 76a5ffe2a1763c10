//! Multipart uploads: what is too large for one request.

use std::{io, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    Error as BackendError, MultipartUpload, PutMultipartOptions, UploadPart, path::Path,
};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::{About, Bucket, Cause, caught, open::Sends, outgoing::Outgoing, upload::STREAM};
use crate::{
    body::{Body, Budget},
    telemetry,
};

/// Parts of one upload in flight.
const PARTS_IN_FLIGHT: usize = 2;

impl Bucket {
    /// Sends all parts; the upload is still to be completed.
    pub(super) async fn send(
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
}

/// A multipart upload that is aborted when it is dropped: by an error, or because its job was. Parts
/// that nobody completes are invisible, and billed.
#[derive(Debug)]
pub(super) struct Unfinished {
    upload: Option<Box<dyn MultipartUpload>>,
    tidying: TaskTracker,
}

impl Unfinished {
    pub(super) async fn complete(&mut self) -> Result<(), BackendError> {
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
        }
        self.forget();
        Ok(())
    }

    /// Nothing is to be aborted any more.
    pub(super) fn forget(&mut self) {
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
