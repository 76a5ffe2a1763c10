//! Checks: are these bytes what they claim to be? Pure: a body in, facts or a problem out.

pub mod json;
pub mod wav;

use std::{borrow::Cow, io};

use serde::Serialize;

use crate::{body::Body, config::WavLimits};

/// What the bytes of a kind of attachment must be.
#[derive(Debug)]
pub enum Checker {
    /// Anything.
    None,
    /// A WAV file of a known codec, within limits.
    Wav(WavLimits),
    /// A JSON text, valid against a schema where there is one.
    Json(Option<json::Schema>),
}

/// What a check found out about bytes that passed; the manifest's `check`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Facts {
    /// Nothing was asked.
    None,
    /// A recording's format and length.
    Wav(wav::Facts),
    /// It is JSON of the right shape.
    Json,
}

/// Why bytes failed their check; the manifest's `problem`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// One of the documented codes.
    pub code: Cow<'static, str>,
    /// One sentence for a person. It may quote the file, so it stands in the manifest alone and never
    /// in logs, headers or metrics.
    pub detail: String,
}

/// The longest `detail`, in bytes.
const LONGEST_DETAIL: usize = 1 << 10;

impl Problem {
    /// JSON that would take more memory to check than there is.
    pub fn too_complex(memory: u64, most: u64) -> Self {
        let detail = format!(
            ": checking it may take {memory} bytes of memory, and limits.memory leaves {most}"
        );
        Self::new("json_shape", detail)
    }

    /// A problem; a long `detail` is cut.
    pub fn new(code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > LONGEST_DETAIL {
            detail.truncate(detail.floor_char_boundary(LONGEST_DETAIL - '…'.len_utf8()));
            detail.push('…');
        }
        Self {
            code: code.into(),
            detail,
        }
    }
}

impl Checker {
    /// An upper bound of the working memory that [`Self::check`] takes, in bytes. Blocking.
    pub fn memory(&self, body: &Body) -> io::Result<u64> {
        match self {
            Self::None | Self::Wav(_) => Ok(0),
            Self::Json(schema) => json::memory(&mut body.reader(), body.len(), schema.is_some()),
        }
    }

    /// Judges a whole body. Blocking: it reads and parses. An `Err` says that the bytes could not be
    /// read back from the disk, which is no fault of theirs.
    pub fn check(&self, body: &Body) -> io::Result<Result<Facts, Problem>> {
        match self {
            Self::None => Ok(Ok(Facts::None)),
            Self::Wav(limits) => {
                let judged = wav::inspect(&mut body.reader(), body.len(), limits)?;
                Ok(judged.map(Facts::Wav))
            }
            Self::Json(schema) => {
                let judged = json::inspect(&mut body.reader(), body.len(), schema.as_ref())?;
                Ok(judged.map(|()| Facts::Json))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        let detail = Problem::new("json_shape", "ü".repeat(1000)).detail;
        assert!(
            detail.len() <= LONGEST_DETAIL && detail.ends_with("ü…"),
            "{}",
            detail.len()
        );
    }
}
