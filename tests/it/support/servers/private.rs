//! Servers of one test's own, which it may kill.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{SERVE, STARTUP, address, read_url, serve};
use crate::support::wait::eventually;

/// A server of one test's own, which may be killed and come back. It ends with the test; when the
/// test fails, its folder stays.
pub(crate) struct Server {
    kind: Kind,
    dir: PathBuf,
    /// Removes the folder at the end; a cluster's node lies in the folder of its cluster.
    whole: Option<TempDir>,
    /// `tests/serve`; its processes die with it, and it ends when its standard input does.
    child: Child,
    url: String,
}

/// What a [`Server`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    RabbitMq,
    SeaweedFs,
    /// What the nodes of a [`super::Cluster`] share.
    Cluster,
}

/// What a broker of a test's own has beside the tests' usual configuration, over restarts too.
#[derive(Debug, Default, Clone)]
pub(crate) struct Conf {
    /// Lines for `rabbitmq.conf`. `{extra_port}` in them is [`Server::extra_port`].
    pub(crate) lines: Vec<String>,
    /// Settings of the application `rabbit` for `advanced.config`: `{channel_tick_interval, 1000}`.
    pub(crate) terms: Vec<String>,
    /// Plugins to enable: `rabbitmq_auth_mechanism_ssl`.
    pub(crate) plugins: Vec<String>,
    /// Who may do what at a SeaweedFS, as its `-s3.config` has it; without it, anybody everything.
    pub(crate) identities: String,
}

impl Conf {
    /// Puts it where `tests/serve` looks for it.
    pub(super) fn write(&self, dir: &Path) {
        let terms: Vec<_> = self.terms.iter().map(|term| format!(", {term}")).collect();
        fs::write(dir.join("extra.conf"), self.lines.join("\n")).unwrap();
        fs::write(dir.join("extra.config"), terms.concat()).unwrap();
        fs::write(dir.join("extra_plugins"), self.plugins.join(", ")).unwrap();
        fs::write(dir.join("identities.json"), &self.identities).unwrap();
    }
}

impl Server {
    /// Starts a new one, empty, and waits until it answers.
    pub(crate) async fn start(kind: Kind) -> Self {
        Self::start_with(kind, &Conf::default()).await
    }

    /// Starts a new broker with more configuration.
    pub(crate) async fn start_with(kind: Kind, conf: &Conf) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("server-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        conf.write(dir.path());
        let mut server = Self::spawn(kind, dir.path().to_owned());
        server.whole = Some(dir);
        server.ready().await;
        server
    }

    /// Starts one in a folder that is somebody else's, and does not wait.
    pub(super) fn spawn(kind: Kind, dir: PathBuf) -> Self {
        let child = kind.spawn(&dir);
        Self {
            kind,
            dir,
            whole: None,
            child,
            url: String::new(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Where it answers, the same after a restart.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A port of a broker's own that nothing listens on, but what its [`Conf`] has put there.
    pub(crate) fn extra_port(&self) -> u16 {
        let ports = fs::read_to_string(self.dir.join("ports")).unwrap();
        ports.split_whitespace().nth(3).unwrap().parse().unwrap()
    }

    /// Waits until the broker's register of quorum queues on disk has a queue. It is saved some 0.5 s
    /// late, and a queue that is not in it comes back from a crash empty and without a leader.
    pub(crate) async fn wait_registered(&self, queue: &str) {
        let data = self
            .dir
            .join("data")
            .join(self.node())
            .join("quorum")
            .join(self.node());
        let (register, name) = (data.join("names.dets"), queue.as_bytes());
        eventually(
            Duration::from_secs(10),
            &format!("{queue} in {}", register.display()),
            async || {
                let bytes = fs::read(&register).ok()?;
                // The third word tells whether all has been saved; else the broker rebuilds the file.
                let saved = bytes.get(8..12)? == 1_u32.to_be_bytes();
                (saved && bytes.windows(name.len()).any(|window| window == name)).then_some(())
            },
        )
        .await;
    }

    /// Runs `rabbitmqctl` on the broker; what it printed.
    pub(crate) fn rabbitmqctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(SERVE);
        let output = command
            .arg("rabbitmqctl")
            .arg(&self.dir)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The name of the broker's node, as `tests/serve` makes it.
    pub(super) fn node(&self) -> String {
        format!(
            "callvault-{}@localhost",
            address(&self.url).rsplit(':').next().unwrap()
        )
    }

    /// Ends it like a crash, and waits until its port is closed. Its data stays: of a broker, what
    /// it confirmed in queues that [`Self::wait_registered`] saw.
    pub(crate) async fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = fs::remove_file(self.dir.join("url"));
        let address = address(&self.url);
        eventually(
            Duration::from_secs(10),
            "the killed server's port to close",
            async || TcpStream::connect(&address).await.err(),
        )
        .await;
    }

    /// Starts it with the data and the ports that it had, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        assert!(
            self.child.try_wait().unwrap().is_some(),
            "restart follows kill9"
        );
        self.child = self.kind.spawn(&self.dir);
        self.ready().await;
    }

    pub(super) async fn ready(&mut self) {
        let (url, dir, child) = (self.dir.join("url"), &self.dir, &mut self.child);
        let what = format!("a private server; see the logs in {}", dir.display());
        self.url = eventually(STARTUP, &what, async || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the server ended; see the logs in {}",
                dir.display()
            );
            read_url(&url)
        })
        .await;
    }
}

impl Kind {
    fn spawn(self, dir: &Path) -> Child {
        let name = match self {
            Self::RabbitMq => "rabbitmq",
            Self::SeaweedFs => "seaweedfs",
            Self::Cluster => "cluster",
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("serve.log"))
            .unwrap();
        serve(name, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the {:?} server's folder stays: {}",
                self.kind,
                self.dir.display()
            );
            if let Some(whole) = &mut self.whole {
                whole.disable_cleanup(true);
            }
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
