//! How a JSON Schema sees a tree whose problems are to be told: as it is, but for what an error repeats of it.
//!
//! An error of `jsonschema` repeats the value that it is about, and that of an `anyOf` repeats it once for each
//! of its branches, with all that each found in it: a file of megabytes that fails becomes gigabytes. Here an
//! error gets an excerpt, and after some errors there is nothing more to be found.

use std::{borrow::Cow, cell::Cell, slice};

use jsonschema::{
    JsonType,
    json::{Array, Json, Node, NodeIdentity, Object, SerdeJson, cmp, unique},
};
use serde_json::{Map, Value, map};

/// The errors that one look may make: more are never told, and need not be kept.
const ERRORS: u32 = 200;
/// What an excerpt repeats: items and fields of each level, levels, and characters.
const ITEMS: usize = 16;
const LEVELS: usize = 3;
const CHARACTERS: usize = 64;
/// What stands for the rest.
const REST: &str = "…";

/// The representation of [`Seen`].
pub(super) struct Excerpts;

/// A value of a tree.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    value: &'a Value,
    /// Errors that may still be made.
    left: &'a Cell<u32>,
}

/// How many errors a look at a tree may still make.
pub(super) struct Look(Cell<u32>);

impl Look {
    pub(super) fn new() -> Self {
        Self(Cell::new(ERRORS))
    }

    pub(super) fn at<'a>(&'a self, value: &'a Value) -> Seen<'a> {
        Seen {
            value,
            left: &self.0,
        }
    }
}

/// As much of a value as a person needs to recognise it.
fn excerpt(value: &Value, levels: usize) -> Value {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => Value::String(beginning(text)),
        Value::Array(_) | Value::Object(_) if levels == 0 => Value::String(REST.into()),
        Value::Array(items) => {
            let first = items
                .iter()
                .take(ITEMS)
                .map(|item| excerpt(item, levels - 1));
            let rest = (items.len() > ITEMS).then(|| Value::String(REST.into()));
            first.chain(rest).collect()
        }
        Value::Object(fields) => {
            let first = fields.iter().take(ITEMS);
            let first = first.map(|(name, value)| (beginning(name), excerpt(value, levels - 1)));
            let rest = (fields.len() > ITEMS).then(|| (REST.into(), Value::String(REST.into())));
            Value::Object(first.chain(rest).collect())
        }
    }
}

fn beginning(text: &str) -> String {
    let mut beginning: String = text.chars().take(CHARACTERS).collect();
    if beginning.len() < text.len() {
        beginning.push_str(REST);
    }
    beginning
}

/// Room for a name of a field, which is looked at as a value.
#[derive(Default)]
pub(super) struct Name {
    value: Value,
    left: Cell<u32>,
}

impl Json for Excerpts {
    type Node<'a> = Seen<'a>;
    type PreparedKey = String;
    type StringBuffer = Name;

    // As for `SerdeJson`, whose tree it is.
    const KEYS_PER_LOOKUP: usize = SerdeJson::KEYS_PER_LOOKUP;
    const ACYCLIC: bool = SerdeJson::ACYCLIC;

    fn prepare_key(key: &str) -> String {
        key.to_owned()
    }

    fn with_string_node<T>(room: &mut Name, name: &str, look: impl FnOnce(Seen<'_>) -> T) -> T {
        room.value = Value::String(name.to_owned());
        look(Seen {
            value: &room.value,
            left: &room.left,
        })
    }
}

impl<'a> Node<'a, Excerpts> for Seen<'a> {
    type Object = Fields<'a>;
    type Array = Items<'a>;
    type Number = &'a serde_json::Number;

    fn as_object(&self) -> Option<Fields<'a>> {
        let Self { value, left } = *self;
        value.as_object().map(|fields| Fields { fields, left })
    }

    fn as_array(&self) -> Option<Items<'a>> {
        let Self { value, left } = *self;
        value.as_array().map(|items| Items { items, left })
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        self.value.as_str().map(Cow::Borrowed)
    }

    fn as_number(&self) -> Option<&'a serde_json::Number> {
        self.value.as_number()
    }

    fn as_boolean(&self) -> Option<bool> {
        self.value.as_bool()
    }

    fn is_null(&self) -> bool {
        self.value.is_null()
    }

    fn json_type(&self) -> JsonType {
        self.value.json_type()
    }

    fn equals_value(&self, expected: &Value) -> bool {
        cmp::equal(self.value, expected)
    }

    /// Asked for where an error repeats the value; what compares values is here beside it.
    fn to_value(&self) -> Cow<'a, Value> {
        self.left.set(self.left.get().saturating_sub(1));
        Cow::Owned(excerpt(self.value, LEVELS))
    }

    fn identity(&self) -> Option<NodeIdentity> {
        self.value.identity()
    }
}

/// The fields of an object.
pub(super) struct Fields<'a> {
    fields: &'a Map<String, Value>,
    left: &'a Cell<u32>,
}

impl<'a> Object<'a, Excerpts> for Fields<'a> {
    type Node = Seen<'a>;
    type MemberName = &'a str;
    type MembersIter = EachField<'a>;

    fn len(&self) -> usize {
        self.fields.len()
    }

    fn get(&self, key: &String) -> Option<Seen<'a>> {
        let (fields, left) = (self.fields, self.left);
        fields.get(key).map(|value| Seen { value, left })
    }

    fn members(&self) -> EachField<'a> {
        EachField {
            fields: self.fields.iter(),
            left: self.left,
        }
    }
}

/// Each field, until there are too many errors.
pub(super) struct EachField<'a> {
    fields: map::Iter<'a>,
    left: &'a Cell<u32>,
}

impl<'a> Iterator for EachField<'a> {
    type Item = (&'a str, Seen<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left;
        let (name, value) = self.fields.next().filter(|_| left.get() > 0)?;
        Some((name, Seen { value, left }))
    }
}

/// The items of an array.
pub(super) struct Items<'a> {
    items: &'a [Value],
    left: &'a Cell<u32>,
}

impl<'a> Array<'a, Excerpts> for Items<'a> {
    type Node = Seen<'a>;
    type ElementsIter = EachItem<'a>;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn elements(&self) -> EachItem<'a> {
        EachItem {
            items: self.items.iter(),
            left: self.left,
        }
    }

    fn is_unique(&self) -> bool {
        unique::is_unique(self.items)
    }
}

/// Each item, until there are too many errors.
pub(super) struct EachItem<'a> {
    items: slice::Iter<'a, Value>,
    left: &'a Cell<u32>,
}

impl<'a> Iterator for EachItem<'a> {
    type Item = Seen<'a>;

    fn next(&mut self) -> Option<Seen<'a>> {
        let left = self.left;
        let value = self.items.next().filter(|_| left.get() > 0)?;
        Some(Seen { value, left })
    }
}
