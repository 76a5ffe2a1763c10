//! A network of one test's own, in which every address of the world leads to the test.
//!
//! Linux can take all addresses for its own (`ip route add local 0.0.0.0/0 dev lo`). In a network
//! namespace of its own, a test so sees each connection to any address at all, public ones too, and
//! the kernel counts those that no port listens for. Names are the test's as well: `/etc/resolv.conf`
//! and its neighbours are other files in there, and lead to [`Dns`].
//!
//! A test enters by running itself once more, within; nothing is left of it when that process ends,
//! however it ends. That takes root or, where the kernel lets users do that, a user namespace.

mod origin;

use std::{
    any,
    cell::Cell,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

pub(crate) use self::origin::{Origin, Reply};
use super::dns::Dns;

/// Set within, to the folder of the world's files.
const ENTERED: &str = "CALLVAULT_IT_WORLD";

/// Makes the world, says so, and becomes the test. What it cannot do it says, and ends.
const ENTER: &str = r#"
set -e
ip link set lo up
ip route add local 0.0.0.0/0 dev lo
ip -6 route add local ::/0 dev lo
for file in hosts nsswitch.conf resolv.conf; do mount --bind "$1/$file" "/etc/$file"; done
# Its socket would lead out, whatever the network is.
if [ -d /run/nscd ]; then mount -t tmpfs nscd /run/nscd; fi
echo 'a world of its own'
shift
exec "$@"
"#;

/// `localhost`, as any machine has it, and names that lead to a private and to a public address.
const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost ip6-localhost
10.1.2.3 home.in-hosts.example
93.184.216.34 public.in-hosts.example
";
/// No search list: one question is one name.
const RESOLV: &str = "nameserver 127.0.0.1\nsearch .\noptions timeout:5 attempts:2\n";
const NSSWITCH: &str = "hosts: files dns\n";

/// The world, as the test within sees it.
pub(crate) struct World {
    /// All servers.
    pub(crate) origin: Origin,
    /// All names.
    pub(crate) dns: Dns,
    dir: PathBuf,
    /// What [`Self::begun`] has told.
    told: Cell<u64>,
}

/// Runs a test, which is the closure's enclosing function, within a world of its own.
///
/// # Panics
///
/// Where the test fails within, or where this machine lets nobody make such a world; the message says
/// what is missing.
pub(crate) fn inside<F: FnOnce(&World)>(test: F) {
    if let Some(dir) = env::var_os(ENTERED) {
        test(&World::begin(dir.into()));
        return;
    }
    let closure = any::type_name::<F>();
    let path = closure.trim_end_matches("::{{closure}}");
    let (_, name) = path.split_once("::").expect("a path below the crate");
    let dir = tempfile::Builder::new()
        .prefix("world-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    for (file, text) in [
        ("hosts", HOSTS),
        ("nsswitch.conf", NSSWITCH),
        ("resolv.conf", RESOLV),
    ] {
        fs::write(dir.path().join(file), text).unwrap();
    }
    let mut refusals = Vec::new();
    for options in [
        &["--net", "--mount"][..],
        &["--user", "--map-root-user", "--net", "--mount"],
    ] {
        let output = enter(options, dir.path(), name);
        let said = String::from_utf8_lossy(&output.stdout);
        let told = String::from_utf8_lossy(&output.stderr);
        if said.starts_with("a world of its own") {
            // A name that matches no test would pass without one.
            assert!(
                output.status.success() && said.contains(" 1 passed"),
                "{name}, within a world of its own:\n{said}\n{told}"
            );
            return;
        }
        refusals.push(format!("unshare {}: {told}", options.join(" ")));
    }
    panic!(
        "this test needs a network namespace with every address in it, and can make none: run it as root \
         with iproute2 and util-linux installed, or allow user namespaces \
         (kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)\n{}",
        refusals.concat()
    );
}

fn enter(options: &[&str], dir: &Path, name: &str) -> Output {
    Command::new("unshare")
        .args(options)
        .args(["--propagation", "private", "sh", "-c", ENTER, "sh"])
        .arg(dir)
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--include-ignored", "--nocapture"])
        .env(ENTERED, dir)
        .stdin(Stdio::null())
        .output()
        .expect("unshare, of util-linux")
}

impl World {
    fn begin(dir: PathBuf) -> Self {
        Self {
            origin: Origin::start(&dir),
            dns: Dns::start(),
            dir,
            told: Cell::new(opened()),
        }
    }

    /// A new folder for the test's files.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.join(name);
        fs::create_dir(&folder).unwrap();
        folder
    }

    /// The authority that vouches for every server of this world, as PEM.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// How many connections were begun since the last call, to any address and port, whether anybody
    /// listened or not, by the kernel's count; those to the name server left out.
    pub(crate) fn begun(&self) -> u64 {
        let now = opened() - self.dns.connections();
        now - self.told.replace(now)
    }
}

/// How many connections were ever begun in this world.
fn opened() -> u64 {
    let told = fs::read_to_string("/proc/net/snmp").unwrap();
    let mut lines = told.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    let (_, count) = both.find(|(name, _)| *name == "ActiveOpens").unwrap();
    count.parse().unwrap()
}
