//! The JSON check: what it takes another reader takes, and the memory that it takes is known before.
//!
//! An input is a letter for the schema, then the text.

use std::sync::LazyLock;

use callvault::check::json::{Schema, inspect, memory};
use serde_json::Value;

use super::cost;

static SCHEMAS: LazyLock<[Schema; 3]> = LazyLock::new(|| {
    [
        include_str!("../../config/schemas/analysis.schema.json"),
        include_str!("../../config/schemas/transcript.schema.json"),
        // As the README would have one tightened, and with what the others do not use.
        r##"{"type": "object", "required": ["turns"], "additionalProperties": false, "properties": {
            "turns": {"type": "array", "uniqueItems": true, "maxItems": 4, "items": {"$ref": "#/$defs/turn"}}},
            "$defs": {"turn": {"type": "object", "required": ["speaker", "text"], "minProperties": 2,
            "properties": {"speaker": {"enum": ["agent", "user"]}, "start": {"type": "number", "minimum": 0, "multipleOf": 0.25},
            "text": {"type": "string", "maxLength": 8, "pattern": "^[a-z ]*$"}, "turns": {"$ref": "#/$defs/turn"}}}}}"##,
    ]
    .map(|text| Schema::parse(text).unwrap())
});

pub(crate) fn target(bytes: &[u8]) {
    let Some((letter, text)) = bytes.split_first() else {
        return;
    };
    let which = usize::from(*letter) % 4;
    let schema = which.checked_sub(1).map(|at| &SCHEMAS[at]);
    let len = text.len() as u64;
    let bound = memory(&mut &*text, len, true).unwrap();
    let (judged, peak) = cost::peak(|| inspect(&mut &*text, len, schema).unwrap());
    // What a problem's words take comes on top, and is little.
    assert!(
        peak as u64 <= bound + (256 << 10),
        "{peak} bytes of {bound} for {len}"
    );

    let tree = std::str::from_utf8(text)
        .ok()
        .map(serde_json::from_str::<Value>);
    let code = judged
        .as_ref()
        .map_or_else(|problem| &*problem.code, |()| "");
    match tree {
        None => assert_eq!(code, "json_not_utf8"),
        Some(Err(_)) => assert!(["json_syntax", "json_too_deep"].contains(&code), "{code}"),
        Some(Ok(tree)) => {
            let shape = shape(which, &tree).unwrap_or(code.is_empty());
            assert_eq!(code, if shape { "" } else { "json_shape" }, "{judged:?}");
            if let Err(problem) = &judged {
                let pointer = problem.detail.split(": ").next().unwrap();
                // A name may hold a colon itself, or be so long that the detail ends before it does.
                let whole =
                    problem.detail.matches(": ").count() == 1 && !problem.detail.ends_with('…');
                assert!(!whole || tree.pointer(pointer).is_some(), "{problem:?}");
            }
        }
    }
    if let Err(problem) = judged {
        assert!(problem.detail.len() <= 1024);
    }
}

/// Whether a schema takes a tree, where that is said in a line.
fn shape(schema: usize, tree: &Value) -> Option<bool> {
    match schema {
        0 => Some(true),
        1 => Some(tree.as_object().is_some_and(|fields| !fields.is_empty())),
        _ => None,
    }
}
