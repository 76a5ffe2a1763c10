//! Who goes first among those that wait: whose URL expires first. Pure.
//!
//! What waits in one worker for long, and has downloads before it: deliveries for a place, after a broken
//! connection; an event's attachments, where it has more than are under way at once; downloads for room in the
//! spool. All three go by [`due`]. Long events take turns as they came, for nobody has seen their URLs yet. What
//! waits later, for a processor, memory or a store, has its bytes: that too goes as it came.

use std::panic::catch_unwind;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::SIDE_BY_SIDE;
use crate::{
    attachment::Planned,
    event::Event,
    fetch::expiry::{due, unhurried},
};

/// Longer events are not taken apart only to see when they are due: that would take as long as others wait.
const SHORT: usize = 64 << 10;

/// By when the job of a message that has to wait should begin. It is taken apart for that once more than others.
pub fn due_of(message: &[u8], arrived: DateTime<Utc>) -> DateTime<Utc> {
    let soonest = || {
        let event = Event::parse(&Bytes::copy_from_slice(message));
        let Ok(Event::Analyzed(call)) = event else {
            return None;
        };
        let urls = call.attachments.iter().map(|listed| &listed.url);
        urls.map(|url| due(url, arrived)).min()
    };
    // A panic is the job's, when it comes to that.
    let soonest = (message.len() <= SHORT).then(|| catch_unwind(soonest).ok().flatten());
    soonest.flatten().unwrap_or_else(|| unhurried(arrived))
}

/// In which order an event's attachments are begun.
pub(super) fn begin(planned: &[Planned<'_>], now: DateTime<Utc>) -> Vec<usize> {
    let mut order: Vec<_> = (0..planned.len()).collect();
    if planned.len() > SIDE_BY_SIDE {
        order.sort_by_cached_key(|at| due(&planned[*at].listed.url, now));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_when_the_first_of_its_urls_expires() {
        let arrived = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
        let event = |urls: &[&str]| {
            let urls: Vec<_> = urls
                .iter()
                .map(|url| format!(r#"{{"url": "{url}"}}"#))
                .collect();
            format!(
                r#"{{"event": "call.analyzed", "data": {{"id": "c", "created_at": "2026-01-01T00:00:00Z",
                "attachments": [{}]}}}}"#,
                urls.join(", ")
            )
        };
        let due = |text: &str| (due_of(text.as_bytes(), arrived) - arrived).num_seconds();
        let urls = [
            "https://h/a?Expires=1728000300",
            "https://h/b?Expires=1728000060",
            "https://h/c",
        ];
        assert_eq!(due(&event(&urls)), 60);
        for silent in [&event(&[]), &event(&urls[2..]), "{}", "\u{0}", ""] {
            assert_eq!(due(silent), 600, "{silent}");
        }
    }
}
