//! The archive read from outside of any job: listings in order, objects read for what they are. Nothing is written.
//!
//! Whoever audits must not take a store that does not answer, or denies, for one that lacks an object: only an
//! answer of "not found" is that. What fails is tried again for some seconds, and then says which key it was.

use std::{
    io::{self, Read},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use object_store::{
    Error as BackendError, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt,
    path::Path,
};

use super::{Bucket, Cause, StoreError, caught, small::LARGEST_MANIFEST, uploads::Uploads, walk};
use crate::{
    body::{PIECE, blocking},
    digest::{Hasher, Sha256},
};

/// How long a store that does not work is waited for: a person may be waiting too, and nothing is lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// What one request reads of a large object, in bytes: a request has a time limit.
const RANGE: u64 = 8 << 20;

/// An object as a listing tells of it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its key, below the bucket's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub modified: DateTime<Utc>,
}

/// A small object read whole.
#[derive(Debug)]
pub enum Small {
    /// There is none.
    Missing,
    /// It has so many bytes, more than were asked for. None was read.
    TooLarge(u64),
    /// All of it.
    Whole(Bytes),
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bytes.
    pub size: u64,
    /// Of its bytes; `None` where the size told enough.
    pub sha256: Option<Sha256>,
}

impl Bucket {
    /// The most bytes that a manifest can have.
    pub const LARGEST_MANIFEST: u64 = LARGEST_MANIFEST;

    /// Every object under a folder of keys (`""`: of the bucket), in the store's order, from the one after `after` on.
    /// That order is the keys' own with folders, S3 itself, Google Cloud Storage and Azure. A failure ends the list, but for
    /// a directory that may not be read.
    pub fn list(
        self: &Arc<Self>,
        folder: &str,
        after: Option<&str>,
    ) -> impl Stream<Item = Result<Listed, StoreError>> + Send + use<> {
        let bucket = Arc::clone(self);
        let paths = self.folder_path(folder).and_then(|folder| {
            let after = after.map(|key| self.path(key)).transpose()?;
            Ok((folder, after))
        });
        match (paths, &self.uploads) {
            (Err(error), _) => stream::iter([Err(error)]).boxed(),
            (Ok((folder, after)), Uploads::Folder { root, .. }) => {
                let after = after.map(String::from);
                let walked = walk::files(root.clone(), folder.into(), after);
                let failed = move |(at, error): (String, io::Error)| {
                    bucket.error(&format!("list {at:?}"), error)
                };
                walked.map_err(failed).boxed()
            }
            (Ok((folder, after)), _) => bucket.pages(folder, after).boxed(),
        }
    }

    /// The listing of a store, begun again where it broke off.
    fn pages(
        self: Arc<Self>,
        folder: Path,
        after: Option<Path>,
    ) -> impl Stream<Item = Result<Listed, StoreError>> + Send {
        type Open = stream::BoxStream<'static, Result<ObjectMeta, BackendError>>;
        struct Place {
            open: Option<Open>,
            after: Option<Path>,
            ended: bool,
        }
        // Their emulators list from the beginning, wherever they are asked to begin. Some that speak S3's language list
        // folder by folder, in an order in which a key says nothing of what came before.
        let in_order = matches!(self.uploads, Uploads::Azure | Uploads::Google { .. });
        let place = Place {
            open: None,
            after,
            ended: false,
        };
        stream::unfold(place, move |mut place| {
            let (bucket, folder) = (Arc::clone(&self), folder.clone());
            async move {
                if place.ended {
                    return None;
                }
                let what = format!("list {:?}", folder.as_ref());
                let at = tokio::sync::Mutex::new(&mut place);
                let next = bucket.quickly(&what, async || {
                    let place = &mut **at.lock().await;
                    let open = place.open.get_or_insert_with(|| match &place.after {
                        Some(after) => bucket.store.list_with_offset(Some(&folder), after),
                        None => bucket.store.list(Some(&folder)),
                    });
                    loop {
                        match open.try_next().await {
                            Ok(Some(meta))
                                if in_order && place.after >= Some(meta.location.clone()) => {}
                            Ok(Some(meta)) => {
                                place.after = Some(meta.location.clone());
                                return Ok(Some(meta));
                            }
                            Ok(None) => return Ok(None),
                            Err(error) => {
                                place.open = None;
                                return Err(error.into());
                            }
                        }
                    }
                });
                let next = next.await;
                place.ended = next.is_err();
                let listed = next.transpose()?.map(|meta| bucket.listed(&meta));
                Some((listed, place))
            }
        })
    }

