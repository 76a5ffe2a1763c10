//! Buffers that are used again. What the system's allocator takes back and gives out anew costs a fault for each
//! page, which is dearer than filling it; and of threads that come and go it keeps what each one freed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Bytes of a buffer.
pub(super) const BLOCK: usize = 64 << 10;

/// Buffers that nobody uses at the moment.
#[derive(Clone, Debug)]
pub(super) struct Blocks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    free: Mutex<Vec<Vec<u8>>>,
    /// The most that are kept.
    most: usize,
}

/// A buffer in use. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Vec<u8>,
    home: Blocks,
}

impl Blocks {
    /// Of which so many bytes are kept when they are free.
    pub(super) fn new(kept: u64) -> Self {
        Self(Arc::new(Inner {
            free: Mutex::default(),
            most: usize::try_from(kept).unwrap_or(usize::MAX) / BLOCK,
        }))
    }

    pub(super) fn lend(&self) -> Block {
        let mut free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = free.pop();
        drop(free);
        Block {
            bytes: bytes.unwrap_or_else(|| Vec::with_capacity(BLOCK)),
            home: self.clone(),
        }
    }
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what fits, and returns the rest.
    pub(super) fn fill<'a>(&mut self, from: &'a [u8]) -> &'a [u8] {
        let (now, later) = from.split_at(from.len().min(BLOCK - self.bytes.len()));
        self.bytes.extend_from_slice(now);
        later
    }

    /// What is in it; where that is little, without the buffer.
    pub(super) fn into_bytes(self) -> Bytes {
        if self.bytes.len() < BLOCK * 3 / 4 {
            Bytes::copy_from_slice(&self.bytes)
        } else {
            Bytes::from_owner(self)
        }
    }
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
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
        let blocks = Blocks::new(BLOCK as u64);
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
