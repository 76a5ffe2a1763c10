//! What somebody has of a pool.

use super::Pool;

/// A share of a [`Budget`](crate::body::Budget), given back when dropped.
#[derive(Debug)]
pub struct Share {
    pool: Pool,
    bytes: u64,
}

impl Share {
    /// Of what the pool has counted as taken.
    pub(super) fn new(pool: &Pool, bytes: u64) -> Self {
        Self {
            pool: pool.clone(),
            bytes,
        }
    }

    pub(in crate::body) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes so much more, if nobody has to wait for it; a small share may become a large one by that.
    pub(in crate::body) fn try_grow(&mut self, more: u64) -> bool {
        let bytes = self.pool.rounded(self.bytes + more);
        let (before, after) = (self.pool.size(self.bytes), self.pool.size(bytes));
        let mut state = self.pool.state();
        // Judged as if what it has already were free.
        state.class(before).taken -= self.bytes;
        let fits = state.class(after).waiting.is_empty() && self.pool.fits(&state, bytes);
        let now = if fits {
            (after, bytes)
        } else {
            (before, self.bytes)
        };
        state.class(now.0).taken += now.1;
        drop(state);
        self.bytes = now.1;
        fits
    }

    /// Gives back what is not needed for `bytes`.
    pub(in crate::body) fn shrink(&mut self, bytes: u64) {
        let bytes = self.pool.rounded(bytes).min(self.bytes);
        {
            let mut state = self.pool.state();
            state.class(self.pool.size(self.bytes)).taken -= self.bytes;
            state.class(self.pool.size(bytes)).taken += bytes;
        }
        self.bytes = bytes;
        self.pool.serve();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        {
            let mut state = self.pool.state();
            state.class(self.pool.size(self.bytes)).taken -= self.bytes;
        }
        self.pool.serve();
    }
}
