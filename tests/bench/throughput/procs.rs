//! What processes use, from /proc.

use std::{collections::HashMap, fs, ops};

use anyhow::{Context, Result};

/// Linux tells every user 100 ticks a second, whatever it counts itself.
const TICKS: f64 = 100.0;

/// CPU seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }
}

/// What a process has used so far, all its threads together.
pub(crate) fn cpu(process: u32) -> Result<Cpu> {
    Ok(Stat::of(process)?.own)
}

/// What a process and all its descendants have used so far, those that ended too.
pub(crate) fn tree_cpu(root: u32) -> f64 {
    let of = |process| Stat::of(process).map(|stat| (stat.own + stat.ended).total());
    tree(root)
        .into_iter()
        .filter_map(|process| of(process).ok())
        .sum()
}

/// The most memory that a process had so far, in MiB.
pub(crate) fn peak_memory(process: u32) -> Result<f64> {
    Ok(status(process, "VmHWM:")? / 1024.0)
}

/// The memory that a process has, in MiB.
pub(crate) fn memory(process: u32) -> Result<f64> {
    Ok(status(process, "VmRSS:")? / 1024.0)
}

/// The memory of a process and its descendants, in MiB.
pub(crate) fn tree_memory(root: u32) -> f64 {
    // Some end meanwhile.
    tree(root)
        .into_iter()
        .filter_map(|process| memory(process).ok())
        .sum()
}

pub(crate) fn threads(process: u32) -> Result<f64> {
    status(process, "Threads:")
}

pub(crate) fn open_files(process: u32) -> Result<usize> {
    let files = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&files).context(files)?.count())
}

/// A number of /proc/PID/status.
fn status(process: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {field} in {path}"))
}

struct Stat {
    parent: u32,
    own: Cpu,
    /// Children that ended and were waited for.
    ended: Cpu,
}

impl Stat {
    fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&stat).with_context(|| format!("cannot understand {path}"))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold any of them, and spaces.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS);
        let cpu = |at| {
            Some(Cpu {
                user: seconds(at)?,
                system: seconds(at + 1)?,
            })
        };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: cpu(11)?,
            ended: cpu(13)?,
        })
    }
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        if let Ok(stat) = Stat::of(process) {
            children.entry(stat.parent).or_default().push(process);
        }
    }
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(process) = tree.get(at) {
        tree.extend(children.remove(process).unwrap_or_default());
        at += 1;
    }
    tree
}
