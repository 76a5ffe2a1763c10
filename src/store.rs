//! Object storage: the only place that speaks to buckets.
//!
//! Objects are created, never overwritten: the first writer wins, and a later one is told that the key
//! is taken. A failing store is nobody's fault but the store's, so each operation is repeated with
//! backoff until it succeeds or the caller's patience ends.

mod back;
mod clients;
mod clock;
mod crypto;
mod folder;
mod open;
mod outgoing;
mod parts;
mod promise;
mod read;
mod remedy;
mod service;
mod small;
mod sweep;
#[cfg(test)]
mod tests;
mod upload;
mod uploads;
mod walk;

use std::{collections::HashMap, fmt, io, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::join_all};
use object_store::{
    Attribute, AttributeValue, Attributes, Error as BackendError, GetOptions, ObjectStore,
    ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path,
};
use secrecy::ExposeSecret;
use tokio_util::task::TaskTracker;

pub use self::{
    clients::Clients,
    promise::{Finding, Promise},
    read::{Listed, Seen, Small},
    sweep::{Leftover, Leftovers, Removed},
};
use self::{
    open::{Opened, Sends},
    outgoing::Outgoing,
    uploads::Uploads,
};
use crate::{
    body::{Body, Budget},
    config,
    digest::Sha256,
    outage::Outage,
    telemetry,
};

/// All configured buckets, by name.
#[derive(Debug)]
pub struct Stores(HashMap<String, Arc<Bucket>>);

/// One bucket, and the prefix in it that is callvault's.
pub struct Bucket {
    name: String,
    /// Where it is; see [`Self::place`].
    place: Sha256,
    store: Arc<dyn ObjectStore>,
    /// How bodies get there.
    sends: Sends,
    prefix: Path,
    /// What kind of store it is, and how its unfinished uploads are found.
    uploads: Uploads,
    /// Whether the store is asked for conditional writes; if not, callvault looks first.
    conditional: bool,
    outage: Outage,
    /// Who replaces a manifest in a folder. One at a time waits for the folder's lock, on a thread: as many as there are
    /// threads would leave none to whoever has it.
    replacing: tokio::sync::Mutex<()>,
    /// Uploads that are being aborted, and writes that must not be left half done.
    tidying: TaskTracker,
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
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// A store's client panics over credentials and addresses that it cannot send, which may come from files and
/// services that change while callvault runs. What it says may quote them, and stays untold.
#[derive(Debug, thiserror::Error)]
#[error(
    "its client panicked: often over a credential that no request can carry, such as a token with a newline; \
     look at the store's options, and at the variables and files that its credentials come from"
)]
struct Panicked;

impl From<Panicked> for BackendError {
    fn from(panicked: Panicked) -> Self {
        Self::Generic {
            store: "client",
            source: panicked.into(),
        }
    }
}

/// Makes a panic of a store's client a failure of the store's like any other: no event's fault, and no
/// end of a command. Nothing that the call may have left half done is looked at again.
async fn caught<T, E: From<Panicked>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let call = AssertUnwindSafe(telemetry::of_others(call));
    let done = call.catch_unwind().await;
    done.unwrap_or_else(|_| Err(Panicked.into()))
}

/// A mistake in a bucket's configuration that only its store can judge.
#[derive(Debug)]
pub struct OptionMistake {
    /// What it is about.
    pub setting: Setting,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

/// Where something that a store goes by was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The key below the bucket's: `url`, `options`, or one of them, `options.region`.
    Key(String),
    /// An environment variable of the cloud's own, for all of its buckets.
    Variable(String),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is there, with these bytes: written now, or by somebody before.
    Stored,
    /// The key holds other bytes. Nothing was written.
    Occupied,
}

/// The metadata that tells whose an object is: the SHA-256 of the body of the event that it was written
/// for. Identifiers do not, for an event may come under those of another one.
pub const EVENT_SHA256: &str = "event_sha256";

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
    sent: Option<upload::Sent>,
}

/// What a request is to send.
enum Payload {
    /// Bytes that are there.
    Bytes(PutPayload),
    /// A body, from where it lies.
    Body(Outgoing),
}

/// An object read back.
#[derive(Debug)]
pub struct Stored {
    /// Its bytes.
    pub body: Body,
    /// Its media type, where the store has it.
    pub content_type: Option<String>,
    /// Its [`EVENT_SHA256`], where it has one; a folder keeps no metadata.
    pub event: Option<String>,
}

