//! The check `wav`: is a file a whole WAVE recording in a codec that can be played years from now?
//!
//! The judgement is on the header and on lengths alone; no sample is read. Three steps, a module
//! each for the first two: `chunks` finds the chunks that matter and judges nothing, `format`
//! judges a `fmt ` chunk and reads nothing, and this module holds the rest together.
//!
//! Of several faults the first in this order is reported: `wav_not_riff`, `wav_no_fmt`,
//! `wav_bad_fmt` or `wav_unsupported_codec`, `wav_limits`, `wav_no_data`, `wav_truncated`. What many
//! writers get wrong and no reader needs is not judged: the size in the RIFF header, the average
//! byte rate, `fact`, `cbSize`, a last frame cut short, and whatever follows the data.
//!
//! Sources: IBM and Microsoft, *Multimedia Programming Interface and Data Specifications 1.0*
//! (RIFF, WAVE); Microsoft's `mmreg.h` (format tags, `WAVEFORMATEX`, `WAVEFORMATEXTENSIBLE`); EBU
//! Tech 3306 (RF64); ITU-R BS.2088 (BW64).

mod chunks;
mod format;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Seek};

use serde::Serialize;

pub use self::format::Codec;
use self::{
    chunks::{Chunks, Container, Data},
    format::Format,
};
use super::Problem;
use crate::config::WavLimits;

/// What a recording turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// How the samples are coded.
    pub codec: Codec,
    /// At least 1.
    pub channels: u16,
    /// Samples of one channel in a second, at least 1.
    pub sample_rate_hz: u32,
    /// As in the header: the width of the container for PCM, 4 for ADPCM, 0 for GSM.
    pub bits_per_sample: u16,
    /// Milliseconds, rounded down.
    pub duration_ms: u64,
    /// Whether the writer left the length open, so that it is what arrived.
    #[serde(rename = "unsized", skip_serializing_if = "std::ops::Not::not")]
    pub unsized_: bool,
}

/// Judges a WAV file of `len` bytes.
///
/// Reads a few bytes of each chunk up to the data, never past `len`, and leaves the file at any
/// position. Memory and time are bounded, whatever the file declares.
///
/// # Errors
///
/// The outer error is of reading the file, and says nothing about the recording; the inner one is
/// of the recording.
pub fn inspect<F: Read + Seek>(
    file: &mut F,
    len: u64,
    limits: &WavLimits,
) -> io::Result<Result<Facts, Problem>> {
    let mut file = chunks::Bounded::new(file, len);
    let head = file.up_to::<12>(0)?;
    match Container::of(&head) {
        Ok(container) => Ok(judge(&chunks::walk(&mut file, container)?, limits)),
        Err(problem) => Ok(Err(problem)),
    }
}

fn judge(chunks: &Chunks, limits: &WavLimits) -> Result<Facts, Problem> {
    let Some(fmt) = &chunks.fmt else {
        return Err(Problem::new("wav_no_fmt", chunks.missing("fmt ")));
    };
    if fmt.is_cut() {
        let found = fmt.content.len();
        let detail = format!("The file ends inside the fmt chunk, after {found} bytes of it.");
        return Err(Problem::new("wav_bad_fmt", detail));
    }
    let format = Format::parse(&fmt.content)?;
    let (channels, rate) = (format.channels, format.sample_rate_hz);
    within("number of channels", channels, limits.channels.as_deref())?;
    within("sample rate in Hz", rate, limits.sample_rates_hz.as_deref())?;
    let Some(data) = &chunks.data else {
        return Err(Problem::new("wav_no_data", chunks.missing("data")));
    };
    let (bytes, unsized_) = length(data, format.block_align)?;
    Ok(Facts {
        codec: format.codec,
        channels,
        sample_rate_hz: rate,
        bits_per_sample: format.bits_per_sample,
        duration_ms: format.duration_ms(bytes),
        unsized_,
    })
}

fn within<T: Copy + PartialEq + ToString>(
    what: &str,
    found: T,
    allowed: Option<&[T]>,
) -> Result<(), Problem> {
    let Some(allowed) = allowed.filter(|allowed| !allowed.contains(&found)) else {
        return Ok(());
    };
    let found = found.to_string();
    let allowed: Vec<_> = allowed.iter().map(T::to_string).collect();
    let allowed = allowed.join(", ");
    let detail = format!("The {what} is {found}; allowed here: {allowed}.");
    Err(Problem::new("wav_limits", detail))
}

/// The bytes of audio, and whether the writer left their number open.
fn length(data: &Data, block_align: u16) -> Result<(u64, bool), Problem> {
    match data.declared {
        Some(declared) if declared <= data.arrived => Ok((declared, false)),
        Some(declared) if !is_placeholder(declared, block_align) => {
            let (offset, arrived) = (data.offset, data.arrived);
            let detail = format!(
                "The data chunk declares {declared} bytes from byte {offset} on, of which {arrived} arrived."
            );
            Err(Problem::new("wav_truncated", detail))
        }
        _ => Ok((data.arrived, true)),
    }
}

/// Whether a size that was not reached is one that encoders write ahead, before they know better,
/// and could not go back to: into a pipe, or because they were killed.
///
/// `0x7FFF_F000` is sox's, which rounds it down to whole blocks.
fn is_placeholder(declared: u64, block_align: u16) -> bool {
    const SOX: u64 = 0x7FFF_F000;
    let whole_blocks = SOX.checked_rem(block_align.into()).map(|rest| SOX - rest);
    declared == 0x7FFF_FFFF || declared == SOX || Some(declared) == whole_blocks
}
