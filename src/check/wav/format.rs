//! The `fmt ` chunk: which codec, and whether its numbers agree with each other.

use std::io::Cursor;

use serde::{Serialize, Serializer};

use super::Problem;

/// How the samples are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Unsigned integers of 8 bits.
    PcmU8,
    /// Signed integers of 16 bits.
    PcmS16Le,
    /// Signed integers of 24 bits, three bytes each.
    PcmS24Le,
    /// Signed integers of 32 bits.
    PcmS32Le,
    /// IEEE 754 numbers of 32 bits.
    PcmF32Le,
    /// IEEE 754 numbers of 64 bits.
    PcmF64Le,
    /// ITU-T G.711 A-law.
    PcmALaw,
    /// ITU-T G.711 mu-law.
    PcmMuLaw,
    /// Microsoft's ADPCM.
    AdpcmMs,
    /// ADPCM of the IMA, as Intel's DVI put it into WAVE.
    AdpcmIma,
    /// GSM 06.10 full rate, two frames packed into 65 bytes.
    GsmMs,
}

impl Codec {
    /// The name in manifests and in an object's metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PcmU8 => "pcm_u8",
            Self::PcmS16Le => "pcm_s16le",
            Self::PcmS24Le => "pcm_s24le",
            Self::PcmS32Le => "pcm_s32le",
            Self::PcmF32Le => "pcm_f32le",
            Self::PcmF64Le => "pcm_f64le",
            Self::PcmALaw => "pcm_alaw",
            Self::PcmMuLaw => "pcm_mulaw",
            Self::AdpcmMs => "adpcm_ms",
            Self::AdpcmIma => "adpcm_ima",
            Self::GsmMs => "gsm_ms",
        }
    }
}

impl Serialize for Codec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A `fmt ` chunk whose numbers agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) codec: Codec,
    /// At least 1.
    pub(super) channels: u16,
    /// At least 1.
    pub(super) sample_rate_hz: u32,
    pub(super) bits_per_sample: u16,
    /// The bytes of a block: a sample of each channel, or what a packed codec decodes in one go. At
    /// least 1.
    pub(super) block_align: u16,
    /// Samples of one channel. At least 1.
    samples_per_block: u64,
}

impl Format {
    /// Judges the content of a `fmt ` chunk, of which the first 40 bytes are enough.
    pub(super) fn parse(fmt: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::read(fmt).ok_or_else(|| {
            bad(format!(
                "The fmt chunk has {} bytes; at least 14 are needed.",
                fmt.len()
            ))
        })?;
        if fields.channels == 0 {
            return Err(bad("The fmt chunk declares no channels."));
        }
        if fields.sample_rate_hz == 0 {
            return Err(bad("The fmt chunk declares a sample rate of 0 Hz."));
        }
        let tag = match fields.tag {
            tag::EXTENSIBLE => fields.sub_format(fmt)?,
            tag => tag,
        };
        let bits_per_sample = fields.bits_per_sample.unwrap_or_else(|| fields.width(tag));
        let codec = fields.codec(tag, bits_per_sample)?;
        let format = Self {
            codec,
            channels: fields.channels,
            sample_rate_hz: fields.sample_rate_hz,
            bits_per_sample,
            block_align: fields.block_align,
            samples_per_block: fields.samples_per_block(codec, fmt)?,
        };
        format.second_opinion()?;
        Ok(format)
    }

    /// How long `bytes` of audio last, in milliseconds, rounded down.
    pub(super) fn duration_ms(&self, bytes: u64) -> u64 {
        let align = u64::from(self.block_align);
        let rest = packed(self.codec, self.channels, bytes % align)
            .unwrap_or(0)
            .min(self.samples_per_block);
        let samples = u128::from(bytes / align) * u128::from(self.samples_per_block);
        let ms = (samples + u128::from(rest)) * 1000 / u128::from(self.sample_rate_hz);
        u64::try_from(ms).unwrap_or(u64::MAX)
    }

    /// Asks hound about the formats that it knows.
    ///
    /// Hound would refuse much that is valid for reasons that have nothing to do with the format
    /// (padded chunks, a `fmt ` of 20 bytes, a wrong byte rate, a length that was left open), so it
    /// is shown the format alone, in the plainest header that can hold it. It wants the byte rate
    /// to be exact, and one that does not fit its 32 bits cannot be: such a format is left out.
    fn second_opinion(&self) -> Result<(), Problem> {
        let tag = match self.codec {
            Codec::PcmU8 | Codec::PcmS16Le | Codec::PcmS24Le | Codec::PcmS32Le => tag::PCM,
            Codec::PcmF32Le => tag::IEEE_FLOAT,
            _ => return Ok(()),
        };
        let Some(byte_rate) = u32::from(self.block_align).checked_mul(self.sample_rate_hz) else {
            return Ok(());
        };
        let mut header = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0".to_vec();
        header.extend(tag.to_le_bytes());
        header.extend(self.channels.to_le_bytes());
        header.extend(self.sample_rate_hz.to_le_bytes());
        header.extend(byte_rate.to_le_bytes());
        header.extend(self.block_align.to_le_bytes());
        header.extend(self.bits_per_sample.to_le_bytes());
        header.extend(b"data\0\0\0\0");
        let spec = hound::WavReader::new(Cursor::new(header))
            .map_err(|error| bad(format!("The fmt chunk was refused: {error}.")))?
            .spec();
        let read = (spec.channels, spec.sample_rate, spec.bits_per_sample);
        if read != (self.channels, self.sample_rate_hz, self.bits_per_sample) {
            return Err(bad(format!(
                "The fmt chunk was read in two ways: {self:?} and {spec:?}."
            )));
        }
        Ok(())
    }
}

