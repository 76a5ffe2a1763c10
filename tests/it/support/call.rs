//! The provider's sample call: its event, and files such as the event names.

use std::io::Cursor;

use bytes::Bytes;
use serde_json::{Value, json};

use super::origin::Origin;

/// The provider's `call.analyzed`, as it sends it.
pub(crate) const ANALYZED: &str = include_str!("../../../src/cli/demo/events/call.analyzed.json");
/// The provider's `call.started`.
pub(crate) const STARTED: &str = include_str!("../../../src/cli/demo/events/call.started.json");
/// The provider's `call.ended`.
pub(crate) const ENDED: &str = include_str!("../../../src/cli/demo/events/call.ended.json");

/// What every key of the sample call's begins with.
pub(crate) const FOLDER: &str =
    "2023/08/24/5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15/00552b38-d0e7-460f-9877-a7c8c8b2ff8c";
/// Its manifest's key.
pub(crate) const MANIFEST: &str = "2023/08/24/5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15/00552b38-d0e7-460f-9877-a7c8c8b2ff8c/manifest.json";
/// The organization in its URLs.
pub(crate) const ORGANIZATION: &str = "fb545ce8-68e1-4303-ab23-6ba0149fc4b1";
/// The agent of its attachments.
pub(crate) const AGENT: &str = "cd1c82f0-a276-4617-b272-ba08d83c83fd";

/// The files of the sample call, by the last segment of their paths.
pub(crate) fn files() -> [(&'static str, &'static str, Bytes); 3] {
    [
        (
            "analysis.json",
            "application/json",
            Bytes::from_static(br#"{"summary": "all is well"}"#),
        ),
        ("recording.wav", "audio/x-wav", wav(8000)),
        (
            "transcript.json",
            "application/json",
            Bytes::from_static(br#"{"turns": [{"text": "hello"}]}"#),
        ),
    ]
}

/// A recording of so many samples at 8 kHz: a second has 8000.
pub(crate) fn wav(samples: u32) -> Bytes {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for n in 0..samples {
        writer
            .write_sample(i16::try_from(n % 20_000).unwrap())
            .unwrap();
    }
    writer.finalize().unwrap();
    file.into_inner().into()
}

/// The sample event with its three files served by `origin`.
pub(crate) fn served(origin: &Origin) -> Bytes {
    let event: Value = serde_json::from_str(ANALYZED).unwrap();
    for attachment in event["data"]["attachments"].as_array().unwrap() {
        let path = attachment["url"]
            .as_str()
            .unwrap()
            .strip_prefix("https://example")
            .unwrap();
        let (_, content_type, bytes) = files()
            .into_iter()
            .find(|(name, ..)| path.ends_with(name))
            .unwrap();
        origin.put(path, bytes, content_type);
    }
    ANALYZED.replace("https://example", &origin.url("")).into()
}

/// The sample event with other attachments: the URLs given.
pub(crate) fn with_urls(urls: &[&str]) -> Bytes {
    let attachments: Vec<_> = urls.iter().map(|url| json!({"url": url})).collect();
    let mut event: Value = serde_json::from_str(ANALYZED).unwrap();
    event["data"]["attachments"] = attachments.into();
    event.to_string().into()
}

/// The sample event with one recording, at a path of the origin's.
pub(crate) fn with_recording(origin: &Origin, path: &str) -> Bytes {
    origin.put(path, wav(800), "audio/x-wav");
    with_urls(&[&origin.url(path)])
}
