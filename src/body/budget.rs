//! What the jobs of a worker may use together: memory for bodies, memory for work on them, room on disk.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    num::NonZero,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    BATCH, BELIEVED, Chunks, FIRST_STEP, MEDIUM, PATIENCE, SMALL, Share, Sink, WriteError, Writer,
    blocking,
    blocks::{BLOCK, Blocks},
    pool::{IN_TURN, Pool},
};
use crate::{config::Limits, digest::Hasher};

/// Events up to this many bytes do not count: a hundred times as long as the provider's own.
const SHORT_EVENT: usize = 256 << 10;
/// What an event takes while it is at work, in multiples of its body: as it came, taken apart, its URLs as
/// they are written, its entries, and its manifest twice.
const EVENT_GROWS: u64 = 10;
/// What long events may take together, in bytes; one that takes more than large ones may is alone among them.
const LONG_EVENTS: u64 = 128 << 20;
/// A quarter of it is for those of up to 800 KiB: the longest hold theirs for as long as their origins please.
const MEDIUM_EVENT: u64 = 8 << 20;

/// Small work takes up to this many bytes: the tree of an ordinary JSON file of 300 KiB.
const SMALL_WORK: u64 = 4 << 20;
/// Small bodies take up to this many bytes of the spool, of which an eighth is kept for them: an hour and more
/// of telephone quality.
const SMALL_BODY: u64 = 64 << 20;

/// What all jobs of a worker may use at once.
///
/// No job waits here for a share while it holds another that somebody else may wait for. A body that
/// finds no room is given up, and begun again once there is ([`WriteError::NoRoom`]); working memory is
/// held only by work that ends by itself. And nothing small waits for anything large
/// (`Pool`).
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bodies in memory.
    pub(super) bodies: Pool,
    /// Parsed trees, and parts on their way to a store.
    pub(super) work: Pool,
    /// Bodies in temporary files.
    pub(super) spool: Pool,
    /// Events that are no attachments' bytes, and long all the same.
    pub(super) events: Pool,
    /// Long work for processors: one is left to everything else, where there is more than one.
    processors: Arc<Semaphore>,
    /// What bodies in memory lie in.
    blocks: Blocks,
    spool_dir: Arc<PathBuf>,
}

