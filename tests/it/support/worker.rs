//! The real program.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use super::{http_client, wait::eventually};

/// The program, with nothing of the user's environment that could change what it does.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callvault"));
    command
        .env_clear()
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    for kept in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command
}

/// Runs a command of the program's to its end.
pub(crate) fn callvault<I: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = I>,
) -> Output {
    command().args(arguments).output().unwrap()
}

/// The most memory that a process had so far, in MiB.
pub(crate) fn most_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() / 1024
}

/// A running `callvault run`. It is killed with its value; when the test fails, its log is shown.
pub(crate) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts a worker; its log is `worker-N.log` beside the configuration.
    pub(crate) fn start(config: &Path) -> Self {
        let mut run = command();
        run.args(["run", "--config"]).arg(config);
        Self::spawn(run, config.parent().unwrap())
    }

    /// Starts any command line, with its log in `dir`.
    pub(crate) fn spawn(mut command: Command, dir: &Path) -> Self {
        let mut logs = (1..100).map(|n| dir.join(format!("worker-{n}.log")));
        let (file, log) = logs
            .find_map(|log| Some((File::create_new(&log).ok()?, log)))
            .expect("room for a log");
        let child = command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// Where it answers `/livez` and `/readyz`: `127.0.0.1:PORT`, once that is in its log.
    pub(crate) fn address(&self) -> String {
        let log = self.log();
        let rest = log.split("address=").nth(1).unwrap();
        rest.split_whitespace().next().unwrap().to_owned()
    }

    /// What it answers to `GET`: status and text.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.address());
        let answer = http_client().get(url).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Waits until it answers `/readyz` with this status, and says what it answers.
    pub(crate) async fn wait_readyz(&self, status: u16) -> String {
        self.wait_log(" address=").await;
        let what = format!("{status} of /readyz");
        eventually(Duration::from_secs(30), &what, async || {
            let (found, text) = self.get("/readyz").await;
            (found == status).then_some(text)
        })
        .await
    }

    /// What it answers to `/metrics`.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.to_owned())
        };
        let series = series.map(parse).collect();
        Metrics { series, text }
    }

    /// Waits until its log holds a text.
    pub(crate) async fn wait_log(&self, text: &str) {
        let what = format!("{text:?} in {}", self.log.display());
        eventually(Duration::from_secs(15), &what, async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as an orchestrator does.
    pub(crate) fn term(&self) {
        let kill = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(kill.success(), "the worker was gone already");
    }

    /// Ends it like a crash.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        eventually(deadline, "the worker to exit", async || {
            self.child.try_wait().unwrap()
        })
        .await
    }
}

/// What a worker answers to `/metrics`: its series by name and labels as they are written, `name{label="value"}`.
pub(crate) struct Metrics {
    series: HashMap<String, String>,
    pub(crate) text: String,
}

impl Metrics {
    /// Of a series that may be missing.
    pub(crate) fn find(&self, series: &str) -> Option<f64> {
        self.series.get(series)?.parse().ok()
    }

    /// Of a series that is there.
    pub(crate) fn get(&self, series: &str) -> f64 {
        let found = self.find(series);
        found.unwrap_or_else(|| panic!("no {series} in {}", self.text))
    }

    /// The same of one that is a whole number.
    pub(crate) fn count(&self, series: &str) -> u64 {
        let found = self.series.get(series).and_then(|text| text.parse().ok());
        found.unwrap_or_else(|| panic!("no count {series} in {}", self.text))
    }

    /// All series whose names begin so.
    pub(crate) fn all(&self, beginning: &str) -> impl Iterator<Item = (&str, f64)> {
        let all = self
            .series
            .iter()
            .filter(move |(name, _)| name.starts_with(beginning));
        all.map(|(name, value)| (name.as_str(), value.parse().unwrap()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), self.log());
        }
    }
}
