//! WAV files of another writer: what sox writes in each codec is accepted as what it is, from a file
//! and from a pipe, where sox cannot go back to fill in the length.

use std::{fs::File, io::Cursor, process::Command};

use callvault::{
    check::wav::{Facts, inspect},
    config::WavLimits,
};

/// The length of each recording, in milliseconds.
const LENGTH: u64 = 1234;

/// Sox's options; the codec's name, channels, rate, and the samples of a block.
const CODECS: &[(&str, &str, u16, u32, u64)] = &[
    ("-e unsigned -b 8", "pcm_u8", 1, 8000, 1),
    ("-e signed -b 16", "pcm_s16le", 1, 8000, 1),
    ("-e signed -b 16", "pcm_s16le", 2, 44100, 1),
    ("-e signed -b 24", "pcm_s24le", 2, 48000, 1),
    ("-e signed -b 24", "pcm_s24le", 6, 48000, 1),
    ("-e signed -b 32", "pcm_s32le", 1, 16000, 1),
    ("-e float -b 32", "pcm_f32le", 1, 24000, 1),
    ("-e float -b 64", "pcm_f64le", 2, 22050, 1),
    ("-e a-law", "pcm_alaw", 1, 8000, 1),
    ("-e mu-law", "pcm_mulaw", 2, 8000, 1),
    ("-e ms-adpcm", "adpcm_ms", 1, 8000, 500),
    ("-e ms-adpcm", "adpcm_ms", 2, 16000, 500),
    ("-e ima-adpcm", "adpcm_ima", 1, 8000, 505),
    ("-e ima-adpcm", "adpcm_ima", 2, 16000, 505),
    ("-e gsm-full-rate", "gsm_ms", 1, 8000, 320),
];

#[test]
fn what_sox_writes_is_accepted_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recording.wav");
    for &(options, codec, channels, rate, block) in CODECS {
        let expect = |facts: Facts, unsized_: bool| {
            let found = (facts.codec.as_str(), facts.channels, facts.sample_rate_hz);
            assert_eq!(found, (codec, channels, rate), "{options}");
            assert_eq!(facts.unsized_, unsized_, "{options}: {facts:?}");
            // The last block is full, and sox rounds the length to samples.
            let latest = LENGTH + block * 1000 / u64::from(rate) + 1;
            assert!(
                (LENGTH - 1..=latest).contains(&facts.duration_ms),
                "{options}: {facts:?}"
            );
        };

        sox(options, channels, rate, path.to_str().unwrap()).unwrap();
        let mut file = File::open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        let found = inspect(&mut file, len, &WavLimits::default()).unwrap();
        expect(found.unwrap(), false);

        let piped = sox(options, channels, rate, "-").unwrap();
        let len = piped.len().try_into().unwrap();
        let found = inspect(&mut Cursor::new(piped), len, &WavLimits::default()).unwrap();
        expect(found.unwrap(), true);
    }
}

/// Has sox write a tone of [`LENGTH`] to a file, or returns it where that is `-`.
fn sox(options: &str, channels: u16, rate: u32, to: &str) -> Result<Vec<u8>, String> {
    let seconds = format!("0:0{}.{:03}", LENGTH / 1000, LENGTH % 1000);
    let output = Command::new("sox")
        .args(["-R", "-n", "-r", &rate.to_string()])
        .args(["-c", &channels.to_string()])
        .args(options.split(' '))
        .args(["-t", "wav", to, "synth", &seconds, "sine", "440"])
        .output()
        .map_err(|error| format!("sox cannot be run: {error}; run ./tests/run, which has it"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
