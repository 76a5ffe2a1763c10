//! A body on its way out: to a socket piece by piece, or into another file.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future::Either, stream};

use super::{Body, Place, blocking, blocks::Blocks};

/// The most bytes of a file that are read at once. A connection holds two such pieces, and three at times.
pub const PIECE: usize = 256 << 10;
/// Bytes of free pieces that a connection keeps.
const KEPT: u64 = 3 * PIECE as u64;

pub(super) fn of(
    body: Body,
    at: u64,
    len: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    match &*body.place {
        Place::Memory { chunks, .. } => {
            let pieces = in_memory(chunks, at, len);
            // The body stays: its memory counts as long as any of it is on its way.
            let pieces = stream::iter(pieces).map(move |piece| {
                let _held = &body;
                piece
            });
            Either::Left(pieces)
        }
        Place::Spool { file, .. } => {
            let reading = Reading {
                file: Arc::clone(file),
                _held: body,
                at,
                left: len,
                buffers: Blocks::new(PIECE, KEPT),
                at_once: true,
            };
            let pieces = stream::try_unfold(reading, async |mut reading| {
                Ok(reading.next().await?.map(|piece| (piece, reading)))
            });
            Either::Right(pieces)
        }
    }
}

fn in_memory(chunks: &[Bytes], at: u64, len: u64) -> Vec<io::Result<Bytes>> {
    let whole = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let (mut at, mut left) = (whole(at), whole(len));
    let mut pieces = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let from = at.min(chunk.len());
        let piece = chunk.slice(from..chunk.len().min(from.saturating_add(left)));
        at -= from;
        left -= piece.len();
        if !piece.is_empty() {
            pieces.push(Ok(piece));
        }
    }
    if left > 0 {
        pieces.push(Err(too_short()));
    }
    pieces
}

fn too_short() -> io::Error {
    let what = "the spooled body is shorter than it was when it was written";
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

/// A file that is being read, piece by piece.
struct Reading {
    file: Arc<File>,
    /// Its room in the spool counts as long as any of it is on its way.
    _held: Body,
    at: u64,
    left: u64,
    buffers: Blocks,
    /// Whether to look first for what is in the page cache.
    at_once: bool,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let most = usize::try_from(self.left).unwrap_or(PIECE).min(PIECE);
        if most == 0 {
            return Ok(None);
        }
        let mut buffer = self.buffers.lend();
        if self.at_once {
            // What was written a moment ago is in memory, as a rule. A thread for each piece would cost
            // as much as copying it.
            let read = buffer.read(most, |into| read_cached(&self.file, into, self.at));
            if let Err(error) = read {
                // On a disk that is busy, or a file system that cannot say.
                self.at_once = error.kind() == io::ErrorKind::WouldBlock;
            }
        }
        if buffer.len() == 0 {
            let (file, at) = (Arc::clone(&self.file), self.at);
            let read = blocking(move || {
                buffer.read(most, |into| file.read_exact_at(into, at).map(|()| most))?;
                Ok(buffer)
            });
            buffer = read.await.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => too_short(),
                _ => error,
            })?;
        }
        self.at += buffer.len() as u64;
        self.left -= buffer.len() as u64;
        Ok(Some(Bytes::from_owner(buffer)))
    }
}

/// What is in memory of a file at a position; an error where it would have to be waited for. Zero is no end here: what is
/// not there is judged by a read that waits.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};
    let mut into = [io::IoSliceMut::new(into)];
    match preadv2(file, &mut into, at, ReadWriteFlags::NOWAIT)? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        read => Ok(read),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn write(body: &Body, to: &mut File, wanted: impl Fn() -> bool) -> io::Result<()> {
    let (mut reader, mut at) = (body.reader(), 0);
    // Not within the kernel (copy_file_range): where blocks cannot be shared, that takes a third more.
    let mut buffer = vec![0; PIECE];
    while at < body.len {
        if !wanted() {
            let what = "given up while it was written";
            return Err(io::Error::new(io::ErrorKind::Interrupted, what));
        }
        match reader.read(&mut buffer) {
            Ok(0) => return Err(too_short()),
            Ok(read) => {
                to.write_all(&buffer[..read])?;
                at += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
