//! The template of object keys, `{date}/{call_id}/{request_id}/{file}` by default.

use uuid::Uuid;

use super::{MANIFEST, name};
use crate::event::{CallAnalyzed, Id};

/// The longest segment that a folder can hold, in bytes (`NAME_MAX`), less room for `-2` and the like
/// and for the store's own temporary name.
const LONGEST_SEGMENT: usize = 240;
/// What stands for a value that the event lacks.
const NONE: &str = "none";

/// A key template, parsed: literal text and placeholders.
#[derive(Debug)]
pub struct KeyTemplate(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Date,
    Year,
    Month,
    Day,
    CallId,
    RequestId,
    Kind,
    OrganizationId,
    AgentId,
    File,
}

/// Each placeholder with the longest value that it can take, in bytes.
const FIELDS: [(&str, Field, usize); 10] = [
    ("date", Field::Date, 10),
    ("year", Field::Year, 4),
    ("month", Field::Month, 2),
    ("day", Field::Day, 2),
    ("call_id", Field::CallId, 128),
    ("request_id", Field::RequestId, 128),
    ("kind", Field::Kind, 64),
    ("organization_id", Field::OrganizationId, 36),
    ("agent_id", Field::AgentId, 128),
    ("file", Field::File, 128),
];

/// What a template is filled in with.
pub(super) struct Fields<'a> {
    pub(super) call: &'a CallAnalyzed,
    pub(super) kind: &'a str,
    pub(super) organization_id: Option<Uuid>,
    pub(super) agent_id: Option<&'a str>,
    pub(super) file: &'a str,
}

/// Why a text is not a key template.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TemplateError {
    /// A placeholder that does not exist.
    #[error("{{{0}}} is not a placeholder; there are {known}", known = known())]
    Unknown(String),
    /// A brace without its partner.
    #[error("a brace is not closed, or closed without being open")]
    Brace,
    /// A character that not every store takes in a key.
    #[error(
        "{0:?} cannot stand in a key; use letters, digits, \".\", \"_\", \"-\" and \"/\" beside placeholders"
    )]
    Character(char),
    /// A segment that is empty, or starts with a dot.
    #[error("a segment between slashes is empty or starts with a dot")]
    Segment,
    /// A segment that no file name can be.
    #[error(
        "a segment can become {0} bytes long, and a folder holds {LONGEST_SEGMENT}; put a slash between its placeholders"
    )]
    TooLong(usize),
    /// The manifest's key holds the date; objects without it could be those of two manifests.
    #[error("the date is missing: {{date}}, or {{year}}, {{month}} and {{day}}")]
    NoDate,
    /// The key could be that of the manifest's folder.
    #[error("the last segment tells no attachment: it needs {{file}} or {{kind}}")]
    NoAttachment,
    /// Seals lie there.
    #[error("keys that begin with {}/ are those of seals", crate::seal::PREFIX)]
    Reserved,
    /// Two events could come to the same key: without the identifier, or where it runs into another
    /// value (`a-b` and `c` would make the same `{call_id}-{request_id}` as `a` and `b-c`).
    #[error(
        "{0} does not stand between slashes without another placeholder, so one event could take another's keys"
    )]
    NotUnique(&'static str),
}

fn known() -> String {
    FIELDS.map(|(name, ..)| format!("{{{name}}}")).join(" ")
}