/// A small object read back, with what it takes to replace just this version of it.
#[derive(Debug)]
pub struct Found {
    /// The object's bytes.
    pub bytes: Bytes,
    version: UpdateVersion,
}

/// Its clients would tell their options too, and a proxy's URL may hold a password.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, prefix, .. } = self;
        write!(f, "Bucket({name:?}, {prefix})")
    }
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

    /// Waits for what jobs that were given up have left to tidy: uploads to abort, files to remove. For
    /// the end of a process, once no job runs any more; `false` where the time was too short.
    pub async fn cleaned(&self, within: Duration) -> bool {
        let all = join_all(self.iter().map(|bucket| {
            bucket.tidying.close();
            bucket.tidying.wait()
        }));
        tokio::time::timeout(within, all).await.is_ok()
    }
}

impl Bucket {
    /// Builds a bucket's client; no request is made. All mistakes are returned together. Buckets of one process share what
    /// their clients can share.
    pub fn open(settings: &config::Bucket, clients: &Clients) -> Result<Self, Vec<OptionMistake>> {
        let Opened {
            store,
            sends,
            prefix,
            uploads,
            conditional,
        } = open::open(&settings.url, &settings.options, clients)?;
        let name = settings.name.clone();
        if !conditional {
            let weaker = promise::UNCONDITIONAL.0;
            tracing::warn!(bucket = name, weaker, "a promise of this bucket is weaker");
        }
        Ok(Self {
            outage: Outage::of(format!("bucket {name}")),
            name,
            place: place(settings),
            store,
            sends,
            prefix,
            uploads,
            conditional,
            replacing: tokio::sync::Mutex::default(),
            tidying: TaskTracker::new(),
        })
    }

    /// The folder that a bucket is to be, and is not: [`Bucket::open`] would make it.
    pub fn missing_folder(settings: &config::Bucket) -> Option<std::path::PathBuf> {
        open::folder_of(&settings.url).filter(|folder| !folder.is_dir())
    }

    /// The same with something between callvault and its store.
    #[cfg(test)]
    pub(crate) fn with_store(
        self,
        between: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>,
    ) -> Self {
        Self {
            store: between(self.store),
            sends: Sends::Bytes,
            ..self
        }
    }

    /// The bucket's name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells the place where its objects are from others: two buckets of a configuration may be the same one.
    pub fn place(&self) -> Sha256 {
        self.place
    }

