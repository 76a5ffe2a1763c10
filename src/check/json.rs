//! Is it JSON (RFC 8259), and of the shape that its kind asks for (JSON Schema)?

mod excerpt;

use std::{
    fmt::{self, Write},
    io::{self, Read},
};

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use self::excerpt::{Excerpts, Look};
use super::{LONGEST_DETAIL, Problem};
use crate::scan::OutsideStrings;

/// What a parsed tree takes, in bytes, on a 64-bit machine: an object is a B-tree whose smallest node
/// has room for eleven entries; an array begins with four elements and grows by doubling; a string has a block of its own.
const OBJECT: u64 = 704;
const ENTRY: u64 = 128;
const ELEMENT: u64 = 96;
const ARRAY: u64 = 144;
/// No text takes more than this for each of its bytes: `{"":0},` is the worst.
const WORST: u64 = 160;
/// Shorter texts are not looked at: the worst of them is still small.
const SHORT: u64 = 4 << 10;

/// What a text is looked at in, in bytes.
const BUFFER: usize = 64 << 10;

/// An upper bound of the memory that [`inspect`] takes for a text of `len` bytes, in bytes. Ordinary
/// files take about twelve times their text; a hostile one may take a hundred times it. `told`: whether there
/// is a schema, and so a pointer to where it is not met.
pub fn memory(text: &mut impl Read, len: u64, told: bool) -> io::Result<u64> {
    if len <= SHORT {
        return Ok(len * WORST);
    }
    // The text itself, and its strings.
    let mut memory = len * 2;
    // A JSON Pointer to a problem may hold the longest name of a field, and grows by doubling.
    let (mut longest, mut string) = (0, 0);
    let mut outside = OutsideStrings::default();
    // One bit a level: whether it is an object. What is deeper than serde_json goes is refused.
    let mut objects = 0_u128;
    let mut buffer = vec![0; usize::try_from(len).map_or(BUFFER, |len| len.min(BUFFER))];
    loop {
        let read = text.read(&mut buffer)?;
        if read == 0 {
            return Ok(memory + if told { longest * 4 } else { 0 });
        }
        for byte in buffer.iter().take(read) {
            if !outside.takes(*byte) {
                string += 1;
                continue;
            }
            match byte {
                // Between a name and its colon nothing but blanks can stand.
                b':' => longest = longest.max(string),
                b' ' | b'\t' | b'\n' | b'\r' => continue,
                b'{' => (objects, memory) = (objects << 1 | 1, memory + OBJECT),
                b'[' => (objects, memory) = (objects << 1, memory + ARRAY),
                b'}' | b']' => objects >>= 1,
                b',' if objects & 1 == 1 => memory += ENTRY,
                b',' => memory += ELEMENT,
                _ => {}
            }
            string = 0;
        }
    }
}

/// A JSON Schema, ready to judge.
#[derive(Debug)]
pub struct Schema {
    /// Whether it is met: the whole of every value counts.
    validator: Validator,
    /// Where it is not.
    explainer: Validator<Excerpts>,
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
    /// A pattern that is not one, or one that only a reader which backtracks could follow.
    #[error(
        "{0}; patterns have no look-around and no back-references, so that no file can make one take forever"
    )]
    Pattern(String),
    /// It refers to another document.
    #[error(
        "{0}; references to other files and hosts are not followed: put what they name under $defs"
    )]
    Reference(String),
    /// It is no schema.
    #[error("{0}")]
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
                .ok_or_else(|| SchemaError::UnknownDraft(quoted(named)))?,
        };
        // In time that grows with the text alone: no file finds the pattern that backtracks for years.
        let patterns = PatternOptions::regex;
        let validator = jsonschema::options()
            .with_draft(draft)
            .with_pattern_options(patterns())
            .build(&schema);
        let explainer = jsonschema::options_for::<Excerpts>()
            .with_draft(draft)
            .with_pattern_options(patterns())
            .build(&schema);
        Ok(Self {
            validator: validator.map_err(|e| invalid(&e))?,
            explainer: explainer.map_err(|e| invalid(&e))?,
            draft: draft_name(draft),
        })
    }

    /// The schema's draft, as its specification is called.
    pub fn draft(&self) -> &'static str {
        self.draft
    }
}

