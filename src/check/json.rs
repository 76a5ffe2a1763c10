//! Is it JSON (RFC 8259), and of the shape that its kind asks for (JSON Schema)?

use std::io::{self, Read};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::Problem;
use crate::scan::OutsideStrings;

/// What a parsed tree takes, in bytes, on a 64-bit machine: an object is a B-tree whose smallest node
/// has room for eleven entries; an array begins with four elements and grows by doubling; a string has a block of its own.
const OBJECT: u64 = 704;
const ENTRY: u64 = 128;
const ELEMENT: u64 = 96;
const ARRAY: u64 = 144;
/// No text takes more than this for each of its bytes: `{"":0},` is the worst.
const WORST: u64 = 160;
/// To say where a schema is not met, the problems of all its branches are gathered, each with a copy of
/// what it is about. Measured, so much of the tree for a schema without branches, and less than one more
/// for each branch.
const EXPLAINED: u64 = 8;
/// Shorter texts are not looked at: the worst of them is still small.
const SHORT: u64 = 16 << 10;

/// An upper bound of the memory that [`inspect`] takes for a text of `len` bytes, in bytes. Ordinary
/// files take about twelve times their text; a hostile one may take a hundred times it.
pub fn memory(text: &mut impl Read, len: u64) -> io::Result<u64> {
    if len <= SHORT {
        return Ok(len * WORST);
    }
    // The text itself, and its strings.
    let mut memory = len * 2;
    let mut outside = OutsideStrings::default();
    // One bit a level: whether it is an object. What is deeper than serde_json goes is refused.
    let mut objects = 0_u128;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = text.read(&mut buffer)?;
        if read == 0 {
            return Ok(memory);
        }
        for byte in buffer
            .iter()
            .take(read)
            .filter(|byte| outside.takes(**byte))
        {
            match byte {
                b'{' => (objects, memory) = (objects << 1 | 1, memory + OBJECT),
                b'[' => (objects, memory) = (objects << 1, memory + ARRAY),
                b'}' | b']' => objects >>= 1,
                b',' if objects & 1 == 1 => memory += ENTRY,
                b',' => memory += ELEMENT,
                _ => {}
            }
        }
    }
}

/// A JSON Schema, ready to judge.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    draft: &'static str,
    /// In all its `anyOf` and `oneOf` together.
    branches: u64,
}

/// Why a text is not a JSON Schema that callvault can use.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is not JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// Its `$schema` names no draft that callvault knows.
    #[error(
        "its $schema is {0:?}; use draft 4, 6, 7, 2019-09 or 2020-12, such as \"https://json-schema.org/draft/2020-12/schema\""
    )]
    UnknownDraft(String),
    /// It refers to another document, or is no schema.
    #[error(
        "{0}; references to other files and hosts are not followed: put what they name under $defs"
    )]
    Invalid(String),
}

impl Schema {
    /// Reads a schema. Without `$schema` it is draft 2020-12.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let schema: Value = serde_json::from_str(text)?;
        let draft = match schema.get("$schema") {
            None => Draft::Draft202012,
            Some(named) => named
                .as_str()
                .and_then(draft_named)
                .ok_or_else(|| SchemaError::UnknownDraft(named.to_string()))?,
        };
        let validator = jsonschema::options()
            .with_draft(draft)
            // In time that grows with the text alone: a hostile file must not find the pattern that
            // backtracks for years.
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|e| SchemaError::Invalid(e.to_string()))?;
        Ok(Self {
            validator,
            draft: draft_name(draft),
            branches: branches(&schema),
        })
    }

    /// An upper bound of the memory that [`explain`] takes, in bytes, where [`inspect`] takes `memory`.
    pub fn explaining(&self, memory: u64) -> u64 {
        memory.saturating_mul(self.branches.saturating_add(EXPLAINED))
    }

    /// The schema's draft, as its specification is called.
    pub fn draft(&self) -> &'static str {
        self.draft
    }
}

fn branches(schema: &Value) -> u64 {
    match schema {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let own = match (name.as_str(), value.as_array()) {
                    ("anyOf" | "oneOf", Some(all)) => all.len() as u64,
                    _ => 0,
                };
                own + branches(value)
            })
            .sum(),
        Value::Array(items) => items.iter().map(branches).sum(),
        _ => 0,
    }
}

