//! The template of object keys, `{date}/{call_id}/{request_id}/{file}` by default.

use uuid::Uuid;

use super::{MANIFEST, name};
use crate::event::CallAnalyzed;

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
                Part::Field(Field::AgentId) => key += &agent(fields.agent_id),

                Part::Field(Field::File) => key += fields.file,
            }
        }
        key
    }
}

/// An agent's identifier may be any text. As a manifest's name it would stand, as a folder, where the
/// event's manifest goes.
fn agent(id: Option<&str>) -> String {
    match id.map(name::safe) {
        Some(id) if id == MANIFEST => format!("{id}_"),
        Some(id) => id,
        None => NONE.into(),
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
