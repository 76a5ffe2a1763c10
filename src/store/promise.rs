//! Does a store keep what callvault promises? Found out by doing it: many that speak S3's language lack
//! a word of it, and say nothing.

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, Error as BackendError, ObjectStoreExt, PutMode, UpdateVersion,
    path::Path,
};
use uuid::Uuid;

use super::{About, Bucket, Cause, StoreError, caught};
use crate::telemetry;

/// What a bucket is without conditional writes.
pub(super) const UNCONDITIONAL: &str = "conditional_put is \"disabled\": callvault looks before it writes, and of \
    two workers that write the same key at the very same time the second one wins; leave the option out \
    where the store knows If-None-Match and If-Match, or run a single worker";

const CONTENT_TYPE: &str = "text/x-callvault-check";
const METADATA: (&str, &str) = ("callvault_check", "kept");

/// How a store does by a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// It keeps it; there is something to know, though.
    Kept,
    /// callvault archives, and promises less.
    Weaker,
    /// callvault cannot archive like this.
    Broken,
}

/// Something worth telling about a store, and how to mend it.
#[derive(Debug)]
pub struct Finding {
    /// How bad it is.
    pub promise: Promise,
    /// In an operator's words.
    pub text: String,
}

impl Bucket {
    /// Writes, replaces, reads and deletes a small object of its own under the bucket's prefix, and tells
    /// what does not go as it should.
    pub async fn probe(&self) -> Result<Vec<Finding>, StoreError> {
        let key = format!(".callvault-check/{}", Uuid::new_v4().simple());
        let path = self.path(&key)?;
        let mut findings = Vec::new();
        let examined = caught(self.examine(&path, &mut findings)).await;
        let deleted = caught(self.store.delete(&path)).await;
        if let Some(folder) = self.uploads.folder() {
            // Fails while another check is at work, which then does it.
            let _ = std::fs::remove_dir(folder.join(".callvault-check"));
        }
        if let (Err(_), Err(error)) = (&examined, &deleted)
            && !matches!(error, BackendError::NotFound { .. })
        {
            let (bucket, error) = (&self.name, telemetry::chain(error));
            tracing::warn!(bucket, key, error, "the check's own object may be left");
        }
        examined.map_err(|error| self.error("try the store", error))?;
        match deleted {
            Ok(()) | Err(BackendError::NotFound { .. }) => {}
            Err(error) => findings.push(Finding {
                promise: Promise::Kept,
                text: format!(
                    "the check could not delete its object, so {key} stays: {} (callvault itself deletes nothing)",
                    telemetry::chain(&error)
                ),
            }),
        }
        Ok(findings)
    }

    async fn examine(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        let mut find = |promise, text: String| findings.push(Finding { promise, text });
        match self.head(path).await {
            Err(BackendError::NotFound { .. }) => {}
            Err(BackendError::PermissionDenied { .. } | BackendError::Unauthenticated { .. }) => find(
                Promise::Broken,
                "a missing key is refused, not answered with 404: grant the right to list the bucket \
                 (s3:ListBucket, storage.objects.list)"
                    .into(),
            ),
            Err(error) => return Err(error.into()),
            Ok(_) => find(
                Promise::Broken,
                "a key where nothing was written holds something".into(),
            ),
        }
        let bytes = self.examine_create(path, &mut find).await?;
        let version = self.examine_reading(path, &bytes, &mut find).await?;
        if self.uploads.folder().is_none() {
            self.examine_replace(path, version, &mut find).await?;
        }
        self.examine_uploads(path, &mut find).await
    }