    /// Its directory, where it is one.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.uploads.folder()
    }

    /// How it is doing.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Stores a body under a key that nothing else is at. Bodies of more than 64 MiB go up in
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
        let mut tried = false;
        let attempt = || {
            let again = std::mem::replace(&mut tried, true);
            self.put_new(&path, body, about, budget, again)
        };
        self.patiently(patience, "store an object", attempt).await
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
        let sent = self.patiently(patience, "send an object", attempt).await?;
        Ok(Staged { path, sent })
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
        let Staged { path, mut sent } = staged;
        let path = &path;
        let attempt = || {
            // An upload can be completed once; after a failure its parts are sent anew.
            let sent = sent.take();
            async move {
                let sent = match sent {
                    None => self.send_large(path, body, about, budget).await?,
                    sent => sent,
                };
                match sent {
                    Some(sent) => self.complete(sent, path, body).await,
                    None => {
                        self.write_whole(path, body, about, PutMode::Overwrite, budget)
                            .await
                    }
                }
            }
        };
        self.patiently(patience, "overwrite an object", attempt)
            .await
    }

    /// One request that any working bucket answers.
    pub async fn reach(&self) -> Result<(), StoreError> {
        let answered = caught(self.ask()).await;
        answered.map_err(|error| self.error("reach the store", error))
    }

    async fn ask(&self) -> Result<(), Cause> {
        let listed = self.store.list(Some(&self.prefix)).next().await.transpose();
        match listed {
            // Without the right to list, an answer to a request for one key will do.
            Err(refused) if is_refusal(&refused) => {
                let probe = self.prefix.clone().join("callvault-check");
                match self.store.head(&probe).await {
                    Ok(_) | Err(BackendError::NotFound { .. }) => Ok(()),
                    // An answer without a body does not say what is wrong.
                    Err(error) if is_refusal(&error) => Err(refused.into()),
                    Err(error) => Err(error.into()),
                }
            }
            // It works as well where somebody put a key that callvault does not make.
            Ok(_) | Err(BackendError::InvalidPath { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes an object in one request, on a condition.
    async fn write(
        &self,
        path: &Path,
        payload: Payload,
        about: &About,
        mode: PutMode,
    ) -> Result<(), BackendError> {
        let mode = if self.conditional {
            mode
        } else {
            self.look_first(path, mode).await?
        };
        let options = PutOptions {
            attributes: self.attributes(about),
            ..mode.into()
        };
        let payload = match payload {
            Payload::Bytes(bytes) => bytes,
            Payload::Body(body) => {
                let put = |stand_in| self.store.put_opts(path, stand_in, options);
                return body.during(put).await.map(|_| ());
            }
        };
        if self.uploads.folder().is_none() {
            let put = self.store.put_opts(path, payload, options);
            return put.await.map(|_| ());
        }
        self.there()?;
        // A file is written to its end even if its job is dropped: half done, it would leave its
        // temporary file to a process that ends.
        let (store, path) = (Arc::clone(&self.store), path.clone());
        let write = async move { store.put_opts(&path, payload, options).await.map(|_| ()) };
        self.tidying.spawn(write).await?
    }

    /// Whether a folder is still there. One on a share that is not mounted any more would be made anew, on the
    /// wrong disk.
    fn there(&self) -> Result<(), BackendError> {
        match self.uploads.folder() {
            Some(folder) if !folder.is_dir() => Err(BackendError::NotFound {
                path: folder.display().to_string(),
                source: "the bucket's folder is gone: mount it; if it never was a disk of its own, make it".into(),
            }),
            _ => Ok(()),
        }
    }

    /// For a store without conditional writes: looks whether the condition holds, then writes without.
    async fn look_first(&self, path: &Path, mode: PutMode) -> Result<PutMode, BackendError> {
        let there = match (&mode, self.head(path).await) {
            (PutMode::Overwrite, _) => return Ok(mode),
            (_, Ok(there)) => Some(there.meta.e_tag),
            (_, Err(BackendError::NotFound { .. })) => None,
            (_, Err(error)) => return Err(error),
        };
        let (path, source) = (path.to_string(), "looked at before the write".into());
        match (mode, there) {
            (PutMode::Create, None) => Ok(PutMode::Overwrite),
            (PutMode::Create, Some(_)) => Err(BackendError::AlreadyExists { path, source }),
            (PutMode::Update(found), Some(e_tag)) if found.e_tag == e_tag => Ok(PutMode::Overwrite),
            _ => Err(BackendError::Precondition { path, source }),
        }
    }

    /// What a store tells of an object without its bytes.
    async fn head(&self, path: &Path) -> Result<object_store::GetResult, BackendError> {
        let head = GetOptions {
            head: true,
            ..Default::default()
        };
        self.store.get_opts(path, head).await
    }

    /// What goes with an object; a folder keeps nothing beside the bytes and refuses to be asked.
    fn attributes(&self, about: &About) -> Attributes {
        if self.uploads.folder().is_some() {
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
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        self.outage
            .wait_out(what, patience, || caught(attempt()))
            .await
            .map_err(|source| self.error(what, source))
    }
}

/// Whether a store says that the credentials may not do this. Of a list its client tells no more than the status.
fn is_refusal(error: &BackendError) -> bool {
    let status = || {
        let words = telemetry::chain(error);
        ["401 Unauthorized", "403 Forbidden"]
            .iter()
            .any(|status| words.contains(status))
    };
    match error {
        BackendError::PermissionDenied { .. } | BackendError::Unauthenticated { .. } => true,
        BackendError::Generic { .. } => status(),
        _ => false,
    }
}

/// Of the URL, and of the options that say whose URL it is: the same name may be in two clouds.
fn place(settings: &config::Bucket) -> Sha256 {
    let tells = ["endpoint", "base_url", "account_name"];
    let mut place = settings.url.clone();
    for (name, value) in &settings.options {
        let name = name.to_ascii_lowercase();
        if tells.iter().any(|told| name.ends_with(told)) {
            place.push('\n');
            place.push_str(value.expose_secret().trim_end_matches('/'));
        }
    }
    Sha256::of(place.as_bytes())
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes.into())
    }
}
