//! The WAV reader: a few bytes read of each chunk, and what passes is what other readers find.

use std::io::{Cursor, Read, Result, Seek, SeekFrom};

use callvault::{
    check::{
        Problem,
        wav::{Codec, Facts, inspect},
    },
    config::WavLimits,
};

use super::cost;

/// The chunks that may be looked at, and what of each may be read: header, content and pad byte.
const MOST_READ: u64 = 4096 * (8 + 40 + 5) + 12;

const CODES: [&str; 7] = [
    "wav_not_riff",
    "wav_no_fmt",
    "wav_no_data",
    "wav_bad_fmt",
    "wav_unsupported_codec",
    "wav_limits",
    "wav_truncated",
];

pub(crate) fn target(bytes: &[u8]) {
    let (found, peak) = cost::peak(|| check(bytes, &WavLimits::default()));
    assert!(peak <= 64 << 10, "{peak} bytes");
    within_limits(bytes, &found);
    match found {
        Err(problem) => {
            assert!(CODES.contains(&&*problem.code) && problem.code != "wav_limits");
            let plain = |byte: u8| (b' '..=b'~').contains(&byte);
            let detail = problem.detail.replace('×', "x");
            assert!(
                detail.bytes().all(plain) && detail.len() <= 1024,
                "{detail:?}"
            );
        }
        Ok(facts) => passed(bytes, &facts),
    }
}

fn check(bytes: &[u8], limits: &WavLimits) -> std::result::Result<Facts, Problem> {
    let mut file = Counted {
        file: Cursor::new(bytes),
        read: 0,
    };
    let found = inspect(&mut file, bytes.len() as u64, limits).unwrap();
    assert!(file.read <= MOST_READ, "{} bytes read", file.read);
    found
}

/// Limits change nothing but whether what they are about passes.
fn within_limits(bytes: &[u8], found: &std::result::Result<Facts, Problem>) {
    let limits = WavLimits {
        channels: Some(vec![1, 2]),
        sample_rates_hz: Some(vec![8000, 44100]),
    };
    match (found, check(bytes, &limits)) {
        (Ok(facts), Ok(same)) => {
            assert_eq!(*facts, same);
            assert!(
                [1, 2].contains(&same.channels) && [8000, 44100].contains(&same.sample_rate_hz)
            );
        }
        (Ok(_), Err(problem)) => assert_eq!(problem.code, "wav_limits"),
        (Err(one), Err(other)) => assert!(*one == other || other.code == "wav_limits"),
        (Err(problem), Ok(_)) => panic!("limits let {problem:?} pass"),
    }
}

fn passed(bytes: &[u8], facts: &Facts) {
    assert!(facts.channels > 0 && facts.sample_rate_hz > 0);
    // Whole frames, or blocks, of what came after the smallest of headers.
    let (len, rate) = (bytes.len() as u64 - 12, u64::from(facts.sample_rate_hz));
    let most = len * samples_per_byte(facts) * 1000 / rate;
    assert!(facts.duration_ms <= most, "{facts:?} of {len} bytes");
    if !facts.unsized_ {
        // What follows the data plays no part.
        let more = [bytes, b"LIST\x04\0\0\0\xff\xff\xff\xff"].concat();
        assert_eq!(check(&more, &WavLimits::default()).unwrap(), *facts);
    }
    let Some(strict) = Strict::read(bytes) else {
        return;
    };
    let format = (facts.channels, facts.sample_rate_hz);
    assert_eq!((strict.channels, strict.rate), format);
    if strict.data > 0 {
        let frames = strict.data / u64::from(strict.align);
        assert!(!facts.unsized_);
        assert!(strict.tag != 1 || facts.duration_ms == frames * 1000 / rate);
        if let Ok(hound) = hound::WavReader::new(Cursor::new(bytes)) {
            let spec = hound.spec();
            assert_eq!((spec.channels, spec.sample_rate), format);
            let duration = u64::from(hound.duration()) * 1000 / rate;
            assert_eq!(duration, facts.duration_ms);
        }
    }
}

/// The most samples of one channel that a byte can stand for.
fn samples_per_byte(facts: &Facts) -> u64 {
    match facts.codec {
        // The samples of a block's header come on top.
        Codec::AdpcmMs | Codec::AdpcmIma => 2,
        // 320 of 65 bytes.
        Codec::GsmMs => 5,
        _ => 1,
    }
}

/// A file with one `fmt ` chunk before its data, whole, all chunks of even sizes: what every reader finds
/// alike, hound too, which knows no padding.
#[derive(Default)]
struct Strict {
    tag: u16,
    channels: u16,
    rate: u32,
    align: u16,
    data: u64,
}

impl Strict {
    fn read(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"RIFF")?.get(4..)?;
        let mut rest = rest.strip_prefix(b"WAVE")?;
        let mut found = None;
        loop {
            let (id, after) = rest.split_first_chunk::<4>()?;
            let (size, after) = after.split_first_chunk()?;
            let size = u32::from_le_bytes(*size) as usize;
            let (content, after) = after.split_at_checked(size)?;
            let u16_at = |at: usize| u16::from_le_bytes([content[at], content[at + 1]]);
            match id {
                b"data" => {
                    let data = size as u64;
                    return found.map(|format| Self { data, ..format });
                }
                b"fmt " if found.is_some() || size < 16 => return None,
                // Of this one hound takes four bytes, whatever it has.
                b"fact" if size != 4 => return None,
                b"fmt " => {
                    found = Some(Self {
                        tag: u16_at(0),
                        channels: u16_at(2),
                        rate: u32::from(u16_at(4)) | u32::from(u16_at(6)) << 16,
                        align: u16_at(12),
                        data: 0,
                    });
                }
                _ => {}
            }
            rest = after;
            if size % 2 == 1 {
                return None;
            }
        }
    }
}

/// Counts what is read.
struct Counted<'b> {
    file: Cursor<&'b [u8]>,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        self.read += into.len() as u64;
        self.file.read(into)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        self.file.seek(to)
    }
}