    /// What is under the key in the end.
    async fn examine_create(
        &self,
        path: &Path,
        find: &mut impl FnMut(Promise, String),
    ) -> Result<Bytes, Cause> {
        let (first, second) = (Bytes::from("first"), Bytes::from("second"));
        if !self.conditional {
            find(Promise::Weaker, UNCONDITIONAL.into());
        }
        let created = self.try_write(path, &first, PutMode::Create).await;
        // Ours already: the client had to ask twice.
        let lost_answer = matches!(created, Err(BackendError::AlreadyExists { .. }));
        if let Err(error) = created
            && !lost_answer
        {
            // Refused as such, or for its condition?
            self.try_write(path, &first, PutMode::Overwrite).await?;
            find(
                Promise::Broken,
                format!(
                    "it refuses to create an object only where there is none (If-None-Match: *): {}; set \
                     conditional_put = \"disabled\" in the bucket's options, and callvault does without",
                    telemetry::chain(&error)
                ),
            );
            return Ok(first);
        }
        match self.try_write(path, &second, PutMode::Create).await {
            Err(BackendError::AlreadyExists { .. }) => Ok(first),
            Err(error) => Err(error.into()),
            Ok(()) => {
                find(
                    Promise::Weaker,
                    "it ignores create-if-absent (If-None-Match: *): two workers at one event may overwrite \
                     each other's objects; use a version of the store that knows it, or run a single worker"
                        .into(),
                );
                Ok(second)
            }
        }
    }

    async fn examine_reading(
        &self,
        path: &Path,
        bytes: &Bytes,
        find: &mut impl FnMut(Promise, String),
    ) -> Result<UpdateVersion, Cause> {
        let there = self.store.get(path).await?;
        let version = UpdateVersion {
            e_tag: there.meta.e_tag.clone(),
            version: there.meta.version.clone(),
        };
        let lost = missing(&there.attributes);
        if there.bytes().await? != bytes {
            find(
                Promise::Broken,
                "an object is not read back as it was written".into(),
            );
        }
        if self.uploads.folder().is_some() {
            let text =
                "a folder keeps neither metadata nor content types: the manifest has them all";
            find(Promise::Kept, text.into());
        } else if !lost.is_empty() {
            find(
                Promise::Weaker,
                format!(
                    "it loses an object's {}: the manifest alone has them, and a large object that is there \
                     already is read whole to compare it",
                    lost.join(" and ")
                ),
            );
        }
        Ok(version)
    }

    async fn examine_replace(
        &self,
        path: &Path,
        version: UpdateVersion,
        find: &mut impl FnMut(Promise, String),
    ) -> Result<(), Cause> {
        let (third, fourth) = (Bytes::from("third"), Bytes::from("fourth"));
        let mode = PutMode::Update(version);
        if let Err(error) = self.try_write(path, &third, mode.clone()).await {
            find(
                Promise::Broken,
                format!(
                    "it refuses to replace an object of a given version (If-Match): {}; set \
                     conditional_put = \"disabled\" in the bucket's options, and callvault does without",
                    telemetry::chain(&error)
                ),
            );
        } else if self.try_write(path, &fourth, mode).await.is_ok() {
            find(
                Promise::Weaker,
                "it ignores the version that is to be replaced (If-Match): of two workers at one event, the one \
                 with the poorer manifest may replace the better one; use a version of the store that knows \
                 it, or run a single worker"
                    .into(),
            );
        }
        Ok(())
    }

    async fn examine_uploads(
        &self,
        path: &Path,
        find: &mut impl FnMut(Promise, String),
    ) -> Result<(), Cause> {
        if !self.uploads.are_listed() {
            return Ok(());
        }
        if let Err(refused) = self.uploads.list(path).await? {
            find(
                Promise::Weaker,
                format!(
                    "it does not list unfinished uploads: {refused}; `callvault sweep` cannot clean up here \
                     after a crash: grant s3:ListBucketMultipartUploads, or have the bucket abort them \
                     itself (deploy/s3/lifecycle.json)"
                ),
            );
        }
        Ok(())
    }

    async fn try_write(
        &self,
        path: &Path,
        bytes: &Bytes,
        mode: PutMode,
    ) -> Result<(), BackendError> {
        let about = About {
            content_type: Some(CONTENT_TYPE.into()),
            metadata: vec![(METADATA.0, METADATA.1.into())],
        };
        self.write(path, bytes.clone().into(), &about, mode).await
    }
}

/// What of the check's attributes has not come back.
fn missing(attributes: &Attributes) -> Vec<&'static str> {
    let is = |attribute: Attribute, value: &str| {
        attributes
            .get(&attribute)
            .is_some_and(|kept| kept.as_ref() == value)
    };
    let mut missing = Vec::new();
    if !is(Attribute::ContentType, CONTENT_TYPE) {
        missing.push("content type");
    }
    if !is(Attribute::Metadata(METADATA.0.into()), METADATA.1) {
        missing.push("metadata");
    }
    missing
}
