//! A configuration as a tree of values, each of which knows where it was set.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue, Error};

use super::mistake::{Mistake, Mistakes, Place};

/// The entries of a table, in the order in which they were written.
pub(super) type Table = Vec<(String, Node)>;

/// A value and where it was set.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// What can stand behind a key.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Truth(bool),
    List(Vec<Node>),
    Table(Table),
    /// The text of an environment variable: what it means depends on the key that it sets.
    Variable(String),
    /// A text that comes with the program, where a file would name a file.
    BuiltIn(&'static str),
    /// A type that no key has, by its name.
    Other(&'static str),
}

impl Value {
    /// The type, as a message names it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Variable(_) | Self::BuiltIn(_) => "text",
            Self::Whole(_) => "a whole number",
            Self::Truth(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(name) => name,
        }
    }
}

/// Parses a whole file; `Err` has a mistake for each line that is not TOML.
pub(super) fn parse_file(file: &Path, text: &str) -> Result<Table, Mistakes> {
    let at = |offset: usize| line_of(file, text, offset);
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(from_table(table.into_inner(), &at));
    }
    let mut mistakes = Mistakes::default();
    let mut seen = Vec::new();
    for error in errors {
        let place = error
            .span()
            .map_or_else(|| Place::File(file.to_owned()), |span| at(span.start));
        // One slip makes the parser stumble several times on its line.
        if !seen.contains(&place) {
            seen.push(place.clone());
            mistakes.push(syntax_mistake(place, &error));
        }
    }
    Err(mistakes)
}

/// The error's own rendering quotes the line, which may hold a password; its message never does.
fn syntax_mistake(place: Place, error: &Error) -> Mistake {
    let mend = match error.message() {
        "duplicate key" => "set each key once, and write each [table] once",
        _ => "correct the line; text stands in quotes, and each key on a line of its own",
    };
    let what = format!("not valid TOML: {}", error.message());
    Mistake {
        place,
        key: String::new(),
        what,
        mend: mend.to_owned(),
    }
}

/// Parses a text that comes with the program and has no lines that a user could look up.
pub(super) fn parse_built_in(file: &Path, text: &str) -> Table {
    let (table, _) = DeTable::parse_recoverable(text);
    from_table(table.into_inner(), &|_| Place::File(file.to_owned()))
}

/// Parses an environment variable's text as a TOML value.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Value> {
    let value = DeValue::parse(text.trim()).ok()?;
    Some(from_value(value.into_inner(), &|_| place.clone()))
}

fn from_table(table: DeTable<'_>, at: &dyn Fn(usize) -> Place) -> Table {
    let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<_>)| {
        let place = at(key.span().start);
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (
            key.into_owned(),
            Node {
                value: from_value(value.into_inner(), at),
                place,
            },
        )
    };
    table.into_iter().map(entry).collect()
}

fn from_value(value: DeValue<'_>, at: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number of more than 64 bits"), Value::Whole),
        DeValue::Boolean(truth) => Value::Truth(truth),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| {
                    let place = at(item.span().start);
                    Node {
                        value: from_value(item.into_inner(), at),
                        place,
                    }
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(from_table(table, at)),
    }
}

fn line_of(file: &Path, text: &str, offset: usize) -> Place {
    let before = text.bytes().take(offset);
    let line = 1 + before.filter(|byte| *byte == b'\n').count();
    Place::Line {
        file: file.to_owned(),
        line,
    }
}

/// Where each key of a configuration was set.
#[derive(Debug, Default)]
pub struct Sources {
    file: PathBuf,
    places: BTreeMap<String, Place>,
}

impl Sources {
    pub(super) fn of(file: &Path, tree: &Table) -> Self {
        let mut sources = Self {
            file: file.to_owned(),
            places: BTreeMap::new(),
        };
        sources.add_table("", tree);
        sources
    }

    fn add_table(&mut self, path: &str, table: &Table) {
        for (name, node) in table {
            self.add(join(path, name), node);
        }
    }

    fn add(&mut self, key: String, node: &Node) {
        match &node.value {
            Value::Table(table) => self.add_table(&key, table),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.add(format!("{key}[{index}]"), item);
                }
            }
            // A whole table in one variable.
            Value::Variable(text) => {
                if let Some(Value::Table(table)) = parse_value(text, &node.place) {
                    self.add_table(&key, &table);
                }
            }
            _ => {}
        }
        self.places.insert(key, node.place.clone());
    }

    /// Whether the key itself was set, in the file or by the environment.
    pub fn is_set(&self, key: &str) -> bool {
        self.places
            .get(key)
            .is_some_and(|place| !matches!(place, Place::File(_)))
    }

    /// Where a key was set; of one that was not, where the nearest table around it stands.
    pub fn locate(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return Place::File(self.file.clone()),
            }
        }
    }

    /// A mistake about a key, for the same report as those of the file.
    pub fn mistake(&self, key: &str, what: impl Into<String>, mend: impl Into<String>) -> Mistake {
        Mistake {
            place: self.locate(key),
            key: key.to_owned(),
            what: what.into(),
            mend: mend.into(),
        }
    }
}

/// The key of a table's entry, written as TOML would have it.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = match name {
        name if !name.is_empty() && name.chars().all(bare) => name.to_owned(),
        name => format!("{name:?}"),
    };
    if path.is_empty() {
        name
    } else {
        format!("{path}.{name}")
    }
}
