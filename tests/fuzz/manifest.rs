//! The manifest of an event: what it says is read back, and its URLs are no credentials.

use callvault::{
    attachment::Planned,
    check::{Facts, Problem},
    event::CallAnalyzed,
    fetch::{FetchError, Source},
    manifest::{Entry, Known, Manifest, Object, Status, Worker},
};
use serde_json::Value;
use url::Url;

/// Writes the manifest that an event would get, and reads it.
pub(crate) fn judge(call: &CallAnalyzed, planned: &[Planned<'_>]) {
    let worker = Worker::this();
    let entries: Vec<Entry> = planned.iter().enumerate().map(entry).collect();
    let manifest = Manifest::new(call, 1, true, &entries, &worker);
    let json = manifest.to_json().unwrap();
    let known = Known::parse(&json).unwrap();
    assert!(known.is_of(call.sha256) && known.lists(call));
    let missing = planned.len().div_ceil(3);
    assert_eq!(known.missing(), missing);
    assert_eq!(known.status == Status::Partial, missing > 0);
    for (at, planned) in planned.iter().enumerate() {
        assert_eq!(known.stored(at, planned).is_some(), at % 3 != 0);
    }
    // A body that is kept as it came may hold what this reader does not take.
    let Ok(value) = serde_json::from_slice::<Value>(&json) else {
        return;
    };
    let body: Value = serde_json::from_str(call.body.get()).unwrap();
    assert_eq!(value["event"]["body"], body);
    for entry in value["attachments"].as_array().unwrap() {
        let url = Url::parse(entry["source"]["url"].as_str().unwrap()).unwrap();
        let bare = url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        assert!(bare, "{url}");
    }
}

/// One of three could not be had, one of three is quarantined.
fn entry((at, planned): (usize, &Planned<'_>)) -> Entry {
    let verdict = match at % 3 {
        0 => return Entry::unavailable(planned, &FetchError::Late),
        1 => Ok(Facts::None),
        _ => Err(Problem::new("json_shape", "\u{7f}\"\n")),
    };
    let object = Object {
        bucket: planned.place(verdict.is_ok()).to_owned(),
        key: planned.key.clone(),
        size: 0,
        sha256: call_sha256(),
        content_type: None,
    };
    Entry::stored(planned, Source::default(), object, verdict)
}

fn call_sha256() -> String {
    callvault::digest::Sha256::of(b"").to_string()
}
