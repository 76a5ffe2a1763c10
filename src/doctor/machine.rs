//! Is this machine, or this container, as large as the configuration takes it to be?

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use bytesize::ByteSize;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::{config::Limits, stacks};

const WHAT: &str = "machine";
const MIB: u64 = bytesize::MIB;

/// Attachments of the provider's events.
const ATTACHMENTS: u64 = 3;
/// Open files of a download under way, at the most: a connection to its origin, a temporary file, a connection to its
/// store; and one more that is kept for the next.
const FILES: u64 = 4;
/// Open files of everything else: the broker's connections, the runtime, logs, whoever asks for health.
const OTHER_FILES: u64 = 96;

/// What a worker takes without any attachment, in bytes, and the AMQP client's buffers.
const IDLE: u64 = (17 + 16) * MIB;
/// What a download under way has of buffers, in bytes.
const BUFFERS: u64 = MIB;

/// What is asked of a machine.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `[limits]`
    pub limits: Limits,
    /// `queue.prefetch`
    pub prefetch: u16,
}

impl Asked {
    /// How many open files a worker may need.
    pub fn files(&self) -> u64 {
        u64::from(self.prefetch) * ATTACHMENTS * FILES + OTHER_FILES
    }

    /// How much memory a worker may need, in bytes, unless somebody publishes what the provider does not.
    pub fn memory(&self) -> u64 {
        let buffers = u64::from(self.prefetch) * ATTACHMENTS * BUFFERS;
        IDLE.saturating_add(self.limits.memory)
            .saturating_add(buffers)
    }
}

/// Looks at this machine. `folders` are the buckets that are folders, by name. Blocking.
pub fn machine(asked: &Asked, folders: &[(String, &Path)]) -> Vec<Finding> {
    let spool = spool(&asked.limits, folders);
    let mut findings = vec![files(asked), memory(asked), spool];
    findings.extend(stack());
    findings
}

fn files(asked: &Asked) -> Finding {
    let (needed, limit) = (asked.files(), getrlimit(Resource::Nofile));
    let dumps = match getrlimit(Resource::Core).current {
        Some(0) => "",
        // Where the system's pattern is a program, the limit says little.
        _ => "; core dumps are on, and one would hold recordings (ulimit -c 0)",
    };
    match limit.current {
        Some(most) if most < needed => Finding::weak(
            WHAT,
            format!(
                "{most} files may be open, and queue.prefetch = {} may take {needed}: short of them, downloads and uploads fail \
                 and wait{dumps}",
                asked.prefetch
            ),
            format!(
                "raise the limit to {needed} or more (ulimit -n, LimitNOFILE=, --ulimit nofile=), or lower queue.prefetch"
            ),
        ),
        most => {
            let most = most.map_or_else(|| "any number of".into(), |most| most.to_string());
            Finding::ok(
                WHAT,
                format!("{most} files may be open, of {needed} that may be needed{dumps}"),
            )
        }
    }
}

fn memory(asked: &Asked) -> Finding {
    let needed = ByteSize(asked.memory());
    match limit() {
        Some((most, whose)) if most < asked.memory() => Finding::weak(
            WHAT,
            format!(
                "{whose} {}, and limits.memory = {} with queue.prefetch = {} may take {needed}: the kernel would kill callvault, \
                 and its events come again",
                ByteSize(most),
                ByteSize(asked.limits.memory),
                asked.prefetch,
            ),
            "lower limits.memory or queue.prefetch, or give it more memory",
        ),
        Some((most, whose)) => Finding::ok(
            WHAT,
            format!(
                "{whose} {}, of which callvault may take {needed}",
                ByteSize(most)
            ),
        ),
        None => Finding::ok(WHAT, format!("callvault may take {needed} of memory")),
    }
}

