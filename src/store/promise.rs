//! Does a store keep what callvault promises? Found out by doing it: many that speak S3's language lack
//! a word of it, and say nothing.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::StreamExt;
use object_store::{
    Attribute, Attributes, Error as BackendError, ObjectStoreExt, PutMode, PutMultipartOptions,
    UpdateVersion, path::Path,
};
use uuid::Uuid;

use super::{About, Bucket, Cause, StoreError, caught, clock, is_refusal, open::Sends};
use crate::telemetry;

/// What a bucket is without conditional writes, and how to mend it.
pub(super) const UNCONDITIONAL: (&str, &str) = (
    "conditional_put is \"disabled\": callvault looks before it writes, and of two workers that write the same key at \
     the very same time the second one wins",
    "leave the option out where the store knows If-None-Match and If-Match, or run a single worker",
);

const WITHOUT_CONDITIONS: &str =
    "set conditional_put = \"disabled\" in the bucket's options, and callvault does without";
const NEWER_STORE: &str = "use a version of the store that knows it, or run a single worker";

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

/// From which difference on a store's clock and this machine's are told of: callvault goes by its own where it judges
/// whether an event is new and a URL is over.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::seconds(10);
/// From which difference on stores refuse what is signed: after 15 minutes, or 5.
const CLOCKS_REFUSED: TimeDelta = TimeDelta::minutes(5);

/// Something worth telling about a store, and how to mend it.
#[derive(Debug)]
pub struct Finding {
    /// How bad it is.
    pub promise: Promise,
    /// What is the matter, in an operator's words.
    pub what: String,
    /// How to mend it; empty where there is nothing to be mended.
    pub mend: String,
}

impl Finding {
    fn new(promise: Promise, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            promise,
            what: what.into(),
            mend: mend.into(),
        }
    }
}

impl Bucket {
    /// Writes, replaces, reads and deletes a small object of its own under the bucket's prefix, begins an upload in
    /// parts and gives it up, and tells what does not go as it should.
    pub async fn probe(&self) -> Result<Vec<Finding>, StoreError> {
        let (probed, ahead) = clock::listening(self.try_out()).await;
        let clock = ahead.and_then(clocks);
        match probed {
            Ok(findings) => Ok(clock.into_iter().chain(findings).collect()),
            // Which is why, more often than not.
            Err(error) => clock
                .filter(|clock| clock.promise == Promise::Broken)
                .map(|clock| vec![clock])
                .ok_or(error),
        }
    }

