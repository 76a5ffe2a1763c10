//! How far an audit is, and what it has found: kept in a file, it goes on where it stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Unread,
    days::{Day, Span},
    finding::{Code, Finding},
};
use crate::body::blocking;

/// How often the file is written.
const OFTEN: Duration = Duration::from_secs(3);
/// Findings that are kept word for word. All are told when they are found, and counted.
const KEPT: usize = 10_000;
/// The version of the file's shape.
const VERSION: u32 = 1;
/// How long after its end a day counts as complete: what is retried, and webhooks that are sent again, come later.
const LATE: TimeDelta = TimeDelta::days(2);

/// What a run is about; a state of another one is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arguments {
    /// The days to verify.
    #[serde(flatten)]
    pub span: Span,
    /// Whether sizes are enough.
    pub quick: bool,
    /// Whether manifests are held against their seals.
    #[serde(default)]
    pub sealed: bool,
    /// A digest of the configuration's buckets and keys.
    pub archive: String,
}

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Manifests that were read.
    pub manifests: u64,
    /// Those of them that are partial.
    pub partial: u64,
    /// Objects that manifests name, and that were looked at.
    pub objects: u64,
    /// Their bytes: read, or as the store tells.
    pub bytes: u64,
    /// Manifests whose event is proven to be what was received.
    pub events: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.manifests += other.manifests;
        self.partial += other.partial;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.events += other.events;
    }
}

/// Where in the archive a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum At {
    /// At a day's manifests.
    Manifests {
        /// Which day's.
        day: Day,
        /// The last one that is done.
        after: Option<String>,
    },
    /// At objects that no manifest may name.
    Strays {
        /// Of a day, or of all.
        day: Option<Day>,
        /// In which bucket.
        bucket: String,
        /// The last one that is done.
        after: Option<String>,
    },
}

/// One run, which may go on in another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// When it began.
    pub started: DateTime<Utc>,
    /// How long it has taken, in seconds.
    pub seconds: f64,
    /// The days that are done.
    pub done: BTreeSet<Day>,
    pub(super) at: Option<At>,
    /// What was verified.
    pub tally: Tally,
    /// How many were found.
    pub counts: BTreeMap<Code, u64>,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// How many objects, manifests and lists could not be read.
    pub unread: u64,
    /// The first of them.
    pub unread_first: Vec<Unread>,
}

impl Run {
    fn new() -> Self {
        Self {
            started: Utc::now(),
            seconds: 0.0,
            done: BTreeSet::new(),
            at: None,
            tally: Tally::default(),
            counts: BTreeMap::new(),
            findings: Vec::new(),
            unread: 0,
            unread_first: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, finding: &Finding) {
        *self.counts.entry(finding.code).or_default() += 1;
        if self.findings.len() < KEPT {
            self.findings.push(finding.clone());
        }
    }

    pub(super) fn leave_unread(&mut self, unread: Unread) {
        self.unread += 1;
        if self.unread_first.len() < KEPT {
            self.unread_first.push(unread);
        }
    }

    /// Where it is, in words, if it is anywhere.
    pub fn place(&self) -> Option<String> {
        let after = |after: &Option<String>| match after {
            Some(key) => format!("after {key}"),
            None => "from its beginning".into(),
        };
        Some(match self.at.as_ref()? {
            At::Manifests { day, after: key } => format!("the manifests of {day}, {}", after(key)),
            At::Strays {
                day,
                bucket,
                after: key,
            } => {
                let day = day.map_or_else(String::new, |day| format!(" of {day}"));
                format!(
                    "what no manifest names{day} in bucket {bucket}, {}",
                    after(key)
                )
            }
        })
    }

    /// How many findings there are.
    pub fn found(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    arguments: Arguments,
    /// None where the last one came to its end.
    run: Option<Run>,
    /// Days in which nothing was wrong, and when that was seen.
    verified: BTreeMap<Day, DateTime<Utc>>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("cannot use {path}: {source}")]
    Disk {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{path} is no state of `callvault verify` that this version can read ({why}): name another file, or remove this one"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// Somebody else is at it.
    #[error("{path} is in use by another `callvault verify`: wait for it, or name another file")]
    InUse {
        /// The file.
        path: String,
    },
    /// It is another run's.
    #[error(
        "{path} is the state of a run with other {what}: name another file for this one, or remove it to begin anew"
    )]
    Other {
        /// The file.
        path: String,
        /// What differs.
        what: &'static str,
    },
}

