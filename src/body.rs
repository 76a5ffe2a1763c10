//! The bytes of one attachment, wherever they lie.
//!
//! A [`Body`] is complete by construction: only [`Writer::finish`] makes one, with length and SHA-256
//! taken while the bytes streamed in. Small bodies stay in memory while the budget allows; larger ones
//! go to a temporary file that has no name, so that a crash leaves nothing behind and nobody else can
//! open it. Memory is therefore flat whatever the size of a recording.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

use crate::{
    config::Limits,
    digest::{Hasher, Sha256},
};

/// Bodies up to this many bytes stay in memory if the budget allows.
const MEMORY_LIMIT: u64 = 1 << 20;
/// Bytes written to a temporary file in one go.
const BATCH: usize = 512 << 10;
/// What one permit of a [`Pool`] stands for, in bytes.
const UNIT: u64 = 4 << 10;

/// What all jobs of a worker may use at once.
///
/// No job waits here for one pool while it holds what another job waits for: memory for a body is taken
/// or done without, room for spooling is taken whole before the first byte is written, and
/// working memory is held only by work that ends by itself.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bodies in memory.
    bodies: Pool,
    /// Parsed trees, and parts on their way to a store.
    work: Pool,
    /// Bodies in temporary files.
    spool: Pool,
    spool_dir: Arc<PathBuf>,
}

/// A share of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

#[derive(Clone, Debug)]
struct Pool {
    permits: Arc<Semaphore>,
    total: u32,
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        // A semaphore holds at least 2^29 - 1 permits, on the smallest of platforms.
        let total = total.min(u32::MAX >> 3);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    fn bytes(&self) -> u64 {
        u64::from(self.total) * UNIT
    }

    /// What is larger than the whole pool may have the whole pool: it runs alone, and it runs.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.total)
    }

    fn try_take(&self, bytes: u64) -> Option<Share> {
        Arc::clone(&self.permits)
            .try_acquire_many_owned(self.units(bytes))
            .ok()
            .map(Share)
    }

    async fn take(&self, bytes: u64) -> io::Result<Share> {
        let permits = Arc::clone(&self.permits)
            .acquire_many_owned(self.units(bytes))
            .await;
        permits.map(Share).map_err(io::Error::other)
    }
}

impl Budget {
    /// The budget of a worker: half of the memory for bodies, half for work on them.
    pub fn new(limits: &Limits) -> Self {
        Self {
            bodies: Pool::new(limits.memory / 2),
            work: Pool::new(limits.memory / 2),
            spool: Pool::new(limits.spool),
            spool_dir: Arc::new(limits.spool_dir.clone()),
        }
    }

    /// Waits for working memory. Whoever holds a share must not wait for another.
    pub async fn work(&self, bytes: u64) -> io::Result<Share> {
        self.work.take(bytes).await
    }

    /// A writer for a body of which `expected` bytes are announced and at most `most` will be taken,
    /// or fewer where the whole spool holds fewer.
    pub async fn writer(&self, expected: Option<u64>, most: u64) -> io::Result<Writer> {
        let most = most.min(self.spool.bytes());
        let reserve = expected.unwrap_or(most).min(most);
        let sink = if expected.is_some_and(|length| length > MEMORY_LIMIT) {
            self.spool_file(reserve).await?
        } else {
            // Without a length, memory is taken for the most that would stay there.
            match self.bodies.try_take(expected.unwrap_or(MEMORY_LIMIT)) {
                Some(share) => Sink::Memory {
                    chunks: Vec::new(),
                    share,
                },
                None => self.spool_file(reserve).await?,
            }
        };
        Ok(Writer {
            budget: self.clone(),
            sink,
            hasher: Hasher::default(),
            len: 0,
            most,
        })
    }

