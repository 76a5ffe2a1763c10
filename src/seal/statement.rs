//! What a seal says: its statement, the lines that are hashed and signed, and the JSON around them.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{PREFIX, key::Signature};
use crate::{audit::days::Day, digest::Sha256};

/// The version of a seal's shape: the statement's first line, so that no signature of anything else is one of a seal's.
const SCHEMA: &str = "callvault.seal/v1";
/// The names of the lines after the first, in their order.
const NAMES: [&str; 14] = [
    "sequence",
    "day",
    "part",
    "previous",
    "listed-at",
    "made-by",
    "manifests",
    "rows",
    "root",
    "index",
    "index-size",
    "index-sha256",
    "unpacked-size",
    "unpacked-sha256",
];
/// What stands for the seal before the first.
const NONE: &str = "-";

/// What a seal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The seal's number among all of the archive's, from 1.
    pub sequence: u64,
    /// The day of the manifests' keys.
    pub day: Day,
    /// 1 for the day's first seal, which holds all of its manifests; supplements count on from there.
    pub part: u32,
    /// The hash of the seal before: of its whole statement.
    pub previous: Option<Sha256>,
    /// When the day's manifests began to be listed, by the clock of who made the seal, to the second.
    pub listed_at: DateTime<Utc>,
    /// The program and its version.
    pub made_by: String,
    /// Manifests in the index.
    pub manifests: u64,
    /// Rows in the index.
    pub rows: u64,
    /// Of the tree over the manifests in the index (see [`super::tree`]).
    pub root: Sha256,
    /// The index's key in the manifests' bucket.
    pub index: String,
    /// The index as it is stored.
    pub packed: Extent,
    /// The index unpacked.
    pub unpacked: Extent,
}

/// How long something is, and its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Bytes.
    pub size: u64,
    /// Of these bytes.
    pub sha256: Sha256,
}

impl Statement {
    /// Its lines, without their ends.
    pub fn lines(&self) -> Vec<String> {
        let previous = self
            .previous
            .map_or_else(|| NONE.to_owned(), |sha256| sha256.to_string());
        let values = [
            self.sequence.to_string(),
            self.day.to_string(),
            self.part.to_string(),
            previous,
            self.listed_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            self.made_by.clone(),
            self.manifests.to_string(),
            self.rows.to_string(),
            self.root.to_string(),
            self.index.clone(),
            self.packed.size.to_string(),
            self.packed.sha256.to_string(),
            self.unpacked.size.to_string(),
            self.unpacked.sha256.to_string(),
        ];
        let lines = NAMES.into_iter().zip(values);
        let lines = lines.map(|(name, value)| format!("{name} {value}"));
        std::iter::once(SCHEMA.to_owned()).chain(lines).collect()
    }

    /// What is hashed and signed: its lines, each with a newline.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.lines() {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    /// What the next seal refers to, and what is noted elsewhere.
    pub fn sha256(&self) -> Sha256 {
        Sha256::of(self.text().as_bytes())
    }

    /// Reads a statement; only one that would be written as it stands is one.
    fn parse(lines: &[String]) -> Option<Self> {
        let (schema, lines) = lines.split_first()?;
        if schema != SCHEMA || lines.len() != NAMES.len() {
            return None;
        }
        let mut values = NAMES.iter().zip(lines).map(|(name, line)| {
            let value = line.strip_prefix(name)?.strip_prefix(' ')?;
            value
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
                .then_some(value)
        });
        let mut next = || values.next().flatten();
        let statement = Self {
            sequence: next()?.parse().ok()?,
            day: next()?.parse().ok()?,
            part: next()?.parse().ok()?,
            previous: match next()? {
                NONE => None,
                sha256 => Some(Sha256::from_hex(sha256)?),
            },
            listed_at: DateTime::parse_from_rfc3339(next()?).ok()?.to_utc(),
            made_by: next()?.to_owned(),
            manifests: next()?.parse().ok()?,
            rows: next()?.parse().ok()?,
            root: Sha256::from_hex(next()?)?,
            index: next()?.to_owned(),
            packed: Extent {
                size: next()?.parse().ok()?,
                sha256: Sha256::from_hex(next()?)?,
            },
            unpacked: Extent {
                size: next()?.parse().ok()?,
                sha256: Sha256::from_hex(next()?)?,
            },
        };
        let sound = statement.sequence > 0
            && statement.part > 0
            && (statement.sequence == 1) == statement.previous.is_none()
            && is_index(&statement.index, statement.day);
        (sound && statement.lines().split_first()?.1 == lines).then_some(statement)
    }
}

