//! The brokers and stores that the tests stand on, started through `tests/serve`.
//!
//! [`rabbit`] and [`s3`] are shared by all tests of a run. A test that kills or restarts a server has
//! one of its own, [`Server`], or three brokers that are one: [`Cluster`]. [`azurite`] and [`gcs`] are
//! there with `tests/run --all-stores`, so tests that need them are
//! `#[ignore = "needs tests/run --all-stores"]`.

mod cluster;
mod private;
mod shared;
mod stores;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::sync::OnceCell;

use self::shared::Shared;
use super::s3::S3;

pub(crate) use self::{
    cluster::Cluster,
    private::{Conf, Kind, Server},
    stores::{Azurite, Gcs, azurite, gcs},
};

/// More than `tests/serve` gives its servers, which says better what went wrong.
const STARTUP: Duration = Duration::from_secs(150);

/// The script that runs servers.
const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve");

/// The URL of the shared broker: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
pub(crate) async fn rabbit() -> &'static str {
    shared().await.url("rabbitmq")
}

/// The shared S3 server.
pub(crate) async fn s3() -> S3 {
    S3::at(shared().await.url("seaweedfs"))
}

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    // A keeper outlives its last test by some seconds: the next run may ask for another generation.
    let dir = generation().map_or_else(|| "it".to_owned(), |asked| format!("it-{asked}"));
    SHARED
        .get_or_init(|| Shared::join(target().join(dir), &["rabbitmq", "seaweedfs"]))
        .await
}

/// What `tests/run --rabbitmq` was told: `4.3`. `tests/serve` starts no other, and asks the node.
pub(crate) fn generation() -> Option<String> {
    env::var("RABBITMQ_GENERATION").ok()
}

/// Cargo's target folder.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn serve(server: &str, dir: &Path) -> Command {
    let mut command = Command::new(SERVE);
    command
        .arg(server)
        .arg(dir)
        .env("CARGO_TARGET_DIR", target());
    command
}

fn read_url(path: &Path) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|url| url.trim_end().to_owned())
}

/// The `host:port` of a URL.
pub(crate) fn address(url: &str) -> String {
    let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap().to_owned()
}
