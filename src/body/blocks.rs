//! Buffers that are used again. What the system's allocator takes back and gives out anew costs a fault for each
//! page, which is dearer than filling it; and of threads that come and go it keeps what each one freed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a buffer that a body in memory lies in.
pub(super) const BLOCK: usize = 64 << 10;

/// Buffers of one length that nobody uses at the moment.
#[derive(Clone, Debug)]
pub(super) struct Blocks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Mutex<Vec<Box<[u8]>>>,
    /// Bytes of each.
    size: usize,
    /// The most that are kept.
    most: usize,
}

/// A buffer in use, and how much of it is. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    len: usize,
    home: Blocks,
}

impl Blocks {
    /// Of so many bytes each, of which so many bytes are kept when they are free.
    pub(super) fn new(size: usize, kept: u64) -> Self {
        Self(Arc::new(Inner {
            free: Mutex::default(),
            size,
            most: usize::try_from(kept).unwrap_or(usize::MAX) / size,
        }))
    }

    pub(super) fn lend(&self) -> Block {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = free.pop();
        drop(free);
        Block {
            bytes: bytes.unwrap_or_else(|| vec![0; self.0.size].into_boxed_slice()),
            len: 0,
            home: self.clone(),
        }
    }
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes what fits, and returns the rest.
    pub(super) fn fill<'a>(&mut self, from: &'a [u8]) -> &'a [u8] {
        let room = &mut self.bytes[self.len..];
        let (now, later) = from.split_at(from.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.len += now.len();
        later
    }

    /// Has something read into its first bytes, `most` at the most: as many as that says.
    pub(super) fn read<E>(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        self.len = read(&mut self.bytes[..most])?.min(most);
        Ok(())
    }

    /// What is in it; where that is little, without the buffer.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.len < self.bytes.len() * 3 / 4 {
            Bytes::copy_from_slice(self.as_ref())
        } else {
            Bytes::from_owner(self)
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let home = &self.home.0;
        let mut free = home.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < home.most {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_what_is_in_it_and_no_more_are_kept_than_allowed() {
        let blocks = Blocks::new(BLOCK, BLOCK as u64);
        let (mut one, mut two) = (blocks.lend(), blocks.lend());
        let place = one.bytes.as_ptr();
        assert_eq!(one.fill(&vec![1; BLOCK + 3]), [1; 3]);
        assert!(two.fill(b"two").is_empty());
        let (one, two) = (one.into_bytes(), two.into_bytes());
        assert_eq!((one.len(), &two[..]), (BLOCK, &b"two"[..]));
        // The little that was in it was copied, and the buffer is back.
        assert_eq!(blocks.0.free.lock().unwrap().len(), 1);
        let held = one.slice(5..6);
        drop(one);
        assert_ne!(blocks.lend().bytes.as_ptr(), place);
        assert_eq!(held, [1][..]);
        drop(blocks.lend());
        drop(held);
        assert_eq!(blocks.0.free.lock().unwrap().len(), 1);
    }
}
