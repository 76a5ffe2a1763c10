//! The broker and the S3 server, started through `tests/serve`.
//!
//! [`rabbit`] and [`s3`] are shared by all tests of a run, whatever process a test is in: the first
//! to ask starts a keeper that runs both servers, and each process that uses them holds a shared lock
//! on a file until it ends; some seconds after the last is gone, the keeper stops them. Locks end
//! with their process, so nothing that was killed needs tidying up. A test that kills or restarts a
//! server has one of its own: [`Server`].

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{net::TcpStream, sync::OnceCell};

use super::{s3::S3, wait::eventually};

/// More than `tests/serve` gives its servers, which says better what went wrong.
const STARTUP: Duration = Duration::from_secs(90);

/// The script that runs servers.
const SERVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve");

/// The URL of the shared broker: `amqp://guest:guest@127.0.0.1:PORT/%2f`.
pub(crate) async fn rabbit() -> &'static str {
    &shared().await.rabbit
}

/// The shared S3 server.
pub(crate) async fn s3() -> S3 {
    S3::at(&shared().await.s3)
}

struct Shared {
    rabbit: String,
    s3: String,
    /// Keeps the servers alive.
    _users: File,
}

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED.get_or_init(Shared::join).await
}

impl Shared {
    async fn join() -> Self {
        let dir = target().join("it");
        fs::create_dir_all(&dir).unwrap();
        // One process at a time finds out whether there are servers, and starts them if not. A
        // keeper that is stopping holds `users` exclusively until it is done.
        let _starting = locked(dir.join("starting"), File::lock).await;
        let users = locked(dir.join("users"), File::lock_shared).await;

        let urls = [dir.join("rabbitmq/url"), dir.join("seaweedfs/url")];
        let mut keeper = (!keeper_lives(&dir)).then(|| {
            for stale in &urls {
                let _ = fs::remove_file(stale);
            }
            start_keeper(&dir)
        });
        let log = dir.join("keeper.log");
        let what = format!(
            "the servers; see {} and the logs in {}/*/log",
            log.display(),
            dir.display()
        );
        let [rabbit, s3] = eventually(STARTUP, &what, async || {
            let ended = keeper
                .as_mut()
                .is_some_and(|child| child.try_wait().unwrap().is_some());
            assert!(
                !ended,
                "the servers did not start:\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            Some([read_url(&urls[0])?, read_url(&urls[1])?])
        })
        .await;
        Self {
            rabbit,
            s3,
            _users: users,
        }
    }
}

/// The keeper holds this lock for as long as it lives.
fn keeper_lives(dir: &Path) -> bool {
    open(&dir.join("keeper")).try_lock_shared().is_err()
}

/// Outlives this process, and whatever ends this process's group.
fn start_keeper(dir: &Path) -> Child {
    let log = File::create(dir.join("keeper.log")).unwrap();
    serve("shared", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .unwrap()
}

/// A server of one test's own, which may be killed and come back. It ends with the test; when the
/// test fails, its folder stays.
pub(crate) struct Server {
    kind: Kind,
    dir: TempDir,
    /// `tests/serve`; its processes die with it, and it ends when its standard input does.
    child: Child,
    url: String,
}

/// What a [`Server`] is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    RabbitMq,
    SeaweedFs,
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
}

impl Conf {
    /// Puts it where `tests/serve` looks for it.
    fn write(&self, dir: &Path) {
        let terms: String = self.terms.iter().map(|term| format!(", {term}")).collect();
        fs::write(dir.join("extra.conf"), self.lines.join("\n")).unwrap();
        fs::write(dir.join("extra.config"), terms).unwrap();
        fs::write(dir.join("extra_plugins"), self.plugins.join(", ")).unwrap();
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
        let child = kind.spawn(dir.path());
        let mut server = Self {
            kind,
            dir,
            child,
            url: String::new(),
        };
        server.ready().await;
        server
    }

    /// Where it answers, the same after a restart.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A port of a broker's own that nothing listens on, but what its [`Conf`] has put there.
    pub(crate) fn extra_port(&self) -> u16 {
        let ports = fs::read_to_string(self.dir.path().join("ports")).unwrap();
        ports.split_whitespace().nth(3).unwrap().parse().unwrap()
    }

    /// Waits until the broker's register of quorum queues on disk has a queue. It is saved some 0.5 s
    /// late, and a queue that is not in it comes back from a crash empty and without a leader.
    pub(crate) async fn wait_registered(&self, queue: &str) {
        let data = self
            .dir
            .path()
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
            .arg(self.dir.path())
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
    fn node(&self) -> String {
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
        let _ = fs::remove_file(self.dir.path().join("url"));
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
        self.child = self.kind.spawn(self.dir.path());
        self.ready().await;
    }

    async fn ready(&mut self) {
        let (url, dir, child) = (
            self.dir.path().join("url"),
            self.dir.path(),
            &mut self.child,
        );
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
                self.dir.path().display()
            );
            self.dir.disable_cleanup(true);
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
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
fn address(url: &str) -> String {
    let authority = url.split("//").nth(1).unwrap().split('/').next().unwrap();
    authority.rsplit('@').next().unwrap().to_owned()
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