/// A run and its file, if it has one.
#[derive(Debug)]
pub struct State {
    kept: Kept,
    run: Run,
    /// Whether the run was begun by another process.
    resumed: bool,
    only_new: bool,
    file: Option<PathBuf>,
    /// Held as long as the file is ours.
    _lock: Option<File>,
    began: Instant,
    before: f64,
    written: Option<Instant>,
}

impl State {
    /// A run that is kept nowhere.
    pub fn unkept(arguments: Arguments) -> Self {
        let kept = Kept {
            version: VERSION,
            arguments,
            run: None,
            verified: BTreeMap::new(),
        };
        Self::of(kept, None, None)
    }

    fn of(mut kept: Kept, file: Option<PathBuf>, lock: Option<File>) -> Self {
        let run = kept.run.take();
        Self {
            resumed: run.is_some(),
            before: run.as_ref().map_or(0.0, |run| run.seconds),
            run: run.unwrap_or_else(Run::new),
            kept,
            only_new: false,
            file,
            _lock: lock,
            began: Instant::now(),
            written: None,
        }
    }

    /// Goes on with the run that the file has, or begins one. With `only_new`, days are passed over in which nothing was
    /// wrong when they were long over.
    pub fn open(file: &Path, arguments: &Arguments, only_new: bool) -> Result<Self, StateError> {
        let path = file.display().to_string();
        let disk = |source| StateError::Disk {
            path: path.clone(),
            source,
        };
        let lock = lock(file).map_err(disk)?;
        let lock = lock.ok_or_else(|| StateError::InUse { path: path.clone() })?;
        let kept = match fs::read(file) {
            Ok(json) => serde_json::from_slice::<Kept>(&json)
                .map_err(|error| error.to_string())
                .and_then(|kept| match kept.version {
                    VERSION => Ok(kept),
                    other => Err(format!("version {other}")),
                })
                .map_err(|why| StateError::Unreadable {
                    path: path.clone(),
                    why,
                })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Kept {
                version: VERSION,
                arguments: arguments.clone(),
                run: None,
                verified: BTreeMap::new(),
            },
            Err(error) => return Err(disk(error)),
        };
        if let Some(what) = difference(&kept.arguments, arguments) {
            return Err(StateError::Other { path, what });
        }
        let mut state = Self::of(kept, Some(file.to_owned()), Some(lock));
        state.only_new = only_new;
        // Found out now, rather than after an hour.
        state.kept.run = Some(state.run.clone());
        let json = state.json().map_err(io::Error::other).map_err(disk)?;
        write(file, &json).map_err(disk)?;
        Ok(state)
    }

    /// The run as it stands.
    pub fn run(&self) -> &Run {
        &self.run
    }

    pub(super) fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }

    /// Whether another process began it.
    pub fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// The days that it is about.
    pub fn span(&self) -> Span {
        self.kept.arguments.span
    }

    /// Whether nothing is to do for a day.
    pub fn passes(&self, day: Day) -> bool {
        let over = day
            .date()
            .succ_opt()
            .and_then(|next| next.and_hms_opt(0, 0, 0));
        let complete = |seen: &DateTime<Utc>| {
            over.is_some_and(|over| seen.naive_utc().signed_duration_since(over) >= LATE)
        };
        self.run.done.contains(&day)
            || (self.only_new && self.kept.verified.get(&day).is_some_and(complete))
    }

    /// All days for which [`Self::passes`].
    pub(super) fn passed(&self) -> BTreeSet<Day> {
        let verified = self.kept.verified.keys().copied();
        let mut passed: BTreeSet<Day> = verified.filter(|day| self.passes(*day)).collect();
        passed.extend(&self.run.done);
        passed
    }

    pub(super) fn day_is_done(&mut self, day: Day, began: DateTime<Utc>, is_whole: bool) {
        self.run.done.insert(day);
        self.run.at = None;
        if is_whole {
            self.kept.verified.insert(day, began);
        } else {
            self.kept.verified.remove(&day);
        }
    }

    /// Writes the file, if it is time to.
    pub(super) async fn keep(&mut self) -> io::Result<()> {
        if self.written.is_some_and(|at| at.elapsed() < OFTEN) {
            return Ok(());
        }
        self.write(false).await
    }

    /// Writes the file as the run ends, or is broken off.
    pub(super) async fn end(&mut self, finished: bool) -> io::Result<()> {
        self.write(finished).await
    }

    async fn write(&mut self, finished: bool) -> io::Result<()> {
        self.run.seconds = self.before + self.began.elapsed().as_secs_f64();
        self.written = Some(Instant::now());
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        self.kept.run = (!finished).then(|| self.run.clone());
        let json = self.json().map_err(io::Error::other)?;
        blocking(move || write(&file, &json)).await
    }

    fn json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&self.kept)
    }
}