fn draft_named(uri: &str) -> Option<Draft> {
    let path = uri
        .strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"))?;
    match path.trim_end_matches('#') {
        "json-schema.org/draft-04/schema" => Some(Draft::Draft4),
        "json-schema.org/draft-06/schema" => Some(Draft::Draft6),
        "json-schema.org/draft-07/schema" => Some(Draft::Draft7),
        "json-schema.org/draft/2019-09/schema" => Some(Draft::Draft201909),
        "json-schema.org/draft/2020-12/schema" => Some(Draft::Draft202012),
        _ => None,
    }
}

fn draft_name(draft: Draft) -> &'static str {
    match draft {
        Draft::Draft4 => "draft 4",
        Draft::Draft6 => "draft 6",
        Draft::Draft7 => "draft 7",
        Draft::Draft201909 => "draft 2019-09",
        _ => "draft 2020-12",
    }
}

/// Judges a text of `len` bytes. An `Err` is a failure to read it.
///
/// It says whether the schema is met, not where it is not: for that see [`explain`].
pub fn inspect(
    text: &mut impl Read,
    len: u64,
    schema: Option<&Schema>,
) -> io::Result<Result<(), Problem>> {
    let shape = |tree: &Value| match schema {
        Some(schema) if !schema.validator.is_valid(tree) => Err(Problem::new(
            "json_shape",
            ": it does not match its schema; to say where takes more memory than limits.memory leaves",
        )),
        _ => Ok(()),
    };
    Ok(judge(&read(text, len)?, shape))
}

/// Judges a text like [`inspect`], and says where the schema is not met first. It may take a hundred
/// times the memory, see [`Schema::explaining`].
pub fn explain(text: &mut impl Read, len: u64, schema: &Schema) -> io::Result<Result<(), Problem>> {
    // The first problem alone: a list of all of them may be larger than the file.
    let shape = |tree: &Value| {
        schema.validator.validate(tree).map_err(|error| {
            Problem::new("json_shape", format!("{}: {error}", error.instance_path()))
        })
    };
    Ok(judge(&read(text, len)?, shape))
}

fn read(text: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    text.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn judge(bytes: &[u8], shape: impl FnOnce(&Value) -> Result<(), Problem>) -> Result<(), Problem> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Problem::new(
            "json_not_utf8",
            format!("byte {} is not UTF-8", e.valid_up_to()),
        )
    })?;
    let tree: Value = serde_json::from_str(text).map_err(|e| syntax(&e))?;
    shape(&tree)
}

