//! Something that there is so much of, in bytes, and shares of it.

use std::{io, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit of a [`Pool`] stands for, in bytes.
pub(super) const UNIT: u64 = 4 << 10;

/// A share of a [`Budget`](super::Budget), given back when dropped.
#[derive(Debug)]
pub struct Share(OwnedSemaphorePermit);

#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) permits: Arc<Semaphore>,
    total: u32,
}

impl Pool {
    pub(super) fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        // A semaphore holds at least 2^29 - 1 permits, on the smallest of platforms.
        let total = total.min(u32::MAX >> 3);
        Self {
            permits: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.total) * UNIT
    }

    /// What is larger than the whole pool may have the whole pool: it runs alone, and it runs.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .min(self.total)
    }

    pub(super) fn try_take(&self, bytes: u64) -> Option<Share> {
        Arc::clone(&self.permits)
            .try_acquire_many_owned(self.units(bytes))
            .ok()
            .map(Share)
    }

    pub(super) async fn take(&self, bytes: u64) -> io::Result<Share> {
        let permits = Arc::clone(&self.permits)
            .acquire_many_owned(self.units(bytes))
            .await;
        permits.map(Share).map_err(io::Error::other)
    }
}

impl Share {
    pub(super) fn bytes(&self) -> u64 {
        self.0.num_permits() as u64 * UNIT
    }

    pub(super) fn merge(&mut self, more: Self) {
        self.0.merge(more.0);
    }

    /// Gives back what is not needed for `bytes`.
    pub(super) fn shrink(&mut self, bytes: u64) {
        let needed = usize::try_from(bytes.div_ceil(UNIT)).unwrap_or(usize::MAX);
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}
