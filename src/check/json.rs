//! Is it JSON (RFC 8259), and of the shape that its kind asks for (JSON Schema)?

use std::io::{self, Read};

use jsonschema::{Draft, Validator};
use serde_json::Value;

use super::Problem;

/// The memory of a parsed tree over the length of its text, measured on transcripts: 602 MiB for 55 MB,
/// and the text itself beside it.
pub const TREE_FACTOR: u64 = 12;

/// A JSON Schema, ready to judge.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    draft: &'static str,
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
            .build(&schema)
            .map_err(|e| SchemaError::Invalid(e.to_string()))?;
        Ok(Self {
            validator,
            draft: draft_name(draft),
        })
    }

    /// The schema's draft, as its specification is called.
    pub fn draft(&self) -> &'static str {
        self.draft
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
pub fn inspect(
    text: &mut impl Read,
    len: u64,
    schema: Option<&Schema>,
) -> io::Result<Result<(), Problem>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(io::Error::other)?);
    text.take(len).read_to_end(&mut bytes)?;
    Ok(judge(&bytes, schema))
}

fn judge(bytes: &[u8], schema: Option<&Schema>) -> Result<(), Problem> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        Problem::new(
            "json_not_utf8",
            format!("byte {} is not UTF-8", e.valid_up_to()),
        )
    })?;
    let tree: Value = serde_json::from_str(text).map_err(|e| syntax(&e))?;
    match schema.and_then(|schema| schema.validator.iter_errors(&tree).next()) {
        None => Ok(()),
        Some(error) => Err(Problem::new(
            "json_shape",
            format!("{}: {error}", error.instance_path()),
        )),
    }
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

    fn code(bytes: &[u8], schema: Option<&Schema>) -> (String, String) {
        judge(bytes, schema).map_or_else(|p| (p.code.into(), p.detail), |()| Default::default())
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
}
