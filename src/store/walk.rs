//! A folder's files in the order in which a store lists keys, as they are found: the names of one directory at a time
//! are in memory.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use futures_util::{Stream, stream};
use tokio::sync::mpsc;

use super::{read::Listed, sweep::named_before};

/// Files that are found ahead.
const AHEAD: usize = 256;

/// A file, or a directory that could not be read, by its key.
type Found = Result<Listed, (String, io::Error)>;

/// The files under a directory of the root's, from the one after `after` on. Temporary files and what has no key are
/// passed over. The root has to be there: a share that is not mounted any more holds no empty archive.
pub(super) fn files(
    root: PathBuf,
    folder: String,
    after: Option<String>,
) -> impl Stream<Item = Found> + Send {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let walk = Walk {
            root,
            after: after.unwrap_or_default(),
            sender,
        };
        // `Err`: nobody listens any more.
        let _ = walk.begin(&folder);
    });
    stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    })
}

struct Walk {
    root: PathBuf,
    after: String,
    sender: mpsc::Sender<Found>,
}

/// The receiver has gone.
struct Unheard;

impl Walk {
    fn begin(&self, folder: &str) -> Result<(), Unheard> {
        if !self.root.is_dir() {
            let gone = "the bucket's folder is gone: mount it";
            let error = io::Error::new(io::ErrorKind::NotFound, gone);
            return self.send(Err((folder.to_owned(), error)));
        }
        self.directory(folder)
    }

    fn send(&self, found: Found) -> Result<(), Unheard> {
        self.sender.blocking_send(found).map_err(|_| Unheard)
    }

    fn directory(&self, key: &str) -> Result<(), Unheard> {
        let names = match self.names(key) {
            Ok(names) => names,
            Err(error) => return self.send(Err((key.to_owned(), error))),
        };
        for name in names {
            match name.strip_suffix('/') {
                Some(folder) => self.directory(folder)?,
                None => match listed(&self.root, &name) {
                    Ok(Some(listed)) => self.send(Ok(listed))?,
                    Ok(None) => {}
                    Err(error) => self.send(Err((name, error)))?,
                },
            }
        }
        Ok(())
    }

    /// The keys in a directory that are still to come, sorted; those of directories with the slash that sorts them.
    fn names(&self, key: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.root.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is no text is none of callvault's, nor is what a file system keeps for itself.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if named_before(&name).is_some() || (key.is_empty() && name == "lost+found") {
                continue;
            }
            let mut name = match key {
                "" => name,
                key => format!("{key}/{name}"),
            };
            if is_directory(&entry)? {
                name.push('/');
            }
            // Of a directory that `after` lies in, the rest is to come.
            if name > self.after || (name.ends_with('/') && self.after.starts_with(&name)) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Also through a symbolic link: part of an archive may have been moved to another disk. Not through one that leads back
/// to where it lies: what is there has keys of its own, and the way would have no end.
fn is_directory(entry: &fs::DirEntry) -> io::Result<bool> {
    let kind = entry.file_type()?;
    if kind.is_dir() || !kind.is_symlink() || !entry.path().is_dir() {
        return Ok(kind.is_dir());
    }
    let to = fs::canonicalize(entry.path())?;
    let from = fs::canonicalize(entry.path().parent().unwrap_or(Path::new("/")))?;
    Ok(!from.starts_with(to))
}

fn listed(root: &Path, key: &str) -> io::Result<Option<Listed>> {
    let Some(metadata) = regular(&root.join(key))? else {
        return Ok(None);
    };
    Ok(Some(Listed {
        key: key.to_owned(),
        size: metadata.len(),
        modified: metadata.modified()?.into(),
    }))
}

/// A file and its length; `None` where there is none. What is no regular file is no object, and to open a pipe would
/// wait for whoever writes to it.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, u64)>> {
    let Some(metadata) = regular(path)? else {
        return Ok(None);
    };
    match File::open(path) {
        Ok(file) => Ok(Some((file, metadata.len()))),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A file's length, if it is there.
pub(super) fn size(path: &Path) -> io::Result<Option<u64>> {
    Ok(regular(path)?.map(|metadata| metadata.len()))
}

fn regular(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Also where a file stands in a directory's place.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn files_are_listed_in_the_order_of_their_keys_from_any_of_them_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut keys = [
            "2023/08/24/a/r/manifest.json",
            "2023/08/24/a/r/x.wav",
            "2023/08/24/a-b/r/manifest.json",
            "2023/08/24/a.c/r/manifest.json",
            "2023/08/24/a0/r/manifest.json",
            "2023/08/24/file",
        ];
        for key in keys {
            let file = dir.path().join(key);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::write(format!("{}#1", file.display()), "").unwrap();
        }
        keys.sort_unstable();
        let list = async |after: Option<&str>| -> Vec<String> {
            let root = dir.path().to_owned();
            let walked = files(root, "2023/08/24".into(), after.map(Into::into));
            walked.map(|found| found.unwrap().key).collect().await
        };

        assert_eq!(list(None).await, keys);
        for at in 0..keys.len() {
            assert_eq!(list(Some(keys[at])).await, keys[at + 1..]);
        }
        assert_eq!(list(Some("2023/08/24/a/zzz")).await, keys[4..]);
    }

    #[tokio::test]
    async fn a_folder_that_is_gone_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let list = async |root: PathBuf| -> Vec<Found> {
            files(root, "2023".into(), None).collect().await
        };
        assert!(list(dir.path().into()).await.is_empty());
        let gone = list(dir.path().join("gone")).await;
        assert!(matches!(&gone[..], [Err(_)]));
    }
}
