//! The folder of the configuration file, from which its relative paths are seen.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Folder {
    given: PathBuf,
    absolute: PathBuf,
}

impl Folder {
    pub(super) fn of(file: &Path) -> Self {
        let given = file.parent().unwrap_or(Path::new("")).to_owned();
        let here = if given.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &given
        };
        let absolute = std::path::absolute(here).unwrap_or_else(|_| here.to_owned());
        Self { given, absolute }
    }

    /// The path as a message shows it: seen from where the program was started.
    pub(super) fn shown(&self, path: &str) -> PathBuf {
        self.given.join(path)
    }

    /// The path wherever the program goes.
    pub(super) fn absolute(&self, path: &str) -> PathBuf {
        self.absolute.join(path)
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.absolute
    }
}
