//! The workers that take events from the queue: callvault, and the one in Python.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::{
    broker::Queue,
    procs::{self, Cpu},
    servers::target,
    stores::Store,
    tail::Tail,
    wait::eventually,
};

/// The longest time in which nothing is settled: eight of 2 GiB side by side take some minutes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(15);
/// Longer than a worker's own.
const GRACE: Duration = Duration::from_mins(1);

/// What a callvault is to do.
pub(crate) struct Config<'a> {
    pub(crate) broker: &'a str,
    pub(crate) queue: &'a Queue,
    pub(crate) prefetch: u16,
    /// The text of its `[buckets]`.
    pub(crate) buckets: String,
    /// Kinds of attachments that are tried before the others, as TOML.
    pub(crate) kinds: &'a str,
}

/// A running worker; it is killed with its value.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
    tail: Tail,
    started: Instant,
}

/// An event that a worker is done with.
#[derive(Debug, Deserialize)]
pub(crate) struct Settled {
    pub(crate) request_id: String,
    pub(crate) outcome: String,
    #[serde(default)]
    pub(crate) took_ms: f64,
}

/// What a worker has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu: Cpu,
    /// MiB, at most.
    pub(crate) memory: f64,
}

impl Worker {
    /// Starts a callvault with the limits that it has by default, in a folder of its own.
    pub(crate) fn callvault(program: &Path, dir: &Path, config: &Config<'_>) -> Result<Self> {
        let file = dir.join("callvault.toml");
        fs::write(&file, config.toml()?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = Command::new(program);
        command
            .args(["--log-format", "json", "run", "--config"])
            .arg(&file);
        Self::spawn(command, dir, "stderr")
    }

    /// Starts tests/bench/worker.py.
    pub(crate) fn python(dir: &Path, config: &Config<'_>, store: &Store) -> Result<Self> {
        let mut command = Command::new(target().join("bench-venv/bin/python"));
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/bench/worker.py"
            ))
            .args(["--amqp", config.broker, "--queue", config.queue.name()])
            .args(["--prefetch", &config.prefetch.to_string()])
            .args(store.for_worker());
        Self::spawn(command, dir, "stdout")
    }

    fn spawn(mut command: Command, dir: &Path, speaks_on: &str) -> Result<Self> {
        let file = |name: &str| File::create(dir.join(name)).context("cannot make a log");
        clean_environment(&mut command);
        // Python's temporary files, on the disk that callvault's are on.
        command.env("TMPDIR", spool()?);
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .spawn()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        Ok(Self {
            child,
            log: dir.join("stderr"),
            tail: Tail::of(&dir.join(speaks_on)),
            started,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What it has settled since this was asked last.
    pub(crate) fn settled(&mut self) -> Result<Vec<Settled>> {
        let status = self.child.try_wait()?;
        ensure!(
            status.is_none(),
            "a worker ended by itself; see {}",
            self.log.display()
        );
        let mut settled = Vec::new();
        for line in self.tail.lines()? {
            if let Some(request_id) = line.strip_prefix("done ") {
                settled.push(Settled {
                    request_id: request_id.to_owned(),
                    outcome: "archived".to_owned(),
                    took_ms: 0.0,
                });
            } else if line.contains(r#""message":"settled""#) {
                let log = || format!("cannot understand a line of {}", self.log.display());
                settled.push(serde_json::from_str(&line).with_context(log)?);
            }
        }
        Ok(settled)
    }

    /// So far.
    pub(crate) fn used(&self) -> Result<Used> {
        Ok(Used {
            cpu: procs::cpu(self.id())?,
            memory: procs::peak_memory(self.id())?,
        })
    }

    /// Asks it to stop, as an orchestrator does, and waits for that.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let kill = Command::new("kill").arg(self.id().to_string()).status()?;
        ensure!(
            kill.success(),
            "a worker ended by itself; see {}",
            self.log.display()
        );
        let what = format!("a worker to stop; see {}", self.log.display());
        eventually(GRACE, &what, async || Ok(self.child.try_wait()?)).await?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until workers have together settled so many events, each of them archived; `done` is told how many
/// are.
pub(crate) async fn settle(
    workers: &mut [Worker],
    events: usize,
    done: impl Fn(usize),
) -> Result<Vec<Settled>> {
    let mut all = Vec::with_capacity(events);
    let mut last = Instant::now();
    while all.len() < events {
        for worker in &mut *workers {
            let settled = worker.settled()?;
            if let Some(wrong) = settled.iter().find(|event| event.outcome != "archived") {
                bail!(
                    "the event {} was not archived but {}; see {}",
                    wrong.request_id,
                    wrong.outcome,
                    worker.log.display()
                );
            }
            if !settled.is_empty() {
                last = Instant::now();
            }
            all.extend(settled);
        }
        done(all.len());
        ensure!(
            last.elapsed() < PATIENCE,
            "nothing was settled for {PATIENCE:?}, after {} of {events} events; see {}",
            all.len(),
            workers
                .first()
                .map_or(Path::new("no log"), |worker| &worker.log)
                .display()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ensure!(
        all.len() == events,
        "{} events were settled instead of {events}",
        all.len()
    );
    Ok(all)
}

impl Config<'_> {
    /// The defaults, but for addresses, and recordings that need not be named `recording.wav`.
    fn toml(&self) -> Result<String> {
        let spool = spool()?;
        let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/config/schemas");
        let (broker, prefetch, spool) = (self.broker, self.prefetch, spool.display());
        let (name, exchange) = (self.queue.name(), self.queue.exchange());
        let (kinds, buckets) = (self.kinds, &self.buckets);
        Ok(format!(
            r#"[queue]
url = "{broker}"
exchange = "{exchange}"
name = "{name}"
prefetch = {prefetch}

[fetch]
allow_http = true
allow_private_addresses = true

[limits]
spool_dir = "{spool}"

[http]
listen = "127.0.0.1:0"

{kinds}
[attachments.analysis]
file = "analysis.json"
check = "json"
schema = "{schemas}/analysis.schema.json"
bucket = "documents"

[attachments.recording]
file = "*.wav"
check = "wav"
bucket = "recordings"

[attachments.transcript]
file = "transcript.json"
check = "json"
schema = "{schemas}/transcript.schema.json"
bucket = "documents"

{buckets}"#
        ))
    }
}

/// Where large bodies lie.
fn spool() -> Result<PathBuf> {
    let spool = target().join("bench/spool");
    fs::create_dir_all(&spool).context("cannot make the spool folder")?;
    Ok(spool)
}

/// Nothing of the user's environment that could change what is measured.
pub(crate) fn clean_environment(command: &mut Command) {
    command.env_clear();
    for kept in ["PATH", "HOME"].map(OsStr::new) {
        if let Some(value) = env::var_os(kept) {
            command.env(kept, value);
        }
    }
}
