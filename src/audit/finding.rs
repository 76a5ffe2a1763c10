//! What an audit can find, each with a name that does not change.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::days::{Day, ManifestKey};
use crate::{event::Id, seal::Flaw};

/// What is wrong. Scripts go by the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A manifest names an object that is not there.
    ObjectMissing,
    /// An object has fewer bytes than its manifest says.
    ObjectTruncated,
    /// An object has more bytes than its manifest says.
    ObjectLonger,
    /// An object has as many bytes as its manifest says, and others.
    ObjectAltered,
    /// No manifest of its event names an object.
    ObjectUnreferenced,
    /// An object is named more than once.
    ObjectShared,
    /// A manifest names an object of another event.
    ObjectForeign,
    /// A manifest names a key that callvault does not make.
    ObjectKeyInvalid,
    /// A manifest names a bucket that the configuration lacks.
    BucketUnknown,
    /// A manifest cannot be read as one.
    ManifestInvalid,
    /// A manifest is of another version.
    ManifestSchema,
    /// A manifest is another event's than its key says.
    ManifestMisplaced,
    /// A manifest contradicts itself.
    ManifestContradictory,
    /// A manifest was listed, and is not there.
    ManifestGone,
    /// The event in a manifest is not the one that was received.
    EventAltered,
    /// A manifest has been partial for more than a day.
    PartialStale,
    /// Seals are gone, or there are none.
    SealMissing,
    /// Something in a seal's place is none.
    SealInvalid,
    /// Two seals do not fit together.
    SealChain,
    /// Nothing that is trusted vouches for a seal.
    SealUnsigned,
    /// A seal's signature is forged.
    SealSignature,
    /// A root that was noted elsewhere is not among the seals.
    SealRoot,
    /// A seal contradicts an earlier one.
    SealContradictory,
    /// An index that a seal names is gone.
    IndexMissing,
    /// An index is not what was sealed.
    IndexAltered,
    /// A sealed manifest is gone.
    SealedMissing,
    /// A sealed manifest is not what was sealed.
    SealedAltered,
    /// A manifest pretends to have been there when its day was sealed.
    SlippedIn,
    /// A manifest came, or was replaced, after its day was sealed.
    Unsealed,
    /// A day has manifests and no seal.
    DayUnsealed,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::ObjectMissing,
        Self::ObjectTruncated,
        Self::ObjectLonger,
        Self::ObjectAltered,
        Self::ObjectUnreferenced,
        Self::ObjectShared,
        Self::ObjectForeign,
        Self::ObjectKeyInvalid,
        Self::BucketUnknown,
        Self::ManifestInvalid,
        Self::ManifestSchema,
        Self::ManifestMisplaced,
        Self::ManifestContradictory,
        Self::ManifestGone,
        Self::EventAltered,
        Self::PartialStale,
        Self::SealMissing,
        Self::SealInvalid,
        Self::SealChain,
        Self::SealUnsigned,
        Self::SealSignature,
        Self::SealRoot,
        Self::SealContradictory,
        Self::IndexMissing,
        Self::IndexAltered,
        Self::SealedMissing,
        Self::SealedAltered,
        Self::SlippedIn,
        Self::Unsealed,
        Self::DayUnsealed,
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ObjectMissing => "object_missing",
            Self::ObjectTruncated => "object_truncated",
            Self::ObjectLonger => "object_longer",
            Self::ObjectAltered => "object_altered",
            Self::ObjectUnreferenced => "object_unreferenced",
            Self::ObjectShared => "object_shared",
            Self::ObjectForeign => "object_foreign",
            Self::ObjectKeyInvalid => "object_key_invalid",
            Self::BucketUnknown => "bucket_unknown",
            Self::ManifestInvalid => "manifest_invalid",
            Self::ManifestSchema => "manifest_schema",
            Self::ManifestMisplaced => "manifest_misplaced",
            Self::ManifestContradictory => "manifest_contradictory",
            Self::ManifestGone => "manifest_gone",
            Self::EventAltered => "event_altered",
            Self::PartialStale => "partial_stale",
            Self::SealMissing => "seal_missing",
            Self::SealInvalid => "seal_invalid",
            Self::SealChain => "seal_chain",
            Self::SealUnsigned => "seal_unsigned",
            Self::SealSignature => "seal_signature",
            Self::SealRoot => "seal_root",
            Self::SealContradictory => "seal_contradictory",
            Self::IndexMissing => "index_missing",
            Self::IndexAltered => "index_altered",
            Self::SealedMissing => "sealed_missing",
            Self::SealedAltered => "sealed_altered",
            Self::SlippedIn => "slipped_in",
            Self::Unsealed => "unsealed",
            Self::DayUnsealed => "day_unsealed",
        }
    }

    /// What it means, and what to do.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::ObjectMissing => {
                "an archived file is gone: restore it from a backup or an earlier version of the object; find out who \
                 or which lifecycle rule deleted it"
            }
            Self::ObjectTruncated | Self::ObjectLonger | Self::ObjectAltered => {
                "an archived file is not what was archived: restore the version with the manifest's SHA-256; look for \
                 a failing disk, or for who wrote to it"
            }
            Self::ObjectUnreferenced => {
                "a file without a record: its manifest was removed or changed, or its worker died and its message was \
                 lost; restore the manifest, archive the event again, or delete the file"
            }
            Self::ObjectShared => {
                "one file is recorded twice: callvault never writes that; compare the manifest with a backup"
            }
            Self::ObjectForeign => {
                "a record points at another call's file: callvault never writes that; compare the manifest with a backup"
            }
            Self::ObjectKeyInvalid => {
                "a record points at no file of callvault's: compare the manifest with a backup"
            }
            Self::BucketUnknown => {
                "its files were not verified: add the bucket to the configuration under the name that the manifest has"
            }
            Self::ManifestInvalid => {
                "the record of a call cannot be read: restore it from a backup, or delete it and archive the event again"
            }
            Self::ManifestSchema => {
                "the record was written by another version: verify it with that version of callvault"
            }
            Self::ManifestMisplaced => {
                "a record lies under another call's key: callvault never writes that; compare both with a backup"
            }
            Self::ManifestContradictory => {
                "a record says of itself what cannot be: compare it with a backup"
            }
            Self::ManifestGone => {
                "a record vanished while it was verified: find out who, or which lifecycle rule, deletes from the archive"
            }
            Self::EventAltered => {
                "the event in a record is not what event.sha256 was taken of: compare the manifest with a backup"
            }
            Self::PartialStale => {
                "some of a call's files were never had: look for its message in the dead-letter queue (`callvault dead \
                 list`), or archive the event again if the provider still has them"
            }
            Self::SealMissing => {
                "a link of the chain of seals is gone, or there never was one: restore it from a backup, or begin with `callvault \
                 seal`; what it sealed is not proven"
            }
            Self::SealInvalid => {
                "something lies in a seal's place that callvault did not write: restore the seal from a backup, or remove what is \
                 none"
            }
            Self::SealChain => {
                "a seal was exchanged: compare this one and the one before it with a backup, and find out who may write to the \
                 archive"
            }
            Self::SealUnsigned => {
                "whoever may write to the archive could have made this seal: verify with the public key that signed it, or sign \
                 (`callvault seal --key`)"
            }
            Self::SealSignature => {
                "a signature is not of the key that it names: somebody wrote or changed this seal; compare it with a backup"
            }
            Self::SealRoot => {
                "seals were removed from the end of the chain, or all were made anew: restore them from a backup; nothing since is \
                 proven"
            }
            Self::SealContradictory => {
                "a later seal says otherwise than an earlier one: callvault never writes that; go by the earlier one"
            }
            Self::IndexMissing | Self::IndexAltered => {
                "what the seal sealed is not known without its index: restore it from a backup; the seal proves that it is the \
                 right one"
            }
            Self::SealedMissing => {
                "a record was deleted after it was sealed: restore it from a backup or an earlier version, and find out who \
                 deletes from the archive"
            }
            Self::SealedAltered => {
                "a record was changed after it was sealed: restore it from a backup or an earlier version, and find out who writes \
                 to the archive"
            }
            Self::SlippedIn => {
                "a record was put there after its day was sealed, under an earlier time: find out who writes to the archive"
            }
            Self::Unsealed => {
                "a late event, or one that was slipped in: if it is known why it is late, `callvault seal --day` adds it"
            }
            Self::DayUnsealed => {
                "nothing proves what this day held: `callvault seal --day` seals it as it is now"
            }
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something that is wrong with the archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// The bucket of what it is about, by its name in the configuration.
    pub bucket: String,
    /// The key of what it is about. As somebody else wrote it, where a manifest is hostile.
    pub key: String,
    /// The call, as the key of the manifest or of the object has it; empty where it is about no single one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call_id: String,
    /// The event.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The day of the key, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Day>,
    /// The manifest that it is about or that names the object; none where there should be one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// What was seen.
    pub detail: String,
}