/// The fields that every `fmt ` chunk has, as they are in it.
struct Fields {
    tag: u16,
    channels: u16,
    sample_rate_hz: u32,
    block_align: u16,
    /// Missing from a `WAVEFORMAT` of 14 bytes.
    bits_per_sample: Option<u16>,
}

impl Fields {
    fn read(fmt: &[u8]) -> Option<Self> {
        Some(Self {
            tag: u16_at(fmt, 0)?,
            channels: u16_at(fmt, 2)?,
            sample_rate_hz: u32_at(fmt, 4)?,
            // The average byte rate, at 8, is wrong so often that no reader relies on it.
            block_align: u16_at(fmt, 12)?,
            bits_per_sample: u16_at(fmt, 14),
        })
    }

    /// The tag inside a `WAVEFORMATEXTENSIBLE`: the first field of a GUID that is otherwise fixed.
    fn sub_format(&self, fmt: &[u8]) -> Result<u16, Problem> {
        const REST: [u8; 14] = [
            0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x80, 0x00, 0x00, 0xAA, 0x00, 0x38, 0x9B, 0x71,
        ];
        let (Some(bits), Some(valid_bits), Some(guid)) = (
            self.bits_per_sample,
            u16_at(fmt, 18),
            fmt.get(24..).and_then(<[u8]>::first_chunk::<16>),
        ) else {
            let found = fmt.len();
            return Err(bad(format!(
                "The fmt chunk is a WAVEFORMATEXTENSIBLE of {found} bytes; it needs 40."
            )));
        };
        let [low, high, rest @ ..] = *guid;
        if rest != REST {
            let guid = u128::from_be_bytes(*guid);
            return Err(unsupported(format!("the unknown sub-format {guid:032X}")));
        }
        match u16::from_le_bytes([low, high]) {
            tag::PCM | tag::IEEE_FLOAT if valid_bits > bits => Err(bad(format!(
                "The fmt chunk declares {valid_bits} valid bits in samples of {bits} bits."
            ))),
            tag @ (tag::PCM | tag::IEEE_FLOAT | tag::ALAW | tag::MULAW) => Ok(tag),
            tag => {
                let name = name(tag);
                Err(unsupported(format!("{name} as an extensible format")))
            }
        }
    }

    /// The bits of a sample, where the chunk is too short to say.
    fn width(&self, tag: u16) -> u16 {
        match tag {
            tag::ADPCM | tag::DVI_ADPCM => 4,
            tag::GSM610 => 0,
            _ => (self.block_align / self.channels).saturating_mul(8),
        }
    }

    fn codec(&self, tag: u16, bits: u16) -> Result<Codec, Problem> {
        let (channels, block_align) = (self.channels, self.block_align);
        // The product can be wider than the field that should hold it.
        let frame = u32::from(channels) * u32::from(bits.div_ceil(8));
        if matches!(tag, tag::PCM | tag::IEEE_FLOAT | tag::ALAW | tag::MULAW)
            && (frame != u32::from(block_align) || frame == 0)
        {
            return Err(bad(format!(
                "The fmt chunk declares blocks of {block_align} bytes; {channels} × {bits} bits make {frame}."
            )));
        }
        Ok(match (tag, bits) {
            (tag::PCM, 8) => Codec::PcmU8,
            (tag::PCM, 16) => Codec::PcmS16Le,
            (tag::PCM, 24) => Codec::PcmS24Le,
            (tag::PCM, 32) => Codec::PcmS32Le,
            (tag::IEEE_FLOAT, 32) => Codec::PcmF32Le,
            (tag::IEEE_FLOAT, 64) => Codec::PcmF64Le,
            (tag::ALAW, 8) => Codec::PcmALaw,
            (tag::MULAW, 8) => Codec::PcmMuLaw,
            (tag::ADPCM, 4) => Codec::AdpcmMs,
            (tag::DVI_ADPCM, 4) => Codec::AdpcmIma,
            (tag::GSM610, _) => Codec::GsmMs,
            (tag::ALAW | tag::MULAW, _) => {
                return Err(bad(format!(
                    "The fmt chunk declares {} of {bits} bits; it has 8.",
                    name(tag)
                )));
            }
            (tag::PCM | tag::IEEE_FLOAT | tag::ADPCM | tag::DVI_ADPCM, _) => {
                return Err(unsupported(format!("{} of {bits} bits", name(tag))));
            }
            _ => return Err(unsupported(name(tag))),
        })
    }

