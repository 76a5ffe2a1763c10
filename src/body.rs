//! The bytes of one attachment, wherever they lie.
//!
//! A [`Body`] is complete by construction: only [`Writer::finish`] makes one, with length and SHA-256
//! taken while the bytes streamed in. Small and medium bodies stay in memory while the budget allows; larger ones
//! go to a temporary file that has no name, so that a crash leaves nothing behind and nobody else can
//! open it. Memory is therefore flat whatever the size of a recording.

mod blocks;
mod budget;
mod pieces;
mod pool;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::task::spawn_blocking;

use self::{
    blocks::{BLOCK, Block, Blocks},
    pool::UNIT,
};
pub use self::{budget::Budget, pieces::PIECE, pool::Share};
use crate::digest::{Hasher, Sha256};

/// Small bodies, of up to this many bytes, stay in memory if there is any.
const SMALL: u64 = 1 << 20;
/// Those of an announced length of up to this many bytes, too: a temporary file costs as much as all else that is
/// done with them.
pub const MEDIUM: u64 = 16 << 20;
/// How long they wait for memory, before a byte of them is read; then they lie in a file.
const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes written to a temporary file in one go.
const BATCH: usize = 512 << 10;
/// Of an announced length so much is believed when room in the spool is taken, and all of it once so much has
/// come. Otherwise a few origins that announce gigabytes and send nothing would keep the spool from all others.
const BELIEVED: u64 = 16 << 20;
/// Room for a body of unannounced length is taken in steps: the first of so many bytes, then as much as
/// there is, up to the longest. Many that never grow do not keep out those that do.
const FIRST_STEP: u64 = 4 << 20;
/// The longest step, in bytes.
const LONGEST_STEP: u64 = 64 << 20;

/// Bytes that came in pieces, gathered in buffers of our own: a piece of four kilobytes would keep the
/// whole of the buffer that it was read into, a hundred times as long if its origin arranges it so.
#[derive(Debug)]
struct Chunks {
    whole: Vec<Bytes>,
    last: Block,
    blocks: Blocks,
}

impl Chunks {
    fn new(blocks: &Blocks) -> Self {
        Self {
            whole: Vec::new(),
            last: blocks.lend(),
            blocks: blocks.clone(),
        }
    }

    fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            piece = self.last.fill(piece);
            if self.last.len() == BLOCK {
                let full = std::mem::replace(&mut self.last, self.blocks.lend());
                self.whole.push(full.into_bytes());
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if self.last.len() > 0 {
            self.whole.push(self.last.into_bytes());
        }
        self.whole
    }
}

/// A body under way.
#[derive(Debug)]
pub struct Writer {
    budget: Budget,
    sink: Sink,
    hasher: Hasher,
    len: u64,
    most: u64,
    announced: Option<u64>,
}

#[derive(Debug)]
enum Sink {
    Memory {
        chunks: Chunks,
        share: Share,
    },
    Spool {
        file: Arc<File>,
        /// Hashed, and not written yet.
        batch: Vec<u8>,
        room: Share,
    },
}

/// Why a body could not be taken in.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More bytes came than this attachment may have.
    #[error("more than {most} bytes")]
    TooLarge {
        /// The most that was allowed, in bytes.
        most: u64,
    },
    /// Others' bodies fill the spool. Drop everything, wait for [`Budget::room`], begin again.
    #[error("no room for {bytes} bytes in the spool")]
    NoRoom {
        /// What to wait for, in bytes.
        bytes: u64,
    },
    /// The temporary file could not be written: a full disk, most likely.
    #[error("cannot spool to a temporary file")]
    Spool(#[from] io::Error),
}

impl Writer {
    /// Takes the next bytes.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.len += chunk.len() as u64;
        if self.len > self.most {
            return Err(WriteError::TooLarge { most: self.most });
        }
        if matches!(&self.sink, Sink::Memory { share, .. } if self.len > share.bytes().max(SMALL)) {
            self.spill().await?;
        }
        self.hasher.update(&chunk);
        match &mut self.sink {
            Sink::Memory { chunks, .. } => chunks.push(&chunk),
            Sink::Spool { room, .. } => {
                if self.len > room.bytes() {
                    more_room(room, self.most, self.announced)?;
                }
                self.spool(&chunk).await?;
            }
        }
        Ok(())
    }

    /// The finished body. Call it only when the origin said that this was all.
    pub async fn finish(mut self) -> io::Result<Body> {
        self.flush().await?;
        let place = match self.sink {
            Sink::Memory { chunks, mut share } => {
                share.shrink(self.len);
                Place::Memory {
                    chunks: chunks.finish(),
                    _share: share,
                }
            }
            Sink::Spool { file, mut room, .. } => {
                room.shrink(self.len);
                Place::Spool { file, _room: room }
            }
        };
        Ok(Body {
            place: Arc::new(place),
            len: self.len,
            sha256: self.hasher.finish(),
        })
    }

    /// What turned out too large for memory moves to a file; it has been hashed already.
    async fn spill(&mut self) -> Result<(), WriteError> {
        let room = self.budget.room_now(FIRST_STEP.min(self.most))?;
        let spool = self.budget.spool_file(room).await?;
        let before = std::mem::replace(&mut self.sink, spool);
        if let (Sink::Memory { chunks, share }, Sink::Spool { file, .. }) = (before, &self.sink) {
            let file = Arc::clone(file);
            blocking(move || {
                let _held = share;
                let chunks = chunks.finish();
                chunks
                    .iter()
                    .try_for_each(|chunk| (&*file).write_all(chunk))
            })
            .await?;
        }
        Ok(())
    }

    async fn spool(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Sink::Spool { batch, .. } = &mut self.sink {
            let (now, later) = bytes.split_at(bytes.len().min(BATCH - batch.len()));
            batch.extend_from_slice(now);
            if batch.len() < BATCH {
                break;
            }
            self.flush().await?;
            bytes = later;
        }
        Ok(())
    }

    /// Writes the waiting batch, off the runtime's threads.
    async fn flush(&mut self) -> io::Result<()> {
        let Sink::Spool { file, batch, .. } = &mut self.sink else {
            return Ok(());
        };
        let (mut full, file) = (std::mem::take(batch), Arc::clone(file));
        *batch = blocking(move || {
            (&*file).write_all(&full)?;
            full.clear();
            Ok(full)
        })
        .await?;
        Ok(())
    }
}