impl KeyTemplate {
    /// Reads a template.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let parts = parts(template)?;
        segments(template)?;
        if template.split('/').next() == Some(crate::seal::PREFIX) {
            return Err(TemplateError::Reserved);
        }
        let alone = |id: &str| {
            let mut segments = template.split('/');
            segments.any(|segment| segment.contains(id) && segment.matches('{').count() == 1)
        };
        if let Some(id) = ["{call_id}", "{request_id}"]
            .into_iter()
            .find(|id| !alone(id))
        {
            return Err(TemplateError::NotUnique(id));
        }
        let has = |field: &str| template.contains(field);
        if !has("{date}") && !["{year}", "{month}", "{day}"].into_iter().all(has) {
            return Err(TemplateError::NoDate);
        }
        let last = template.rsplit('/').next().unwrap_or(template);
        if !last.contains("{file}") && !last.contains("{kind}") {
            return Err(TemplateError::NoAttachment);
        }
        Ok(Self(parts))
    }

    /// Whether a key may be one of this template's, for some event. A date need not be one of the
    /// calendar's, and a value may be any that its placeholder can take.
    pub(super) fn could_make(&self, key: &str) -> bool {
        let fits = |key: &str| fits(&self.0, key, &mut Owner::default());
        fits(key) || name::unnumbered(key).is_some_and(|key| fits(&key))
    }

    /// The key of the manifest of the event that a key of this template's is for. Every template holds the date and the
    /// two identifiers, so a key tells its event.
    pub(super) fn manifest_of(&self, key: &str) -> Option<String> {
        let owner = |key: &str| {
            let mut owner = Owner::default();
            fits(&self.0, key, &mut owner).then(|| owner.manifest())
        };
        owner(key).or_else(|| owner(&name::unnumbered(key)?))
    }

    /// Whether all keys of a day lie in that day's folder, `2023/08/24`.
    pub(super) fn is_by_day(&self) -> bool {
        use Field::{Date, Day, Month, Year};
        let parts: Vec<&Part> = self.0.iter().filter(|part| !part.is_nothing()).collect();
        let slash = |text: &String| text == "/";
        match parts[..] {
            [Part::Field(Date), Part::Text(after), ..] => after.starts_with('/'),
            [
                Part::Field(Year),
                Part::Text(first),
                Part::Field(Month),
                Part::Text(second),
                Part::Field(Day),
                Part::Text(after),
                ..,
            ] => slash(first) && slash(second) && after.starts_with('/'),
            _ => false,
        }
    }

    pub(super) fn render(&self, fields: &Fields<'_>) -> String {
        let created_at = fields.call.created_at;
        let mut key = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => key.push_str(text),
                Part::Field(Field::Date) => key += &created_at.format("%Y/%m/%d").to_string(),
                Part::Field(Field::Year) => key += &created_at.format("%Y").to_string(),
                Part::Field(Field::Month) => key += &created_at.format("%m").to_string(),
                Part::Field(Field::Day) => key += &created_at.format("%d").to_string(),
                Part::Field(Field::CallId) => key += fields.call.call_id.as_str(),
                Part::Field(Field::RequestId) => key += fields.call.request_id.as_str(),
                Part::Field(Field::Kind) => key += fields.kind,
                Part::Field(Field::OrganizationId) => match fields.organization_id {
                    Some(id) => key += &id.to_string(),
                    None => key += NONE,
                },
                Part::Field(Field::AgentId) => {
                    key += &fields.agent_id.map_or_else(|| NONE.into(), name::safe);
                }
                Part::Field(Field::File) => key += fields.file,
            }
        }
        key
    }
}

impl Part {
    fn is_nothing(&self) -> bool {
        matches!(self, Self::Text(text) if text.is_empty())
    }
}

impl Field {
    /// Whether a text may stand for this placeholder.
    fn could_be(self, text: &str) -> bool {
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        match self {
            Self::Date => match text.split('/').collect::<Vec<_>>()[..] {
                [year, month, day] => digits(year, 4) && digits(month, 2) && digits(day, 2),
                _ => false,
            },
            Self::Year => digits(text, 4),
            Self::Month | Self::Day => digits(text, 2),
            Self::OrganizationId => text == NONE || Uuid::try_parse(text).is_ok(),
            Self::CallId | Self::RequestId => Id::new(text).is_some(),
            Self::Kind | Self::AgentId | Self::File => name::is_safe(text),
        }
    }

    /// The most bytes that it takes.
    fn longest(self) -> usize {
        let known = FIELDS.iter().find(|(_, field, _)| *field == self);
        known.map_or(0, |(_, _, longest)| *longest)
    }
}

/// What a key tells of its event.
#[derive(Debug, Default)]
struct Owner<'a> {
    date: &'a str,
    year: &'a str,
    month: &'a str,
    day: &'a str,
    call_id: &'a str,
    request_id: &'a str,
}

