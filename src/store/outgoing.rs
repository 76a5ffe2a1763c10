//! Bodies on their way to a store, past the store library's memory.
//!
//! The library takes bytes in memory, and nothing else. So it is given stand-ins: slices of one constant block, as long
//! together as the body, that cost nothing. Our own HTTP service, through which each of its requests goes, puts the body
//! itself in their place ([`super::service`]), and our own digest answers for them with what the body's bytes hashed to
//! as they arrived ([`super::crypto`]). Both know a stand-in by its address. A stand-in exists within
//! [`Outgoing::during`] alone, and whoever meets one without its body refuses: none is ever sent as if it were data.

use bytes::Bytes;
use futures_util::Stream;
use object_store::PutPayload;
use tokio::{task::futures::TaskLocalFuture, task_local};

use crate::{
    body::{Body, PIECE, blocking},
    digest::{Hasher, Sha256},
};

/// What stand-ins are slices of. Whoever sees it in a store sees where it is from.
static BLOCK: [[u8; 64]; 1024] =
    [*b"callvault: this stands for a body, and no store is to get it. \r\n"; 1024];

task_local! {
    /// What the stand-ins stand for in the call that this task is at. The library makes its requests, all tries of them,
    /// where it is called.
    static OUTGOING: Outgoing;
}

/// A body, or a part of one, that one request sends.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    body: Body,
    at: u64,
    len: u64,
    sha256: Option<Sha256>,
}

impl Outgoing {
    /// A whole body: its digest is known.
    pub(super) fn whole(body: &Body) -> Self {
        Self {
            body: body.clone(),
            at: 0,
            len: body.len(),
            sha256: Some(body.sha256()),
        }
    }

    /// A part of a body, for a request that does not sign it.
    pub(super) fn part(body: &Body, at: u64, len: u64) -> Self {
        Self {
            body: body.clone(),
            at,
            len,
            sha256: None,
        }
    }

    /// The same, hashed for a request that does.
    pub(super) async fn hashed(mut self) -> std::io::Result<Self> {
        let mut pieces = std::io::Read::take(self.body.reader_at(self.at), self.len);
        let hash = blocking(move || {
            let (mut buffer, mut hasher) = (vec![0; PIECE], Hasher::default());
            loop {
                match std::io::Read::read(&mut pieces, &mut buffer)? {
                    0 => return Ok(hasher.finish()),
                    read => hasher.update(&buffer[..read]),
                }
            }
        });
        self.sha256 = Some(hash.await?);
        Ok(self)
    }

    /// Calls the library with the stand-in for this body.
    pub(super) fn during<F: Future>(
        self,
        call: impl FnOnce(PutPayload) -> F,
    ) -> TaskLocalFuture<Self, F> {
        let called = call(self.stand_in());
        OUTGOING.scope(self, called)
    }

    /// The body that is on its way here.
    pub(super) fn here() -> Option<Self> {
        OUTGOING.try_with(Clone::clone).ok()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn sha256(&self) -> Option<Sha256> {
        self.sha256
    }

    /// Its bytes, from the first one on, as often as it takes.
    pub(super) fn pieces(&self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + use<> {
        self.body.pieces(self.at, self.len)
    }

    fn stand_in(&self) -> PutPayload {
        let mut left = usize::try_from(self.len).unwrap_or(usize::MAX);
        let slices = std::iter::from_fn(|| {
            let block = BLOCK.as_flattened();
            let len = left.min(block.len());
            left -= len;
            (len > 0).then(|| Bytes::from_static(&block[..len]))
        });
        slices.collect()
    }
}

/// Whether bytes stand for others.
pub(super) fn is_stand_in(bytes: &[u8]) -> bool {
    let block = BLOCK.as_flattened();
    block.as_ptr_range().contains(&bytes.as_ptr())
}