/// The key of a day's first index, or of a later one.
pub(super) fn index_key(day: Day, number: u32) -> String {
    let folder = index_folder(day);
    match number {
        1 => format!("{folder}index.jsonl.zst"),
        _ => format!("{folder}index-{number}.jsonl.zst"),
    }
}

/// What the keys of a day's indexes begin with.
pub(super) fn index_folder(day: Day) -> String {
    format!("{PREFIX}/{}/", day.folder())
}

/// Whether a key may be that of an index of some day.
pub(super) fn could_be_index(key: &str) -> bool {
    let below = key
        .strip_prefix(PREFIX)
        .and_then(|key| key.strip_prefix('/'));
    let day = below.and_then(|below| below.get(..10)?.parse().ok());
    day.is_some_and(|day| is_index(key, day))
}

fn is_index(key: &str, day: Day) -> bool {
    let number = key
        .strip_prefix(&index_folder(day))
        .and_then(|name| name.strip_prefix("index"))
        .and_then(|name| name.strip_suffix(".jsonl.zst"));
    let number = match number {
        Some("") => Some(1),
        Some(number) => number.strip_prefix('-').and_then(|n| n.parse().ok()),
        None => None,
    };
    number.is_some_and(|number| index_key(day, number) == key)
}

/// A seal as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// What it says.
    pub statement: Statement,
    /// Of the statement's text.
    pub sha256: Sha256,
    /// By whom it is signed, by its own account.
    pub signature: Option<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    schema: String,
    statement: Vec<String>,
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<Signature>,
}

/// Why an object is no seal.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It is not the JSON of a seal.
    #[error("it is not a seal's JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Its statement is not one that callvault writes.
    #[error("its statement is not written as a seal's is")]
    Statement,
    /// Its hash is another one than its statement has.
    #[error("its sha256 is not that of its statement")]
    Sha256,
}

impl Seal {
    /// Of a statement, signed or not.
    pub fn new(statement: Statement, signature: Option<Signature>) -> Self {
        Self {
            sha256: statement.sha256(),
            statement,
            signature,
        }
    }

