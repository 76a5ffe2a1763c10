//! A bucket in each kind of store, to be used through callvault and looked at from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use callvault::{
    config,
    store::{Bucket, Clients},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    gcs::Xml,
    http_client,
    lossy::Lossy,
    s3::S3,
    servers::{self, Azurite, Gcs},
};

const CONTAINER: &str = Azurite::CONTAINER;
const BUCKET: &str = Gcs::BUCKET;
/// Google's emulators ask for no account, and its clients want one.
const NO_ACCOUNT: &str =
    r#"{"disable_oauth": true, "client_email": "", "private_key_id": "", "private_key": ""}"#;

/// A prefix of one test's own in a store.
pub(crate) struct Place {
    kind: Kind,
    /// What the keys begin with, without a slash at the end; of a folder, nothing.
    prefix: String,
    client: Client,
    dir: TempDir,
}

enum Kind {
    Folder,
    S3(String),
    Azure(String),
    Google { json: String, xml: Xml },
}

/// An object as others see it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Place {
    pub(crate) fn folder() -> Self {
        Self::of(Kind::Folder, String::new())
    }

    pub(crate) async fn s3() -> Self {
        Self::of(
            Kind::S3(servers::s3().await.endpoint().to_owned()),
            unique(),
        )
    }

    pub(crate) async fn azure() -> Self {
        let url = servers::azurite().await.url.to_owned();
        Self::of(Kind::Azure(url), unique())
    }

    pub(crate) async fn google() -> Self {
        let json = servers::gcs().await.url.to_owned();
        let xml = Xml::before(&json).await;
        Self::of(Kind::Google { json, xml }, unique())
    }

    fn of(kind: Kind, prefix: String) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("place-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        Self {
            kind,
            prefix,
            client: http_client(),
            dir,
        }
    }

    /// Where temporary files may lie.
    pub(crate) fn spool(&self) -> &Path {
        self.dir.path()
    }

    /// Whether others can be told an object's content type and metadata.
    pub(crate) fn has_metadata(&self) -> bool {
        !matches!(self.kind, Kind::Folder)
    }

    /// Whether what was begun and is given up is still there for a while.
    pub(crate) fn forgets_by_itself(&self) -> bool {
        matches!(self.kind, Kind::Azure(_))
    }

    /// The method and a part of the target of the request that completes an upload.
    pub(crate) fn completion(&self) -> (&'static str, &'static str) {
        match self.kind {
            Kind::Azure(_) => ("PUT", "comp=blocklist"),
            _ => ("POST", "uploadId="),
        }
    }

    /// The bucket, as callvault opens it.
    pub(crate) fn open(&self) -> Bucket {
        self.open_at(self.endpoint().as_deref(), &[])
    }

    /// The bucket behind a proxy, with more options.
    pub(crate) fn open_behind(&self, proxy: &Lossy, options: &[(&str, &str)]) -> Bucket {
        self.open_at(Some(proxy.url()), options)
    }

    fn open_at(&self, endpoint: Option<&str>, more: &[(&str, &str)]) -> Bucket {
        let (url, mut options) = self.settings(endpoint);
        options.extend(
            more.iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        let options = options
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let settings = config::Bucket {
            name: "place".into(),
            url,
            options,
        };
        Bucket::open(&settings, &Clients::default()).unwrap()
    }

    /// The server's address, `http://HOST:PORT`; a folder has none.
    pub(crate) fn endpoint(&self) -> Option<String> {
        match &self.kind {
            Kind::Folder => None,
            Kind::S3(url) => Some(url.clone()),
            Kind::Azure(url) => Some(
                url.trim_end_matches(&format!("/{}", Azurite::ACCOUNT))
                    .to_owned(),
            ),
            Kind::Google { xml, .. } => Some(xml.url().to_owned()),
        }
    }

    fn settings(&self, endpoint: Option<&str>) -> (String, BTreeMap<&'static str, String>) {
        let prefix = &self.prefix;
        let at = endpoint.unwrap_or_default().to_owned();
        let (url, options): (_, Vec<_>) = match &self.kind {
            Kind::Folder => (format!("file://{}", self.root().display()), vec![]),
            Kind::S3(_) => (
                format!("s3://{}/{prefix}", S3::BUCKET),
                vec![
                    ("endpoint", at),
                    ("region", "us-east-1".into()),
                    ("access_key_id", "any".into()),
                    ("secret_access_key", "any".into()),
                ],
            ),
            Kind::Azure(_) => (
                format!("az://{CONTAINER}/{prefix}"),
                vec![
                    ("endpoint", format!("{at}/{}", Azurite::ACCOUNT)),
                    ("account_name", Azurite::ACCOUNT.into()),
                    ("account_key", Azurite::KEY.into()),
                ],
            ),
            Kind::Google { .. } => (
                format!("gs://{BUCKET}/{prefix}"),
                vec![("base_url", at), ("service_account_key", NO_ACCOUNT.into())],
            ),
        };
        let http = (!options.is_empty()).then(|| ("allow_http", "true".to_owned()));
        (url, options.into_iter().chain(http).collect())
    }

    /// The bucket's section in a configuration.
    pub(crate) fn toml(&self, name: &str) -> String {
        self.toml_at(name, self.endpoint().as_deref())
    }

    /// The same, behind a proxy.
    pub(crate) fn toml_behind(&self, name: &str, proxy: &Lossy) -> String {
        self.toml_at(name, Some(proxy.url()))
    }

    fn toml_at(&self, name: &str, endpoint: Option<&str>) -> String {
        let (url, options) = self.settings(endpoint);
        let options: Vec<_> = options
            .iter()
            .map(|(name, value)| format!("{name} = '{value}'"))
            .collect();
        let options = options.join(", ");
        format!("[buckets.{name}]\nurl = \"{url}\"\noptions = {{ {options} }}\n")
    }

    /// An object, by a client that shares no code with callvault's.
    pub(crate) async fn see(&self, key: &str) -> Option<Seen> {
        let whole = self.whole(key);
        match &self.kind {
            Kind::Folder => Some(Seen {
                bytes: fs::read(self.root().join(key)).ok()?.into(),
                content_type: None,
                metadata: BTreeMap::new(),
            }),
            Kind::S3(url) => {
                let url = format!("{url}/{}/{whole}", S3::BUCKET);
                seen(self.ask(Method::GET, &url).await, "x-amz-meta-").await
            }
            Kind::Azure(_) => {
                let url = self.azure_url(&format!("{CONTAINER}/{whole}?"));
                seen(self.ask(Method::GET, &url).await, "x-ms-meta-").await
            }
            Kind::Google { json, .. } => {
                let name = utf8_percent_encode(&whole, NON_ALPHANUMERIC);
                let url = format!("{json}/storage/v1/b/{BUCKET}/o/{name}");
                let told = self.ask(Method::GET, &url).await;
                if told.status() == StatusCode::NOT_FOUND {
                    return None;
                }
                let told: Value = serde_json::from_str(&told.text().await.unwrap()).unwrap();
                let media = self.ask(Method::GET, &format!("{url}?alt=media")).await;
                let metadata = told["metadata"].as_object().into_iter().flatten();
                Some(Seen {
                    bytes: media.bytes().await.unwrap(),
                    content_type: told["contentType"].as_str().map(str::to_owned),
                    metadata: metadata
                        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                        .collect(),
                })
            }
        }
    }

    /// All keys of the place, without its prefix.
    pub(crate) async fn keys(&self) -> BTreeSet<String> {
        self.below(self.listed(false).await)
    }

    /// The keys of what was begun and neither finished nor aborted.
    pub(crate) async fn unfinished(&self) -> BTreeSet<String> {
        let keys = self.below(self.listed(true).await);
        if self.forgets_by_itself() {
            // That store lists finished ones, too.
            return &keys - &self.keys().await;
        }
        keys
    }

    async fn listed(&self, unfinished: bool) -> Vec<String> {
        let prefix = &self.whole("");
        match &self.kind {
            Kind::Folder => {
                let mut files = Vec::new();
                walk(&self.root(), "", &mut files);
                let kept = files
                    .into_iter()
                    .filter(|file| file.contains('#') == unfinished);
                kept.map(|file| file.split('#').next().unwrap().to_owned())
                    .collect()
            }
            Kind::S3(url) if unfinished => S3::at(url).list_uploads(S3::BUCKET, prefix).await,
            Kind::S3(url) => S3::at(url).list(S3::BUCKET, prefix).await,
            Kind::Azure(_) => {
                let include = if unfinished {
                    "&include=uncommittedblobs"
                } else {
                    ""
                };
                let url = self.azure_url(&format!(
                    "{CONTAINER}?restype=container&comp=list&prefix={prefix}{include}"
                ));
                texts(&self.text(&url).await, "Name")
            }
            Kind::Google { xml, .. } if unfinished => {
                let url = format!("{}/{BUCKET}?uploads&prefix={prefix}", xml.url());
                texts(&self.text(&url).await, "Key")
            }
            Kind::Google { json, .. } => {
                let url = format!("{json}/storage/v1/b/{BUCKET}/o?prefix={prefix}");
                let told: Value = serde_json::from_str(&self.text(&url).await).unwrap();
                let items = told["items"].as_array().into_iter().flatten();
                items
                    .map(|item| item["name"].as_str().unwrap().to_owned())
                    .collect()
            }
        }
    }

    fn below(&self, keys: Vec<String>) -> BTreeSet<String> {
        let below = |key: String| match self.prefix.as_str() {
            "" => key,
            prefix => key.strip_prefix(&format!("{prefix}/")).unwrap().to_owned(),
        };
        keys.into_iter().map(below).collect()
    }

    /// A key of the place's with its prefix.
    pub(crate) fn whole(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }

    /// Where a folder's objects lie.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    fn azure_url(&self, path: &str) -> String {
        let Kind::Azure(url) = &self.kind else {
            panic!("not Azure")
        };
        format!("{url}/{path}&{}", Azurite::SIGNATURE)
    }

    async fn text(&self, url: &str) -> String {
        let answer = self.ask(Method::GET, url).await;
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.text().await.unwrap()
    }

    async fn ask(&self, method: Method, url: &str) -> Response {
        let request = self
            .client
            .request(method, url)
            .header("x-ms-version", "2021-08-06");
        request.body("").send().await.unwrap()
    }
}

fn unique() -> String {
    format!("it-{}", Uuid::new_v4().simple())
}

async fn seen(answer: Response, prefix: &str) -> Option<Seen> {
    if answer.status() == StatusCode::NOT_FOUND {
        return None;
    }
    assert!(answer.status().is_success(), "{}", answer.status());
    let text = |value: &reqwest::header::HeaderValue| value.to_str().unwrap().to_owned();
    let headers = answer.headers();
    let metadata = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().strip_prefix(prefix)?.to_owned(), text(value)))
    });
    Some(Seen {
        metadata: metadata.collect(),
        content_type: headers.get("content-type").map(text),
        bytes: answer.bytes().await.unwrap(),
    })
}

fn texts(xml: &str, tag: &str) -> Vec<String> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let after = xml.split(&open).skip(1);
    after
        .map(|rest| rest.split(&close).next().unwrap().to_owned())
        .collect()
}

fn walk(dir: &Path, prefix: &str, files: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{name}/"), files);
        } else if !name.starts_with('.') {
            files.push(name);
        }
    }
}
