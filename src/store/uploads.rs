//! Unfinished multipart uploads: how each kind of store tells of them.
//!
//! The store library has no listing of them. S3 and Google Cloud Storage answer `GET ?uploads` with the
//! same XML, so the two share all but the way in which a request proves who sends it.

mod answer;

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use object_store::{
    Error as BackendError,
    aws::AmazonS3,
    client::{HttpRequest, HttpRequestBody},
    gcp::GoogleCloudStorage,
    local::LocalFileSystem,
    multipart::MultipartStore,
    path::Path,
    signer::{SignedUrlOptions, Signer},
};
use serde::de::DeserializeOwned;
use url::Url;

use self::answer::{Page, Parts, Refusal, decode, read, time};
use super::{Cause, clients::Connector};

/// How long a request's signature is good.
const SIGNED_FOR: Duration = Duration::from_mins(5);

/// Uploads that one answer lists: the most that S3 takes.
const PAGE: &str = "1000";

/// What kind of store a bucket is in, and what it takes to find its unfinished uploads.
#[derive(Debug)]
pub(super) enum Uploads {
    S3 {
        store: AmazonS3,
        client: Connector,
        unsigned: bool,
    },
    Google {
        store: GoogleCloudStorage,
        client: Connector,
        /// The bucket's URL.
        bucket: String,
        unsigned: bool,
    },
    Azure,
    Folder {
        /// The directory.
        root: PathBuf,
        /// Which knows where in it a key's file lies.
        files: Arc<LocalFileSystem>,
    },
    InMemory,
}

/// An upload that was begun.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    /// The object's whole key.
    pub(super) path: Path,
    pub(super) id: String,
    pub(super) begun: DateTime<Utc>,
}

/// An answer, or the store's refusal in its words.
type Asked<T> = Result<Result<T, String>, Cause>;

impl Uploads {
    /// The directory, where the bucket is a folder.
    pub(super) fn folder(&self) -> Option<&std::path::Path> {
        match self {
            Self::Folder { root, .. } => Some(root),
            _ => None,
        }
    }

    /// Whether there is a list of uploads to be had.
    pub(super) fn are_listed(&self) -> bool {
        matches!(self, Self::S3 { .. } | Self::Google { .. })
    }

    /// The uploads under a prefix that were begun and neither completed nor aborted.
    pub(super) async fn list(&self, prefix: &Path) -> Asked<Vec<Upload>> {
        let prefix = match prefix.as_ref() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let mut uploads = Vec::new();
        let mut after = (String::new(), String::new());
        loop {
            let mut query = vec![
                ("uploads", ""),
                ("prefix", &prefix),
                ("encoding-type", "url"),
                ("max-uploads", PAGE),
            ];
            let (key, id) = &after;
            query.extend([("key-marker", key.as_str()), ("upload-id-marker", id)]);
            query.retain(|(name, value)| !value.is_empty() || *name == "uploads");
            let page: Page = match self.ask(&Path::default(), &query, Page::ROOT).await? {
                Ok(page) => page,
                Err(refused) => return Ok(Err(refused)),
            };
            let decoded = |text: String| match page.encoding_type.as_deref() {
                Some("url") => decode(&text),
                _ => text,
            };
            for entry in page.list {
                // A key that is no path is none of callvault's.
                let Ok(path) = Path::parse(decoded(entry.key)) else {
                    continue;
                };
                uploads.push(Upload {
                    path,
                    id: entry.upload_id,
                    begun: time(&entry.initiated)?,
                });
            }
            let next = (decoded(page.next_key_marker), page.next_upload_id_marker);
            if page.is_truncated != "true" {
                return Ok(Ok(uploads));
            }
            if next == after || next == Default::default() {
                return Err(invalid("its list of uploads does not go on").into());
            }
            after = next;
        }
    }

    /// When an upload's last part came in.
    pub(super) async fn last_part(&self, upload: &Upload) -> Asked<Option<DateTime<Utc>>> {
        let mut last = None;
        let mut after = String::new();
        loop {
            let mut query = vec![("uploadId", upload.id.as_str())];
            if !after.is_empty() {
                query.push(("part-number-marker", &after));
            }
            let page: Parts = match self.ask(&upload.path, &query, Parts::ROOT).await? {
                Ok(page) => page,
                Err(refused) => return Ok(Err(refused)),
            };
            for part in page.list {
                last = last.max(Some(time(&part.last_modified)?));
            }
            if page.is_truncated != "true" || page.next_part_number_marker == after {
                return Ok(Ok(last));
            }
            after = page.next_part_number_marker;
        }
    }

    /// Gives an upload up.
    pub(super) async fn abort(&self, upload: &Upload) -> Result<(), BackendError> {
        match self {
            Self::S3 { store, .. } => store.abort_multipart(&upload.path, &upload.id).await,
            Self::Google { store, .. } => store.abort_multipart(&upload.path, &upload.id).await,
            _ => Ok(()),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &Path,
        query: &[(&str, &str)],
        root: &str,
    ) -> Asked<T> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        let (url, client) = match self {
            Self::S3 {
                store,
                client,
                unsigned,
            } => {
                let options = SignedUrlOptions::new().with_query(query.iter().copied());
                let get = request.method().clone();
                let url = store
                    .signed_url_opts(get, path, SIGNED_FOR, &options)
                    .await?;
                let url = if *unsigned {
                    without_signature(url)
                } else {
                    url
                };
                (url, client)
            }
            Self::Google {
                store,
                client,
                bucket,
                unsigned,
            } => {
                let mut url = Url::parse(bucket).map_err(invalid)?;
                if let (Ok(mut segments), false) =
                    (url.path_segments_mut(), path.as_ref().is_empty())
                {
                    segments.extend(path.as_ref().split('/'));
                }
                url.query_pairs_mut().extend_pairs(query);
                if !unsigned {
                    let credential = store.credentials().get_credential().await?;
                    let bearer = format!("Bearer {}", credential.bearer);
                    let bearer = bearer.parse().map_err(invalid)?;
                    request.headers_mut().insert("authorization", bearer);
                }
                (url, client)
            }
            _ => return Err(invalid("this store lists no uploads").into()),
        };
        *request.uri_mut() = url.as_str().parse().map_err(invalid)?;
        let client = client.get().ok_or_else(|| invalid("there is no client"))?;
        let response = client.execute(request).await.map_err(failed)?;
        let status = response.status();
        let body = response.into_body().bytes().await.map_err(failed)?;
        if status.is_success() {
            return Ok(read(&body, root));
        }
        let code: Refusal = read(&body, Refusal::ROOT).unwrap_or_default();
        let refused = format!("{status} {}", code.code).trim_end().to_owned();
        // What says "never" is an answer; all else may pass.
        match status.as_u16() {
            400 | 401 | 403 | 405 | 501 => Ok(Err(refused)),
            404 => Err(BackendError::NotFound {
                path: path.to_string(),
                source: refused.into(),
            }
            .into()),
            _ => Err(invalid(refused).into()),
        }
    }
}

/// The URL that a signed one was made from.
fn without_signature(mut url: Url) -> Url {
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !name.starts_with("X-Amz-"))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    url
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Cause {
    std::io::Error::other(error).into()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::other(error)
}
