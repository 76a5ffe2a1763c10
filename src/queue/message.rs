//! What travels with an event: its properties, and callvault's headers beside them.

use chrono::{SecondsFormat, Utc};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::settle::Death;

/// How often an event was tried.
const ATTEMPT: &str = "x-callvault-attempt";
pub(super) const REASON: &str = "x-callvault-reason";
pub(super) const DETAIL: &str = "x-callvault-detail";
pub(super) const FAILED_AT: &str = "x-callvault-failed-at";
/// How often an event was dead and came back to work.
const REPLAYS: &str = "x-callvault-replays";
/// How many headers a message lost on its way, for they were too large to go along.
const DROPPED: &str = "x-callvault-dropped-headers";
const OWN: [&str; 6] = [ATTEMPT, REASON, DETAIL, FAILED_AT, REPLAYS, DROPPED];

/// The most that the headers of a message may take that goes on, in bytes. They came in one frame of at most
/// 128 KiB, which may have been full; so do callvault's own and the broker's with them, or the broker closes
/// the connection at each try, for ever.
const MOST_HEADERS: usize = 64 << 10;

/// The longest detail, in bytes: headers are for reading, and a frame holds them all.
const LONGEST_DETAIL: usize = 500;

/// Persistent, as AMQP 0-9-1 numbers it.
const PERSISTENT: u8 = 2;

/// Headers that do not go along: what the broker notes of a message's way, and `CC` and `BCC`, by which
/// a sender could have the broker copy the message to any queue.
const LEFT_BEHIND: [&str; 5] = [
    "CC",
    "BCC",
    "x-delivery-count",
    "x-acquired-count",
    "x-death",
];
const LEFT_BEHIND_PREFIXES: [&str; 2] = ["x-first-death-", "x-last-death-"];

/// How often an event was tried before this delivery; `None` where callvault never had it.
pub fn tries(properties: &BasicProperties) -> Option<u32> {
    count(properties, ATTEMPT)
}

/// The how-manieth try a delivery is, from 1.
pub fn attempt(properties: &BasicProperties) -> u32 {
    tries(properties).unwrap_or(0).saturating_add(1)
}

/// How often an event was replayed from the dead-letter queue.
pub fn replays(properties: &BasicProperties) -> u32 {
    count(properties, REPLAYS).unwrap_or(0)
}

/// Whether an earlier delivery may have left a manifest. A replay begins to count its tries anew, and may
/// find most of its attachments stored.
pub fn seen_before(properties: &BasicProperties) -> bool {
    tries(properties).is_some() || replays(properties) > 0
}

/// How many headers were too large to go along, so far.
pub(super) fn dropped(properties: &BasicProperties) -> u32 {
    count(properties, DROPPED).unwrap_or(0)
}

/// A header that is a text, as far as it is one.
pub(super) fn text<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

fn count(properties: &BasicProperties, name: &str) -> Option<u32> {
    let headers = properties.headers().as_ref()?;
    // A negative number is nobody's of ours.
    u32::try_from(as_integer(headers.inner().get(name)?)?).ok()
}

/// How often the broker took a message back that it had delivered. Classic queues do not count.
pub fn returns(properties: &BasicProperties) -> u32 {
    let count = || {
        let headers = properties.headers().as_ref()?;
        as_integer(headers.inner().get("x-delivery-count")?)
    };
    count().map_or(0, |count| u32::try_from(count).unwrap_or(0))
}

/// The properties of an event that waits for its next try.
pub fn retried(properties: &BasicProperties, tries: u32) -> BasicProperties {
    with(properties, [(ATTEMPT, AMQPValue::LongUInt(tries))])
}

/// The properties of an event that is dead.
pub fn dead(properties: &BasicProperties, tries: u32, death: &Death) -> BasicProperties {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let detail = &death.detail[..death.detail.floor_char_boundary(LONGEST_DETAIL)];
    let failed_at = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    with(
        properties,
        [
            (ATTEMPT, AMQPValue::LongUInt(tries)),
            (REASON, text(death.reason.as_str())),
            (DETAIL, text(detail)),
            (FAILED_AT, text(&failed_at)),
        ],
    )
}

