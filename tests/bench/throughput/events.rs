//! Events as an ingress publishes them, and the files that they name.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use chrono::{SecondsFormat, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// The provider's `call.analyzed`, as it sends it.
const ANALYZED: &str = include_str!("../../../src/cli/demo/events/call.analyzed.json");
const ORGANIZATION: &str = "organization_fb545ce8-68e1-4303-ab23-6ba0149fc4b1";

/// Every event has these two.
pub(crate) const ANALYSIS: (&str, u64) = ("analysis.json", 4 << 10);
pub(crate) const TRANSCRIPT: (&str, u64) = ("transcript.json", 20 << 10);

/// What a WAV file begins with before its samples.
const HEADER: u64 = 44;

/// One message, and the files in it.
pub(crate) struct Event {
    pub(crate) request_id: String,
    pub(crate) body: Vec<u8>,
    pub(crate) files: Vec<Source>,
}

/// One attachment, for those who know no events.
pub(crate) struct Source {
    pub(crate) url: String,
    pub(crate) key: String,
}

impl Event {
    /// An event of this moment's, with an analysis, a transcript and a recording of this name at an origin.
    pub(crate) fn new(origin: &str, recording: &str) -> Result<Self> {
        Self::of(origin, &[ANALYSIS.0, recording, TRANSCRIPT.0])
    }

    /// An event of this moment's with these files. Its URLs are its own.
    pub(crate) fn of(origin: &str, names: &[&str]) -> Result<Self> {
        let (call, request) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        // Of an event that is older the worker first asks the store whether it has it.
        let now = Utc::now();
        let written = now.to_rfc3339_opts(SecondsFormat::Micros, true);
        let date = now.format("%Y/%m/%d");
        let files: Vec<_> = names
            .iter()
            .map(|name| Source {
                url: format!("{origin}/f/{ORGANIZATION}/calls/{}/{name}", Uuid::new_v4()),
                key: format!("{date}/{call}/{request}/{name}"),
            })
            .collect();
        let mut event: Value = serde_json::from_str(ANALYZED)?;
        event["request_id"] = json!(request);
        let data = &mut event["data"];
        data["id"] = json!(call);
        data["created_at"] = json!(written);
        data["updated_at"] = json!(written);
        let attachment = |file: &Source| {
            let json = Path::new(&file.url)
                .extension()
                .is_some_and(|end| end == "json");
            json!({
                "content_type": if json { "application/json" } else { "audio/x-wav" },
                "agent_id": "cd1c82f0-a276-4617-b272-ba08d83c83fd",
                "url": file.url,
            })
        };
        data["attachments"] = files.iter().map(attachment).collect();
        Ok(Self {
            request_id: request,
            body: serde_json::to_vec(&event)?,
            files,
        })
    }
}

/// An analysis of exactly that many bytes.
pub(crate) fn analysis(size: u64) -> Vec<u8> {
    let text =
        json!({"summary": "The caller asked for a job, and was told when to come.", "score": 0.87});
    padded(&text, size)
}

/// A transcript of exactly that many bytes.
pub(crate) fn transcript(size: u64) -> Vec<u8> {
    let turn = |n: u64| {
        json!({
            "speaker": if n.is_multiple_of(2) { "agent" } else { "user" },
            "text": format!("This is what was said in turn {n}, which is as long as most of them are."),
            "start": n * 4,
            "end": n * 4 + 3,
        })
    };
    // Such a turn takes some 130 bytes.
    let turns: Vec<_> = (0..size.saturating_sub(200) / 140).map(turn).collect();
    padded(&json!({"turns": turns}), size)
}

fn padded(value: &Value, size: u64) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    // JSON may end in any number of spaces.
    bytes.resize(
        usize::try_from(size).unwrap_or(usize::MAX).max(bytes.len()),
        b' ',
    );
    bytes
}

/// A recording of exactly that many bytes, in memory.
pub(crate) fn recording(size: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(size)?);
    write_recording(&mut bytes, size)?;
    Ok(bytes)
}

/// Puts a recording of exactly that many bytes into a folder, unless it is there.
pub(crate) fn put_recording(folder: &Path, name: &str, size: u64) -> Result<()> {
    put(folder, name, size, |file| {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write_recording(&mut file, size)?;
        Ok(file.flush()?)
    })
}

/// The same with silence in it, which takes no room on the disk. It is read once: else the origin would be busy with
/// that in the first run alone.
pub(crate) fn put_silence(folder: &Path, name: &str, size: u64) -> Result<()> {
    put(folder, name, size, |mut file| {
        file.write_all(&header(size)?)?;
        Ok(file.set_len(size)?)
    })?;
    io::copy(&mut File::open(folder.join(name))?, &mut io::sink())?;
    Ok(())
}

/// Puts bytes into a folder.
pub(crate) fn put_bytes(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    put(folder, name, bytes.len() as u64, |mut file| {
        Ok(file.write_all(bytes)?)
    })
}

fn put(folder: &Path, name: &str, size: u64, write: impl FnOnce(File) -> Result<()>) -> Result<()> {
    let path = folder.join(name);
    if fs::metadata(&path).is_ok_and(|found| found.len() == size) {
        return Ok(());
    }
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    write(file).with_context(|| format!("cannot write {}", path.display()))
}

fn write_recording(mut to: impl std::io::Write, size: u64) -> Result<()> {
    // A store that compresses what it takes for sound must find nothing to compress.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = (0..1 << 17)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    to.write_all(&header(size)?)?;
    let mut left = size - HEADER;
    while left > 0 {
        let now = usize::try_from(left)?.min(noise.len());
        to.write_all(&noise[..now])?;
        left -= now as u64;
    }
    Ok(())
}

/// Mono, 16 bit, 8 kHz: what telephones have.
fn header(size: u64) -> Result<Vec<u8>> {
    let data = u32::try_from(size - HEADER).context("longer than a WAV file can be")?;
    let mut header = Vec::new();
    header.extend(b"RIFF");
    header.extend((data + 36).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16_u32.to_le_bytes());
    for half in [1_u16, 1] {
        header.extend(half.to_le_bytes());
    }
    for word in [8_000_u32, 16_000] {
        header.extend(word.to_le_bytes());
    }
    for half in [2_u16, 16] {
        header.extend(half.to_le_bytes());
    }
    header.extend(b"data");
    header.extend(data.to_le_bytes());
    Ok(header)
}
