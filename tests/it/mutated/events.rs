//! Mutated events: each one the provider's, with ids of its own, and then not quite.

use bytes::Bytes;
use serde_json::{Value, json};

use super::bytes::mutate;
use crate::support::load::Dice;

/// The ids of the sample.
const IDS: [&str; 2] = [
    "5e09c7cc-27e8-4d91-89ee-4ea5bafaaa15",
    "00552b38-d0e7-460f-9877-a7c8c8b2ff8c",
];

/// Texts where an identifier, a name or a date should be.
const TEXTS: [&str; 24] = [
    "",
    ".",
    "..",
    "../../../etc/passwd",
    "a/../b",
    "a\\..\\b",
    "/etc/passwd",
    "a..b",
    "-a",
    ".hidden",
    "a b",
    "a\r\nX-Evil: 1",
    "a\u{0}b",
    "\u{1b}[31mred",
    "a\u{2028}b",
    "\u{202e}gnp.exe",
    "c\u{430}ll",
    "\u{ff0e}\u{ff0e}/",
    "%2e%2e%2f",
    "${jndi:ldap://x}",
    "manifest.json",
    "CON",
    "9999-12-31T23:59:59.999999999-23:59",
    "0000-01-01T00:00:00Z",
];

/// URLs after a scheme and a host, or without; `@` is where the files are.
const URLS: [&str; 32] = [
    "@/recording.wav",
    "@/recording.wav?sig=a%20b&x=\u{1f600}#f",
    "@/a/../recording.wav",
    "@/%72ecording.wav",
    "@/recording%2Ewav",
    "@//recording.wav",
    "@/missing.wav",
    "@/",
    "@",
    "@/manifest.json",
    "@/..%2f..%2f..%2fetc%2fpasswd",
    "@/%00",
    "@/a\tb\nc.wav",
    "@\\recording.wav",
    "ftp://127.0.0.1/recording.wav",
    "file:///etc/passwd",
    "data:audio/wav;base64,UklGRg==",
    "javascript:alert(1)",
    "blob:http://127.0.0.1/a",
    "unix:///run/docker.sock",
    "http://169.254.169.254/latest/meta-data/",
    "http://2130706433/",
    "http://0x7f.1:1/",
    "http://[::1]:1/",
    "http://[::ffff:169.254.169.254]/",
    "http://127.0.0.1:1/",
    "http://127.0.0.1:99999/",
    "http://evil.example/recording.wav",
    "http://127.0.0.1.evil.example/",
    "//127.0.0.1/recording.wav",
    "recording.wav",
    "http://",
];

/// So many events, whose files are at URLs that begin with `base`.
pub(super) fn mutated(dice: &mut Dice, sample: &str, base: &str, count: usize) -> Vec<Bytes> {
    let mut events: Vec<Bytes> = Vec::new();
    for n in 0..count {
        let event = fresh(dice, sample);
        let event = match n % 10 {
            0 if n > 0 => again(dice, &events),
            // As it should be.
            0 | 1 => event.into_bytes(),
            2 | 3 => {
                let (mut bytes, other) = (event.into_bytes(), fresh(dice, sample));
                mutate(dice, &mut bytes, other.as_bytes());
                bytes
            }
            4 => odd_text(dice, &event),
            5 => with_urls(dice, &event, base),
            _ => with_odd_field(dice, &event),
        };
        events.push(event.into());
    }
    events
}

/// The sample with ids of its own.
pub(super) fn fresh(dice: &mut Dice, sample: &str) -> String {
    sample
        .replace(IDS[0], &dice.id())
        .replace(IDS[1], &dice.id())
}

/// An earlier event: as it was, written otherwise, or with other attachments.
fn again(dice: &mut Dice, events: &[Bytes]) -> Vec<u8> {
    let earlier = dice.one_of(events);
    let Ok(mut event) = serde_json::from_slice::<Value>(earlier) else {
        return earlier.to_vec();
    };
    match dice.within(0..3) {
        0 => return earlier.to_vec(),
        1 => {}
        _ => {
            if let Some(listed) = event.pointer_mut("/data/attachments") {
                *listed = json!([]);
            }
        }
    }
    event.to_string().into_bytes()
}

fn with_urls(dice: &mut Dice, event: &str, base: &str) -> Vec<u8> {
    let count = *dice.one_of(&[0, 1, 1, 1, 2, 3, 8]);
    let mut urls = Vec::new();
    for _ in 0..count {
        let url = dice.one_of(&URLS).replace('@', base);
        urls.push(json!({"url": url, "agent_id": dice.one_of(&TEXTS)}));
    }
    changed(event, "/data/attachments", urls.into())
}

/// One field of another type, or with another text, or without.
fn with_odd_field(dice: &mut Dice, event: &str) -> Vec<u8> {
    let fields = [
        "/event",
        "/request_id",
        "/data",
        "/data/id",
        "/data/created_at",
        "/data/updated_at",
        "/data/attachments",
        "/data/attachments/0",
        "/data/attachments/1/url",
        "/data/attachments/2/agent_id",
        "/data/attachments/0/content_type",
        "/data/conversation_id",
        "/data/from",
        "/data/language",
    ];
    let types = [
        json!(null),
        json!(true),
        json!(-7),
        json!(1e308),
        json!([]),
        json!({}),
        json!([[]]),
    ];
    let value = match dice.within(0..5) {
        0 | 1 => dice.one_of(&types).clone(),
        2 => "x".repeat(dice.within(100..200_000)).into(),
        _ => (*dice.one_of(&TEXTS)).into(),
    };
    let field = *dice.one_of(&fields);
    changed(event, field, value)
}

fn changed(event: &str, field: &str, value: Value) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(event).unwrap();
    *event.pointer_mut(field).unwrap() = value;
    event.to_string().into_bytes()
}

/// What no tree of values can hold.
fn odd_text(dice: &mut Dice, event: &str) -> Vec<u8> {
    let event = event.trim();
    let first = |member: &str| event.replacen('{', &format!("{{{member},"), 1);
    let levels = *dice.one_of(&[100, 126, 127, 128, 20_000]);
    let fields: Vec<String> = (0..10_000).map(|n| format!("\"field{n}\":{n}")).collect();
    let names = [
        "call.ended",
        "call.analyzed\\n",
        "CALL.ANALYZED",
        "c\u{430}ll.analyzed",
        "call.\u{2028}",
    ];
    let name = *dice.one_of(&names);
    let many = format!(
        "\"attachments\":[{}]",
        vec![r#"{"url":"https://x/y"}"#; 1001].join(",")
    );
    match dice.within(0..16) {
        0 => first("\"request_id\":\"another\""),
        1 => first("\"data\":{}"),
        2 => first("\"event\":\"call.ended\""),
        3 => first("\"huge\":1e999"),
        4 => first(&format!("\"huge\":{}", "9".repeat(10_000))),
        5 => first(&format!(
            "\"deep\":{}{}",
            "[".repeat(levels),
            "]".repeat(levels)
        )),
        6 => first("\"alone\":\"\\ud800\""),
        7 => event.replace("\"INBOUND\"", "\"\\udfff\""),
        8 => first(&fields.join(",")),
        9 => event.replace("\"attachments\":", &format!("{many},\"were\":")),
        10 => event.replace("call.analyzed", name),
        11 => format!("\u{feff}{event}"),
        12 => return event.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        13 => return [event.as_bytes(), b"\xff"].concat(),
        14 => event.replace("\"event\"", "\"\\u0065vent\""),
        _ => format!("[{event}]"),
    }
    .into_bytes()
}
