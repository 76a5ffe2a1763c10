//! The servers that the benchmark stands on, each one its own, started through `tests/serve`.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{procs, wait::eventually};

const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve");
/// More than `tests/serve` gives its servers, which says better what went wrong.
const STARTUP: Duration = Duration::from_secs(150);

/// Cargo's target folder.
pub(crate) fn target() -> &'static Path {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().unwrap_or(tmp)
}

/// A running server; it ends with its value.
pub(crate) struct Server {
    dir: PathBuf,
    /// `tests/serve`: its processes die with it, and it ends when its standard input does.
    child: Child,
    url: String,
}

impl Server {
    /// Starts one in a folder of its own, of which only `files/` is kept, and waits until it answers.
    pub(crate) async fn start(kind: &str, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for entry in fs::read_dir(dir)?.flatten() {
            let path = entry.path();
            if entry.file_name() == "files" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            }
            .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        let log = dir.join("serve.log");
        let mut child = Command::new(SERVE)
            .arg(kind)
            .arg(dir)
            .env("CARGO_TARGET_DIR", target())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            // A signal of the terminal's is the benchmark's: it ends its servers itself.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {SERVE}"))?;
        let url = dir.join("url");
        let what = format!("{kind} to start; see {}", log.display());
        let url = eventually(STARTUP, &what, async || {
            ensure!(
                child.try_wait()?.is_none(),
                "{kind} did not start; see {}",
                log.display()
            );
            Ok(fs::read_to_string(&url).ok())
        })
        .await;
        let mut server = Self {
            dir: dir.to_owned(),
            child,
            url: String::new(),
        };
        url?.trim_end().clone_into(&mut server.url);
        Ok(server)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// CPU seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        procs::tree_cpu(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Installs what the contenders need, as `tests/run` does for the tests.
pub(crate) fn install() -> Result<()> {
    let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/run");
    let status = Command::new(run)
        .args(["--install-only", "--bench"])
        .env("CARGO_TARGET_DIR", target())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {run}"))?;
    ensure!(
        status.success(),
        "{run} --install-only --bench failed: {status}"
    );
    Ok(())
}
