//! Inputs as large as they may be, each made to cost as much as it can.

use bytes::Bytes;
use callvault::event::{Event, EventError};

use super::cost;

/// The length of a body, in bytes. The largest has four times as many.
const EVENT: usize = 4 << 20;

/// An event whose attachments are one text, as often as there is room, or as there may be.
fn event(attachment: &str, most: usize) -> Bytes {
    let before = r#"{"event":"call.analyzed","data":{"id":"c","created_at":"2023-08-24T10:05:18Z","attachments":["#;
    let count = most.min((EVENT - before.len() - 3) / (attachment.len() + 1));
    let all = vec![attachment; count].join(",");
    Bytes::from([before, &all, "]}}"].concat())
}

#[test]
fn a_list_of_millions_takes_little_more_memory_than_its_text() {
    for attachment in ["0", "[[]]", r#"{"url":"a:"}"#] {
        let body = event(attachment, usize::MAX);
        let (parsed, peak) = cost::peak(|| Event::parse(&body));
        assert!(matches!(parsed, Err(EventError::TooMany { count }) if count > 250_000));
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
        let body = event(&format!(r#"{{"url":"{url}"}}"#), 250);
        // What is not plain is written out in the end: two bytes become six.
        cost::in_time(|| {
            let (_, peak) = cost::peak(|| Event::parse(&body));
            assert!(peak <= 8 * body.len(), "{url:.40}: {peak} bytes");
        });
    }
}