    /// As it is stored.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(&Envelope {
            schema: SCHEMA.into(),
            statement: self.statement.lines(),
            sha256: self.sha256.to_string(),
            signature: self.signature.clone(),
        })?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a stored seal. Whether a signature is good is another question.
    pub fn parse(json: &[u8]) -> Result<Self, SealError> {
        let envelope: Envelope = serde_json::from_slice(json)?;
        let statement = Statement::parse(&envelope.statement);
        let statement = statement
            .filter(|_| envelope.schema == SCHEMA)
            .ok_or(SealError::Statement)?;
        let seal = Self::new(statement, envelope.signature);
        if envelope.sha256 != seal.sha256.to_string() {
            return Err(SealError::Sha256);
        }
        Ok(seal)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::seal) fn statement(sequence: u64, previous: Option<Sha256>) -> Statement {
        let day: Day = "2023-08-24".parse().unwrap();
        let extent = |text: &[u8]| Extent {
            size: text.len() as u64,
            sha256: Sha256::of(text),
        };
        Statement {
            sequence,
            day,
            part: 1,
            previous,
            listed_at: "2023-08-25T09:30:00Z".parse().unwrap(),
            made_by: "callvault/0.1.0".into(),
            manifests: 2,
            rows: 6,
            root: Sha256::of(b"root"),
            index: index_key(day, 1),
            packed: extent(b"packed"),
            unpacked: extent(b"unpacked"),
        }
    }

    #[test]
    fn a_statement_is_lines_that_other_tools_can_hash() {
        let statement = statement(2, Some(Sha256::of(b"the first")));
        // As `printf '…' | sha256sum` says.
        assert_eq!(
            statement.text(),
            "callvault.seal/v1\nsequence 2\nday 2023-08-24\npart 1\n\
             previous 6fa2c9ea02d6b6cc4aeb86495d9a1beac7ebeba72023ebd2c1ec8564117f1c6e\n\
             listed-at 2023-08-25T09:30:00Z\nmade-by callvault/0.1.0\nmanifests 2\nrows 6\n\
             root 4813494d137e1631bba301d5acab6e7bb7aa74ce1185d456565ef51d737677b2\n\
             index _seals/2023/08/24/index.jsonl.zst\nindex-size 6\n\
             index-sha256 88cb8a087b6e8cebfc9ae5602f5a2159a6bcf923e7f2c56809bcda6cad1727a7\nunpacked-size 8\n\
             unpacked-sha256 83055ac700349169ca7c30f7e3a30edd88a3c031d4c1f975a23f7b9129f1dda8\n"
        );
    }

    #[test]
    fn a_seal_is_read_as_it_was_written() {
        for previous in [None, Some(Sha256::of(b""))] {
            let seal = Seal::new(statement(1 + u64::from(previous.is_some()), previous), None);
            let json = seal.to_json().unwrap();
            assert_eq!(Seal::parse(&json).unwrap(), seal);
        }
    }

    #[test]
    fn only_a_seal_that_would_be_written_so_is_read() {
        let seal = Seal::new(statement(2, Some(Sha256::of(b""))), None);
        let json = String::from_utf8(seal.to_json().unwrap()).unwrap();
        for (from, to) in [
            ("sequence 2", "sequence 3"),
            ("sequence 2", "sequence 02"),
            ("sequence 2", "sequence 0"),
            ("sequence 2", "sequence 1"),
            ("part 1", "part 0"),
            ("day 2023-08-24", "day 2023-8-24"),
            ("day 2023-08-24", "day 2023-08-32"),
            ("manifests 2", "manifests +2"),
            (
                "listed-at 2023-08-25T09:30:00Z",
                "listed-at 2023-08-25T10:30:00+01:00",
            ),
            ("index.jsonl.zst", "index-1.jsonl.zst"),
            ("index.jsonl.zst", "../../../x"),
            ("_seals/2023/08/24/", "_seals/2023/08/25/"),
            ("made-by callvault/0.1.0", "made-by a\\nday 2023-01-01"),
            ("made-by callvault/0.1.0", "made-by \u{fc}"),
            ("callvault.seal/v1", "callvault.seal/v2"),
            ("\"sha256\": \"", "\"sha256\": \"0"),
            ("\"schema\"", "\"more\": 1, \"schema\""),
        ] {
            let other = json.replace(from, to);
            assert_ne!(other, json, "{from}");
            assert!(Seal::parse(other.as_bytes()).is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_key_of_an_index_is_told_from_others() {
        let day = "2023-08-24".parse().unwrap();
        for number in [1, 2, 30] {
            assert!(could_be_index(&index_key(day, number)));
        }
        for other in [
            "_seals/2023/08/24/index-1.jsonl.zst",
            "_seals/2023/08/32/index.jsonl.zst",
            "_seals/2023/08/24/c/r/manifest.json",
            "2023/08/24/index.jsonl.zst",
            "_seals",
        ] {
            assert!(!could_be_index(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(lines in proptest::collection::vec("\\PC{0,40}", 0..18)) {
            prop_assert!(Statement::parse(&lines).is_none());
        }
    }
}