    /// Samples of one channel in a block; a packed codec's header may declare fewer than fit.
    fn samples_per_block(&self, codec: Codec, fmt: &[u8]) -> Result<u64, Problem> {
        let (channels, block_align) = (self.channels, self.block_align);
        if codec == Codec::GsmMs && (channels, block_align) != (1, 65) {
            return Err(bad(format!(
                "The fmt chunk declares GSM of {channels} channel(s) in blocks of {block_align} bytes; it has 1 in blocks of 65."
            )));
        }
        let Some(fit) = packed(codec, channels, block_align.into()) else {
            return Ok(1);
        };
        if fit == 0 {
            return Err(bad(format!(
                "The fmt chunk declares blocks of {block_align} bytes, too few for {} of {channels} channel(s).",
                codec.as_str()
            )));
        }
        Ok(match (codec, u16_at(fmt, 18).map(u64::from)) {
            (Codec::AdpcmMs | Codec::AdpcmIma, Some(declared)) if (1..=fit).contains(&declared) => {
                declared
            }
            _ => fit,
        })
    }
}

/// Samples of one channel in the first `bytes` bytes of a block, for the codecs whose blocks hold
/// more than one.
fn packed(codec: Codec, channels: u16, bytes: u64) -> Option<u64> {
    let channels = u64::from(channels);
    // A block of ADPCM begins with each channel's state, which holds its first samples themselves;
    // each of the others takes half a byte.
    let adpcm = |state: u64, samples: u64| {
        let rest = bytes.checked_sub(state * channels);
        rest.map_or(0, |rest| rest * 2 / channels + samples)
    };
    match codec {
        Codec::AdpcmMs => Some(adpcm(7, 2)),
        Codec::AdpcmIma => Some(adpcm(4, 1)),
        Codec::GsmMs => Some(bytes / 65 * 320),
        _ => None,
    }
}

/// The format tags of `mmreg.h` that are accepted.
mod tag {
    pub(super) const PCM: u16 = 0x0001;
    pub(super) const ADPCM: u16 = 0x0002;
    pub(super) const IEEE_FLOAT: u16 = 0x0003;
    pub(super) const ALAW: u16 = 0x0006;
    pub(super) const MULAW: u16 = 0x0007;
    pub(super) const DVI_ADPCM: u16 = 0x0011;
    pub(super) const GSM610: u16 = 0x0031;
    pub(super) const EXTENSIBLE: u16 = 0xFFFE;
}

/// A format tag as people know it.
fn name(tag: u16) -> String {
    let name = match tag {
        tag::PCM => "PCM",
        tag::ADPCM => "Microsoft ADPCM",
        tag::IEEE_FLOAT => "IEEE float",
        tag::ALAW => "A-law",
        tag::MULAW => "mu-law",
        tag::DVI_ADPCM => "IMA ADPCM",
        tag::GSM610 => "GSM 06.10",
        tag::EXTENSIBLE => "WAVEFORMATEXTENSIBLE",
        0x0010 => "OKI ADPCM",
        0x0017 => "Dialogic OKI ADPCM",
        0x0020 => "Yamaha ADPCM",
        0x0022 => "DSP Group TrueSpeech",
        0x0014 => "G.723 ADPCM",
        0x0040 => "G.721 ADPCM",
        0x0041 => "G.728",
        0x0042 | 0x0111 => "G.723.1",
        0x0045 | 0x0064 | 0x0140 => "G.726 ADPCM",
        0x0050 => "MPEG layer 1 or 2",
        0x0055 => "MP3",
        0x0057 | 0x7A21 => "AMR",
        0x0058 | 0x7A22 => "AMR-WB",
        0x0065 | 0x028F => "G.722",
        0x0083 | 0x0133 | 0x0134 => "G.729",
        0x00FF | 0x1600 => "AAC",
        0x0160..=0x0163 => "Windows Media Audio",
        0x2000 => "AC-3",
        0x704F => "Opus",
        0xA109 => "Speex",
        0xF1AC => "FLAC",
        _ => "unknown",
    };
    format!("{name} (format tag 0x{tag:04X})")
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new("wav_bad_fmt", detail)
}

fn unsupported(found: impl std::fmt::Display) -> Problem {
    Problem::new(
        "wav_unsupported_codec",
        format!(
            "The recording is coded as {found}; accepted are PCM of 8, 16, 24 and 32 bits, float, A-law, mu-law, Microsoft and IMA ADPCM, and GSM."
        ),
    )
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}
