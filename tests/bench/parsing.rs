//! What reading costs: recordings' headers, JSON files, events. `cargo bench --bench parsing`; a part of a name behind
//! `--` runs what has it in its name.

// A benchmark whose input is not what it says must end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Cursor;

use bytes::Bytes;
use callvault::{
    check::{
        json::{self, Schema},
        wav,
    },
    config::WavLimits,
    event::Event,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

criterion_group!(parsing, recordings, transcripts, events);
criterion_main!(parsing);

/// The provider's three events, as it sends them.
const SENT: [(&str, &str); 3] = [
    (
        "call.started",
        include_str!("../../src/cli/demo/events/call.started.json"),
    ),
    (
        "call.ended",
        include_str!("../../src/cli/demo/events/call.ended.json"),
    ),
    ("call.analyzed", ANALYZED),
];
const ANALYZED: &str = include_str!("../../src/cli/demo/events/call.analyzed.json");
const SCHEMA: &str = include_str!("../../config/schemas/transcript.schema.json");

/// No sample is read, so that the length of the data is no matter.
fn recordings(criterion: &mut Criterion) {
    let extensible = [
        &[22, 0, 16, 0, 4, 0, 0, 0, 1, 0][..],
        b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71",
    ]
    .concat();
    let plain = fmt(1, 2, 16, &[]);
    let codecs = [
        ("pcm_s16le", wav(&[(b"fmt ", plain.clone())])),
        (
            "extensible",
            wav(&[(b"fmt ", fmt(0xFFFE, 2, 16, &extensible))]),
        ),
        (
            "pcm_mulaw",
            wav(&[(b"fmt ", fmt(7, 1, 8, &[0, 0])), (b"fact", vec![0; 4])]),
        ),
        (
            "adpcm_ima",
            wav(&[(b"fmt ", fmt(0x11, 256, 4, &[2, 0, 249, 1]))]),
        ),
        (
            "gsm_ms",
            wav(&[(b"fmt ", fmt(0x31, 65, 0, &[2, 0, 64, 1]))]),
        ),
    ];
    let mut group = criterion.benchmark_group("wav");
    for (name, file) in codecs {
        inspected(&file);
        group.bench_function(name, |bencher| bencher.iter(|| inspected(&file)));
    }

    let mut chunks = vec![(b"LIST", vec![0; 26]); 998];
    chunks.push((b"fmt ", plain));
    let file = wav(&chunks);
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000 chunks", |bencher| bencher.iter(|| inspected(&file)));
    group.finish();
}

fn inspected(file: &[u8]) -> wav::Facts {
    let len = file.len() as u64;
    let judged = wav::inspect(&mut Cursor::new(file), len, &WavLimits::default()).unwrap();
    judged.expect("a recording that passes")
}

/// A `fmt ` chunk's content: one channel at 8 kHz.
fn fmt(tag: u16, block_align: u16, bits: u16, extra: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(tag.to_le_bytes());
    content.extend(1_u16.to_le_bytes());
    content.extend(8000_u32.to_le_bytes());
    content.extend(16_000_u32.to_le_bytes());
    content.extend(block_align.to_le_bytes());
    content.extend(bits.to_le_bytes());
    content.extend(extra);
    content
}

/// These chunks, then a `data` chunk of 64 KiB.
fn wav(chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WAVE".to_vec();
    let data = (b"data", vec![0; 64 << 10]);
    for (name, content) in chunks.iter().chain([&data]) {
        file.extend(*name);
        file.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
        file.extend(content);
    }
    file
}

/// As the worker has it: first a bound on the memory that it will take, then the judgement.
fn transcripts(criterion: &mut Criterion) {
    let schema = Schema::parse(SCHEMA).unwrap();
    let mut group = criterion.benchmark_group("json");
    for (size, len) in [("4 KB", 4_000), ("300 KB", 300_000), ("6 MB", 6_000_000)] {
        let text = transcript(len);
        group.throughput(Throughput::Bytes(text.len() as u64));
        // Of short texts none is looked for.
        if len > 16 << 10 {
            group.bench_function(BenchmarkId::new("bound", size), |bencher| {
                bencher.iter(|| json::memory(&mut &*text, text.len() as u64, true).unwrap());
            });
        }
        for (name, schema) in [("syntax", None), ("schema", Some(&schema))] {
            let inspected = || {
                let judged = json::inspect(&mut &*text, text.len() as u64, schema).unwrap();
                judged.expect("a transcript that passes");
            };
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(inspected);
            });
        }
    }
    group.finish();
}

/// A transcript of about so many bytes, with a time for each word, as speech recognizers write them.
fn transcript(len: usize) -> Vec<u8> {
    let words: Vec<Value> = "Agent, may I have your full name? Ja, Müller ist mein Name."
        .split(' ')
        .zip(0_u32..)
        .map(|(word, at)| json!({"word": word, "start": f64::from(at) * 0.32, "end": f64::from(at) * 0.32 + 0.3}))
        .collect();
    let turn = json!({
        "speaker": "agent",
        "text": "Agent, may I have your full name? Ja, Müller ist mein Name.",
        "start": 12.5,
        "end": 16.25,
        "confidence": 0.97,
        "words": words,
    });
    let count = (len / turn.to_string().len()).max(1);
    serde_json::to_vec(&json!({"language": "en", "turns": vec![turn; count]})).unwrap()
}

fn events(criterion: &mut Criterion) {
    let mut many: Value = serde_json::from_str(ANALYZED).unwrap();
    let attachments = many["data"]["attachments"].as_array_mut().unwrap();
    *attachments = attachments.iter().cycle().take(100).cloned().collect();
    let many = many.to_string();

    let mut group = criterion.benchmark_group("event");
    for (name, text) in SENT.into_iter().chain([("100 attachments", many.as_str())]) {
        let body = Bytes::copy_from_slice(text.as_bytes());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| Event::parse(&body).expect("an event that is one"));
        });
    }
    group.finish();
}