/// The properties of a dead event that goes back to work: as if it had never been tried, but for the count
/// of its replays.
pub fn replayed(properties: &BasicProperties) -> BasicProperties {
    let replays = replays(properties).saturating_add(1);
    let back = with(properties, [(REPLAYS, AMQPValue::LongUInt(replays))]);
    let mut table = FieldTable::default();
    for (name, value) in back.headers().iter().flat_map(FieldTable::inner) {
        if ![ATTEMPT, REASON, DETAIL, FAILED_AT].contains(&name.as_str()) {
            table.insert(name.clone(), value.clone());
        }
    }
    back.with_headers(table)
}

/// The properties that an ingress gives an event.
pub fn fresh(message_id: Option<&str>) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT);
    match message_id {
        Some(id) => properties.with_message_id(id.into()),
        None => properties,
    }
}

/// A message's properties as they came, with headers added; of its own as many as fit, the small ones
/// first. Two are left out: an expiration would delete the message where it is to be kept, and a user id is
/// refused from anyone but that user.
fn with<const N: usize>(
    came: &BasicProperties,
    headers: [(&str, AMQPValue); N],
) -> BasicProperties {
    let mut table = FieldTable::default();
    let foreign = came.headers().iter().flat_map(FieldTable::inner);
    let mut foreign: Vec<_> = foreign
        .filter(|(name, _)| !is_left_behind(name.as_str()))
        .map(|(name, value)| {
            (
                !OWN.contains(&name.as_str()),
                encoded(name, value),
                name,
                value,
            )
        })
        .collect();
    // callvault's own before any: nobody is to crowd its counts out.
    foreign.sort_by_key(|&(foreign, size, ..)| (foreign, size));
    let (mut taken, mut dropped) = (0, dropped(came));
    for (_, size, name, value) in foreign {
        if taken + size <= MOST_HEADERS {
            taken += size;
            table.insert(name.clone(), value.clone());
        } else {
            dropped = dropped.saturating_add(1);
        }
    }
    if dropped > 0 {
        table.insert(DROPPED.into(), AMQPValue::LongUInt(dropped));
    }
    for (name, value) in headers {
        table.insert(name.into(), value);
    }
    let mut kept = BasicProperties::default()
        .with_headers(table)
        .with_delivery_mode(PERSISTENT);
    macro_rules! keep {
        ($($property:ident $with:ident),*) => {
            $(if let Some(value) = came.$property() { kept = kept.$with(value.clone()); })*
        };
    }
    keep!(
        content_type with_content_type,
        content_encoding with_content_encoding,
        priority with_priority,
        correlation_id with_correlation_id,
        reply_to with_reply_to,
        message_id with_message_id,
        timestamp with_timestamp,
        kind with_type,
        app_id with_app_id
    );
    kept
}

fn is_left_behind(name: &str) -> bool {
    LEFT_BEHIND.contains(&name)
        || LEFT_BEHIND_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// How many bytes a header takes in a frame, at most.
fn encoded(name: &ShortString, value: &AMQPValue) -> usize {
    /// A type, and the longest value that is not made of others, or a length.
    const PLAIN: usize = 1 + 8;
    let mut size = 1 + name.as_str().len();
    // Not by recursion: strangers say how deep it goes.
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        size += PLAIN;
        match value {
            AMQPValue::ShortString(text) => size += text.as_str().len(),
            AMQPValue::LongString(text) => size += text.len(),
            AMQPValue::ByteArray(bytes) => size += bytes.len(),
            AMQPValue::FieldArray(values) => left.extend(values.as_slice()),
            AMQPValue::FieldTable(table) => {
                for (name, value) in table.inner() {
                    size += 1 + name.as_str().len();
                    left.push(value);
                }
            }
            _ => {}
        }
    }
    size
}