impl Finding {
    /// About a manifest, or about an object that it names.
    pub(super) fn of(
        code: Code,
        at: &ManifestKey,
        (bucket, key): (&str, &str),
        detail: impl Into<String>,
    ) -> Self {
        Self {
            code,
            bucket: cut(bucket),
            key: cut(key),
            call_id: at.call_id.to_string(),
            request_id: at.request_id.to_string(),
            day: Some(at.day),
            manifest: Some(at.to_string()),
            detail: detail.into(),
        }
    }

    /// About what seals prove, in the bucket of the manifests.
    pub(super) fn of_seals(bucket: &str, flaw: Flaw) -> Self {
        let Flaw { code, key, what } = flaw;
        let at = ManifestKey::parse(&key);
        let id = |id: fn(&ManifestKey) -> &Id| {
            let id = at.as_ref().map(id);
            id.map_or_else(String::new, ToString::to_string)
        };
        Self {
            code,
            bucket: bucket.to_owned(),
            call_id: id(|at| &at.call_id),
            request_id: id(|at| &at.request_id),
            day: at.as_ref().map(|at| at.day),
            manifest: at.is_some().then(|| key.clone()),
            key,
            detail: what,
        }
    }
}

/// The longest name that is told and kept: a manifest of somebody else's may name keys of any length.
const LONGEST: usize = 1024;

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_it_is_named() {
        for code in Code::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
        }
    }
}
