use std::io::{Cursor, Read, Seek, SeekFrom};

use hound::{SampleFormat, WavSpec, WavWriter};
use proptest::prelude::*;

use super::{Codec, Facts, inspect};
use crate::{check::Problem, config::WavLimits};

/// A chunk as it should be: padded to an even length.
fn chunk(id: &str, content: &[u8]) -> Vec<u8> {
    let mut chunk = sized(id, u32::try_from(content.len()).unwrap(), content);
    chunk.extend(vec![0; content.len() % 2]);
    chunk
}

/// A chunk that declares any size.
fn sized(id: &str, size: u32, content: &[u8]) -> Vec<u8> {
    [id.as_bytes(), &size.to_le_bytes(), content].concat()
}

fn wave(magic: &str, chunks: &[Vec<u8>]) -> Vec<u8> {
    // The size of the whole is never right: it is not judged.
    [magic.as_bytes(), &[1, 0, 0, 0], b"WAVE", &chunks.concat()].concat()
}

/// A `fmt ` chunk of 8000 Hz.
fn fmt(tag: u16, channels: u16, block_align: u16, bits: u16, more: &[u8]) -> Vec<u8> {
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(8000_u32.to_le_bytes());
    fmt.extend(77_u32.to_le_bytes()); // the average byte rate, wrong
    fmt.extend(block_align.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    fmt.extend(more);
    chunk("fmt ", &fmt)
}

const GUID: [u8; 14] = *b"\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71";

fn extensible(tag: u16, channels: u16, block_align: u16, bits: u16, valid_bits: u16) -> Vec<u8> {
    let mut more = vec![22, 0];
    more.extend(valid_bits.to_le_bytes());
    more.extend([0; 4]); // which speaker each channel is for
    more.extend(tag.to_le_bytes());
    more.extend(GUID);
    fmt(0xFFFE, channels, block_align, bits, &more)
}

/// 16-bit PCM in one channel.
fn speech() -> Vec<u8> {
    fmt(1, 1, 2, 16, &[])
}

/// A second of [`speech`].
fn second() -> Vec<u8> {
    chunk("data", &[0; 16000])
}

fn check(bytes: &[u8]) -> Result<Facts, Problem> {
    check_within(bytes, &WavLimits::default())
}

fn check_within(bytes: &[u8], limits: &WavLimits) -> Result<Facts, Problem> {
    let len = u64::try_from(bytes.len()).unwrap();
    inspect(&mut Cursor::new(bytes), len, limits).unwrap()
}

fn accepted(chunks: &[Vec<u8>]) -> Facts {
    check(&wave("RIFF", chunks)).unwrap()
}

fn refused(chunks: &[Vec<u8>]) -> (std::borrow::Cow<'static, str>, String) {
    let problem = check(&wave("RIFF", chunks)).unwrap_err();
    (problem.code, problem.detail)
}

#[track_caller]
fn assert_refused(chunks: &[Vec<u8>], code: &str, detail: &str) {
    let (found, said) = refused(chunks);
    assert_eq!(found, code, "{said}");
    assert!(said.contains(detail), "{said}");
}

/// Tag, channels, block size and bits of each codec, bytes of a second of it, and its length.
const CODECS: [(Codec, u16, u16, u16, u16, usize, u64); 15] = [
    (Codec::PcmU8, 1, 1, 1, 8, 8000, 1000),
    (Codec::PcmS16Le, 1, 2, 4, 16, 32000, 1000),
    (Codec::PcmS24Le, 1, 1, 3, 24, 24000, 1000),
    (Codec::PcmS32Le, 1, 1, 4, 32, 32000, 1000),
    (Codec::PcmF32Le, 3, 1, 4, 32, 32000, 1000),
    (Codec::PcmF64Le, 3, 1, 8, 64, 64000, 1000),
    (Codec::PcmALaw, 6, 1, 1, 8, 8000, 1000),
    (Codec::PcmMuLaw, 7, 2, 2, 8, 16000, 1000),
    // 16 blocks, of 500 samples and of 505.
    (Codec::AdpcmMs, 2, 1, 256, 4, 16 * 256, 1000),
    (Codec::AdpcmMs, 2, 2, 512, 4, 16 * 512, 1000),
    (Codec::AdpcmIma, 0x11, 1, 256, 4, 16 * 256, 1010),
    (Codec::AdpcmIma, 0x11, 2, 512, 4, 16 * 512, 1010),
    // Two blocks and a part of one: of 202 samples, and too short for any.
    (Codec::AdpcmMs, 2, 1, 256, 4, 2 * 256 + 107, 150),
    (Codec::AdpcmIma, 0x11, 1, 256, 4, 2 * 256 + 3, 126),
    (Codec::GsmMs, 0x31, 1, 65, 0, 25 * 65, 1000),
];

#[test]
fn every_codec_is_accepted_with_its_length() {
    for (codec, tag, channels, align, bits, bytes, ms) in CODECS {
        let facts = accepted(&[
            fmt(tag, channels, align, bits, &[]),
            chunk("data", &vec![0; bytes]),
        ]);
        let expected = Facts {
            codec,
            channels,
            sample_rate_hz: 8000,
            bits_per_sample: bits,
            duration_ms: ms,
            unsized_: false,
        };
        assert_eq!(facts, expected);
    }
}

#[test]
fn the_fmt_chunk_may_be_longer_than_it_need_be() {
    for (codec, tag, channels, align, bits, bytes, ms) in CODECS {
        for more in [&[0; 2][..], &[0; 4], &[0; 5], &[0; 34], &[0; 200]] {
            let facts = accepted(&[
                fmt(tag, channels, align, bits, more),
                chunk("data", &vec![0; bytes]),
            ]);
            assert_eq!((facts.codec, facts.duration_ms), (codec, ms));
        }
    }
}

#[test]
fn the_fmt_chunk_may_lack_the_bits_that_the_rest_tells() {
    for (codec, tag, channels, align, bits, bytes, ms) in CODECS {
        let whole = fmt(tag, channels, align, bits, &[]);
        let facts = accepted(&[chunk("fmt ", &whole[8..22]), chunk("data", &vec![0; bytes])]);
        assert_eq!((facts.codec, facts.duration_ms), (codec, ms));
        assert_eq!(facts.bits_per_sample, bits);
    }
}

#[test]
fn a_fmt_chunk_that_the_file_ends_inside_is_no_shorter_form_of_it() {
    // After the data, 14 bytes of the 16 that it declares.
    let cut = sized("fmt ", 16, &speech()[8..22]);
    assert_refused(
        &[second(), cut],
        "wav_bad_fmt",
        "ends inside the fmt chunk, after 14 bytes",
    );
    let cut = &extensible(1, 1, 2, 16, 16)[..47];
    assert_refused(&[second(), cut.to_vec()], "wav_bad_fmt", "after 39 bytes");
    // Beyond what means something, nothing is missed.
    assert!(
        check(&wave(
            "RIFF",
            &[
                second(),
                sized("fmt ", 4000, &extensible(1, 1, 2, 16, 16)[8..])
            ]
        ))
        .is_ok()
    );
}

#[test]
fn pcm_float_and_g711_may_be_extensible() {
    for (codec, tag, channels, align, bits, bytes, ms) in CODECS {
        let chunks = [
            extensible(tag, channels, align, bits, bits),
            chunk("data", &vec![0; bytes]),
        ];
        if matches!(tag, 1 | 3 | 6 | 7) {
            let facts = accepted(&chunks);
            assert_eq!((facts.codec, facts.duration_ms), (codec, ms));
        } else {
            assert_refused(&chunks, "wav_unsupported_codec", "as an extensible format");
        }
    }
}

#[test]
fn fewer_valid_bits_than_the_container_has_are_fine_and_more_are_not() {
    let facts = accepted(&[extensible(1, 1, 4, 32, 24), second()]);
    assert_eq!((facts.codec, facts.bits_per_sample), (Codec::PcmS32Le, 32));
    assert_refused(
        &[extensible(1, 1, 2, 16, 17), second()],
        "wav_bad_fmt",
        "17 valid bits in samples of 16 bits",
    );
}

#[test]
fn an_unknown_sub_format_is_named() {
    let mut ambisonic = extensible(1, 1, 2, 16, 16);
    ambisonic[8 + 26..8 + 40].copy_from_slice(b"\0\0\x21\x07\xd3\x11\x86\x44\xc8\xc1\xca\0\0\0");
    assert_refused(
        &[ambisonic, second()],
        "wav_unsupported_codec",
        "the unknown sub-format 010000002107D3118644C8C1CA000000",
    );
    let short = &extensible(1, 1, 2, 16, 16)[8..46];
    assert_refused(
        &[chunk("fmt ", short), second()],
        "wav_bad_fmt",
        "38 bytes; it needs 40",
    );
}

#[test]
fn a_block_of_adpcm_may_declare_fewer_samples_than_fit_but_not_more() {
    for (tag, declared, ms) in [
        (2, 400_u16, 800), // 16 blocks of 400 samples
        (2, 501, 1000),
        (2, 0, 1000),
        (0x11, 500, 1000),
        (0x11, 506, 1010),
    ] {
        let more = [&[2, 0], &declared.to_le_bytes()[..]].concat();
        let facts = accepted(&[fmt(tag, 1, 256, 4, &more), chunk("data", &[0; 16 * 256])]);
        assert_eq!(facts.duration_ms, ms, "{tag} {declared}");
    }
}

#[test]
fn other_chunks_may_stand_anywhere() {
    let list = chunk("LIST", b"INFOISFT\x04\0\0\0abc\0");
    let fact = chunk("fact", &[0; 4]);
    let odd = chunk("odd!", b"12345");
    let orders = [
        vec![list.clone(), speech(), second()],
        vec![speech(), list.clone(), fact.clone(), second()],
        vec![odd.clone(), speech(), odd.clone(), second(), odd.clone()],
        vec![speech(), second(), list, fact],
        vec![speech(), second(), b"junk that is no chunk".to_vec()],
        vec![second(), speech()],
        vec![second(), odd, speech()],
    ];
    for chunks in orders {
        let facts = accepted(&chunks);
        assert_eq!((facts.duration_ms, facts.unsized_), (1000, false));
    }
}

#[test]
fn a_pad_byte_may_be_forgotten_or_not_be_zero() {
    for pad in [&b""[..], b"\0", b"x", b"\xFF"] {
        let odd = |id| [&sized(id, 5, b"12345"), pad].concat();
        let facts = accepted(&[odd("LIST"), speech(), odd("bext"), second()]);
        assert_eq!(facts.duration_ms, 1000, "{pad:?}");
    }
    // Where the forgotten byte makes the id look shifted: `data` and then a size of 0x41.
    let facts = accepted(&[speech(), sized("bext", 1, b"1"), chunk("data", &[0; 0x41])]);
    assert_eq!(facts.duration_ms, 4);
    // And chunks of any name.
    let facts = accepted(&[
        sized("abcd", 1, b"1"),
        chunk("efgh", b""),
        speech(),
        second(),
    ]);
    assert_eq!(facts.duration_ms, 1000);
}

#[test]
fn of_several_fmt_chunks_the_last_before_the_data_counts_and_of_several_data_the_first() {
    let mu_law = fmt(7, 1, 1, 8, &[]);
    let facts = accepted(&[mu_law.clone(), speech(), second(), mu_law.clone(), second()]);
    assert_eq!((facts.codec, facts.duration_ms), (Codec::PcmS16Le, 1000));
    let facts = accepted(&[second(), chunk("data", b""), speech(), mu_law]);
    assert_eq!((facts.codec, facts.duration_ms), (Codec::PcmS16Le, 1000));
}

#[test]
fn a_length_that_was_left_open_is_what_arrived() {
    let gsm = fmt(0x31, 1, 65, 0, &[]);
    let six = fmt(1, 6, 18, 24, &[]);
    for (fmt, size, bytes, ms) in [
        (speech(), 0, 16000, 1000),
        (speech(), 0, 0, 0),
        (speech(), 0xFFFF_FFFF, 16000, 1000),
        (speech(), 0xFFFF_FFFF, 0, 0),
        (speech(), 0x7FFF_FFFF, 16001, 1000),
        (speech(), 0x7FFF_F000, 16000, 1000),
        // Rounded down to blocks of 65 and of 18 bytes.
        (gsm.clone(), 0x7FFF_EFC2, 25 * 65 + 1, 1000),
        (gsm, 0x7FFF_F000, 25 * 65, 1000),
        (six, 0x7FFF_EFF6, 18 * 8000, 1000),
    ] {
        let facts = accepted(&[fmt, sized("data", size, &vec![0; bytes])]);
        assert_eq!((facts.duration_ms, facts.unsized_), (ms, true), "{size:#x}");
    }
}

#[test]
fn any_other_size_that_was_not_reached_is_a_truncated_file() {
    for (size, bytes) in [(16000, 15999), (2, 0), (0x7FFF_EFFE, 10), (0x8000_0000, 10)] {
        assert_refused(
            &[speech(), sized("data", size, &vec![0; bytes])],
            "wav_truncated",
            &format!("declares {size} bytes from byte 44 on, of which {bytes} arrived"),
        );
    }
}

#[test]
fn rf64_and_bw64_keep_the_size_of_their_data_elsewhere() {
    let ds64 = |data: u64| {
        let sizes = [99, data, 99].map(u64::to_le_bytes).concat();
        chunk("ds64", &[&sizes[..], &[0; 4]].concat())
    };
    let open = || sized("data", 0xFFFF_FFFF, &[0; 16000]);
    let padding = || chunk("JUNK", &[0; 16]);
    for magic in ["RF64", "BW64"] {
        let check = |chunks: &[Vec<u8>]| check(&wave(magic, chunks));
        let length = |chunks: &[Vec<u8>]| {
            let facts = check(chunks).unwrap();
            (facts.duration_ms, facts.unsized_)
        };
        let trailed = [ds64(16000), speech(), open(), padding()];
        assert_eq!(length(&trailed), (1000, false));
        // The size stands in both places, or `ds64` comes late.
        assert_eq!(length(&[ds64(1), speech(), second()]), (1000, false));
        assert_eq!(length(&[speech(), ds64(8000), open()]), (500, false));
        assert_eq!(length(&[ds64(16000), open(), speech()]), (1000, false));
        // Written ahead and never filled in, or not there at all.
        assert_eq!(length(&[ds64(0), speech(), open()]), (1000, true));
        assert_eq!(length(&[ds64(u64::MAX), speech(), open()]), (1000, true));
        assert_eq!(length(&[speech(), open()]), (1000, true));
        assert_eq!(
            length(&[chunk("ds64", &[7; 15]), speech(), open()]),
            (1000, true)
        );

        for missing in [16001, 1 << 40, u64::MAX - 1] {
            let problem = check(&[ds64(missing), speech(), open()]).unwrap_err();
            assert_eq!(problem.code, "wav_truncated");
        }
    }
    // To plain RIFF the chunk means nothing.
    let facts = accepted(&[ds64(8000), speech(), open()]);
    assert_eq!((facts.duration_ms, facts.unsized_), (1000, true));
}

#[test]
fn what_is_not_riff_is_named() {
    for (bytes, detail) in [
        (&b""[..], "an empty file"),
        (b"RIFF\0\0", r#"begins with "RIFF\x00\x00""#),
        (b"<html><body>", r#"begins with "<html><body>""#),
        (b"RIFX\0\0\0\0WAVEfmt ", "RIFX"),
        (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb", "W64"),
        (b"RIFF\0\0\0\0AVI LIST", r#"of the form "AVI ""#),
    ] {
        let problem = check(bytes).unwrap_err();
        assert_eq!(problem.code, "wav_not_riff");
        assert!(problem.detail.contains(detail), "{}", problem.detail);
    }
}

#[test]
fn a_missing_chunk_is_missed() {
    assert_refused(
        &[],
        "wav_no_fmt",
        "among the 0 chunks up to byte 12; the file has 12",
    );
    assert_refused(&[second()], "wav_no_fmt", "before the data");
    assert_refused(
        &[speech()],
        "wav_no_data",
        "among the 1 chunks up to byte 36",
    );
    // Data without an end hide what may come after them.
    let open = sized("data", 0, &[0; 8]);
    assert_refused(&[open, speech()], "wav_no_fmt", "before the data");
    // A chunk that leads out of the file.
    let lost = sized("LIST", 5_000_000, b"");
    assert_refused(
        &[speech(), lost.clone(), second()],
        "wav_no_data",
        "byte 5000044",
    );
    assert_refused(&[lost, speech(), second()], "wav_no_fmt", "byte 5000020");
    // The header of the data is cut.
    assert_refused(&[speech(), b"data\0\0\0".to_vec()], "wav_no_data", "");
}

#[test]
fn a_header_of_endless_chunks_is_given_up() {
    let many = vec![chunk("JUNK", b""); 5000];
    let (code, detail) = refused(&[speech(), many.concat(), second()]);
    assert_eq!(code, "wav_no_data");
    assert!(detail.contains("among the 4096 chunks"), "{detail}");
}

#[test]
fn a_fmt_chunk_that_contradicts_itself_is_bad() {
    let mut no_rate = speech();
    no_rate[12..16].fill(0);
    for (fmt, detail) in [
        (fmt(1, 0, 2, 16, &[]), "no channels"),
        (no_rate, "0 Hz"),
        (
            fmt(1, 2, 2, 16, &[]),
            "blocks of 2 bytes; 2 × 16 bits make 4",
        ),
        (
            fmt(1, 1, 4, 24, &[]),
            "blocks of 4 bytes; 1 × 24 bits make 3",
        ),
        (fmt(1, 1, 0, 0, &[]), "blocks of 0 bytes"),
        (fmt(1, 1, 0, 16, &[]), "blocks of 0 bytes"),
        (fmt(1, u16::MAX, u16::MAX, 32, &[]), "make 262140"),
        (fmt(3, 1, 4, 64, &[]), "make 8"),
        (fmt(7, 1, 2, 8, &[]), "make 1"),
        (
            fmt(6, 1, 2, 16, &[]),
            "A-law (format tag 0x0006) of 16 bits; it has 8",
        ),
        (fmt(2, 1, 0, 4, &[]), "blocks of 0 bytes"),
        (
            fmt(2, 2, 13, 4, &[]),
            "too few for adpcm_ms of 2 channel(s)",
        ),
        (
            fmt(0x11, 1, 3, 4, &[]),
            "too few for adpcm_ima of 1 channel(s)",
        ),
        (
            fmt(0x31, 1, 33, 0, &[]),
            "GSM of 1 channel(s) in blocks of 33 bytes",
        ),
        (
            fmt(0x31, 2, 130, 0, &[]),
            "GSM of 2 channel(s) in blocks of 130 bytes",
        ),
        (chunk("fmt ", &speech()[8..21]), "has 13 bytes"),
    ] {
        assert_refused(&[fmt, second()], "wav_bad_fmt", detail);
    }
    let cut = wave("RIFF", &[speech()]);
    assert_eq!(check(&cut[..30]).unwrap_err().code, "wav_bad_fmt");
}

#[test]
fn an_unsupported_codec_is_named() {
    for (fmt, detail) in [
        (fmt(0x55, 1, 1, 0, &[]), "MP3 (format tag 0x0055)"),
        (fmt(0x83, 1, 10, 0, &[]), "G.729 (format tag 0x0083)"),
        (fmt(0x45, 1, 1, 4, &[]), "G.726 ADPCM (format tag 0x0045)"),
        (fmt(0x10, 1, 1, 4, &[]), "OKI ADPCM (format tag 0x0010)"),
        (fmt(0x111, 1, 24, 0, &[]), "G.723.1 (format tag 0x0111)"),
        (fmt(0xBEEF, 1, 1, 8, &[]), "unknown (format tag 0xBEEF)"),
        (fmt(1, 1, 2, 12, &[]), "PCM (format tag 0x0001) of 12 bits"),
        (fmt(1, 1, 8, 64, &[]), "of 64 bits"),
        (
            fmt(3, 1, 2, 16, &[]),
            "IEEE float (format tag 0x0003) of 16 bits",
        ),
        (
            fmt(0x11, 1, 256, 3, &[]),
            "IMA ADPCM (format tag 0x0011) of 3 bits",
        ),
    ] {
        assert_refused(&[fmt, second()], "wav_unsupported_codec", detail);
    }
}

#[test]
fn limits_refuse_what_the_configuration_does_not_list() {
    let limits = |channels: &[u16], rates: &[u32]| WavLimits {
        channels: Some(channels.to_vec()),
        sample_rates_hz: Some(rates.to_vec()),
    };
    let file = wave("RIFF", &[speech(), second()]);
    assert!(check_within(&file, &limits(&[2, 1], &[8000])).is_ok());
    for (limits, detail) in [
        (
            limits(&[2, 4], &[8000]),
            "The number of channels is 1; allowed here: 2, 4.",
        ),
        (
            limits(&[1], &[16000, 44100]),
            "The sample rate in Hz is 8000; allowed here: 16000, 44100.",
        ),
        (
            limits(&[], &[]),
            "The number of channels is 1; allowed here: .",
        ),
    ] {
        let problem = check_within(&file, &limits).unwrap_err();
        assert_eq!(problem.code, "wav_limits");
        assert!(problem.detail.contains(detail), "{}", problem.detail);
    }
}

#[test]
fn of_several_faults_the_most_basic_is_reported() {
    let limits = WavLimits {
        channels: Some(vec![2]),
        sample_rates_hz: None,
    };
    let code = |chunks: &[Vec<u8>]| {
        check_within(&wave("RIFF", chunks), &limits)
            .unwrap_err()
            .code
    };
    let cut = || sized("data", 100, b"");
    assert_eq!(code(&[cut()]), "wav_no_fmt");
    assert_eq!(code(&[fmt(1, 1, 3, 16, &[]), cut()]), "wav_bad_fmt");
    assert_eq!(code(&[fmt(0x55, 1, 3, 16, &[])]), "wav_unsupported_codec");
    assert_eq!(code(&[speech(), cut()]), "wav_limits");
    assert_eq!(code(&[fmt(1, 2, 4, 16, &[])]), "wav_no_data");
    assert_eq!(code(&[fmt(1, 2, 4, 16, &[]), cut()]), "wav_truncated");
}

#[test]
fn a_file_that_cannot_be_read_is_no_fault_of_the_recording() {
    let file = wave("RIFF", &[speech(), second()]);
    let error = inspect(&mut Cursor::new(&file[..30]), 16044, &WavLimits::default()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

/// A file that remembers the furthest byte read.
struct Watched<'b> {
    file: Cursor<&'b [u8]>,
    furthest: u64,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.furthest = self.furthest.max(self.file.position());
        Ok(read)
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

/// The judgement of the first `len` bytes, which must be that of a file that ends there.
fn check_watched(bytes: &[u8], len: usize) {
    let mut file = Watched {
        file: Cursor::new(bytes),
        furthest: 0,
    };
    let end = u64::try_from(len).unwrap();
    let found = inspect(&mut file, end, &WavLimits::default()).unwrap();
    assert!(file.furthest <= end);
    assert_eq!(found, check(&bytes[..len]));
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let magic = prop::sample::select(vec!["RIFF", "RF64", "BW64"]);
    let codec = prop::sample::select(CODECS.to_vec());
    let size = prop::sample::select(vec![0, 64, 0x7FFF_F000, u32::MAX]);
    (magic, codec, any::<bool>(), any::<[u8; 28]>(), size).prop_map(
        |(magic, (_, tag, channels, align, bits, ..), plain, ds64, size)| {
            let fmt = if plain {
                fmt(tag, channels, align, bits, &[0; 4])
            } else {
                extensible(tag, channels, align, bits, bits)
            };
            let odd = chunk("odd!", b"12345");
            let data = sized("data", size, &[0; 64]);
            wave(magic, &[chunk("ds64", &ds64), odd, fmt, data])
        },
    )
}

proptest! {
    #[test]
    fn random_bytes_are_judged_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        riff in any::<bool>(),
    ) {
        let head = if riff { wave("RIFF", &[]) } else { Vec::new() };
        let bytes = [head, bytes].concat();
        check_watched(&bytes, bytes.len());
        check_watched(&bytes, bytes.len() / 2);
    }

    #[test]
    fn mutated_files_are_judged_without_panic(
        mut bytes in valid(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        len in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        check_watched(&bytes, bytes.len());
        check_watched(&bytes, len.index(bytes.len()));
    }

    #[test]
    fn no_format_makes_the_arithmetic_overflow(
        tag in prop::sample::select(vec![1, 2, 3, 6, 7, 0x11, 0x31]),
        channels in any::<u16>(),
        rate in any::<u32>(),
        align in any::<u16>(),
        bits in any::<u16>(),
        size in any::<u64>(),
    ) {
        let mut fmt = fmt(tag, channels, align, bits, &[]);
        fmt[12..16].copy_from_slice(&rate.to_le_bytes());
        if let Ok(format) = super::Format::parse(&fmt[8..]) {
            format.duration_ms(size);
            format.duration_ms(u64::MAX);
        }
    }

    /// The second opinion never costs a format that the first would accept.
    #[test]
    fn hound_refuses_no_pcm_that_agrees_with_itself(
        (tag, bits) in prop::sample::select(vec![(1, 8), (1, 16), (1, 24), (1, 32), (3, 32)]),
        channels in 0..u16::MAX,
        rate in 1..=u32::MAX,
    ) {
        let channels = 1 + channels % (u16::MAX / (bits / 8));
        let mut fmt = fmt(tag, channels, channels * (bits / 8), bits, &[]);
        fmt[12..16].copy_from_slice(&rate.to_le_bytes());
        prop_assert!(super::Format::parse(&fmt[8..]).is_ok());
    }

    #[test]
    fn what_hound_wrote_is_read_as_hound_reads_it(
        (bits_per_sample, sample_format) in prop::sample::select(vec![
            (8, SampleFormat::Int), (16, SampleFormat::Int), (24, SampleFormat::Int),
            (32, SampleFormat::Int), (32, SampleFormat::Float),
        ]),
        channels in 1..9_u16,
        sample_rate in 1..200_000_u32,
        frames in 0..300_u32,
    ) {
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut file = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut file, spec).unwrap();
        for _ in 0..frames * u32::from(channels) {
            match sample_format {
                SampleFormat::Int => writer.write_sample(1_i32).unwrap(),
                SampleFormat::Float => writer.write_sample(0.5_f32).unwrap(),
            }
        }
        writer.finalize().unwrap();
        let file = file.into_inner();
        let facts = check(&file).unwrap();
        let reader = hound::WavReader::new(&file[..]).unwrap();
        prop_assert_eq!(facts.channels, reader.spec().channels);
        prop_assert_eq!(facts.sample_rate_hz, reader.spec().sample_rate);
        prop_assert_eq!(facts.bits_per_sample, reader.spec().bits_per_sample);
        let ms = u64::from(reader.duration()) * 1000 / u64::from(sample_rate);
        prop_assert_eq!(facts.duration_ms, ms);
        // Nothing written at all leaves a declared length of 0.
        prop_assert_eq!(facts.unsized_, frames == 0);
    }
}
