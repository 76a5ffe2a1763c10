//! A configuration for one test: names of its own, short delays, and loopback allowed.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use uuid::Uuid;

use super::{s3::S3, servers};

/// The buckets of every test's configuration.
pub(crate) const BUCKETS: [&str; 3] = ["documents", "recordings", "quarantine"];

/// A folder with a `callvault.toml`, and what the test needs to know of it.
pub(crate) struct Setup {
    dir: TempDir,
    /// Also the prefix of every key on the shared S3 server.
    pub(crate) name: String,
    toml: String,
}

impl Setup {
    /// Archives in folders of the test's own.
    pub(crate) async fn folders() -> Self {
        let mut setup = Self::new(servers::rabbit().await);
        for bucket in BUCKETS {
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"file:archive/{bucket}\"\n"
            ));
        }
        setup
    }

    /// Archives on the shared S3 server, in [`S3::BUCKET`] under [`Self::prefix`].
    pub(crate) async fn s3() -> Self {
        let mut setup = Self::new(servers::rabbit().await);
        let s3 = servers::s3().await;
        for bucket in BUCKETS {
            let url = format!("s3://{}/{}", S3::BUCKET, setup.prefix(bucket));
            let endpoint = s3.endpoint();
            setup.append(&format!(
                "[buckets.{bucket}]\nurl = \"{url}\"\noptions = {{ endpoint = \"{endpoint}\", region = \"us-east-1\", \
                 allow_http = \"true\", access_key_id = \"any\", secret_access_key = \"any\" }}\n"
            ));
        }
        setup
    }

    /// Everything but buckets, with the queue at a broker.
    pub(crate) fn new(broker: &str) -> Self {
        let name = format!("it-{}", Uuid::new_v4().simple());
        let toml = format!(
            r#"[queue]
url = "{broker}"
exchange = "{name}-calls"
name = "{name}"
prefetch = 4
retry_delays = ["200ms", "400ms"]

[fetch]
allow_http = true
allow_private_addresses = true
connect_timeout = "1s"
read_timeout = "1s"
refusals = 2

[limits]
memory = "64MiB"
spool = "1GiB"
spool_dir = "."
job_time = "30s"

[http]
listen = "127.0.0.1:0"

"#
        );
        let dir = tempfile::Builder::new()
            .prefix("setup-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        Self { dir, name, toml }
    }

    /// The exchange that the test publishes to.
    pub(crate) fn exchange(&self) -> String {
        format!("{}-calls", self.name)
    }

    /// The work queue.
    pub(crate) fn queue(&self) -> &str {
        &self.name
    }

    /// The folder of the configuration.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where a bucket's objects lie in [`Self::folders`].
    pub(crate) fn folder(&self, bucket: &str) -> PathBuf {
        self.dir().join("archive").join(bucket)
    }

    /// What a bucket's keys begin with in [`Self::s3`], without a slash at the end.
    pub(crate) fn prefix(&self, bucket: &str) -> String {
        format!("{}/{bucket}", self.name)
    }

    /// Adds text at the end: sections that are not there yet.
    pub(crate) fn append(&mut self, toml: &str) -> &mut Self {
        writeln!(self.toml, "{toml}").unwrap();
        self
    }

    /// Sets a key of a section that is there; `value` is TOML (`"\"5s\""`, `"1"`).
    pub(crate) fn set(&mut self, section: &str, key: &str, value: &str) -> &mut Self {
        let mut lines: Vec<String> = self.toml.lines().map(str::to_owned).collect();
        let header = format!("[{section}]");
        let start = 1 + lines
            .iter()
            .position(|line| *line == header)
            .expect("a section of the configuration");
        let end = lines[start..]
            .iter()
            .position(|line| line.starts_with('['))
            .map_or(lines.len(), |n| start + n);
        let old = lines[start..end]
            .iter()
            .position(|line| line.starts_with(&format!("{key} =")));
        let line = format!("{key} = {value}");
        match old {
            Some(n) => lines[start + n] = line,
            None => lines.insert(start, line),
        }
        self.toml = lines.join("\n") + "\n";
        self
    }

    /// The configuration as it stands.
    pub(crate) fn toml(&self) -> &str {
        &self.toml
    }

    /// Writes `callvault.toml` and says where it is.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.dir().join("callvault.toml");
        fs::write(&path, &self.toml).unwrap();
        path
    }
}
