//! Where a run's files go, and how each contender is told.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use reqwest::{Client, Method};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// The buckets of each configuration.
const BUCKETS: [&str; 3] = ["documents", "recordings", "quarantine"];

/// An empty place for one run.
pub(crate) enum Store {
    /// A bucket of an S3 server.
    S3 {
        endpoint: String,
        bucket: String,
        /// Whether it keeps nothing.
        forgets: bool,
    },
    Folder(PathBuf),
}

impl Store {
    /// A new bucket, which has been written to: the first object costs an S3 server more.
    pub(crate) async fn s3(endpoint: &str) -> Result<Self> {
        let bucket = format!("bench-{}", Uuid::new_v4().simple());
        request(Method::PUT, &format!("{endpoint}/{bucket}"), "").await?;
        for n in 0..8 {
            request(
                Method::PUT,
                &format!("{endpoint}/{bucket}/first/{n}"),
                "first",
            )
            .await?;
        }
        Ok(Self::S3 {
            endpoint: endpoint.to_owned(),
            bucket,
            forgets: false,
        })
    }

    /// The sink at nginx.
    pub(crate) fn sink(nginx: &str) -> Self {
        Self::S3 {
            endpoint: format!("{nginx}/sink"),
            bucket: "bench".to_owned(),
            forgets: true,
        }
    }

    /// A new folder in another.
    pub(crate) fn folder(within: &Path) -> Result<Self> {
        let folder = within.join(format!("callvault-bench-{}", Uuid::new_v4().simple()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self::Folder(folder))
    }

    /// The buckets of a `callvault.toml`.
    pub(crate) fn toml(&self) -> String {
        let mut toml = String::new();
        for name in BUCKETS {
            let _ = writeln!(toml, "[buckets.{name}]\n{}", self.bucket(name));
        }
        toml
    }

    /// The `url` and `options` of one of them.
    pub(crate) fn bucket(&self, name: &str) -> String {
        match self {
            // Plain HTTP: over TLS nobody hashes a payload for its signature.
            Self::S3 {
                endpoint, bucket, ..
            } => format!(
                "url = \"s3://{bucket}/{name}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", \
                 allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\", \
                 unsigned_payload = \"true\" }}\n"
            ),
            Self::Folder(folder) => format!("url = \"file:{}\"\n", folder.join(name).display()),
        }
    }

    /// Removes objects from an S3 server, in whichever bucket they are.
    pub(crate) async fn remove_objects(&self, keys: &[String]) -> Result<()> {
        let Self::S3 {
            endpoint, bucket, ..
        } = self
        else {
            return Ok(());
        };
        let urls = keys
            .iter()
            .flat_map(|key| BUCKETS.map(|name| format!("{endpoint}/{bucket}/{name}/{key}")));
        try_join_all(urls.map(async |url| request(Method::DELETE, &url, "").await)).await?;
        Ok(())
    }

    /// What tests/bench/worker.py takes.
    pub(crate) fn for_worker(&self) -> Vec<String> {
        match self {
            Self::S3 {
                endpoint, bucket, ..
            } => ["--endpoint", endpoint, "--bucket", bucket]
                .map(str::to_owned)
                .into(),
            Self::Folder(folder) => vec!["--folder".to_owned(), folder.display().to_string()],
        }
    }

    /// What `limit` and `curl.sh` take.
    pub(crate) fn for_pipe(&self) -> Vec<String> {
        match self {
            Self::S3 {
                endpoint, bucket, ..
            } => vec!["--put".to_owned(), format!("{endpoint}/{bucket}")],
            Self::Folder(_) => self.for_worker(),
        }
    }

    /// Whether its requests are in nginx's log.
    pub(crate) fn is_sink(&self) -> bool {
        matches!(self, Self::S3 { forgets: true, .. })
    }

    /// Removes all that was stored.
    pub(crate) async fn remove(self) -> Result<()> {
        match &self {
            Self::S3 { forgets: true, .. } => Ok(()),
            Self::S3 {
                endpoint, bucket, ..
            } => request(Method::DELETE, &format!("{endpoint}/{bucket}"), "").await,
            Self::Folder(folder) => fs::remove_dir_all(folder)
                .with_context(|| format!("cannot remove {}", folder.display())),
        }
    }
}

impl Drop for Store {
    /// What a run that failed has left: in memory, it may be.
    fn drop(&mut self) {
        if let Self::Folder(folder) = self {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Of an S3 server that asks for no credentials.
async fn request(method: Method, url: &str, body: &'static str) -> Result<()> {
    static CLIENT: OnceCell<Client> = OnceCell::const_new();
    let client = CLIENT.get_or_try_init(async || Client::builder().no_proxy().build());
    let request = client.await?.request(method.clone(), url).body(body);
    let answer = request
        .send()
        .await
        .with_context(|| format!("{method} {url}"))?;
    let status = answer.status();
    ensure!(
        status.is_success(),
        "{method} {url}: {status}: {}",
        answer.text().await.unwrap_or_default()
    );
    Ok(())
}
