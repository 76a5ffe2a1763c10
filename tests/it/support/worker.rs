//! The real program.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use super::wait::eventually;

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

    /// Waits until its log holds a text.
    pub(crate) async fn wait_log(&self, text: &str) {
        let what = format!("{text:?} in {}", self.log.display());
        eventually(Duration::from_secs(15), &what, async || {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// The most memory that it has had, in bytes (Linux).
    pub(crate) fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() << 10
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

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {}\n{}---", self.log.display(), self.log());
        }
    }
}
