//! Mistakes in a configuration: where each stands, what is wrong, and how to mend it.

use std::{fmt, path::PathBuf};

/// Where a key was set. The order is that of a report: the file, its lines, then the environment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole: the key is not in it.
    File(PathBuf),
    /// A line of the file.
    Line {
        /// The file's path, as it was given.
        file: PathBuf,
        /// The line's number, from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One thing that is wrong in a configuration. It never quotes what may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where to look.
    pub place: Place,
    /// The key, such as `fetch.read_timeout` or `tenants[0].buckets.recordings`; empty where the
    /// mistake is not about one key.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// How to mend it.
    pub mend: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.mend)
    }
}

/// All mistakes found in a configuration, shown one a line in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// Adds one.
    pub fn push(&mut self, mistake: Mistake) {
        self.0.push(mistake);
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The mistakes, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        let mut sorted: Vec<&Mistake> = self.0.iter().collect();
        sorted.sort_by(|a, b| a.place.cmp(&b.place));
        sorted.into_iter()
    }
}

impl Extend<Mistake> for Mistakes {
    fn extend<I: IntoIterator<Item = Mistake>>(&mut self, more: I) {
        self.0.extend(more);
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// A mistake whose place is not yet known: what is wrong with a value, and how to mend it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) mend: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// A value as a message may show it: in quotes, escaped and short. What looks like a URL or an
/// account may hold a password, wherever it was written by mistake, and is not shown.
pub(super) fn quoted(value: &str) -> String {
    const LONGEST: usize = 60;
    if value.contains("://") || value.contains('@') {
        return "this value".to_owned();
    }
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}", format!("{}…", &value[..end])),
        None => format!("{value:?}"),
    }
}
