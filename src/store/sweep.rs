//! What a worker that was killed leaves behind: uploads that nobody will complete, and temporary files.

use std::{
    fs, io,
    path::{Path as FilePath, PathBuf},
    time::Duration,
};

use chrono::{DateTime, Utc};
use object_store::{Error as BackendError, path::Path};

use super::{
    Bucket, Cause, StoreError,
    uploads::{Upload, Uploads},
};

/// What may be left over in a bucket, of whoever's making.
#[derive(Debug)]
pub enum Leftovers {
    /// All that there is.
    Found(Vec<Leftover>),
    /// Nothing that has to be looked for, and why.
    Nothing(&'static str),
    /// The store does not tell; why, in its words.
    Refused(String),
}

/// Something that was begun, and not finished.
#[derive(Debug)]
pub struct Leftover {
    /// The key that it was to have, below the bucket's prefix.
    pub key: String,
    /// When it was begun, or a file was last written to.
    pub since: DateTime<Utc>,
    what: What,
}

#[derive(Debug)]
enum What {
    Upload(Upload),
    File(PathBuf),
}

/// What became of a leftover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is no more.
    Now,
    /// Somebody else was faster.
    Before,
    /// It has been written to lately: somebody is still at it.
    InUse,
}

impl Leftover {
    /// What is removed, below the bucket's prefix: of a file not the name that it was to have.
    pub fn name(&self) -> String {
        let file = match &self.what {
            What::Upload(_) => None,
            What::File(path) => path.file_name().map(|name| name.to_string_lossy()),
        };
        match (file, self.key.rsplit_once('/')) {
            (Some(file), Some((folder, _))) => format!("{folder}/{file}"),
            (Some(file), None) => file.into_owned(),
            (None, _) => self.key.clone(),
        }
    }

    /// In a report's words.
    pub fn kind(&self) -> &'static str {
        match self.what {
            What::Upload(_) => "multipart upload",
            What::File(_) => "temporary file",
        }
    }
}

impl Bucket {
    /// Lists unfinished uploads, or a folder's temporary files, under the bucket's prefix.
    pub async fn leftovers(&self, patience: Duration) -> Result<Leftovers, StoreError> {
        let what = "list unfinished uploads";
        let listed = match &self.uploads {
            Uploads::InMemory => return Ok(Leftovers::Nothing("memory outlives no process")),
            Uploads::Azure => {
                return Ok(Leftovers::Nothing(
                    "Azure does not list uncommitted blocks by upload, and drops them itself after 7 days",
                ));
            }
            Uploads::Folder { root, .. } => {
                let folder = root.clone();
                let walked = tokio::task::spawn_blocking(move || temporary_files(&folder)).await;
                let walked = walked.unwrap_or_else(|error| Err(io::Error::other(error)));
                let found = walked.map_err(|error| self.error("list temporary files", error))?;
                return Ok(Leftovers::Found(found));
            }
            uploads => {
                let attempt = || uploads.list(&self.prefix);
                self.patiently(patience, what, attempt).await?
            }
        };
        Ok(match listed {
            Ok(uploads) => Leftovers::Found(
                uploads
                    .into_iter()
                    .filter_map(|upload| self.leftover(upload))
                    .collect(),
            ),
            Err(refused) => Leftovers::Refused(refused),
        })
    }

    /// Removes a leftover that nothing was written to since `before`.
    pub async fn remove(
        &self,
        leftover: &Leftover,
        before: DateTime<Utc>,
        patience: Duration,
    ) -> Result<Removed, StoreError> {
        match &leftover.what {
            What::Upload(upload) => {
                let attempt = || async {
                    // A large file over a slow line may be begun long ago, and still on its way. Where
                    // the store does not tell, the beginning counts.
                    match self.uploads.last_part(upload).await {
                        Ok(Ok(Some(last))) if last >= before => return Ok(Ok(Removed::InUse)),
                        Ok(_) => {}
                        Err(Cause::Backend(BackendError::NotFound { .. })) => {
                            return Ok(Ok(Removed::Before));
                        }
                        Err(error) => return Err(error),
                    }
                    match self.uploads.abort(upload).await {
                        Ok(()) => Ok(Ok(Removed::Now)),
                        Err(BackendError::NotFound { .. }) => Ok(Ok(Removed::Before)),
                        // It will say so again.
                        Err(error @ BackendError::PermissionDenied { .. }) => Ok(Err(error)),
                        Err(error) => Err(error.into()),
                    }
                };
                let what = "abort an upload";
                let removed = self.patiently(patience, what, attempt).await?;
                removed.map_err(|error| self.error(what, error))
            }
            What::File(path) => {
                let path = path.clone();
                let removed = tokio::task::spawn_blocking(move || remove_file(&path, before)).await;
                let removed = removed.unwrap_or_else(|error| Err(io::Error::other(error)));
                removed.map_err(|error| self.error("remove a temporary file", error))
            }
        }
    }

    fn leftover(&self, upload: Upload) -> Option<Leftover> {
        let below = upload.path.prefix_match(&self.prefix)?;
        let key = below.collect::<Path>().to_string();
        Some(Leftover {
            key,
            since: upload.begun,
            what: What::Upload(upload),
        })
    }
}

/// The files below a folder that the store library and [`super::folder`] write before they get their names: `name#1`. No
/// symbolic link is followed.
fn temporary_files(root: &FilePath) -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // Somebody else's, such as `lost+found`: callvault could not have written there.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && folder != root => {
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            // A name that is no text is none of callvault's.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{prefix}{name}/")));
            } else if let (true, Some(name)) = (kind.is_file(), named_before(&name))
                && let Some(since) = written(&entry.path())?
            {
                found.push(Leftover {
                    key: format!("{prefix}{name}"),
                    since,
                    what: What::File(entry.path()),
                });
            }
        }
    }
    Ok(found)
}

/// The name that a temporary file was to get.
pub(super) fn named_before(name: &str) -> Option<&str> {
    let (name, number) = name.rsplit_once('#')?;
    let counted = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    counted.then_some(name)
}

/// When a file was last written to, if it is there.
fn written(path: &FilePath) -> io::Result<Option<DateTime<Utc>>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.modified()?.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &FilePath, before: DateTime<Utc>) -> io::Result<Removed> {
    match written(path)? {
        None => return Ok(Removed::Before),
        Some(written) if written >= before => return Ok(Removed::InUse),
        Some(_) => {}
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(Removed::Now),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Removed::Before),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn temporary_files_are_found_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(elsewhere.path().join("x#1"), "").unwrap();
        for name in ["a/b/f#1", "a/b/f#12", "a/b/f", "a/b/f#", "a/b/f#x", "g#0"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        symlink(elsewhere.path(), dir.path().join("a/link")).unwrap();
        symlink(elsewhere.path().join("x#1"), dir.path().join("a/y#1")).unwrap();

        let mut keys: Vec<_> = temporary_files(dir.path())
            .unwrap()
            .into_iter()
            .map(|found| found.key)
            .collect();
        keys.sort();

        assert_eq!(keys, ["a/b/f", "a/b/f", "g"]);
    }
}
