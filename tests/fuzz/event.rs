//! An event's body: read as its rules say, or refused with words that quote nothing of it.

use std::sync::LazyLock;

use bytes::Bytes;
use callvault::{
    attachment::Planner,
    event::{CallAnalyzed, Event, EventError},
    fetch::expiry,
};
use chrono::DateTime;
use serde_json::Value;
use url::Url;

use super::{cost, key, manifest};

static PLANNERS: LazyLock<Vec<Planner>> = LazyLock::new(|| {
    let templates = [
        "{date}/{call_id}/{request_id}/{file}",
        "a/{year}-{month}-{day}/{call_id}/{request_id}/{organization_id}/{agent_id}/{kind}-{file}",
    ];
    templates.map(key::planner).into_iter().flatten().collect()
});

pub(crate) fn target(bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes);
    let (parsed, peak) = cost::peak(|| Event::parse(&body));
    // A few copies of the text, and what a thousand attachments take.
    assert!(peak <= 6 * bytes.len() + (512 << 10), "{peak} bytes");
    match &parsed {
        Err(error) => {
            let words = error.to_string();
            let fits = words.len() < 200 && words.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            assert!(fits, "{words:?}");
        }
        Ok(Event::Other(name)) => assert_ne!(name, "call.analyzed"),
        Ok(Event::Analyzed(call)) => analyzed(&body, call),
    }
    // Some of what is JSON is not for this reader: a lone surrogate, a number beyond all bounds.
    let Ok(value) = serde_json::from_slice(bytes) else {
        return;
    };
    match parsed {
        // Of the two, the other reader sees the last one.
        Err(EventError::Wrong { expected, .. }) if expected.ends_with("each field once") => {}
        // How long a host is before it is read, this reader does not know.
        Err(EventError::Wrong { expected, .. }) if expected.ends_with("host of at most 1 KiB") => {
            assert!(bytes.len() > 1 << 10);
        }
        Err(error) => assert!(!is_event(&value), "{error}"),
        Ok(Event::Other(name)) => assert_eq!(value["event"], name),
        Ok(Event::Analyzed(call)) => {
            assert!(is_event(&value));
            assert_eq!(value["data"]["id"], call.call_id.as_str());
            let listed = value["data"]["attachments"].as_array().unwrap();
            assert_eq!(listed.len(), call.attachments.len());
        }
    }
}

fn analyzed(body: &Bytes, call: &CallAnalyzed) {
    let text = std::str::from_utf8(body).unwrap();
    assert_eq!(call.body.get(), text.trim_matches([' ', '\t', '\r', '\n']));
    for id in [&call.call_id, &call.request_id] {
        assert!(is_id(id.as_str()), "{id}");
    }
    for listed in &call.attachments {
        let _ = expiry::of(&listed.url);
    }
    for planner in &*PLANNERS {
        let planned = planner.plan(call);
        key::judge(planner, call, &planned);
        manifest::judge(call, &planned);
    }
}

/// The rules once more, in other words, over a tree.
fn is_event(value: &Value) -> bool {
    let data = &value["data"];
    let text = |value: &Value, is: fn(&str) -> bool| value.as_str().is_some_and(is);
    let request_id = value.get("request_id");
    let attachment = |value: &Value| {
        text(&value["url"], |url| {
            url.len() <= 16 << 10 && Url::parse(url).is_ok()
        })
    };
    value["event"].is_string()
        && (value["event"] != "call.analyzed"
            || request_id.is_none_or(|id| id.is_null() || text(id, is_id))
                && text(&data["id"], is_id)
                && text(&data["created_at"], is_date)
                && data["attachments"]
                    .as_array()
                    .is_some_and(|all| all.len() <= 1000 && all.iter().all(attachment)))
}

fn is_id(text: &str) -> bool {
    let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    text.chars().all(|c| allowed.contains(c))
        && !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '_', '-'])
        && text.split("..").count() == 1
}

fn is_date(text: &str) -> bool {
    let utc = DateTime::parse_from_rfc3339(text).map(|date| date.to_utc().to_rfc3339());
    // A year of other than four digits has a sign before it.
    utc.is_ok_and(|utc| {
        utc.as_bytes()[4] == b'-' && !utc.starts_with(['+', '-']) && !utc.starts_with("0000")
    })
}
