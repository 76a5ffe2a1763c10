//! The contenders that know no events: they read URLs and keys, and end when all is done.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    args::Who,
    events::Event,
    procs::{self, Cpu},
    servers::target,
    stores::Store,
    worker::{Used, clean_environment},
};

/// bash tells the CPU time of all that it waited for.
const TIMED: &str = r#"TIMEFORMAT="%U %S"; time "$@""#;

/// Does all the events' files, and says what that took.
pub(crate) async fn run(who: Who, events: &[Event], store: &Store, dir: &Path) -> Result<Used> {
    let list = dir.join("list");
    let lines = events.iter().flat_map(|event| &event.files);
    let lines: Vec<_> = lines
        .map(|file| format!("{} {}\n", file.url, file.key))
        .collect();
    fs::write(&list, lines.concat()).with_context(|| format!("cannot write {}", list.display()))?;
    let mut command = Command::new("bash");
    command.args(["-c", TIMED, "bash"]);
    if who == Who::Curl {
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/curl.sh"));
    } else {
        command.arg(target().join("bench/limit"));
    }
    command.args(store.for_pipe());
    if who == Who::Curl {
        let work = dir.join("work");
        fs::create_dir_all(&work)?;
        command.arg(work);
    }
    clean_environment(&mut command);
    let errors = dir.join("stderr");
    let child = command
        // For what is larger than it holds in memory; on the disk that callvault's spool is on.
        .env("TMPDIR", dir)
        .stdin(File::open(&list)?)
        .stdout(File::create(dir.join("stdout"))?)
        .stderr(File::create(&errors)?)
        .spawn()
        .with_context(|| format!("cannot run {}", who.name()))?;
    let mut child = Killed(child);
    let mut memory: f64 = 0.0;
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        memory = memory.max(procs::tree_memory(child.0.id()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    ensure!(
        status.success(),
        "{} failed: {status}; see {}",
        who.name(),
        errors.display()
    );
    let told = fs::read_to_string(&errors)?;
    let cpu = || {
        let mut words = told.lines().last()?.split_whitespace();
        let mut seconds = || words.next()?.parse().ok();
        Some(Cpu {
            user: seconds()?,
            system: seconds()?,
        })
    };
    let cpu = cpu().with_context(|| format!("no times at the end of {}", errors.display()))?;
    Ok(Used { cpu, memory })
}

/// It is killed with its value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
