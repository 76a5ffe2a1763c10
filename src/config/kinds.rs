//! `[attachments.<kind>]`: how each kind is recognised, checked and kept.

use std::{ops::RangeInclusive, path::Path};

use super::{
    Check, Kind, Schema, WavLimits,
    buckets::Names,
    folder::Folder,
    mistake::{Fault, quoted},
    read::Section,
    tree::{Node, Table, Value, parse_built_in},
    value::{Bytes, FromNode, whole_within},
};

const MIB: u64 = bytesize::MIB;
const GIB: u64 = bytesize::GIB;

/// The kinds of a file that names none.
const DEFAULT_KINDS: &str = r#"
[analysis]
file = "analysis.json"
check = "json"
bucket = "documents"

[recording]
file = "recording.wav"
check = "wav"
bucket = "recordings"

[transcript]
file = "transcript.json"
check = "json"
bucket = "documents"
"#;

const DEFAULT_SCHEMAS: [(&str, &str); 2] = [
    (
        "analysis",
        include_str!("../../config/schemas/analysis.schema.json"),
    ),
    (
        "transcript",
        include_str!("../../config/schemas/transcript.schema.json"),
    ),
];

/// Puts the default kinds into a file that names none. The environment can then change them.
pub(super) fn add_defaults(tree: &mut Table, file: &Path) {
    let named = |(_, node): &(String, Node)| !matches!(&node.value, Value::Table(kinds) if kinds.is_empty());
    let index = tree.iter().position(|(name, _)| name == "attachments");
    match index {
        Some(index) if named(&tree[index]) => {}
        Some(index) => tree[index].1.value = Value::Table(default_kinds(file)),
        None => tree.push((
            "attachments".to_owned(),
            built_in(file, Value::Table(default_kinds(file))),
        )),
    }
}

fn default_kinds(file: &Path) -> Table {
    let mut kinds = parse_built_in(file, DEFAULT_KINDS);
    for (name, node) in &mut kinds {
        let schema = DEFAULT_SCHEMAS.iter().find(|(kind, _)| kind == name);
        if let (Some((_, text)), Value::Table(kind)) = (schema, &mut node.value) {
            kind.push(("schema".to_owned(), built_in(file, Value::BuiltIn(text))));
        }
    }
    kinds
}

fn built_in(file: &Path, value: Value) -> Node {
    Node {
        value,
        place: super::Place::File(file.to_owned()),
    }
}

/// What a kind has to fit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) names: &'a Names,
    pub(super) folder: &'a Folder,
}

pub(super) fn kinds(section: Section<'_>, around: Around<'_>) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::new();
    section.each(|name, mut section| {
        if let Err(fault) = judge_name(name) {
            section.own_fault(fault);
        }
        let kind = kind(name, &mut section, &kinds, around);
        section.finish();
        kinds.extend(kind);
    });
    kinds
}

fn judge_name(name: &str) -> Result<(), Fault> {
    let fine = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-');
    if name == "other" {
        return Err(Fault::new(
            "`other` is what no kind matches: unchecked, to archive.manifest_bucket, at most 64MiB",
            r#"for other rules, make the last kind one with a name of its own and file = "*""#,
        ));
    }
    if !(1..=64).contains(&name.len()) || !name.bytes().all(fine) {
        return Err(Fault::new(
            "not a kind's name",
            "write 1 to 64 of the characters a-z 0-9 _ -",
        ));
    }
    Ok(())
}

fn kind(
    name: &str,
    section: &mut Section<'_>,
    earlier: &[Kind],
    around: Around<'_>,
) -> Option<Kind> {
    let mend = r#"write the file's name or a glob, such as file = "*.wav""#;
    let file = section.require("file", mend, |file| reachable(pattern(file)?, earlier));
    let check = check(section, around.folder);
    let mend = "write the name of a table in [buckets]";
    let bucket = section.require("bucket", mend, |bucket| around.names.judge(bucket));
    let max_size = section.or("max_size", Bytes(default_size(&check))).0;
    Some(Kind {
        name: name.to_owned(),
        file: file?,
        check,
        bucket: bucket?,
        max_size,
    })
}

/// Kinds are tried in order: one that an earlier kind hides is there by mistake.
fn reachable(file: String, earlier: &[Kind]) -> Result<String, Fault> {
    match earlier
        .iter()
        .find(|kind| kind.file == file || kind.file == "*")
    {
        Some(first) => Err(Fault::new(
            format!(
                "never reached, since `{}` stands before it and takes the same files",
                first.name
            ),
            "move this kind up, or change one of the two globs",
        )),
        None => Ok(file),
    }
}

