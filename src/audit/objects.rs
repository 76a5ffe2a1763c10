//! The objects of one day, as its buckets list them: some 30 bytes each, however long their keys are.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{digest::Hasher, store::Bucket};

/// What stands for a key in a bucket: the first half of a SHA-256. Even who makes up keys cannot make two meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name([u8; 16]);

impl Name {
    /// Buckets are told apart by where they are: two of the configuration may be the same place.
    pub(super) fn of(bucket: &Bucket, key: &str) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bucket.place().as_bytes());
        hasher.update(key.as_bytes());
        let mut name = [0; 16];
        name.copy_from_slice(&hasher.finish().as_bytes()[..16]);
        Self(name)
    }
}

/// Beside the size: a manifest names it.
const NAMED: u64 = 1 << 63;
/// Beside the size: so new that its manifest may be still to come.
const YOUNG: u64 = 1 << 62;
const SIZE: u64 = YOUNG - 1;

/// The objects of one day.
#[derive(Debug, Default)]
pub(super) struct Objects {
    listed: HashMap<Name, AtomicU64>,
    /// Named by a manifest, and not listed: under the keys of an earlier configuration, or missing.
    others: Mutex<HashSet<Name>>,
}

impl Objects {
    /// Takes what a listing tells.
    pub(super) fn list(&mut self, name: Name, size: u64, young: bool) {
        let young = if young { YOUNG } else { 0 };
        self.listed.insert(name, (size.min(SIZE) | young).into());
    }

    /// The size that was listed.
    pub(super) fn size(&self, name: Name) -> Option<u64> {
        let known = self.listed.get(&name)?;
        Some(known.load(Ordering::Relaxed) & SIZE)
    }

    /// Notes that a manifest names an object; `false` where one did before.
    pub(super) fn name(&self, name: Name) -> bool {
        if let Some(known) = self.listed.get(&name) {
            return known.fetch_or(NAMED, Ordering::Relaxed) & NAMED == 0;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(name)
    }

    /// Whether there is any that [`Self::is_unnamed`].
    pub(super) fn any_unnamed(&self) -> bool {
        self.listed.values().any(unnamed)
    }

    /// Whether there is any that no manifest names, and that is too young to be told.
    pub(super) fn any_young_unnamed(&self) -> bool {
        let young = |known: &AtomicU64| known.load(Ordering::Relaxed) & (NAMED | YOUNG) == YOUNG;
        self.listed.values().any(young)
    }

    /// Whether an object was listed long after it was written, and no manifest names it.
    pub(super) fn is_unnamed(&self, name: Name) -> bool {
        self.listed.get(&name).is_some_and(unnamed)
    }
}

fn unnamed(known: &AtomicU64) -> bool {
    known.load(Ordering::Relaxed) & (NAMED | YOUNG) == 0
}
