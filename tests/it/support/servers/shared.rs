//! Servers that all tests of a run share, whatever process a test is in.
//!
//! The first to ask starts a keeper that runs them, and each process that uses them holds a shared lock
//! on a file until it ends; some seconds after the last is gone, the keeper stops them. Locks end with
//! their process, so nothing that was killed needs tidying up.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use super::{STARTUP, read_url, serve};
use crate::support::wait::eventually;

/// Some servers, while this lives.
pub(super) struct Shared {
    /// By name, as `tests/serve` knows them.
    urls: Vec<(&'static str, String)>,
    /// Keeps the servers alive.
    _users: File,
}

impl Shared {
    /// Starts the servers in `dir`, or finds them there.
    pub(super) async fn join(dir: PathBuf, servers: &'static [&'static str]) -> Self {
        fs::create_dir_all(&dir).unwrap();
        // One process at a time finds out whether there are servers, and starts them if not. A
        // keeper that is stopping holds `users` exclusively until it is done.
        let _starting = locked(dir.join("starting"), File::lock).await;
        let users = locked(dir.join("users"), File::lock_shared).await;

        let file = |server: &str| dir.join(server).join("url");
        let mut keeper = (!keeper_lives(&dir)).then(|| {
            for server in servers {
                let _ = fs::remove_file(file(server));
            }
            start_keeper(&dir, servers)
        });
        let log = dir.join("keeper.log");
        let what = format!(
            "the servers; see {} and the logs in {}/*/log",
            log.display(),
            dir.display()
        );
        let urls = eventually(STARTUP, &what, async || {
            let ended = keeper
                .as_mut()
                .is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(
                !ended,
                "the servers did not start:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            servers
                .iter()
                .map(|server| Some((*server, read_url(&file(server))?)))
                .collect()
        })
        .await;
        Self {
            urls,
            _users: users,
        }
    }

    /// Where one of them answers.
    pub(super) fn url(&self, server: &str) -> &str {
        let found = self.urls.iter().find(|(name, _)| *name == server);
        &found.expect("one of these servers").1
    }
}

/// The keeper holds this lock for as long as it lives.
fn keeper_lives(dir: &Path) -> bool {
    open(&dir.join("keeper")).try_lock_shared().is_err()
}

/// Outlives this process, and whatever ends this process's group.
fn start_keeper(dir: &Path, servers: &[&str]) -> Child {
    let log = File::create(dir.join("keeper.log")).unwrap();
    serve("shared", dir)
        .args(servers)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

fn open(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap()
}

/// Takes a lock on a file, off the runtime's threads, since that may take as long as servers start.
async fn locked(path: PathBuf, lock: fn(&File) -> io::Result<()>) -> File {
    tokio::task::spawn_blocking(move || {
        let file = open(&path);
        lock(&file).unwrap();
        file
    })
    .await
    .unwrap()
}