fn syntax(error: &serde_json::Error) -> Problem {
    // serde_json counts 128 levels and names the limit in words alone.
    let words = error.to_string();
    if words.starts_with("recursion limit exceeded") {
        let place = format!("line {} column {}", error.line(), error.column());
        Problem::new(
            "json_too_deep",
            format!("nested 128 levels or deeper, at {place}"),
        )
    } else {
        Problem::new("json_syntax", words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(mut bytes: &[u8], schema: Option<&Schema>) -> (String, String) {
        let (mut again, len) = (bytes, bytes.len() as u64);
        let verdict = inspect(&mut bytes, len, schema).unwrap();
        if let Some(schema) = schema {
            let explained = explain(&mut again, len, schema).unwrap();
            assert_eq!(explained.is_ok(), verdict.is_ok());
            return told(explained);
        }
        told(verdict)
    }

    fn told(verdict: Result<(), Problem>) -> (String, String) {
        verdict.map_or_else(|p| (p.code.into(), p.detail), |()| Default::default())
    }

    #[test]
    fn text_that_is_not_json_is_told_from_text_that_is_not_utf8() {
        assert_eq!(code(b"{\"a\": [1, 2.5e3, null]}", None).0, "");
        assert_eq!(
            code(b"\"\xff\"", None),
            ("json_not_utf8".into(), "byte 1 is not UTF-8".into())
        );
        for bytes in [
            &b"{\"a\": 1,}"[..],
            b"",
            b"{} {}",
            b"NaN",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\\ud800\"}",
        ] {
            assert_eq!(code(bytes, None).0, "json_syntax", "{bytes:?}");
        }
        let (_, detail) = code(b"{\n  \"a\" 1}", None);
        assert_eq!(detail, "expected `:` at line 2 column 7");
    }

    #[test]
    fn the_memory_of_a_hostile_text_is_known_before_it_is_parsed() {
        let bound = |text: String| {
            let len = text.len() as u64;
            memory(&mut text.as_bytes(), len).unwrap() / len
        };
        let hostile = format!("[{}{{}}]", "{\"\":0},".repeat(100_000));
        assert!((100..=WORST).contains(&bound(hostile)));
        let turn = r#"{"speaker":"agent","text":"Thank you, that is, well, all, and good bye.","start":1.25,"end":2.5},"#;
        assert!(bound(format!("[{}{{}}]", turn.repeat(10_000))) <= 15);
        assert_eq!(bound("{}".into()), WORST);
    }

    #[test]
    fn depth_is_bounded_at_128_levels() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(code(nested(127).as_bytes(), None).0, "");
        assert_eq!(code(nested(128).as_bytes(), None).0, "json_too_deep");
        assert_eq!(
            code("[".repeat(1_000_000).as_bytes(), None).0,
            "json_too_deep"
        );
    }

    #[test]
    fn a_problem_of_shape_starts_with_its_json_pointer() {
        let schema = Schema::parse(r#"{"type":"object","properties":{"turns":{"items":{"properties":{"text":{"type":"string"}}}}}}"#).unwrap();
        let (code_, detail) = code(br#"{"turns":[{},{"text":7}]}"#, Some(&schema));
        assert_eq!(
            (code_.as_str(), detail.as_str()),
            ("json_shape", "/turns/1/text: 7 is not of type \"string\"")
        );
        let (_, detail) = code(b"[]", Some(&schema));
        assert!(detail.starts_with(": [] is not of type"), "{detail}");
    }

    #[test]
    fn a_schema_knows_its_draft_and_follows_no_reference_elsewhere() {
        let draft = |text: &str| Schema::parse(text).map(|schema| schema.draft());
        assert_eq!(draft("{}").unwrap(), "draft 2020-12");
        assert_eq!(
            draft(r#"{"$schema":"http://json-schema.org/draft-07/schema#"}"#).unwrap(),
            "draft 7"
        );
        assert!(matches!(
            draft(r#"{"$schema":"https://example.com/own"}"#),
            Err(SchemaError::UnknownDraft(_))
        ));
        for reference in [
            "https://example.com/turn.json",
            "file:///etc/passwd",
            "turn.json",
        ] {
            let text = format!(r#"{{"properties":{{"a":{{"$ref":"{reference}"}}}}}}"#);
            assert!(
                matches!(draft(&text), Err(SchemaError::Invalid(_))),
                "{reference}"
            );
        }
        assert!(matches!(
            draft(r#"{"type":"strin"}"#),
            Err(SchemaError::Invalid(_))
        ));
        assert!(matches!(draft("{"), Err(SchemaError::NotJson(_))));
    }

    #[test]
    fn a_pattern_takes_no_longer_than_its_text() {
        let pattern = |pattern: &str| Schema::parse(&format!(r#"{{"pattern": "{pattern}"}}"#));
        // Backtracking, it would take 2^1000 steps.
        let schema = pattern("^(a+)+$").unwrap();
        let text = format!("\"{}!\"", "a".repeat(1000));
        assert_eq!(code(text.as_bytes(), Some(&schema)).0, "json_shape");
        let looking_around = pattern("^(?!secret)");
        assert!(matches!(looking_around, Err(SchemaError::Invalid(_))));
    }

    #[test]
    fn branches_of_a_schema_make_its_explanations_dear() {
        let schema = r##"{"anyOf": [{"type": "array"}, {"$ref": "#/$defs/b"}],
            "$defs": {"b": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}, true]}}}"##;
        assert_eq!(Schema::parse(schema).unwrap().explaining(10), 130);
        assert_eq!(Schema::parse("{}").unwrap().explaining(10), 80);
    }
}
