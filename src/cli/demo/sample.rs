//! A sample call: the provider's events, and attachments such as they name.

use std::{f64::consts::TAU, io::Cursor};

use bytes::Bytes;
use hound::{SampleFormat, WavSpec, WavWriter};
use serde_json::{Value, json};

use super::origin::Files;

const CALLS: &str = "/organization_fb545ce8-68e1-4303-ab23-6ba0149fc4b1/calls";

const ANALYSIS: &str = "19addcb3-4e2c-4730-a87d-6476b802691b/analysis.json";
const RECORDING: &str = "e636898c-2677-4257-944a-1b655f8ba25c/recording.wav";
const TRANSCRIPT: &str = "8472900a-f1f9-4710-bd84-b23942b38466/transcript.json";
/// Not of the provider's.
const BROKEN: &str = "0b1f6c0e-5a0f-4c53-9a41-6b8d1f1f6d2c/recording.wav";

/// Samples a second: what telephones sound like.
const RATE: u32 = 8000;

/// What is said, by whom, as the provider's sample event has it.
const TURNS: [(&str, &str); 6] = [
    (
        "agent",
        "Hey this is Charlie with Whippy Employment, may I have your full name please?",
    ),
    ("user", "My name is Jack Hannaford."),
    (
        "agent",
        "Nice to meet you, Jack. What is your preferred contact method - phone call, SMS, or email?",
    ),
    ("user", "Uh, let's do SMS."),
    ("agent", "Got it, Jack. Let's move on to your work history."),
    ("user", "I was working at Global Technical Recruiters."),
];

/// How many events a call has.
pub(super) const EVENTS: usize = 3;

/// Where the provider's sample events say that its files are.
const PROVIDER: &str = "https://example";

/// The provider's events, in the order in which a call sends them, with `origin` as their host. The
/// last one lists one more recording, which is broken.
pub(super) fn events(origin: &str) -> serde_json::Result<[(&'static str, Bytes); EVENTS]> {
    let mut analyzed: Value = serde_json::from_str(include_str!("events/call.analyzed.json"))?;
    if let Some(list) = analyzed["data"]["attachments"].as_array_mut() {
        list.push(
            json!({"content_type": "audio/x-wav", "url": format!("{PROVIDER}{CALLS}/{BROKEN}")}),
        );
    }
    let event = |text: &str| Bytes::from(text.replace(PROVIDER, origin));
    Ok([
        (
            "call.started",
            event(include_str!("events/call.started.json")),
        ),
        ("call.ended", event(include_str!("events/call.ended.json"))),
        ("call.analyzed", event(&analyzed.to_string())),
    ])
}

/// The attachments that the last event names. The second recording is cut short.
pub(super) fn files() -> Result<Files, hound::Error> {
    let recording = Bytes::from(recording()?);
    let cut_short = recording.slice(..recording.len() / 3);
    let json = |value: &Value| Bytes::from(format!("{value:#}\n"));
    let files = [
        (ANALYSIS, "application/json", json(&analysis())),
        (RECORDING, "audio/x-wav", recording),
        (TRANSCRIPT, "application/json", json(&transcript())),
        (BROKEN, "audio/x-wav", cut_short),
    ];
    let file = |(path, content_type, bytes)| (format!("{CALLS}/{path}"), (content_type, bytes));
    Ok(files.map(file).into())
}

fn analysis() -> Value {
    json!({
        "summary": "Jack Hannaford applied for a job and prefers to be contacted by SMS.",
        "sentiment": "positive",
        "outcome": "interview_completed",
        "answers": {"name": "Jack Hannaford", "contact": "SMS", "last_employer": "Global Technical Recruiters"},
    })
}

fn transcript() -> Value {
    let mut start = RINGING;
    let turns: Vec<Value> = TURNS
        .iter()
        .map(|(speaker, text)| {
            let seconds = seconds(text);
            let turn = json!({"speaker": speaker, "text": text, "start": round(start), "end": round(start + seconds)});
            start += seconds + PAUSE;
            turn
        })
        .collect();
    json!({"language": "en", "turns": turns})
}

/// Seconds of ringing before anybody speaks.
const RINGING: f64 = 2.0;
/// Seconds between turns.
const PAUSE: f64 = 0.35;
/// Syllables a second.
const PACE: f64 = 5.5;

fn seconds(text: &str) -> f64 {
    let syllables = text
        .bytes()
        .filter(|byte| b"aeiouyAEIOUY".contains(byte))
        .count();
    f64::from(u32::try_from(syllables).unwrap_or(0)) / PACE
}

fn round(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

/// A telephone rings, then two voices hum their turns, syllable by syllable.
fn recording() -> Result<Vec<u8>, hound::Error> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut file, spec)?;
    // The North American ringback tone: 440 and 480 Hz.
    write(&mut writer, RINGING, |t| {
        let fade = (t / 0.05).min((RINGING - 0.3 - t) / 0.05).clamp(0.0, 1.0);
        0.2 * fade * ((TAU * 440.0 * t).sin() + (TAU * 480.0 * t).sin())
    })?;
    for (speaker, text) in TURNS {
        let pitch = if speaker == "agent" { 190.0 } else { 115.0 };
        let length = seconds(text);
        write(&mut writer, length, |t| hum(pitch, length, t))?;
        write(&mut writer, PAUSE, |_| 0.0)?;
    }
    writer.finalize()?;
    Ok(file.into_inner())
}

/// A voice at second `t` of a turn: a few harmonics, a melody that falls to the end, an envelope for
/// each syllable.
fn hum(pitch: f64, length: f64, t: f64) -> f64 {
    let syllable = (t * PACE).fract();
    let tune = 1.0 + 0.12 * (TAU * 0.7 * t).sin() - 0.15 * t / length.max(0.1);
    let phase = TAU * pitch * tune * t;
    let voice: f64 = [(1.0, 1.0), (2.0, 0.6), (3.0, 0.45), (4.0, 0.2), (7.0, 0.12)]
        .iter()
        .map(|(harmonic, strength)| strength * (phase * harmonic).sin())
        .sum();
    0.18 * voice * (TAU / 2.0 * syllable).sin().powf(0.7)
}

fn write<W: std::io::Write + std::io::Seek>(
    writer: &mut WavWriter<W>,
    seconds: f64,
    sound: impl Fn(f64) -> f64,
) -> Result<(), hound::Error> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few seconds, none of them negative"
    )]
    let samples = (seconds * f64::from(RATE)) as u32;
    for at in 0..samples {
        let level = sound(f64::from(at) / f64::from(RATE)).clamp(-1.0, 1.0);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within -32767 and 32767 by the clamp"
        )]
        writer.write_sample((level * 32767.0) as i16)?;
    }
    Ok(())
}