impl<'a> Owner<'a> {
    fn take(&mut self, field: Field, value: &'a str) {
        match field {
            Field::Date => self.date = value,
            Field::Year => self.year = value,
            Field::Month => self.month = value,
            Field::Day => self.day = value,
            Field::CallId => self.call_id = value,
            Field::RequestId => self.request_id = value,
            Field::Kind | Field::OrganizationId | Field::AgentId | Field::File => {}
        }
    }

    fn manifest(&self) -> String {
        let date = match self.date {
            "" => format!("{}/{}/{}", self.year, self.month, self.day),
            date => date.to_owned(),
        };
        format!("{date}/{}/{}/{MANIFEST}", self.call_id, self.request_id)
    }
}

/// Whether a text can be cut into what the parts stand for, and into what. No value but a date holds a slash, and a
/// segment has few placeholders, so there are few ways to try.
fn fits<'a>(parts: &[Part], text: &'a str, owner: &mut Owner<'a>) -> bool {
    match parts {
        [] => text.is_empty(),
        [Part::Text(literal), rest @ ..] => text
            .strip_prefix(literal.as_str())
            .is_some_and(|text| fits(rest, text, owner)),
        [Part::Field(field), rest @ ..] => (1..=field.longest().min(text.len()))
            .filter(|end| text.is_char_boundary(*end))
            .find(|end| field.could_be(&text[..*end]) && fits(rest, &text[*end..], owner))
            .is_some_and(|end| {
                owner.take(*field, &text[..end]);
                true
            }),
    }
}

fn parts(template: &str) -> Result<Vec<Part>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, from_brace) = rest.split_at(at);
        let inside = from_brace.strip_prefix('{').ok_or(TemplateError::Brace)?;
        let (name, after) = inside.split_once('}').ok_or(TemplateError::Brace)?;
        let (_, field, _) = FIELDS
            .iter()
            .find(|(known, ..)| *known == name)
            .ok_or_else(|| TemplateError::Unknown(name.into()))?;
        parts.extend([literal(text)?, Part::Field(*field)]);
        rest = after;
    }
    parts.push(literal(rest)?);
    Ok(parts)
}

fn literal(text: &str) -> Result<Part, TemplateError> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    match text.chars().find(|c| !allowed(c)) {
        Some(c) => Err(TemplateError::Character(c)),
        None => Ok(Part::Text(text.into())),
    }
}

