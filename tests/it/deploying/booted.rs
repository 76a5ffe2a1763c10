//! `deploy/systemd`, run by systemd itself: the first process of namespaces of its own, with this project's units, a
//! program and a configuration where the units say, and nothing else to start.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use super::tools::{deploy, ran};
use crate::support::{
    amqp::Amqp, call, config::Setup, origin::Origin, servers, wait::eventually, worker::Worker,
};

const DEADLINE: Duration = Duration::from_secs(30);
/// Of ours, as they are deployed.
const UNITS: [&str; 4] = [
    "callvault.service",
    "callvault@.service",
    "callvault@.timer",
    "callvault@verify.service.d/state.conf",
];
/// Of the system's, which ours come after; nothing hangs on them here.
const TARGETS: [&str; 6] = [
    "sysinit",
    "basic",
    "shutdown",
    "network-online",
    "timers",
    "multi-user",
];

/// In control groups of its own, so that it takes none for its own that is another's.
const ENTER: &str = r#"set -euo pipefail
groups=$(</proc/self/cgroup)
while IFS=: read -r _ controllers path; do
    case $controllers in
    "") at=/sys/fs/cgroup; [ ! -d $at/unified ] || at=$at/unified ;;
    *) at=/sys/fs/cgroup/${controllers#name=} ;;
    esac
    at=$at${path%/}/$1
    # Not each hierarchy is there, or lets in.
    mkdir "$at" 2>/dev/null || continue
    echo "$at" >>"$2/told/groups"
    (echo $$ >"$at/cgroup.procs") 2>/dev/null || true
done <<<"$groups"
exec unshare --mount --propagation private --pid --fork --kill-child --mount-proc --ipc --uts --cgroup sh -euc "$3" sh "$2"
"#;

/// What is mounted is seen from in here alone, and gone with it. Whatever the folder is called, it is hidden by
/// nothing that is mounted afterwards.
const BOOT: &str = r#"mount --bind "$1" /srv
mount --bind /srv/bin /usr/local/bin
mount -t tmpfs tmpfs /tmp -o mode=1777
mount -t tmpfs tmpfs /var/tmp -o mode=1777
mount -t tmpfs tmpfs /var/lib
# Searched for what a user leaves behind, however much lies there.
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/over /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/over,workdir=/run/work /etc
cp -r /srv/callvault /etc/callvault
export container=tests SYSTEMD_UNIT_PATH=/srv/units
exec /lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=no
"#;

/// A systemd that runs; it ends with its value, and all that it started with it.
struct Booted {
    process: Worker,
    dir: TempDir,
}

impl Booted {
    /// With a configuration, and secrets for its environment.
    fn start(toml: &str, secrets: &str) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for unit in UNITS {
            let text = fs::read_to_string(deploy("systemd").join(unit)).unwrap();
            write(&format!("units/{unit}"), &text, 0o644);
        }
        for target in TARGETS {
            let wants = match target {
                "multi-user" => "Wants=callvault.service\n",
                _ => "",
            };
            let text = format!("[Unit]\nDefaultDependencies=no\n{wants}");
            write(&format!("units/{target}.target"), &text, 0o644);
        }
        // No journal runs here.
        for unit in ["callvault", "callvault@"] {
            let told = "append:/srv/told/callvault.log";
            let text = format!("[Service]\nStandardOutput={told}\nStandardError={told}\n");
            write(&format!("units/{unit}.service.d/told.conf"), &text, 0o644);
        }
        write("callvault/callvault.toml", toml, 0o644);
        write("callvault/secrets.env", secrets, 0o600);
        for log in ["callvault.log", "groups"] {
            write(&format!("told/{log}"), "", 0o644);
        }
        let program = dir.path().join("bin/callvault");
        fs::create_dir(program.parent().unwrap()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_callvault"), program).unwrap();

        let mut run = Command::new("setpriv");
        let name = dir.path().file_name().unwrap();
        run.args(["--pdeathsig", "KILL", "--", "bash", "-c", ENTER, "bash"])
            .arg(name)
            .arg(dir.path())
            .arg(BOOT)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let process = Worker::spawn(run, dir.path());
        Self { process, dir }
    }

    fn told(&self, log: &str) -> String {
        let bytes = fs::read(self.dir.path().join("told").join(log)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until callvault has logged a text so many times.
    async fn wait(&self, text: &str, times: usize) {
        let what = format!("{times} times {text:?} in callvault's log");
        eventually(DEADLINE, &what, async || {
            (self.told("callvault.log").matches(text).count() >= times).then_some(())
        })
        .await;
    }

    /// systemd's process, as it is seen from here.
    fn systemd(&self) -> u32 {
        let [systemd] = children(self.process.id())[..] else {
            panic!("unshare has one child");
        };
        systemd
    }

    /// The worker's process.
    fn worker(&self) -> PathBuf {
        let workers = children(self.systemd()).into_iter().filter(|process| {
            let line = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            line.starts_with(b"/usr/local/bin/callvault\0run\0")
        });
        let [worker] = workers.collect::<Vec<_>>()[..] else {
            panic!("one worker");
        };
        PathBuf::from(format!("/proc/{worker}"))
    }

    /// systemd's own tool, from inside.
    fn systemctl(&self, arguments: &[&str]) -> String {
        ran(Command::new("nsenter")
            .arg(format!("--target={}", self.systemd()))
            .args(["--mount", "--pid", "systemctl", "--no-pager"])
            .args(arguments))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- callvault.log\n{}", self.told("callvault.log"));
        }
        if self.process.is_running() {
            self.process.kill9();
        }
        for group in self.told("groups").lines() {
            // Its processes are gone a moment after the first of them.
            let rmdir = ["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"];
            for _ in 0..100 {
                let _ = Command::new("find").arg(group).args(rmdir).output();
                if !Path::new(group).exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn children(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    let children = children.split_whitespace();
    children.map(|child| child.parse().unwrap()).collect()
}

#[tokio::test]
async fn systemd_runs_the_worker_shut_in_starts_it_again_and_gives_it_time_to_end() {
    let mut setup = Setup::s3().await;
    setup.set("limits", "spool_dir", "\"/var/tmp\"");
    setup.set("fetch", "read_timeout", "\"5s\"");
    // A password is in the file that no user can read, and nowhere else.
    setup.set("queue", "url", "\"amqp://nobody:nothing@127.0.0.1:1/%2f\"");
    let secrets = format!("CALLVAULT__QUEUE__URL={}\n", servers::rabbit().await);
    let booted = Booted::start(setup.toml(), &secrets);
    booted.wait("consuming", 1).await;

    let worker = booted.worker();
    let status = fs::read_to_string(worker.join("status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim().to_owned()
    };
    assert_ne!(
        field("Uid").split_whitespace().next(),
        Some("0"),
        "{status}"
    );
    assert_eq!(field("CapEff"), "0000000000000000");
    assert_eq!(field("CapBnd"), "0000000000000000");
    assert_eq!(field("NoNewPrivs"), "1");
    assert_eq!(field("Seccomp"), "2", "with a filter");
    let limits = fs::read_to_string(worker.join("limits")).unwrap();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let files = files.unwrap().split_whitespace().next().unwrap();
    // Fewer than it asks for where a machine has no more to give.
    assert!(files.parse::<u32>().unwrap() > 4096, "{limits}");

    // In there it archives, also what goes by the spool.
    let origin = Origin::start().await;
    let amqp = Amqp::connect(servers::rabbit().await).await;
    origin.put("/a/recording.wav", call::wav(20 << 20), "audio/x-wav");
    let event = call::with_urls(&[&origin.url("/a/recording.wav")]);
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    booted.wait("outcome=\"archived\"", 1).await;

    // Killed, it comes again.
    let process = worker.file_name().unwrap().to_str().unwrap().to_owned();
    ran(Command::new("kill").args(["-9", &process]));
    booted.wait("consuming", 2).await;
    // Each command of the nights.
    for name in ["sweep", "seal", "verify"] {
        booted.systemctl(&["start", &format!("callvault@{name}.service")]);
    }
    // Again, with the state that the first has left.
    booted.systemctl(&["start", "callvault@verify.service"]);
    booted.systemctl(&["stop", "callvault.service"]);
    booted.wait("stopped", 1).await;
    let result = booted.systemctl(&["show", "--property=Result", "callvault.service"]);
    assert_eq!(result.trim(), "Result=success");
}

#[tokio::test]
async fn systemd_does_not_start_again_what_a_configuration_keeps_from_starting() {
    let setup = Setup::folders().await;
    let mistaken = setup.toml().replace("prefetch", "prefecth");
    let booted = Booted::start(&mistaken, "");
    booted.wait("prefecth", 1).await;
    let show = [
        "show",
        "--property=ActiveState,ExecMainStatus,NRestarts",
        "callvault.service",
    ];
    eventually(DEADLINE, "it to be given up", async || {
        let shown = booted.systemctl(&show);
        let failed = shown.contains("ActiveState=failed");
        failed.then(|| {
            assert!(shown.contains("ExecMainStatus=2"), "{shown}");
            assert!(shown.contains("NRestarts=0"), "{shown}");
        })
    })
    .await;
}
