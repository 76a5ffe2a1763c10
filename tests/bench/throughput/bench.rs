//! What every measurement stands on: the servers, the ingress, a folder for each run, and the progress line.

use std::{
    fs::{self, File},
    io::{IsTerminal as _, stderr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    args::{Args, Who},
    broker::Broker,
    events,
    servers::{self, Server},
};

/// Dropped in this order.
pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) broker: Broker,
    pub(crate) nginx: Server,
    pub(crate) seaweedfs: Server,
    pub(crate) rabbitmq: Server,
    bar: ProgressBar,
    dir: PathBuf,
    /// A second benchmark in this folder would remove what this one uses.
    _lock: File,
}

impl Bench {
    pub(crate) async fn start(args: Args) -> Result<Self> {
        let dir = servers::target().join("bench");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let lock = File::create(dir.join("lock"))?;
        lock.try_lock()
            .context("another benchmark runs in this target folder")?;
        // Copies: what somebody builds meanwhile is measured in no round.
        let programs = dir.join("programs");
        fs::create_dir_all(&programs)?;
        let built = Some(Path::new(env!("CARGO_BIN_EXE_callvault")));
        for (who, program) in [
            (Who::Callvault, built),
            (Who::Other, args.worker.as_deref()),
        ] {
            let Some(program) = program else { continue };
            let copy = programs.join(who.name());
            fs::copy(program, copy)
                .with_context(|| format!("cannot copy {}", program.display()))?;
        }
        servers::install()?;
        let runs = dir.join("runs");
        if runs.exists() {
            fs::remove_dir_all(&runs)
                .with_context(|| format!("cannot remove {}", runs.display()))?;
        }
        let files = dir.join("nginx/files");
        fs::create_dir_all(&files)?;
        let (name, size) = events::ANALYSIS;
        events::put_bytes(&files, name, &events::analysis(size))?;
        let (name, size) = events::TRANSCRIPT;
        events::put_bytes(&files, name, &events::transcript(size))?;
        let bar = progress();
        bar.set_message("starting RabbitMQ, SeaweedFS and nginx");
        let (rabbitmq, seaweedfs, nginx) = (
            dir.join("rabbitmq"),
            dir.join("seaweedfs"),
            dir.join("nginx"),
        );
        let (rabbitmq, seaweedfs, nginx) = tokio::try_join!(
            Server::start("rabbitmq", &rabbitmq),
            Server::start("seaweedfs", &seaweedfs),
            Server::start("nginx", &nginx)
        )?;
        Ok(Self {
            broker: Broker::connect(rabbitmq.url()).await?,
            args,
            nginx,
            seaweedfs,
            rabbitmq,
            bar,
            dir,
            _lock: lock,
        })
    }

    /// `target/bench`.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where nginx has its files.
    pub(crate) fn files(&self) -> PathBuf {
        self.nginx.dir().join("files")
    }

    /// A new folder for a run's logs.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.dir.join("runs").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// The program of a callvault.
    pub(crate) fn program(&self, who: Who) -> PathBuf {
        self.dir.join("programs").join(who.name())
    }

    /// What is going on, and how much of it there is.
    pub(crate) fn begin(&self, what: &str, steps: usize) {
        self.bar.set_length(steps as u64);
        self.bar.set_position(0);
        self.bar.set_message(what.to_owned());
    }

    /// How many steps are done.
    pub(crate) fn at(&self, step: usize) {
        self.bar.set_position(step as u64);
    }

    /// A line that stays.
    pub(crate) fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// A part of the report.
    pub(crate) fn print(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }
}

/// What was written so far is not to be written to the disk in the next run's time.
pub(crate) fn sync() -> Result<()> {
    let status = Command::new("sync").status().context("cannot run sync")?;
    ensure!(status.success(), "sync failed: {status}");
    Ok(())
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// On a terminal; elsewhere each run is a line.
fn progress() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:20} {pos}/{len}  {msg}  {elapsed_precise}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