fn default_size(check: &Check) -> u64 {
    match check {
        Check::None => 64 * MIB,
        Check::Json(_) => 8 * MIB,
        Check::Wav(_) => 4 * GIB,
    }
}

fn pattern(file: String) -> Result<String, Fault> {
    if file.is_empty() || file.contains('/') {
        return Err(Fault::new(
            format!("{} can match no file", quoted(&file)),
            "write a glob on the last segment of the URL's path, such as \"*.wav\"",
        ));
    }
    match glob::Pattern::new(&file) {
        Ok(_) => Ok(file),
        Err(error) => Err(Fault::new(
            format!("{} is not a glob: {}", quoted(&file), error.msg),
            "write `*` for any text, `?` for one character, `[*]` for the character itself",
        )),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckName {
    None,
    Wav,
    Json,
}

fn check_name(name: &str) -> Result<CheckName, Fault> {
    match name {
        "none" => Ok(CheckName::None),
        "wav" => Ok(CheckName::Wav),
        "json" => Ok(CheckName::Json),
        _ => Err(Fault::new(
            format!("there is no check {}", quoted(name)),
            r#"write "wav", "json" or "none""#,
        )),
    }
}

/// What belongs to one check alone is a mistake with another, unless the check itself is one.
fn check(section: &mut Section<'_>, folder: &Folder) -> Check {
    let absent = !section.has("check");
    let name = section.take("check", |name: String| check_name(&name));
    let known = name.or(absent.then_some(CheckName::None));

    let has_wav = section.has("wav");
    let wav = wav_limits(section.section("wav"));
    if has_wav && known.is_some_and(|name| name != CheckName::Wav) {
        section.fault(
            "wav",
            Fault::new(
                "only check = \"wav\" has limits",
                "set the check, or remove this",
            ),
        );
    }
    let schema = section.take("schema", Ok);
    if matches!(schema, Some(SchemaSource::File(_)))
        && known.is_some_and(|name| name != CheckName::Json)
    {
        section.fault(
            "schema",
            Fault::new(
                "only check = \"json\" has a schema",
                "set the check, or remove this",
            ),
        );
    }
    match known.unwrap_or(CheckName::None) {
        CheckName::None => Check::None,
        CheckName::Wav => Check::Wav(wav),
        CheckName::Json => {
            Check::Json(schema.and_then(|source| read_schema(section, source, folder)))
        }
    }
}

fn wav_limits(mut section: Section<'_>) -> WavLimits {
    let limits = WavLimits {
        channels: numbers(&mut section, "channels", &(1..=65_535)),
        sample_rates_hz: numbers(&mut section, "sample_rates_hz", &(1..=4_294_967_295)),
    };
    section.finish();
    limits
}

fn numbers<N: TryFrom<i64>>(
    section: &mut Section<'_>,
    key: &'static str,
    bounds: &RangeInclusive<i64>,
) -> Option<Vec<N>> {
    let mend = "write the numbers to accept, such as [1, 2] channels or [8000, 16000] Hz";
    let numbers = section.list(key, |number| whole_within(number, bounds, mend))?;
    if numbers.is_empty() {
        section.fault(
            key,
            Fault::new("an empty list accepts nothing", "remove it to accept all"),
        );
    }
    Some(numbers)
}

enum SchemaSource {
    File(String),
    BuiltIn(&'static str),
}

impl FromNode for SchemaSource {
    fn from_node(node: Node) -> Result<Self, Fault> {
        match node.value {
            Value::BuiltIn(text) => Ok(Self::BuiltIn(text)),
            _ => String::from_node(node).map(Self::File),
        }
    }
}

fn read_schema(section: &mut Section<'_>, source: SchemaSource, folder: &Folder) -> Option<Schema> {
    let path = match source {
        SchemaSource::BuiltIn(text) => {
            return Some(Schema {
                origin: "built in".to_owned(),
                text: text.to_owned(),
            });
        }
        SchemaSource::File(path) => path,
    };
    let origin = folder.shown(&path).display().to_string();
    match std::fs::read_to_string(folder.absolute(&path)) {
        Ok(text) => Some(Schema { origin, text }),
        Err(error) => {
            section.fault(
                "schema",
                Fault::new(
                    format!("cannot read {}: {error}", quoted(&origin)),
                    "name a JSON Schema file, seen from the folder of the configuration file",
                ),
            );
            None
        }
    }
}
