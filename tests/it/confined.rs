//! callvault as its image runs it: deploy/Dockerfile's own root, read-only, a user without a name or a right, and
//! no place to write but the spool.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::support::{
    amqp::Amqp,
    call,
    config::Setup,
    origin::{Origin, Reply},
    servers,
    wait::eventually,
    worker::Worker,
};

const DEADLINE: Duration = Duration::from_secs(30);
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Makes the root what a container's is, and becomes the program: the process stays one, and what it mounts
/// ends with it.
const CONFINE: &str = r#"set -e
mount --bind "$1" "$1"
mount --bind "$2" "$1/etc/callvault"
mount -o remount,bind,ro "$1/etc/callvault"
mount -t tmpfs -o "size=64m,mode=0700,uid=${3%:*},gid=${3#*:}" tmpfs "$1/var/tmp"
mount -o remount,bind,ro "$1"
user=$3 root=$1; shift 3
exec setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all chroot --userspec="$user" --groups= "$root" "$@"
"#;

/// The Dockerfile's instructions, their lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = fs::read_to_string(Path::new(ROOT).join("deploy/Dockerfile")).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let joined = lines.join("\n").replace("\\\n", " ");
    let instructions = joined.lines().filter(|line| !line.trim().is_empty());
    instructions
        .map(|line| {
            let (name, rest) = line
                .split_once(' ')
                .expect("an instruction and its argument");
            (name.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// What the instructions of a name say, in order.
fn all<'a>(instructions: &'a [(String, String)], wanted: &str) -> Vec<&'a str> {
    let named = instructions.iter().filter(|(name, _)| name == wanted);
    named.map(|(_, rest)| rest.as_str()).collect()
}

/// Has the Dockerfile's own step make the image of this build, in a folder.
fn image(instructions: &[(String, String)], dir: &Path) -> PathBuf {
    let image = dir.join("image");
    let steps = all(instructions, "RUN");
    let step = steps.last().unwrap();
    let program = env!("CARGO_BIN_EXE_callvault");
    let here = step
        .replace(
            "image=/image",
            &format!("image={:?}", image.display().to_string()),
        )
        .replace(
            "binary=target/dist/callvault",
            &format!("binary={program:?}"),
        );
    assert!(here.contains(program), "{step}");
    let made = Command::new("sh").args(["-c", &here]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    image
}

#[test]
fn the_image_has_no_name_no_shell_and_no_stranger_in_it() {
    let instructions = instructions();
    let from = all(&instructions, "FROM");
    let (last, bases) = from.split_last().unwrap();
    assert_eq!(*last, "scratch", "a shell, packages, users");
    for base in bases {
        let base = base.split(' ').next().unwrap();
        let (_, tag) = base.split_once(':').expect("a pinned base");
        assert!(
            tag.split('.').count() >= 3,
            "{base} is another one next month"
        );
    }
    let rust = format!("rust:{}", env!("CARGO_PKG_RUST_VERSION"));
    assert!(bases[0].starts_with(&rust), "{bases:?}, built with {rust}");

    let known = [
        "FROM",
        "WORKDIR",
        "COPY",
        "RUN",
        "ENV",
        "EXPOSE",
        "VOLUME",
        "USER",
        "STOPSIGNAL",
        "ENTRYPOINT",
        "CMD",
    ];
    for (name, rest) in &instructions {
        assert!(
            known.contains(&name.as_str()),
            "{name}: ADD fetches, SHELL and HEALTHCHECK need a shell"
        );
        assert!(
            !rest.contains("://"),
            "{name} {rest}: nothing is fetched but crates, by their lock file"
        );
    }
    let runs = all(&instructions, "RUN").into_iter();
    let builds: Vec<&str> = runs.filter(|run| run.contains("cargo build")).collect();
    assert_eq!(builds.len(), 2, "the dependencies, then the program");
    for build in builds {
        assert!(build.contains("--locked"), "{build}");
    }

    let users = all(&instructions, "USER");
    let (user, group) = users.last().unwrap().split_once(':').unwrap();
    for number in [user, group] {
        assert!(
            number.parse::<u32>().unwrap() >= 1000,
            "{users:?}: a number, and not root's"
        );
    }
    for form in ["ENTRYPOINT", "CMD"] {
        let words: Vec<String> = serde_json::from_str(all(&instructions, form)[0]).unwrap();
        assert!(!words.is_empty(), "{form} needs no shell");
    }

    // The build has what it needs, and nothing else is sent to it.
    let ignored =
        fs::read_to_string(Path::new(ROOT).join("deploy/Dockerfile.dockerignore")).unwrap();
    let sent: Vec<&str> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let copied: Vec<&str> = all(&instructions, "COPY")
        .into_iter()
        .filter(|copy| !copy.starts_with("--from"))
        .flat_map(|copy| copy.rsplit_once(' ').unwrap().0.split(' '))
        .collect();
    assert_eq!(sent, copied);
    for source in copied {
        assert!(
            fs::exists(Path::new(ROOT).join(source)).unwrap(),
            "{source}"
        );
    }
}

#[tokio::test]
async fn in_its_image_callvault_writes_nowhere_but_in_the_spool_and_leaves_nothing_there() {
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    assert!(
        root,
        "this test makes mounts and another user: run it as root"
    );
    let instructions = instructions();
    let mut setup = Setup::s3().await;
    let image = image(&instructions, setup.dir());
    // A name is looked up as in a container: by the file that its runtime mounts.
    fs::write(image.join("etc/hosts"), "127.0.0.1 localhost broker\n").unwrap();
    let broker = servers::rabbit().await.replace("@127.0.0.1:", "@broker:");
    setup.set("queue", "url", &format!("{broker:?}"));
    setup.set("limits", "spool_dir", "\"/var/tmp\"");
    setup.set("fetch", "read_timeout", "\"5s\"");
    let etc = setup.dir().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::copy(setup.write(), etc.join("callvault.toml")).unwrap();
    for (path, mode) in [(etc.clone(), 0o755), (etc.join("callvault.toml"), 0o444)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let before = tree(&image);

    let origin = Origin::start().await;
    origin.put("/a/recording.wav", call::wav(10 << 20), "audio/x-wav");
    origin.first("/a/recording.wav", 1, &Reply::StallAt(12 << 20));
    let event = call::with_urls(&[&origin.url("/a/recording.wav")]);

    let mut worker = start(&instructions, &setup, &image, &etc);
    worker.wait_log("consuming").await;
    let process = PathBuf::from(format!("/proc/{}", worker.id()));
    has_no_right(&process, &instructions);
    may_write_in_the_spool_alone(&process);

    let amqp = Amqp::connect(servers::rabbit().await).await;
    amqp.publish(&setup.exchange(), "call.analyzed", None, &event)
        .await;
    let spooled = eventually(DEADLINE, "half a recording in the spool", async || {
        let spooled = spool_file(&process)?;
        (fs::metadata(&spooled).ok()?.size() > 1 << 20).then_some(spooled)
    })
    .await;
    let about = fs::metadata(&spooled).unwrap();
    assert_eq!(about.mode() & 0o7777, 0o600);
    assert_eq!((about.nlink(), about.uid()), (0, 65532), "it has no name");
    let target = fs::read_link(&spooled).unwrap();
    assert!(
        target.to_str().unwrap().ends_with(" (deleted)"),
        "{target:?}"
    );
    let others = Command::new("setpriv")
        .args([
            "--reuid=65533",
            "--regid=65533",
            "--clear-groups",
            "head",
            "-c1",
        ])
        .arg(&spooled)
        .output()
        .unwrap();
    assert!(
        !others.status.success(),
        "another user reads it: {others:?}"
    );
    assert_eq!(tree(&process.join("root/var/tmp")), [""; 0]);

    worker.wait_log("outcome=\"archived\"").await;
    assert_eq!(origin.hits("/a/recording.wav"), 2);
    assert_eq!(spool_file(&process), None);
    assert_eq!(tree(&process.join("root/var/tmp")), [""; 0]);
    worker.term();
    assert!(worker.wait_exit(DEADLINE).await.success());
    assert_eq!(tree(&image), before);
}

fn start(instructions: &[(String, String)], setup: &Setup, image: &Path, etc: &Path) -> Worker {
    let words =
        |name: &str| -> Vec<String> { serde_json::from_str(all(instructions, name)[0]).unwrap() };
    let mut run = Command::new("unshare");
    run.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        CONFINE,
        "sh",
    ])
    .args([image, etc])
    .args(all(instructions, "USER"))
    .args(words("ENTRYPOINT"))
    .args(words("CMD"))
    .env_clear()
    .env("PATH", std::env::var_os("PATH").unwrap());
    for variable in all(instructions, "ENV") {
        let (name, value) = variable.split_once('=').unwrap();
        run.env(name, value);
    }
    // On a port of its own, as each container has.
    run.env("CALLVAULT__HTTP__LISTEN", "127.0.0.1:0");
    Worker::spawn(run, setup.dir())
}

fn has_no_right(process: &Path, instructions: &[(String, String)]) {
    let status = fs::read_to_string(process.join("status")).unwrap();
    let field = |name: &str| -> Vec<String> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name}:")));
        line.unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let (user, group) = all(instructions, "USER")[0].split_once(':').unwrap();
    assert_eq!(field("Uid"), [user; 4]);
    assert_eq!(field("Gid"), [group; 4]);
    assert_eq!(field("Groups"), [""; 0]);
    assert_eq!(field("NoNewPrivs"), ["1"]);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert!(!fs::exists(process.join("root/etc/passwd")).unwrap());
    assert!(!fs::exists(process.join("root/bin/sh")).unwrap());
}

fn may_write_in_the_spool_alone(process: &Path) {
    let mounts = fs::read_to_string(process.join("mounts")).unwrap();
    let writable: Vec<&str> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, _, options) = (fields.next()?, fields.next()?, fields.next()?);
            options
                .split(',')
                .any(|option| option == "rw")
                .then_some(place)
        })
        .collect();
    assert_eq!(writable, ["/var/tmp"], "{mounts}");
    assert!(mounts.lines().count() >= 3, "{mounts}");
}

/// The open file of the process that lies in the spool, if there is one.
fn spool_file(process: &Path) -> Option<PathBuf> {
    let spool = fs::metadata(process.join("root/var/tmp")).unwrap().dev();
    let open = fs::read_dir(process.join("fd")).unwrap();
    let mut paths = open.map(|entry| entry.unwrap().path());
    // Files are closed meanwhile.
    paths.find(|path| fs::metadata(path).is_ok_and(|file| file.dev() == spool))
}

/// Every file below a folder, with its size.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push(format!(
                "{} {}",
                path.display(),
                fs::metadata(&path).unwrap().size()
            ));
        }
    }
    found.sort();
    found
}