fn spool(limits: &Limits, folders: &[(String, &Path)]) -> Finding {
    let dir = &limits.spool_dir;
    let shown = dir.display();
    let found = rustix::fs::statvfs(dir).and_then(|disk| Ok((disk, in_memory(dir)?)));
    let (disk, in_memory) = match found {
        Ok(found) => found,
        Err(error) => {
            return Finding::fail(
                WHAT,
                format!("limits.spool_dir {shown} cannot be looked at: {error}"),
                "create it, and let callvault's user write there",
            );
        }
    };
    let (free, wanted) = (disk.f_bavail.saturating_mul(disk.f_frsize), limits.spool);
    if in_memory {
        return Finding::weak(
            WHAT,
            format!(
                "limits.spool_dir {shown} lies in memory (tmpfs): large recordings fill what was to be kept free of them"
            ),
            "name a folder on a disk, such as /var/tmp",
        );
    }
    if free < wanted {
        return Finding::weak(
            WHAT,
            format!(
                "limits.spool_dir {shown} has {} free, and limits.spool is {}: when the disk is full, jobs wait",
                ByteSize(free),
                ByteSize(wanted),
            ),
            "free space, lower limits.spool, or name a folder on a larger disk",
        );
    }
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let same = device(dir);
    let shares: Vec<&str> = folders
        .iter()
        .filter(|(_, folder)| same.is_some() && device(folder) == same)
        .map(|(name, _)| name.as_str())
        .collect();
    let beside = match &shares[..] {
        [] => String::new(),
        names => format!(", on one disk with {}", names.join(", ")),
    };
    Finding::ok(
        WHAT,
        format!(
            "spool {shown} has {} free, of {} that limits.spool allows{beside}",
            ByteSize(free),
            ByteSize(wanted)
        ),
    )
}

#[cfg(target_os = "linux")]
fn in_memory(dir: &Path) -> rustix::io::Result<bool> {
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    let kind = rustix::fs::statfs(dir)?.f_type;
    Ok([i64::from(TMPFS), i64::from(RAMFS)].contains(&(kind as i64)))
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &Path) -> rustix::io::Result<bool> {
    Ok(false)
}

fn stack() -> Option<Finding> {
    let set = std::env::var(stacks::VARIABLE).ok()?;
    let bytes: Option<usize> = set.parse().ok();
    (bytes.is_none_or(|bytes| bytes < stacks::CLIENT)).then(|| {
        Finding::weak(
            WHAT,
            format!(
                "{} is set to less than {}: a message whose headers nest deeply ends the process",
                stacks::VARIABLE,
                stacks::CLIENT
            ),
            "leave it unset, and callvault sets it itself",
        )
    })
}

/// The memory that there is, in bytes, and whose it is: the least of the machine's and of the control groups'.
fn limit() -> Option<(u64, &'static str)> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| total(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| of_groups(&text, Path::new("/sys/fs/cgroup")));
    match (machine, group) {
        (Some(machine), Some(group)) if group < machine => {
            Some((group, "this container's memory is"))
        }
        (Some(machine), _) => Some((machine, "this machine's memory is")),
        (None, group) => Some((group?, "this container's memory is")),
    }
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least limit of the groups that a process is in, and of those above them. In a container its own group may be
/// the root of what it sees.
fn of_groups(groups: &str, root: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut group = Some(Path::new(path.trim_start_matches('/')));
        while let Some(at) = group {
            let limit = fs::read_to_string(root.join(at).join(file)).ok();
            let limit: Option<u64> = limit.and_then(|text| text.trim().parse().ok());
            least = least.into_iter().chain(limit).min();
            group = at.parent();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_the_control_groups_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("pods/a/memory.max", "max\n");
        put("pods/memory.max", "536870912\n");
        put("memory/old/memory.limit_in_bytes", "268435456\n");
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        for (groups, least) in [
            ("0::/pods/a\n", Some(512 * MIB)),
            ("5:cpu:/old\n4:memory,hugetlb:/old\n", Some(256 * MIB)),
            ("4:memory:/gone\n0::/\n", Some(9_223_372_036_854_771_712)),
            ("0::/elsewhere\n", None),
            ("nonsense", None),
        ] {
            assert_eq!(of_groups(groups, dir.path()), least, "{groups}");
        }
    }

    #[test]
    fn what_a_worker_may_need_grows_with_what_it_may_do_at_once() {
        let limits = |memory| Limits {
            memory,
            spool: 0,
            spool_dir: "/".into(),
            job_time: std::time::Duration::ZERO,
        };
        let asked = |prefetch, memory| Asked {
            limits: limits(memory),
            prefetch,
        };
        assert!(
            asked(32, 0).files() < 1024,
            "the usual limit does by default"
        );
        assert!(asked(96, 0).files() > 1024);
        assert_eq!(asked(32, 256 * MIB).memory(), (33 + 256 + 96) * MIB);
        assert_eq!(asked(1, u64::MAX).memory(), u64::MAX);
    }
}
