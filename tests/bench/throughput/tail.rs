//! Reading a file that somebody writes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The lines of a file that grows.
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line.
    rest: Vec<u8>,
}

impl Tail {
    /// From its beginning; it need not be there yet.
    pub(crate) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            file: None,
            rest: Vec::new(),
        }
    }

    /// What is whole and was not read before.
    pub(crate) fn lines(&mut self) -> Result<Vec<String>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(_) => return Ok(Vec::new()),
            },
        };
        file.read_to_end(&mut self.rest)
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let rest = self.rest.split_off(end + 1);
        let whole = std::mem::replace(&mut self.rest, rest);
        Ok(String::from_utf8_lossy(&whole)
            .lines()
            .map(str::to_owned)
            .collect())
    }
}
