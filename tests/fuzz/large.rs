//! Inputs as large as they may be, each made to cost as much as it can.

use bytes::Bytes;
use callvault::{
    check::json::{Schema, inspect, memory},
    event::{Event, EventError},
};

use super::cost;

/// The length of a body, in bytes. The largest has sixteen times as many.
const EVENT: usize = 1 << 20;

/// An event whose attachments are one text, as often as there is room.
fn event(attachment: &str) -> Bytes {
    let before = r#"{"event":"call.analyzed","data":{"id":"c","created_at":"2023-08-24T10:05:18Z","attachments":["#;
    let count = (EVENT - before.len() - 3) / (attachment.len() + 1);
    let all = vec![attachment; count].join(",");
    Bytes::from([before, &all, "]}}"].concat())
}

#[test]
fn a_list_of_millions_takes_little_more_memory_than_its_text() {
    for attachment in ["0", "[[]]", r#"{"url":"a:"}"#] {
        let body = event(attachment);
        let (parsed, peak) = cost::peak(|| Event::parse(&body));
        assert!(matches!(parsed, Err(EventError::TooMany { count }) if count > 50_000));
        assert!(peak <= body.len() + (1 << 20), "{attachment}: {peak} bytes");
    }
}

#[test]
fn many_urls_take_little_time_and_memory_whatever_they_spell() {
    let names: String = ('\u{4e00}'..).take(1000).collect();
    for url in [
        format!("https://{}", [names.as_str(); 5].join(".")),
        format!("https://{}", names.get(..1020).unwrap_or_default()),
        format!("https://{}", "xn--a-1ga.".repeat(100)),
        format!("https://h/{}", "a/../".repeat(3000)),
        format!("https://h/{}{}", "a/".repeat(4000), "../".repeat(2600)),
        format!("https://h/?{}", "\u{300}".repeat(8000)),
        format!("https://{}@h/", "@".repeat(5400)),
    ] {
        let body = event(&format!(r#"{{"url":"{url}"}}"#));
        // What is not plain is written out in the end: two bytes become six.
        cost::in_time(|| {
            let (_, peak) = cost::peak(|| Event::parse(&body));
            assert!(peak <= 8 * body.len(), "{url:.40}: {peak} bytes");
        });
    }
}

/// Schemas that a file can fail in many places, or in each branch: the two of the project, and an operator's.
const SCHEMAS: [&str; 4] = [
    include_str!("../../config/schemas/analysis.schema.json"),
    include_str!("../../config/schemas/transcript.schema.json"),
    r#"{"type": "object", "additionalProperties": false, "properties": {"turns": {"type": "object"}}}"#,
    r#"{"anyOf": [{"items": {"required": ["text"], "type": "object"}, "type": "array"}, {"oneOf": [
        {"additionalProperties": {"type": "string"}}, {"additionalProperties": {"items": {"not": {}}}}]}]}"#,
];

#[test]
fn json_that_fails_takes_no_more_memory_than_was_asked_for_before() {
    let schemas = SCHEMAS.map(|text| Schema::parse(text).unwrap());
    let names: Vec<String> = (0..20_000).map(|n| format!("\"{n}\":0,")).collect();
    for text in [
        format!(r#"{{"s":"{}"}}"#, "x".repeat(200_000)),
        format!(r#"{{"s":"{}"}}"#, "\\u0001".repeat(30_000)),
        format!(r#"{{"s":[{}0]}}"#, r#"{"a":1},"#.repeat(20_000)),
        format!(r#"{{"s":[{}0]}}"#, "0,".repeat(100_000)),
        format!(
            r#"{{"turns":[{{"s":[{}0]}}]}}"#,
            r#"{"a":1},"#.repeat(20_000)
        ),
        format!(r#"{{"turns":[{{"text":["{}"]}}]}}"#, "x".repeat(200_000)),
        format!(r#"{{"turns":[{{"{}":1}}]}}"#, "~".repeat(200_000)),
        format!(r#"["{}"]"#, "x".repeat(200_000)),
        format!("[{}0]", "1e15,".repeat(40_000)),
        format!("[{}0]", "[],".repeat(60_000)),
        format!("{{{}\"turns\":[]}}", names.concat()),
        format!(r#"{{"s":"{}"#, "x".repeat(200_000)),
    ] {
        for (schema, source) in schemas.iter().zip(SCHEMAS) {
            let len = text.len() as u64;
            let most = memory(&mut text.as_bytes(), len, true).unwrap();
            let (judged, peak) =
                cost::peak(|| inspect(&mut text.as_bytes(), len, Some(schema)).unwrap());
            let room = 256 << 10;
            assert!(
                peak as u64 <= most + room,
                "{peak} bytes of {most} for {text:.40} by {source:.90}"
            );
            assert!(judged.is_ok() || judged.is_err_and(|problem| problem.detail.len() <= 1024));
        }
    }
}
