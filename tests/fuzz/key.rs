//! Object keys: each event's own, fit for any store and any folder, whatever names and ids say.
//!
//! An input is lines: the key template, an event's id and its request's, another event's two ids, then
//! attachments, each a URL, a tab and an agent's id.

use std::collections::HashSet;

use bytes::Bytes;
use callvault::{
    attachment::{KeyTemplate, Kind, Planned, Planner, Tenants, manifest_key},
    check::Checker,
    event::{CallAnalyzed, Event},
};
use serde_json::{Value, json};

pub(crate) fn planner(template: &str) -> Option<Planner> {
    let kind = |name: &str, file: &str| Kind {
        name: name.into(),
        file: glob::Pattern::new(file).unwrap(),
        check: Checker::None,
        bucket: "recordings".into(),
        max_size: 1,
    };
    let kinds = vec![
        kind("recording", "recording*.wav"),
        // What a configuration may well call it.
        kind("manifest", "manifest*"),
        kind("json", "*.json"),
    ];
    let template = KeyTemplate::parse(template).ok()?;
    Some(Planner::new(
        kinds,
        template,
        "documents",
        "quarantine",
        Tenants::new(),
    ))
}

pub(crate) fn target(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let Some(planner) = planner(line()) else {
        return;
    };
    let ids = [(line(), line()), (line(), line())];
    let attachments: Vec<Value> = lines
        .map(|line| line.split_once('\t').unwrap_or((line, "")))
        .map(|(url, agent)| json!({"url": url, "agent_id": agent}))
        .collect();
    let calls = ids.map(|(id, request_id)| call(id, request_id, &attachments));
    let mut taken = Vec::new();
    for call in calls.iter().flatten() {
        let planned = planner.plan(call);
        judge(&planner, call, &planned);
        let keys = planned.into_iter().map(|planned| planned.key);
        taken.push((
            call,
            keys.chain([manifest_key(call)])
                .collect::<HashSet<String>>(),
        ));
    }
    if let [(one, keys), (other, others)] = &taken[..]
        && (one.call_id != other.call_id || one.request_id != other.request_id)
    {
        assert!(keys.is_disjoint(others), "{keys:?} {others:?}");
        assert_no_folder_is_a_file(keys.iter().chain(others));
    }
}

/// What must hold of the keys of one event.
pub(crate) fn judge(planner: &Planner, call: &CallAnalyzed, planned: &[Planned<'_>]) {
    let manifest = manifest_key(call);
    let mut keys = HashSet::from([manifest.as_str()]);
    assert!(planner.could_be(&manifest), "{manifest}");
    for Planned { key, .. } in planned {
        assert!(keys.insert(key), "{key} is taken");
        assert!(planner.could_be(key), "{key} has another shape");
        for id in [&call.call_id, &call.request_id] {
            assert!(
                key.split('/').any(|segment| segment.contains(id.as_str())),
                "{key} lacks {id}"
            );
        }
        assert!(key.len() <= 1024, "{key} is too long for S3");
        for segment in key.split('/') {
            // NAME_MAX, less what a folder's temporary files add.
            assert!((1..=245).contains(&segment.len()), "{key}");
            assert!(!segment.starts_with('.') && segment != "..", "{key}");
            let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            assert!(segment.bytes().all(safe), "{key}");
        }
        assert!(!key.ends_with("/manifest.json"), "{key}");
    }
    assert_no_folder_is_a_file(keys);
}

/// In a folder bucket a key cannot be a file and a folder at once.
fn assert_no_folder_is_a_file(keys: impl IntoIterator<Item = impl AsRef<str>>) {
    let mut keys: Vec<String> = keys
        .into_iter()
        .map(|key| format!("{}/", key.as_ref()))
        .collect();
    keys.sort_unstable();
    for pair in keys.windows(2) {
        assert!(!pair[1].starts_with(&pair[0]), "{pair:?}");
    }
}

fn call(id: &str, request_id: &str, attachments: &[Value]) -> Option<CallAnalyzed> {
    let event = json!({
        "event": "call.analyzed", "request_id": request_id,
        "data": {"id": id, "created_at": "2023-08-24T23:30:00Z", "attachments": attachments},
    });
    match Event::parse(&Bytes::from(event.to_string())) {
        Ok(Event::Analyzed(call)) => Some(*call),
        _ => None,
    }
}