impl Budget {
    /// The budget of a worker: a quarter of the memory for bodies, which have the spool too, the rest
    /// for work on them.
    pub fn new(limits: &Limits) -> Self {
        let Limits { memory, spool, .. } = *limits;
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            bodies: Pool::new(memory / 4, memory / 8, SMALL),
            // Which leaves seventeen parts of twenty-four to one large piece of work: by default as much as the tree of a
            // transcript takes that is as long as it may be and has a time for each word (22 times its text).
            work: Pool::new(memory - memory / 4, memory / 24, SMALL_WORK),
            spool: Pool::new(spool, spool / 8, SMALL_BODY),
            events: Pool::new(LONG_EVENTS, LONG_EVENTS / 4, MEDIUM_EVENT),
            processors: Arc::new(Semaphore::new(processors.saturating_sub(1).max(1))),
            blocks: Blocks::new(BLOCK, memory / 8),
            spool_dir: Arc::new(limits.spool_dir.clone()),
        }
    }

    /// How much of the memory is taken, and how much there is, in bytes: for bodies, for work on them, and for long
    /// events.
    pub fn memory_used(&self) -> (u64, u64) {
        let pools = [&self.bodies, &self.work, &self.events];
        let sum = |of: fn(&Pool) -> u64| pools.into_iter().map(of).sum();
        (sum(Pool::used), sum(Pool::bytes))
    }

    /// The same of the room in the spool.
    pub fn spool_used(&self) -> (u64, u64) {
        (self.spool.used(), self.spool.bytes())
    }

    /// Whether a temporary file can be made, and written, in the spool folder. Blocking.
    pub fn try_spool(dir: &Path) -> io::Result<()> {
        nameless(dir)?.write_all(&[0])
    }

    /// Waits until an event of so many bytes may be worked on: long ones take turns, so that a few hundred
    /// megabytes of them do not become gigabytes. Short ones never wait, least of all for long ones.
    pub async fn event(&self, bytes: usize) -> io::Result<Option<Share>> {
        if bytes <= SHORT_EVENT {
            return Ok(None);
        }
        let grown = (bytes as u64 * EVENT_GROWS).min(self.events.most());
        // In the order of arrival: what their URLs tell is known once they are taken apart.
        Ok(Some(self.events.take(grown, IN_TURN).await?))
    }

    /// Waits for working memory. Whoever holds a share must not wait for another.
    pub async fn work(&self, bytes: u64) -> io::Result<Share> {
        self.work.take(bytes, IN_TURN).await
    }

    /// The most working memory that one piece of work may take, in bytes.
    pub fn most_work(&self) -> u64 {
        self.work.most()
    }

    /// Waits for a processor to keep busy for long. Whoever holds working memory must not wait for it.
    pub async fn processor(&self) -> io::Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.processors).acquire_owned().await;
        permit.map_err(io::Error::other)
    }

    /// Waits for room in the spool, behind whoever needs theirs before `due`. Whoever holds a body must not wait
    /// for room for another.
    pub async fn room(&self, bytes: u64, due: DateTime<Utc>) -> io::Result<Share> {
        self.spool.take(bytes, due).await
    }

    /// A writer for a body of which `expected` bytes are announced and at most `most` will be taken,
    /// or fewer where the whole spool holds fewer. `room` was waited for after a first try.
    pub async fn writer(
        &self,
        expected: Option<u64>,
        most: u64,
        room: Option<Share>,
    ) -> Result<Writer, WriteError> {
        let most = most.min(self.spool.bytes());
        let memory = match &room {
            Some(_) => None,
            None => self.memory(expected).await?,
        };
        let sink = match (memory, room) {
            (Some(share), _) => Sink::Memory {
                chunks: Chunks::new(&self.blocks),
                share,
            },
            (None, Some(room)) => self.spool_file(room).await?,
            (None, None) => {
                let bytes = expected.unwrap_or(FIRST_STEP).min(most).min(BELIEVED);
                self.spool_file(self.room_now(bytes)?).await?
            }
        };
        Ok(Writer {
            budget: self.clone(),
            sink,
            hasher: Hasher::default(),
            len: 0,
            most,
            announced: expected.map(|length| length.min(most)),
        })
    }

    /// Memory for a body of which so much is announced, where it is to lie there. Without a length it is as much
    /// as would stay there at the most.
    async fn memory(&self, expected: Option<u64>) -> io::Result<Option<Share>> {
        let bytes = expected.unwrap_or(SMALL);
        if bytes <= SMALL {
            return Ok(self.bodies.try_take(bytes));
        }
        if bytes > MEDIUM.min(self.bodies.most()) {
            return Ok(None);
        }
        // Nobody waits for ever who holds other bodies meanwhile.
        let share = timeout(PATIENCE, self.bodies.take(bytes, IN_TURN)).await;
        share.ok().transpose()
    }

    pub(super) fn room_now(&self, bytes: u64) -> Result<Share, WriteError> {
        self.spool
            .try_take(bytes)
            .ok_or(WriteError::NoRoom { bytes })
    }

    pub(super) async fn spool_file(&self, room: Share) -> io::Result<Sink> {
        let dir = Arc::clone(&self.spool_dir);
        let file = blocking(move || nameless(&dir)).await?;
        Ok(Sink::Spool {
            file: Arc::new(file),
            batch: Vec::with_capacity(BATCH),
            room,
        })
    }
}

/// A file without a name, and its owner's alone: by itself it has what the process's umask leaves, and whoever
/// may look at the process's open files could open it.
fn nameless(dir: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(dir)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
