//! Something that there is so much of, in bytes, and shares of it: who waits for one, and for whom.

mod share;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

pub use self::share::Share;

/// Shares are whole multiples of this, in bytes.
pub(super) const UNIT: u64 = 4 << 10;

/// Before anybody else who waits, and after those who said the same before: who says nothing else is served in
/// the order of arrival.
pub(super) const IN_TURN: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// So many bytes, which small and large shares are taken of.
///
/// No small share waits for a large one. Of the pool a part is kept for them, which large ones leave alone, and
/// they pass by a large one that waits; but what that one needs they do not take, or it would wait for ever.
/// Within a class the one goes first whose time comes first, and nobody passes by it.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: u64,
    /// What large shares leave alone.
    kept: u64,
    /// The largest of the small shares.
    small: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    small: Class,
    large: Class,
    arrivals: u64,
}

#[derive(Debug, Default)]
struct Class {
    taken: u64,
    waiting: BTreeMap<Rank, Waiter>,
}

/// When somebody's time comes, and when they came themselves.
type Rank = (DateTime<Utc>, u64);

#[derive(Debug)]
struct Waiter {
    bytes: u64,
    granted: oneshot::Sender<Share>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

impl Pool {
    /// A pool of which `kept` bytes are kept for shares of at most `small`.
    pub(super) fn new(bytes: u64, kept: u64, small: u64) -> Self {
        let kept = kept / UNIT * UNIT;
        Self(Arc::new(Inner {
            total: (bytes / UNIT).max(1) * UNIT,
            kept,
            small: small.min(kept),
            state: Mutex::default(),
        }))
    }

    /// All that there is.
    pub(super) fn bytes(&self) -> u64 {
        self.0.total
    }

    /// What somebody has.
    pub(super) fn used(&self) -> u64 {
        let state = self.state();
        state.small.taken + state.large.taken
    }

    /// What nobody has.
    #[cfg(test)]
    pub(super) fn free(&self) -> u64 {
        self.0.total - self.used()
    }

    /// The most that one share can be without keeping small ones waiting.
    pub(super) fn most(&self) -> u64 {
        self.0.total - self.0.kept
    }

    /// What is larger than the whole pool may have the whole pool: it runs alone, and it runs.
    fn rounded(&self, bytes: u64) -> u64 {
        let units = bytes.div_ceil(UNIT).saturating_mul(UNIT);
        units.min(self.0.total)
    }

    fn size(&self, bytes: u64) -> Size {
        if bytes <= self.0.small {
            Size::Small
        } else {
            Size::Large
        }
    }

    /// A share that nobody has to wait for.
    pub(super) fn try_take(&self, bytes: u64) -> Option<Share> {
        let bytes = self.rounded(bytes);
        let mut state = self.state();
        let free = state.class(self.size(bytes)).waiting.is_empty() && self.fits(&state, bytes);
        free.then(|| self.grant(&mut state, bytes))
    }

    /// Waits for a share, behind those of its class whose time comes before `due`.
    pub(super) async fn take(&self, bytes: u64, due: DateTime<Utc>) -> io::Result<Share> {
        let bytes = self.rounded(bytes);
        let (granted, share) = oneshot::channel();
        let rank = {
            let mut state = self.state();
            state.arrivals += 1;
            let rank = (due, state.arrivals);
            let waiter = Waiter { bytes, granted };
            state.class(self.size(bytes)).waiting.insert(rank, waiter);
            rank
        };
        let _place = Place {
            pool: self,
            size: self.size(bytes),
            rank,
        };
        self.serve();
        share.await.map_err(io::Error::other)
    }

    /// Whether so much can be had now by whoever is the first of their class.
    fn fits(&self, state: &State, bytes: u64) -> bool {
        let (small, large) = (state.small.taken, state.large.taken);
        if small + large + bytes > self.0.total {
            return false;
        }
        match self.size(bytes) {
            // When all large shares have come back, there is as much as the first large one waits for.
            Size::Small => {
                let first = state.large.waiting.first_key_value();
                first.is_none_or(|(_, first)| small + bytes + first.bytes <= self.0.total)
            }
            // One that takes more than is left to large ones is the only one.
            Size::Large => large == 0 || large + bytes <= self.most(),
        }
    }

    fn grant(&self, state: &mut State, bytes: u64) -> Share {
        state.class(self.size(bytes)).taken += bytes;
        Share::new(self, bytes)
    }

    /// Gives what is free to those who wait for it.
    fn serve(&self) {
        let mut served = Vec::new();
        let mut state = self.state();
        for size in [Size::Small, Size::Large] {
            while let Some((&rank, first)) = state.class(size).waiting.first_key_value()
                && let bytes = first.bytes
                && self.fits(&state, bytes)
                && let Some(first) = state.class(size).waiting.remove(&rank)
            {
                served.push((first.granted, self.grant(&mut state, bytes)));
            }
        }
        drop(state);
        // Where nobody waits any more the share comes back here, and locks.
        for (granted, share) in served {
            let _ = granted.send(share);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn class(&mut self, size: Size) -> &mut Class {
        match size {
            Size::Small => &mut self.small,
            Size::Large => &mut self.large,
        }
    }
}

/// Somebody's place among those who wait: left when they have what they waited for, or give up.
struct Place<'a> {
    pool: &'a Pool,
    size: Size,
    rank: Rank,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let gave_up = {
            let mut state = self.pool.state();
            state.class(self.size).waiting.remove(&self.rank).is_some()
        };
        // They may have been what others waited behind.
        if gave_up {
            self.pool.serve();
        }
    }
}