    async fn try_out(&self) -> Result<Vec<Finding>, StoreError> {
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
            Err(error) => findings.push(Finding::new(
                Promise::Kept,
                format!(
                    "the check could not delete its object, so {key} stays: {} (callvault itself deletes nothing)",
                    telemetry::chain(&error)
                ),
                "",
            )),
        }
        Ok(findings)
    }

    async fn examine(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        self.examine_missing(path, findings).await?;
        let bytes = self.examine_create(path, findings).await?;
        let version = self.examine_reading(path, &bytes, findings).await?;
        self.examine_listing(path, findings).await?;
        if self.uploads.folder().is_none() {
            self.examine_replace(path, version, findings).await?;
            self.examine_parts(path, findings).await?;
        }
        self.examine_uploads(path, findings).await
    }

    async fn examine_missing(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        match self.head(path).await {
            Err(BackendError::NotFound { .. }) => {}
            Err(error) if is_refusal(&error) => {
                findings.push(Finding::new(
                    Promise::Broken,
                    "a missing key is refused, not answered with 404: whether an event was archived before cannot be told, \
                     and its messages wait for ever",
                    "grant the right to list the bucket (s3:ListBucket, storage.objects.list)",
                ));
            }
            Err(error) => return Err(error.into()),
            Ok(_) => findings.push(Finding::new(
                Promise::Broken,
                "a key where nothing was written holds something",
                "look at what stands between callvault and the store: it is to cache nothing",
            )),
        }
        Ok(())
    }

    /// What is under the key in the end.
    async fn examine_create(
        &self,
        path: &Path,
        findings: &mut Vec<Finding>,
    ) -> Result<Bytes, Cause> {
        let (first, second) = (Bytes::from("first"), Bytes::from("second"));
        if !self.conditional {
            let (what, mend) = UNCONDITIONAL;
            findings.push(Finding::new(Promise::Weaker, what, mend));
        }
        let created = self.try_write(path, &first, PutMode::Create).await;
        // Ours already: the client had to ask twice.
        let lost_answer = matches!(created, Err(BackendError::AlreadyExists { .. }));
        if let Err(error) = created
            && !lost_answer
        {
            // Refused as such, or for its condition?
            self.try_write(path, &first, PutMode::Overwrite).await?;
            findings.push(Finding::new(
                Promise::Broken,
                format!(
                    "it refuses to create an object only where there is none (If-None-Match: *): {}",
                    telemetry::chain(&error)
                ),
                WITHOUT_CONDITIONS,
            ));
            return Ok(first);
        }
        match self.try_write(path, &second, PutMode::Create).await {
            Err(BackendError::AlreadyExists { .. }) => Ok(first),
            Err(error) => Err(error.into()),
            Ok(()) => {
                findings.push(Finding::new(
                    Promise::Weaker,
                    "it ignores create-if-absent (If-None-Match: *): two workers at one event may overwrite each other's \
                     objects",
                    NEWER_STORE,
                ));
                Ok(second)
            }
        }
    }

    async fn examine_reading(
        &self,
        path: &Path,
        bytes: &Bytes,
        findings: &mut Vec<Finding>,
    ) -> Result<UpdateVersion, Cause> {
        let there = self.store.get(path).await?;
        let version = UpdateVersion {
            e_tag: there.meta.e_tag.clone(),
            version: there.meta.version.clone(),
        };
        let lost = missing(&there.attributes);
        if there.bytes().await? != bytes {
            findings.push(Finding::new(
                Promise::Broken,
                "an object is not read back as it was written",
                "use another store, or take away what stands before this one and changes what passes",
            ));
        }
        if self.uploads.folder().is_some() {
            findings.push(Finding::new(
                Promise::Kept,
                "a folder keeps neither metadata nor content types: the manifest has them all",
                "",
            ));
        } else if !lost.is_empty() {
            findings.push(Finding::new(
                Promise::Weaker,
                format!(
                    "it loses an object's {}: the manifest alone has them, and a large object that is there already is read \
                     whole to compare it",
                    lost.join(" and ")
                ),
                "have what stands before the store pass content-type and x-amz-meta-…, or use a version that keeps them",
            ));
        }
        Ok(version)
    }

    /// What lists a bucket: audits, and sweeping.
    async fn examine_listing(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        let above = path.parts_count().saturating_sub(1);
        let folder: Path = path.parts().take(above).collect();
        let mut listed = self.store.list(Some(&folder));
        loop {
            match listed.next().await.transpose() {
                Ok(Some(object)) if object.location == *path => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) => {
                    findings.push(Finding::new(
                        Promise::Weaker,
                        "an object that was just written is not in its list: an audit may take it for missing",
                        "use a store whose lists are consistent, and audit what is older than a day",
                    ));
                    return Ok(());
                }
                Err(error) if is_refusal(&error) => {
                    findings.push(Finding::new(
                        Promise::Weaker,
                        "it may not be listed: `callvault verify` cannot audit it",
                        "grant the right to list the bucket (s3:ListBucket, storage.objects.list)",
                    ));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn examine_replace(
        &self,
        path: &Path,
        version: UpdateVersion,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Cause> {
        let (third, fourth) = (Bytes::from("third"), Bytes::from("fourth"));
        let mode = PutMode::Update(version);
        if let Err(error) = self.try_write(path, &third, mode.clone()).await {
            findings.push(Finding::new(
                Promise::Broken,
                format!(
                    "it refuses to replace an object of a given version (If-Match): {}",
                    telemetry::chain(&error)
                ),
                WITHOUT_CONDITIONS,
            ));
        } else if self.try_write(path, &fourth, mode).await.is_ok() {
            findings.push(Finding::new(
                Promise::Weaker,
                "it ignores the version that is to be replaced (If-Match): of two workers at one event, the one with the \
                 poorer manifest may replace the better one",
                NEWER_STORE,
            ));
        }
        Ok(())
    }

    /// Large objects go up in parts, and signed in another way.
    async fn examine_parts(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        let (store, unsigned) = match &self.sends {
            Sends::Streams { parts, signed } => (parts, !signed),
            Sends::Bytes => (&self.store, false),
        };
        let options = PutMultipartOptions {
            attributes: self.attributes(&about()),
            ..Default::default()
        };
        let mut begun = false;
        let sent = async {
            let mut upload = store.put_multipart_opts(path, options).await?;
            begun = true;
            let sent = upload.put_part(Bytes::from("part").into()).await;
            let aborted = upload.abort().await;
            sent.map(|()| aborted)
        };
        match sent.await {
            Ok(Ok(())) => {}
            // Azure lets go of them by itself.
            Ok(Err(_)) if !self.uploads.are_listed() => {}
            Ok(Err(error)) => findings.push(Finding::new(
                Promise::Weaker,
                format!(
                    "an upload in parts cannot be given up: {}; its parts stay, and are billed",
                    telemetry::chain(&error)
                ),
                "grant s3:AbortMultipartUpload, or have the bucket abort them itself (deploy/s3/lifecycle.json)",
            )),
            Err(error) => {
                let mend = if begun && unsigned {
                    "set unsigned_payload = \"false\" in the bucket's options, if its policy refuses UNSIGNED-PAYLOAD; \
                     else grant s3:PutObject for uploads in parts"
                } else {
                    "grant s3:PutObject for uploads in parts, or use a store that has them"
                };
                findings.push(Finding::new(
                    Promise::Broken,
                    format!(
                        "it refuses an upload in parts, by which all above 64 MiB go: {}",
                        telemetry::chain(&error)
                    ),
                    mend,
                ));
            }
        }
        Ok(())
    }

    async fn examine_uploads(&self, path: &Path, findings: &mut Vec<Finding>) -> Result<(), Cause> {
        if !self.uploads.are_listed() {
            return Ok(());
        }
        if let Err(refused) = self.uploads.list(path).await? {
            findings.push(Finding::new(
                Promise::Weaker,
                format!(
                    "it does not list unfinished uploads: {refused}; `callvault sweep` cannot clean up here after a crash"
                ),
                "grant s3:ListBucketMultipartUploads, or have the bucket abort them itself (deploy/s3/lifecycle.json)",
            ));
        }
        Ok(())
    }

    async fn try_write(
        &self,
        path: &Path,
        bytes: &Bytes,
        mode: PutMode,
    ) -> Result<(), BackendError> {
        self.write(path, bytes.clone().into(), &about(), mode).await
    }
}

fn about() -> About {
    About {
        content_type: Some(CONTENT_TYPE.into()),
        metadata: vec![(METADATA.0, METADATA.1.into())],
    }
}

/// What there is to say of a store's clock that is so far ahead of this machine's.
fn clocks(ahead: TimeDelta) -> Option<Finding> {
    let apart = ahead.abs();
    let promise = match apart {
        _ if apart > CLOCKS_REFUSED => Promise::Broken,
        _ if apart > CLOCKS_DIFFER => Promise::Weaker,
        _ => return None,
    };
    let direction = if ahead > TimeDelta::zero() {
        "behind"
    } else {
        "ahead of"
    };
    let apart = apart
        .to_std()
        .map(|apart| Duration::from_secs(apart.as_secs()));
    let apart = humantime::format_duration(apart.unwrap_or_default());
    Some(Finding::new(
        promise,
        format!(
            "this machine's clock is {apart} {direction} the store's: from 5 to 15 minutes on stores refuse what is signed by it"
        ),
        "set this machine's clock, by NTP (timedatectl set-ntp true)",
    ))
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