    async fn spool_file(&self, bytes: u64) -> io::Result<Sink> {
        let share = self.spool.take(bytes).await?;
        let dir = Arc::clone(&self.spool_dir);
        let file = blocking(move || tempfile::tempfile_in(&*dir)).await?;
        Ok(Sink::Spool {
            file,
            batch: Vec::new(),
            batched: 0,
            share,
        })
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
}

#[derive(Debug)]
enum Sink {
    Memory {
        chunks: Vec<Bytes>,
        share: Share,
    },
    Spool {
        file: File,
        batch: Vec<Bytes>,
        batched: usize,
        share: Share,
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
    /// The temporary file could not be written: a full disk, most likely.
    #[error("cannot spool to a temporary file")]
    Spool(#[from] io::Error),
}

impl Writer {
    /// Takes the next bytes; they are kept as they are, not copied, until they are on disk.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), WriteError> {
        self.len += chunk.len() as u64;
        if self.len > self.most {
            return Err(WriteError::TooLarge { most: self.most });
        }
        if matches!(self.sink, Sink::Memory { .. }) && self.len > MEMORY_LIMIT {
            self.spill().await?;
        }
        match &mut self.sink {
            Sink::Memory { chunks, .. } => {
                self.hasher.update(&chunk);
                chunks.push(chunk);
            }
            Sink::Spool { batch, batched, .. } => {
                *batched += chunk.len();
                batch.push(chunk);
                if *batched >= BATCH {
                    self.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// The finished body. Call it only when the origin said that this was all.
    pub async fn finish(mut self) -> io::Result<Body> {
        self.flush().await?;
        let bytes = match self.sink {
            Sink::Memory { chunks, share } => Place::Memory {
                chunks,
                _share: share,
            },
            Sink::Spool { file, share, .. } => Place::Spool {
                file,
                _share: share,
            },
        };
        Ok(Body {
            place: Arc::new(bytes),
            len: self.len,
            sha256: self.hasher.finish(),
        })
    }

    /// What turned out too large for memory moves to a file; it has been hashed already.
    async fn spill(&mut self) -> io::Result<()> {
        let spool = self.budget.spool_file(self.most).await?;
        let memory = std::mem::replace(&mut self.sink, spool);
        if let (Sink::Memory { chunks, .. }, Sink::Spool { file, .. }) = (memory, &self.sink) {
            let mut file = file.try_clone()?;
            blocking(move || chunks.iter().try_for_each(|chunk| file.write_all(chunk))).await?;
        }
        Ok(())
    }

    /// Hashes and writes the waiting batch, off the runtime's threads.
    async fn flush(&mut self) -> io::Result<()> {
        let Sink::Spool {
            file,
            batch,
            batched,
            ..
        } = &mut self.sink
        else {
            return Ok(());
        };
        *batched = 0;
        let (batch, mut file) = (std::mem::take(batch), file.try_clone()?);
        let mut hasher = std::mem::take(&mut self.hasher);
        self.hasher = blocking(move || {
            for chunk in &batch {
                hasher.update(chunk);
                file.write_all(chunk)?;
            }
            Ok(hasher)
        })
        .await?;
        Ok(())
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
    Spool { file: File, _share: Share },
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
        Reader {
            body: self.clone(),
            at: 0,
        }
    }

    /// `len` bytes from `at` on, read off the runtime's threads.
    pub async fn range(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let mut reader = Reader {
            body: self.clone(),
            at,
        };
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

fn read_chunks(chunks: &[Bytes], mut at: u64, into: &mut [u8]) -> usize {
    for chunk in chunks {
        if let Some(rest) = usize::try_from(at).ok().and_then(|at| chunk.get(at..))
            && !rest.is_empty()
        {
            let read = rest.len().min(into.len());
            into[..read].copy_from_slice(&rest[..read]);
            return read;
        }
        at = at.saturating_sub(chunk.len() as u64);
    }
    0
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

/// Runs blocking work off the runtime's threads; a panic there is an error here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(memory: u64, spool: u64) -> Budget {
        Budget::new(&Limits {
            memory,
            spool,
            spool_dir: std::env::temp_dir(),
            job_time: Duration::from_mins(1),
        })
    }

    async fn body_of(budget: &Budget, announced: Option<u64>, bytes: &[u8]) -> Body {
        let mut writer = budget.writer(announced, 64 << 20).await.unwrap();
        for chunk in bytes.chunks(70_001) {
            writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        writer.finish().await.unwrap()
    }

    fn some_bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_body_is_the_same_wherever_it_lies() {
        let bytes = some_bytes(3 << 20);
        for (memory, announced, len) in [
            (256 << 20, None, 1000),             // small: stays in memory
            (256 << 20, None, 3 << 20),          // grows out of memory
            (256 << 20, Some(3 << 20), 3 << 20), // announced as large
            (0, Some(100_000), 200_000),         // no memory left, and a wrong announcement
        ] {
            let budget = budget(memory, 64 << 20);
            let held = (memory == 0).then(|| budget.bodies.try_take(1).unwrap());
            let body = body_of(&budget, announced, &bytes[..len]).await;
            assert_eq!(body.chunks().is_some(), len == 1000);
            assert_eq!(body.len(), len as u64);
            assert_eq!(body.sha256(), Sha256::of(&bytes[..len]));

            let mut reader = body.reader();
            let mut read = Vec::new();
            reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes[..len], "the reader gives other bytes");
            reader.seek(SeekFrom::End(-7)).unwrap();
            read.clear();
            reader.read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes[len - 7..len]);
            assert_eq!(body.range(500, 400).await.unwrap(), bytes[500..900]);
            drop(held);
        }
    }

    #[tokio::test]
    async fn a_body_above_its_limit_is_refused_while_it_streams() {
        let mut writer = budget(1 << 20, 1 << 20)
            .writer(Some(10), 100)
            .await
            .unwrap();
        writer.write(Bytes::from(vec![0; 100])).await.unwrap();
        let error = writer.write(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(error, WriteError::TooLarge { most: 100 }));
    }

    #[tokio::test]
    async fn a_dropped_body_gives_its_room_back() {
        let budget = budget(8 << 20, 4 << 20);
        let free = |b: &Budget| {
            (
                b.bodies.permits.available_permits(),
                b.spool.permits.available_permits(),
            )
        };
        let before = free(&budget);
        let small = body_of(&budget, None, &some_bytes(10)).await;
        let large = body_of(&budget, Some(2 << 20), &some_bytes(2 << 20)).await;
        assert!(free(&budget).0 < before.0 && free(&budget).1 < before.1);
        drop((small, large));
        assert_eq!(free(&budget), before);
    }
}