    fn listed(&self, meta: &ObjectMeta) -> Listed {
        let key = meta.location.as_ref();
        let below = key.strip_prefix(self.prefix.as_ref()).unwrap_or(key);
        Listed {
            key: below.trim_start_matches('/').to_owned(),
            size: meta.size,
            modified: meta.last_modified,
        }
    }

    /// The names of the folders of keys right under a folder (`""`: of the bucket), sorted.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.folder_path(folder)?;
        let attempt = async || {
            self.there()?;
            match self.store.list_with_delimiter(Some(&path)).await {
                Ok(listed) => Ok(listed.common_prefixes),
                // A directory that is not there is a folder without objects; a bucket that is not there is none.
                Err(BackendError::NotFound { .. }) if self.uploads.folder().is_some() => {
                    Ok(Vec::new())
                }
                Err(error) => Err(error.into()),
            }
        };
        let found = self
            .quickly(&format!("list {:?}", path.as_ref()), attempt)
            .await?;
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|path| Some(path.filename()?.to_owned()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads an object of at most so many bytes.
    pub async fn read_small(&self, key: &str, most: u64) -> Result<Small, StoreError> {
        let path = self.path(key)?;
        let attempt = async || self.small(&path, most).await;
        self.quickly(&format!("read {key:?}"), attempt).await
    }

    async fn small(&self, path: &Path, most: u64) -> Result<Small, Cause> {
        self.there()?;
        if let Uploads::Folder { files, .. } = &self.uploads {
            let file = files.path_to_filesystem(path)?;
            let read = blocking(move || {
                let Some((mut file, size)) = walk::open(&file)? else {
                    return Ok(Small::Missing);
                };
                if size > most {
                    return Ok(Small::TooLarge(size));
                }
                let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
                file.by_ref().take(most).read_to_end(&mut bytes)?;
                Ok(Small::Whole(bytes.into()))
            });
            return Ok(read.await?);
        }
        let found = match self.store.get(path).await {
            Ok(found) => found,
            Err(BackendError::NotFound { .. }) => return Ok(Small::Missing),
            Err(error) => return Err(error.into()),
        };
        let size = found.meta.size;
        if size > most {
            return Ok(Small::TooLarge(size));
        }
        let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        let mut pieces = found.into_stream();
        while let Some(piece) = pieces.try_next().await? {
            bytes.extend_from_slice(&piece);
            // A store that sends more than it said is not believed any further.
            if bytes.len() as u64 > size {
                break;
            }
        }
        whole(bytes.len() as u64, size)?;
        Ok(Small::Whole(bytes.freeze()))
    }

    /// How large an object is, if there is one.
    pub async fn size_of(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let path = self.path(key)?;
        let attempt = async || {
            self.there()?;
            if let Uploads::Folder { files, .. } = &self.uploads {
                let file = files.path_to_filesystem(&path)?;
                let opened = blocking(move || walk::size(&file));
                return Ok(opened.await?);
            }
            match self.store.head(&path).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(BackendError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.quickly(&format!("look at {key:?}"), attempt).await
    }

    /// Reads an object for its SHA-256, piece by piece, if there is one and it has just so many bytes.
    pub async fn digest(&self, key: &str, size: u64) -> Result<Option<Seen>, StoreError> {
        let path = self.path(key)?;
        let what = format!("read {key:?}");
        if let Uploads::Folder { files, .. } = &self.uploads {
            let file = files.path_to_filesystem(&path);
            let file = file.map_err(|error| self.error(&what, error))?;
            let attempt = async || {
                self.there()?;
                let file = file.clone();
                Ok(blocking(move || hash_file(&file, size)).await?)
            };
            return self.quickly(&what, attempt).await;
        }
        if size <= RANGE {
            let attempt = async || match self.store.get(&path).await {
                Ok(found) if found.meta.size == size => {
                    let hasher = hash(found.into_stream(), Hasher::default(), size).await?;
                    Ok(Some(Seen {
                        size,
                        sha256: Some(hasher.finish()),
                    }))
                }
                Ok(found) => Ok(Some(Seen {
                    size: found.meta.size,
                    sha256: None,
                })),
                Err(BackendError::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
            return self.quickly(&what, attempt).await;
        }
        match self.size_of(key).await? {
            Some(found) if found == size => {}
            other => return Ok(other.map(|size| Seen { size, sha256: None })),
        }
        let mut hasher = Hasher::default();
        for start in (0..size).step_by(usize::try_from(RANGE).unwrap_or(usize::MAX)) {
            let end = size.min(start + RANGE);
            let so_far = &hasher;
            let attempt = async || {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(start..end)),
                    ..Default::default()
                };
                let found = self.store.get_opts(&path, options).await?;
                let pieces = found.into_stream();
                hash(pieces, so_far.clone(), end - start).await
            };
            hasher = self.quickly(&what, attempt).await?;
        }
        let sha256 = Some(hasher.finish());
        Ok(Some(Seen { size, sha256 }))
    }

    /// A folder of keys, below the bucket's prefix.
    fn folder_path(&self, folder: &str) -> Result<Path, StoreError> {
        match folder {
            "" => Ok(self.prefix.clone()),
            folder => self.path(folder),
        }
    }

    /// Tries for some seconds; what the store denies, it denies again.
    async fn quickly<T, F: Future<Output = Result<T, Cause>>>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError> {
        let judged = || {
            let attempt = caught(attempt());
            async {
                match attempt.await {
                    Err(error) if error.is_refusal() => Ok(Err(error)),
                    Err(error) => Err(error),
                    Ok(done) => Ok(Ok(done)),
                }
            }
        };
        let done = self.outage.wait_out("read", PATIENCE, judged).await;
        done.and_then(|done| done)
            .map_err(|source| self.error(what, source))
    }
}

impl StoreError {
    /// Whether the store answered, and denied: it works, and will do so again.
    pub fn is_refusal(&self) -> bool {
        self.source.is_refusal()
    }
}

impl Cause {
    fn is_refusal(&self) -> bool {
        match self {
            Self::Backend(error) => matches!(
                error,
                BackendError::PermissionDenied { .. }
                    | BackendError::Unauthenticated { .. }
                    // A key that no path can be made of, put there by somebody else: what is listed with it is not
                    // verified, and that is said; all else is.
                    | BackendError::InvalidPath { .. }
            ),
            Self::Disk(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Self::Panicked(_) => false,
        }
    }
}

/// Hashes pieces that are to have so many bytes together.
async fn hash(
    pieces: impl Stream<Item = Result<Bytes, BackendError>>,
    mut hasher: Hasher,
    size: u64,
) -> Result<Hasher, Cause> {
    let (mut pieces, mut read) = (pin!(pieces), 0);
    while let Some(piece) = pieces.try_next().await? {
        hasher.update(&piece);
        read += piece.len() as u64;
    }
    whole(read, size)?;
    Ok(hasher)
}

fn whole(read: u64, size: u64) -> io::Result<()> {
    if read == size {
        return Ok(());
    }
    let what = format!("the store sent {read} bytes of {size}");
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
}

fn hash_file(path: &std::path::Path, size: u64) -> io::Result<Option<Seen>> {
    let Some((mut file, found)) = walk::open(path)? else {
        return Ok(None);
    };
    if found != size {
        let seen = Seen {
            size: found,
            sha256: None,
        };
        return Ok(Some(seen));
    }
    let piece = PIECE.min(usize::try_from(size).unwrap_or(PIECE) + 1);
    let (mut buffer, mut hasher, mut read) = (vec![0; piece], Hasher::default(), 0);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                read += count as u64;
            }
        }
    }
    // It may be written to meanwhile.
    let sha256 = (read == size).then(|| hasher.finish());
    Ok(Some(Seen { size: read, sha256 }))
}