/// The rest of what was announced, or one more step; or none. Then all that was announced must be waited for,
/// or twice what there is: so a body is begun anew once, or a few times.
fn more_room(room: &mut Share, most: u64, announced: Option<u64>) -> Result<(), WriteError> {
    let reserved = room.bytes();
    let (more, bytes) = match announced {
        Some(announced) if announced > reserved => (announced - reserved, announced),
        _ => (
            reserved.clamp(FIRST_STEP, LONGEST_STEP),
            reserved.saturating_mul(2),
        ),
    };
    let more = more.min(most.saturating_sub(reserved)).max(UNIT);
    let bytes = bytes.min(most);
    if room.try_grow(more) {
        Ok(())
    } else {
        Err(WriteError::NoRoom { bytes })
    }
}

/// A complete attachment. Cloning it is cheap; the bytes are shared and never change.
#[derive(Clone, Debug)]
pub struct Body {
    place: Arc<Place>,
    len: u64,
    sha256: Sha256,
}

#[derive(Debug)]
enum Place {
    Memory { chunks: Vec<Bytes>, _share: Share },
    Spool { file: Arc<File>, _room: Share },
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is not a single byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Of the whole body.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The chunks of a body that lies in memory.
    pub fn chunks(&self) -> Option<&[Bytes]> {
        match &*self.place {
            Place::Memory { chunks, .. } => Some(chunks),
            Place::Spool { .. } => None,
        }
    }

    /// A reader from the first byte on, for blocking code. Readers do not disturb one another.
    pub fn reader(&self) -> Reader {
        self.reader_at(0)
    }

    /// The same from another byte on.
    pub fn reader_at(&self, at: u64) -> Reader {
        Reader {
            body: self.clone(),
            at,
        }
    }

    /// `len` bytes from `at` on, piece by piece, for a socket that takes them when it can. What lies in memory is not
    /// copied; of a file there are at most as many pieces in memory as are held at once, each of at most
    /// [`PIECE`] bytes. A body that has fewer bytes than that is an error, never an end.
    pub fn pieces(
        &self,
        at: u64,
        len: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        pieces::of(self.clone(), at, len)
    }

    /// Writes all of it to a file, as far as `wanted` says that it is; blocking.
    pub fn write_to(&self, to: &mut File, wanted: impl Fn() -> bool) -> io::Result<()> {
        pieces::write(self, to, wanted)
    }

    /// `len` bytes from `at` on, read off the runtime's threads.
    pub async fn range(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut reader = self.reader_at(at);
        // Allocated here, not on the blocking thread: the system's allocator keeps what each of many
        // threads has freed, and memory would grow with their number.
        let mut bytes = BytesMut::zeroed(len);
        blocking(move || {
            reader.read_exact(&mut bytes)?;
            Ok(bytes.freeze())
        })
        .await
    }
}

/// Reads a [`Body`] from any position.
#[derive(Debug)]
pub struct Reader {
    body: Body,
    at: u64,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match &*self.body.place {
            Place::Memory { chunks, .. } => read_chunks(chunks, self.at, into),
            // Positioned reads: a shared file's cursor is nobody's.
            Place::Spool { file, .. } => file.read_at(into, self.at)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// All chunks but the last are whole blocks.
fn read_chunks(chunks: &[Bytes], at: u64, into: &mut [u8]) -> usize {
    let Ok(at) = usize::try_from(at) else {
        return 0;
    };
    let rest = chunks
        .get(at / BLOCK)
        .and_then(|chunk| chunk.get(at % BLOCK..));
    let rest = rest.unwrap_or_default();
    let read = rest.len().min(into.len());
    into[..read].copy_from_slice(&rest[..read]);
    read
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.body.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// Runs blocking work off the runtime's threads. A panic there goes on here.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(io::Error::other(cancelled)),
        },
    }
}