fn difference(kept: &Arguments, given: &Arguments) -> Option<&'static str> {
    if kept.span != given.span {
        return Some("--since or --until");
    }
    if kept.quick != given.quick {
        return Some("--quick");
    }
    if kept.sealed != given.sealed {
        return Some("--sealed");
    }
    (kept.archive != given.archive).then_some("buckets or keys in the configuration")
}

/// Whoever reads it finds the one before or this one, whole, whenever the machine stops.
fn write(file: &Path, json: &[u8]) -> io::Result<()> {
    let folder = folder(file);
    let mut temporary = tempfile::Builder::new()
        .prefix(".callvault-verify-")
        .tempfile_in(folder)?;
    temporary.write_all(json)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    File::open(folder)?.sync_all()
}

/// The lock is beside the file, which is another one each time that it is written; `None` where somebody has it.
fn lock(file: &Path) -> io::Result<Option<File>> {
    let mut name = file.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::options().create(true).append(true).open(name)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            span: Span::default(),
            quick: false,
            sealed: false,
            archive: "a".into(),
        }
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    fn found() -> Finding {
        Finding {
            code: Code::ObjectMissing,
            bucket: "b".into(),
            key: "k".into(),
            call_id: "c".into(),
            request_id: "r".into(),
            day: Some(day("2023-08-24")),
            manifest: None,
            detail: String::new(),
        }
    }

    #[tokio::test]
    async fn a_run_that_was_broken_off_goes_on_and_a_finished_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let at = At::Manifests {
            day: day("2023-08-25"),
            after: Some("x".into()),
        };
        let mut state = State::open(&file, &arguments(), false).unwrap();
        assert!(!state.is_resumed());
        state.run_mut().find(&found());
        state.day_is_done(day("2023-08-24"), Utc::now(), false);
        state.run_mut().at = Some(at.clone());
        state.end(false).await.unwrap();
        drop(state);

        let mut state = State::open(&file, &arguments(), false).unwrap();
        assert!(state.is_resumed());
        assert_eq!((state.run().found(), &state.run().at), (1, &Some(at)));
        assert!(state.passes(day("2023-08-24")));
        assert!(!state.passes(day("2023-08-25")));
        state.end(true).await.unwrap();
        drop(state);

        let state = State::open(&file, &arguments(), false).unwrap();
        assert!(!state.is_resumed());
        assert!(!state.passes(day("2023-08-24")));
    }

    #[tokio::test]
    async fn only_what_was_whole_long_after_its_end_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let mut state = State::open(&file, &arguments(), true).unwrap();
        let today = Day::of(Utc::now().date_naive());
        for (day, whole) in [
            (day("2023-08-24"), true),
            (day("2023-08-25"), false),
            (today, true),
        ] {
            state.day_is_done(day, Utc::now(), whole);
        }
        state.end(true).await.unwrap();
        drop(state);

        let state = State::open(&file, &arguments(), true).unwrap();
        assert!(state.passes(day("2023-08-24")));
        assert!(!state.passes(day("2023-08-25")));
        assert!(!state.passes(today));
        drop(state);
        let state = State::open(&file, &arguments(), false).unwrap();
        assert!(!state.passes(day("2023-08-24")), "all again");
    }

    #[test]
    fn a_state_of_something_else_or_in_use_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("state");
        let open = |arguments: Arguments| State::open(&file, &arguments, false).map(drop);
        let held = State::open(&file, &arguments(), false).unwrap();
        assert!(matches!(open(arguments()), Err(StateError::InUse { .. })));
        drop(held);
        for other in [
            Arguments {
                quick: true,
                ..arguments()
            },
            Arguments {
                sealed: true,
                ..arguments()
            },
            Arguments {
                archive: "b".into(),
                ..arguments()
            },
            Arguments {
                span: Span {
                    since: Some(day("2023-08-24")),
                    until: None,
                },
                ..arguments()
            },
        ] {
            assert!(matches!(open(other), Err(StateError::Other { .. })));
        }
        fs::write(&file, "{}").unwrap();
        assert!(matches!(
            open(arguments()),
            Err(StateError::Unreadable { .. })
        ));
    }
}