fn quoted(named: &Value) -> String {
    named
        .as_str()
        .map_or_else(|| named.to_string(), str::to_owned)
}

fn invalid(error: &ValidationError<'_>) -> SchemaError {
    let at = error.instance_path().to_string();
    let words = match at.as_str() {
        "" => error.to_string(),
        at => format!("at {at}: {error}"),
    };
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => SchemaError::Pattern(words),
        ValidationErrorKind::Referencing(_) => SchemaError::Reference(words),
        _ => SchemaError::Invalid(words),
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
    schema.map_or(Ok(()), |schema| schema.judge(&tree))
}

impl Schema {
    fn judge(&self, tree: &Value) -> Result<(), Problem> {
        if self.validator.is_valid(tree) {
            return Ok(());
        }
        // The first problem alone: a list of all of them may be larger than the file. It is looked for in
        // bounded memory, and may be too far off to be found.
        let look = Look::new();
        let mut words = Words::default();
        let _ = match self.explainer.validate(look.at(tree)) {
            Err(error) => write!(words, "{}: {error}", error.instance_path()),
            Ok(()) => write!(
                words,
                ": not as its schema asks, in too many ways to tell one"
            ),
        };
        Err(Problem::new("json_shape", words.0))
    }
}

/// As much text as a problem has room for, and a little more, which tells that it was cut.
#[derive(Default)]
struct Words(String);

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = (2 * LONGEST_DETAIL).saturating_sub(self.0.len());
        let end = text.floor_char_boundary(room.min(text.len()));
        self.0.push_str(&text[..end]);
        if end < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
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
    fn the_memory_of_a_hostile_text_is_known_before_it_is_parsed() {
        let bound = |text: String| {
            let len = text.len() as u64;
            memory(&mut text.as_bytes(), len, true).unwrap() / len
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
    fn a_problem_quotes_an_excerpt_and_is_told_however_many_there_are() {
        let schema = Schema::parse(r#"{"anyOf":[{"items":{"required":["a"]}},{"maxItems":1}]}"#);
        let schema = schema.unwrap();
        let many = format!("[{}{{\"b\":\"{}\"}}]", "{},".repeat(17), "x".repeat(70));
        let (code_, detail) = code(many.as_bytes(), Some(&schema));
        let branches = "is not valid under any of the schemas listed in the 'anyOf' keyword";
        let first = "{},".repeat(16);
        assert_eq!(detail, format!(": [{first}\"…\"] {branches}"));
        assert_eq!(code_, "json_shape");
        // Thousands of errors in the first branch: they are not kept.
        let thousands = format!("[{}{{}}]", "{},".repeat(5000));
        let (code_, _) = code(thousands.as_bytes(), Some(&schema));
        assert_eq!(code_, "json_shape");
        assert_eq!(code(br#"[{"b":[]}]"#, Some(&schema)).0, "");
    }

    #[test]
    fn a_pattern_takes_no_longer_than_its_text() {
        let pattern = |pattern: &str| Schema::parse(&format!(r#"{{"pattern": "{pattern}"}}"#));
        // Backtracking, it would take 2^1000 steps.
        let schema = pattern("^(a+)+$").unwrap();
        let text = format!("\"{}!\"", "a".repeat(1000));
        assert_eq!(code(text.as_bytes(), Some(&schema)).0, "json_shape");
        let looking_around = pattern("^(?!secret)");
        assert!(matches!(looking_around, Err(SchemaError::Pattern(_))));
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
                matches!(draft(&text), Err(SchemaError::Reference(_))),
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