/// AMQP has eight integer types, and each client writes another.
pub(super) fn as_integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(v) => Some((*v).into()),
        AMQPValue::ShortShortUInt(v) => Some((*v).into()),
        AMQPValue::ShortInt(v) => Some((*v).into()),
        AMQPValue::ShortUInt(v) => Some((*v).into()),
        AMQPValue::LongInt(v) => Some((*v).into()),
        AMQPValue::LongUInt(v) => Some((*v).into()),
        AMQPValue::LongLongInt(v) => Some(*v),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;
    use crate::settle::Reason;

    fn came() -> BasicProperties {
        let mut headers = FieldTable::default();
        for name in [
            "traceparent",
            "CC",
            "x-death",
            "x-first-death-queue",
            "x-delivery-count",
        ] {
            headers.insert(name.into(), AMQPValue::LongLongInt(3));
        }
        fresh(Some("r-1"))
            .with_headers(headers)
            .with_expiration("1000".into())
            .with_user_id("ingress".into())
    }

    #[test]
    fn a_dead_message_keeps_its_properties_and_says_why() {
        let death = Death {
            reason: Reason::UrlForbidden,
            detail: "x".repeat(2000),
        };
        let dead = dead(&came(), 3, &death);
        assert_eq!(
            dead.message_id().as_ref().map(ShortString::as_str),
            Some("r-1")
        );
        let headers = dead.headers().as_ref().unwrap().inner();
        let names: Vec<_> = headers.keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["traceparent", ATTEMPT, DETAIL, FAILED_AT, REASON]);
        assert_eq!(
            headers[REASON],
            AMQPValue::LongString("url_forbidden".into())
        );
        assert_eq!(tries(&dead), Some(3));
    }

    #[test]
    fn a_replay_starts_its_count_anew_and_tells_how_often_it_was_replayed() {
        let death = Death {
            reason: Reason::TooLarge,
            detail: String::new(),
        };
        let once = replayed(&dead(&came(), 3, &death));
        assert_eq!((tries(&once), replays(&once)), (None, 1));
        assert!(seen_before(&once) && !seen_before(&came()));
        let names = once.headers().as_ref().unwrap().inner().keys();
        let names: Vec<_> = names.map(ShortString::as_str).collect();
        assert_eq!(names, ["traceparent", REPLAYS]);
        let twice = replayed(&dead(&once, 1, &death));
        assert_eq!((tries(&twice), replays(&twice)), (None, 2));
    }

    #[test]
    fn what_would_lose_or_copy_a_message_is_left_behind() {
        let retried = retried(&came(), 1);
        assert_eq!((retried.expiration(), retried.user_id()), (&None, &None));
        assert!(
            !retried
                .headers()
                .as_ref()
                .unwrap()
                .inner()
                .contains_key("CC")
        );
        assert_eq!(tries(&retried), Some(1));
        assert_eq!(tries(&came()), None);
    }

    #[test]
    fn headers_that_do_not_fit_are_left_behind_and_counted_and_the_counts_go_along() {
        let text = |length: usize| AMQPValue::LongString("x".repeat(length).into());
        let mut headers = FieldTable::default();
        headers.insert("large".into(), text(60 << 10));
        headers.insert("larger".into(), text(100 << 10));
        headers.insert("traceparent".into(), text(55));
        headers.insert(REPLAYS.into(), AMQPValue::LongUInt(2));
        let names = |properties: &BasicProperties| {
            let headers = properties.headers().as_ref().unwrap().inner();
            let names = headers.keys().map(|name| name.as_str().to_owned());
            names.collect::<Vec<_>>()
        };
        let once = retried(&fresh(None).with_headers(headers.clone()), 1);
        assert_eq!(
            names(&once),
            ["large", "traceparent", ATTEMPT, DROPPED, REPLAYS]
        );
        assert_eq!((dropped(&once), dropped(&retried(&once, 2))), (1, 1));

        // Crowded out by others that are smaller than any of callvault's.
        for n in 0..20_000 {
            headers.insert(format!("{n:x}").into(), AMQPValue::Void);
        }
        headers.insert(DETAIL.into(), text(70 << 10));
        let crowded = retried(&fresh(None).with_headers(headers), 1);
        assert_eq!((tries(&crowded), replays(&crowded)), (Some(1), 2));
        assert!(dropped(&crowded) > 10_000);
        assert!(!names(&crowded).contains(&DETAIL.to_owned()));
    }

    #[test]
    fn what_a_header_takes_is_never_thought_less() {
        let array = |value| AMQPValue::FieldArray(FieldArray::from(vec![value]));
        let nested = (0..100).fold(AMQPValue::Void, |value, _| array(value));
        assert!(encoded(&"a".into(), &nested) > 2 + 100 * 5);
        let mut table = FieldTable::default();
        table.insert("name".into(), AMQPValue::LongString("value".into()));
        assert!(encoded(&"a".into(), &AMQPValue::FieldTable(table)) >= 2 + 5 + 5 + 10);
    }
}
