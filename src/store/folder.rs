//! Files of a folder that are written from other files: the bodies that do not lie in memory.
//!
//! A file is written under a name that [`super::sweep`] knows, `name#1`, as the store library does it with what it is given
//! in memory. It gets its own name once all of it is on the disk, so nobody ever sees half of it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use object_store::{Error as BackendError, local::LocalFileSystem};
use tokio_util::task::TaskTracker;

use super::Cause;
use crate::body::{Body, blocking};

/// A file that is all there, without its name. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Written {
    /// Until it is somebody else's name.
    at: Option<PathBuf>,
    to: PathBuf,
    tidying: TaskTracker,
}

impl Written {
    /// Writes a body, off the runtime's threads. Dropped meanwhile, it stops and leaves nothing; `tidying` waits for that.
    pub(super) async fn new(
        files: &LocalFileSystem,
        path: &object_store::path::Path,
        body: &Body,
        tidying: &TaskTracker,
    ) -> Result<Self, Cause> {
        let (to, body) = (files.path_to_filesystem(path)?, body.clone());
        let wanted = Arc::new(());
        let still = Arc::downgrade(&wanted);
        let tracker = tidying.clone();
        let write = move || {
            let (mut file, at) = begin(&to).map_err(about(&to))?;
            let told = at.clone();
            // Removed where any of this fails.
            let written = Self {
                at: Some(at),
                to,
                tidying: tracker,
            };
            body.write_to(&mut file, || still.strong_count() > 0)
                .and_then(|()| file.sync_all())
                .map_err(about(&told))?;
            Ok::<_, io::Error>(written)
        };
        let written = tidying.spawn_blocking(write).await;
        drop(wanted);
        Ok(written.map_err(io::Error::other)??)
    }

    /// Gives it its name, which nothing may have yet.
    pub(super) async fn create(self) -> Result<(), Cause> {
        let created = |written: &mut Self| match written.at.as_deref() {
            Some(at) => fs::hard_link(at, &written.to),
            None => Ok(()),
        };
        self.publish(created).await
    }

    /// Gives it its name, whatever had it.
    pub(super) async fn replace(self) -> Result<(), Cause> {
        let replaced = |written: &mut Self| match written.at.as_deref() {
            Some(at) => {
                fs::rename(at, &written.to)?;
                // From here on another writer's file may have the name that it had.
                written.at = None;
                Ok(())
            }
            None => Ok(()),
        };
        self.publish(replaced).await
    }

    /// Done to its end once begun, also where its job is dropped.
    async fn publish(mut self, named: fn(&mut Self) -> io::Result<()>) -> Result<(), Cause> {
        let tidying = self.tidying.clone();
        let to = self.to.clone();
        let publish = move || named(&mut self).and_then(|()| sync_parent(&self.to));
        let published = tidying.spawn_blocking(publish).await;
        match published.map_err(io::Error::other)? {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackendError::AlreadyExists {
                    path: to.display().to_string(),
                    source: error.into(),
                }
                .into())
            }
            published => Ok(published.map_err(about(&to))?),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(at) = &self.at {
            // It may be gone with its folder.
            let _ = fs::remove_file(at);
        }
    }
}

/// An empty file beside the one that it is to become, in folders that are made where they are missing.
fn begin(to: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 1_u32;
    loop {
        let mut at = to.as_os_str().to_owned();
        at.push(format!("#{number}"));
        let at = PathBuf::from(at);
        match File::options().write(true).create_new(true).open(&at) {
            Ok(file) => return Ok((file, at)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_folders(to)?,
            Err(error) => return Err(error),
        }
    }
}

/// Makes sure that a file that somebody else wrote is on the disk, with its name: whoever gave it that name may have been
/// killed before its folder was synced.
pub(super) async fn settle(
    files: &LocalFileSystem,
    path: &object_store::path::Path,
) -> Result<(), Cause> {
    let file = files.path_to_filesystem(path)?;
    let synced = blocking(move || {
        let synced = File::open(&file).and_then(|file| file.sync_all());
        synced
            .and_then(|()| sync_parent(&file))
            .map_err(about(&file))
    });
    Ok(synced.await?)
}

/// Makes the folders of a file, and syncs each that changed: a name is on the disk only once its folder is.
fn make_folders(file: &Path) -> io::Result<()> {
    let folders = || file.ancestors().skip(1);
    let first = folders().position(Path::is_dir).unwrap_or_default();
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    folders()
        .take(first + 1)
        .try_for_each(|folder| File::open(folder)?.sync_all())
}

fn sync_parent(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// An error that says where it happened.
fn about(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::body_of;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_file_is_there_whole_or_not_at_all_and_never_over_another_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let files = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let key = object_store::path::Path::from("a/b/x.wav");
        let tidying = TaskTracker::new();
        let (first, other) = (
            body_of(&vec![1; 3 << 20]).await,
            body_of(&vec![2; 5 << 20]).await,
        );
        let folder = dir.path().join("a/b");
        let read = || fs::read(folder.join("x.wav")).unwrap();
        let write = async |body| Written::new(&files, &key, body, &tidying).await.unwrap();

        let written = write(&first).await;
        assert_eq!(names(&folder), ["x.wav#1"]);
        let beside = write(&other).await;
        assert_eq!(names(&folder), ["x.wav#1", "x.wav#2"]);
        written.create().await.unwrap();
        assert!(read() == vec![1; 3 << 20]);
        let refused = beside.create().await;
        assert!(matches!(
            refused,
            Err(Cause::Backend(BackendError::AlreadyExists { .. }))
        ));
        assert_eq!(names(&folder), ["x.wav"]);
        assert!(read() == vec![1; 3 << 20]);
        write(&other).await.replace().await.unwrap();
        assert!(read() == vec![2; 5 << 20]);
        drop(write(&first).await);
        assert_eq!(names(&folder), ["x.wav"]);
    }

    #[tokio::test]
    async fn a_file_that_is_given_up_while_it_is_written_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let files = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let key = object_store::path::Path::from("x.wav");
        let tidying = TaskTracker::new();
        let body = body_of(&vec![1; 40 << 20]).await;
        let mut write = Box::pin(Written::new(&files, &key, &body, &tidying));
        assert!(futures_util::poll!(&mut write).is_pending());
        drop(write);
        tidying.close();
        tidying.wait().await;
        assert!(names(dir.path()).is_empty());
    }
}
