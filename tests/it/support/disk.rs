//! A small disk of the test's own, to be filled: a tmpfs that only those see who enter it.
//!
//! It is mounted in a mount namespace, as root or, where the kernel lets users do that, in a user
//! namespace. Nothing is left of it when the test ends, however it ends.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Mounts, says so, and stays until its standard input ends: the namespace lives as long as that.
const HOLD: &str = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat"#;

/// A mounted disk; it goes with its value.
pub(crate) struct Disk {
    holder: Child,
    dir: PathBuf,
    in_user_namespace: bool,
}

impl Disk {
    /// Mounts a disk of `mib` MiB at a new folder.
    ///
    /// # Panics
    ///
    /// Where neither root nor a user namespace may mount; the message says so.
    pub(crate) fn mount(dir: PathBuf, mib: u64) -> Self {
        fs::create_dir(&dir).unwrap();
        for (in_user_namespace, options) in [
            (false, &["--mount"][..]),
            (true, &["--user", "--map-root-user", "--mount"][..]),
        ] {
            let mut holder = Command::new("unshare")
                .args(options)
                .args(["--propagation", "private", "sh", "-c", HOLD, "sh"])
                .arg(format!("{mib}m"))
                .arg(&dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("unshare, of util-linux");
            let mut word = String::new();
            let told = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut word);
            if told.is_ok() && word == "mounted\n" {
                return Self {
                    holder,
                    dir,
                    in_user_namespace,
                };
            }
            let _ = holder.wait();
        }
        panic!(
            "this test needs a small disk to fill, and can mount none: run it as root, or allow user \
             namespaces (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
        );
    }

    /// Where those see it who are in it.
    pub(crate) fn inside(&self) -> &Path {
        &self.dir
    }

    /// Where everybody else sees it.
    pub(crate) fn outside(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.dir.strip_prefix("/").unwrap())
    }

    /// The same command line, in it. The process stays one, so that it can be killed.
    pub(crate) fn enter(&self, command: &Command) -> Command {
        let mut enter = Command::new("nsenter");
        enter
            .arg(format!("--target={}", self.holder.id()))
            .arg("--mount");
        if self.in_user_namespace {
            enter.args(["--user", "--preserve-credentials"]);
        }
        let environment = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        let environment: Vec<(OsString, OsString)> = environment.collect();
        enter
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear()
            .envs(environment)
            .stdin(Stdio::null());
        enter
    }

    /// Fills it but for so many bytes.
    pub(crate) fn fill_but(&self, bytes: u64) {
        let free = Command::new("stat")
            .args(["--file-system", "--format=%a %S"])
            .arg(self.outside())
            .output()
            .unwrap();
        let free = String::from_utf8(free.stdout).unwrap();
        let (blocks, size) = free.trim().split_once(' ').unwrap();
        let free = blocks.parse::<u64>().unwrap() * size.parse::<u64>().unwrap();
        let filler = vec![0; usize::try_from(free - bytes).unwrap()];
        fs::write(self.filler(), filler).unwrap();
    }

    /// Gives back what [`Self::fill_but`] took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.outside().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