/// Judges what stands between the slashes: no value of a placeholder is empty or starts with a dot, so
/// the template's own text decides.
fn segments(template: &str) -> Result<(), TemplateError> {
    for segment in template.split('/') {
        if segment.is_empty() || segment.starts_with('.') {
            return Err(TemplateError::Segment);
        }
        let longest = FIELDS
            .iter()
            .fold(segment.len(), |length, (name, _, longest)| {
                let placeholder = format!("{{{name}}}");
                let count = segment.matches(&placeholder).count();
                length + count * longest - count * placeholder.len()
            });
        if longest > LONGEST_SEGMENT {
            return Err(TemplateError::TooLong(longest));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_template_is_told_from_others() {
        const IDS: &str = "5e09c7cc-27e8/0055.2b_38";
        let default = "{date}/{call_id}/{request_id}/{file}";
        let other =
            "calls/{year}-{month}-{day}/{organization_id}/{call_id}/{request_id}/{kind}-{file}";
        let org = "fb545ce8-68e1-4303-ab23-6ba0149fc4b1";
        for (template, key, could) in [
            (default, format!("2023/08/24/{IDS}/recording.wav"), true),
            (default, format!("2023/08/24/{IDS}/recording-2.wav"), true),
            (default, format!("2023/08/24/{IDS}/manifest.json"), true),
            (default, format!("2023/8/24/{IDS}/recording.wav"), false),
            (default, format!("2023/08/24/{IDS}/a/recording.wav"), false),
            (default, format!("x/2023/08/24/{IDS}/recording.wav"), false),
            (default, format!("2023/08/24/{IDS}/.hidden"), false),
            (default, format!("2023/08/24/{IDS}/a b"), false),
            (default, format!("2023/08/24/{IDS}/ü.wav"), false),
            (
                default,
                format!("2023/08/24/{IDS}/{}", "x".repeat(140)),
                false,
            ),
            (default, "2023/08/24/a..b/c/recording.wav".into(), false),
            (default, "2023/08/24/recording.wav".into(), false),
            (default, "backup/2023.tar".into(), false),
            (default, String::new(), false),
            (
                other,
                format!("calls/2023-08-24/{org}/{IDS}/recording-a.wav"),
                true,
            ),
            (
                other,
                format!("calls/2023-08-24/none/{IDS}/recording-a-3.wav"),
                true,
            ),
            (
                other,
                format!("calls/2023-08-24/acme/{IDS}/recording-a.wav"),
                false,
            ),
            (other, format!("2023/08/24/{IDS}/recording.wav"), false),
            (
                "{date}/{call_id}/{request_id}/{file}.bin-{year}",
                format!("2023/08/24/{IDS}/f-2.bin-2023"),
                true,
            ),
        ] {
            let parsed = KeyTemplate::parse(template).unwrap();
            assert_eq!(parsed.could_make(&key), could, "{template}: {key}");
        }
    }

    #[test]
    fn a_key_tells_the_manifest_of_its_event() {
        let manifest = "2023/08/24/c-1/r.2/manifest.json";
        let default = "{date}/{call_id}/{request_id}/{file}";
        for (template, key, by_day) in [
            (default, "2023/08/24/c-1/r.2/recording-2.wav", true),
            (
                "{year}/{month}/{day}/x/{request_id}/{call_id}/{kind}-{file}",
                "2023/08/24/x/r.2/c-1/recording-a.wav",
                true,
            ),
            (
                "{date}-x/{call_id}/{request_id}/{file}",
                "2023/08/24-x/c-1/r.2/a.wav",
                false,
            ),
            (
                "{organization_id}/{call_id}/{request_id}/{year}{month}/{day}-{file}",
                "none/c-1/r.2/202308/24-a-3.wav",
                false,
            ),
            (
                "{agent_id}/{date}/{call_id}/{request_id}/{file}",
                "a/2023/08/24/c-1/r.2/a",
                false,
            ),
        ] {
            let parsed = KeyTemplate::parse(template).unwrap();
            let found = parsed.manifest_of(key);
            assert_eq!(found.as_deref(), Some(manifest), "{template}");
            assert_eq!(parsed.is_by_day(), by_day, "{template}");
        }
        let parsed = KeyTemplate::parse(default).unwrap();
        assert_eq!(parsed.manifest_of("backup/2023.tar"), None);
    }

    #[test]
    fn a_template_that_could_mislead_is_refused() {
        use TemplateError as E;
        for (template, error) in [
            (
                "{date}/{call_id}/{request}/{file}",
                E::Unknown("request".into()),
            ),
            ("{date/{call_id}", E::Unknown("date/{call_id".into())),
            ("{call_id}/{request_id}/{file", E::Brace),
            ("{call_id}}/{request_id}", E::Brace),
            ("/{call_id}/{request_id}", E::Segment),
            ("{call_id}//{request_id}", E::Segment),
            ("../{call_id}/{request_id}", E::Segment),
            ("{call_id}/{request_id}/", E::Segment),
            ("a b/{call_id}/{request_id}", E::Character(' ')),
            ("{call_id}/{request_id}/{agent_id}-{file}", E::TooLong(257)),
            ("{call_id}/{request_id}/{file}", E::NoDate),
            ("_seals/{date}/{call_id}/{request_id}/{file}", E::Reserved),
            ("{year}/{month}/{call_id}/{request_id}/{file}", E::NoDate),
            ("{date}/{call_id}/{request_id}", E::NoAttachment),
            ("{date}/{call_id}/{file}", E::NotUnique("{request_id}")),
            ("{date}/{request_id}/{file}", E::NotUnique("{call_id}")),
            (
                "{call_id}-{year}/{request_id}/{file}",
                E::NotUnique("{call_id}"),
            ),
            ("", E::Segment),
        ] {
            assert_eq!(
                KeyTemplate::parse(template).unwrap_err(),
                error,
                "{template}"
            );
        }
    }
}
