//! Seals: what the archive held, so that it can be proven later.
//!
//! Whoever may write to the archive's buckets can alter an object, and its manifest to match. A seal notes what the
//! manifests of a day were; the next one refers to it, and so does the one after. Whoever knows one seal's hash, or has
//! the public key of who signed it, so can tell whether anything that was sealed before was changed, removed or slipped in
//! since. This is all that it takes to write a verifier of one's own:
//!
//! # Where
//!
//! All in the manifests' bucket, under `_seals/`, where no event's key can be: dates begin with a digit, and a template
//! of the configuration that begins so is refused.
//!
//! - `_seals/chain/00000001.json`, `…02.json`, and so on without a gap: the seals, in the order in which they were made.
//! - `_seals/2026/11/22/index.jsonl.zst`: the index of a day's first seal; `index-2.jsonl.zst` and so on: of supplements.
//!   The seal names its own. One that no seal names was left by a seal that did not come about, and says nothing.
//!
//! Both are created, never overwritten. Of two who seal at once one gets the next number; the other begins again.
//!
//! # A seal
//!
//! JSON with four fields: `schema` (`callvault.seal/v1`), `statement` (a list of lines), `sha256` and, where it is signed,
//! `signature`. The statement's text is its lines, each ended by a newline (`jq -r '.statement[]'`); `sha256` is the text's, in
//! hex, and is called the seal's *root* where people note it. The lines, in this order and written in no other way:
//!
//! ```text
//! callvault.seal/v1
//! sequence 42                          the number in the chain, from 1
//! day 2026-11-22                       of the manifests' keys
//! part 1                               1 is the day's first seal, others are supplements
//! previous 1f0c…                       sha256 of the seal before; - in the first
//! listed-at 2026-11-23T09:00:00Z       when the day's manifests began to be listed, by the sealer's clock
//! made-by callvault/0.1.0
//! manifests 1200                       in the index
//! rows 3600                            in the index: its lines
//! root 77ab…                           of the tree over the manifests in the index
//! index _seals/2026/11/22/index.jsonl.zst
//! index-size 90210                     bytes, as stored
//! index-sha256 …                       of those
//! unpacked-size 2100345                bytes, unpacked
//! unpacked-sha256 …                    of those
//! ```
//!
//! `signature` has `algorithm` (`ed25519`), `value` (RFC 8032's, over the text, in base64) and `public_key`: the SHA-256 of
//! the key's `SubjectPublicKeyInfo` in DER. Which key is to be trusted is decided by who verifies, never by the seal. A good
//! signature vouches for its seal and, by `previous`, for all before it; so seals that were made before the signing
//! began, or with an older key, are proven too. Nothing vouches for what comes after it.
//!
//! # An index
//!
//! Zstandard (RFC 8878) over JSON lines ([`row`]): one for each attachment, and one for a manifest that has none, sorted by the
//! manifests' keys as bytes, then as the manifest lists them. A manifest's key and SHA-256 stand in each of its lines. The
//! first seal of a day has all its manifests. A supplement has those that came later, and those that were partial, were
//! replaced since, and still name every object that they named. What a supplement says of such a manifest counts; one
//! that says anything else of a manifest that was sealed before is a contradiction.
//!
//! The root is that of the Merkle tree of RFC 6962 (section 2.1, SHA-256) over one leaf for each manifest, in their order. A
//! leaf's data is the line that `sha256sum` writes: the manifest's SHA-256 in hex, two spaces, its key, a newline. So an
//! inclusion proof ([`tree::path`], [`tree::climb`]) shows that one manifest was sealed without the index, and what it says of a
//! recording's SHA-256 with it.
//!
//! # What it proves
//!
//! That nothing was changed, removed or slipped in since the seal was made: not that what was sealed was true. Against
//! whom, depends on what the verifier knows. With the signer's public key: against all who lack the private one. With a root
//! that was noted where the archive's writers cannot write: against them, for all up to that seal. With neither:
//! against accidents alone, for whoever can write seals can write all of them anew. And seals that are removed from
//! the chain's end, with all that they sealed, are missed only by who noted a root of theirs.

pub mod chain;
pub mod contents;
mod index;
pub mod key;
pub mod make;
pub mod row;
mod statement;
pub mod tree;

pub use self::{
    chain::Chain,
    contents::{Contents, Standing},
    index::IndexError,
    key::{PublicKey, Signature, SigningKey},
    make::Sealer,
    statement::{Extent, Seal, SealError, Statement},
};

use crate::audit::Code;

/// The folder of all seals in the manifests' bucket.
pub const PREFIX: &str = "_seals";

/// Whether a key, below a bucket's prefix, may be that of a seal or of an index.
pub fn could_be(key: &str) -> bool {
    chain::sequence(key).is_some() || statement::could_be_index(key)
}

/// Something that a seal proves, or that keeps one from proving anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// What it is.
    pub code: Code,
    /// What it is about, in the manifests' bucket.
    pub key: String,
    /// One sentence for a person.
    pub what: String,
}

impl Flaw {
    pub(crate) fn new(code: Code, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            code,
            key: key.into(),
            what: what.into(),
        }
    }
}
