//! The environment over the file: `CALLVAULT__QUEUE__URL` sets `queue.url`.

use std::ffi::OsString;

use super::{
    mistake::{Fault, Mistake, Mistakes, Place},
    tree::{Node, Table, Value, parse_value},
};

const PREFIX: &str = "CALLVAULT__";
const SEPARATOR: &str = "__";

/// Sets in the tree what the environment names. What no section reads is reported later, as an
/// unknown key that this variable set.
pub(super) fn overlay(
    tree: &mut Table,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    mistakes: &mut Mistakes,
) {
    let mut ours: Vec<(String, OsString)> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    // A table before its keys, and always the same order.
    ours.sort();
    for (name, value) in ours {
        if let Err(fault) = set_variable(tree, &name, value) {
            let place = Place::Variable(name);
            mistakes.push(Mistake {
                place,
                key: String::new(),
                what: fault.what,
                mend: fault.mend,
            });
        }
    }
}

fn set_variable(tree: &mut Table, name: &str, value: OsString) -> Result<(), Fault> {
    let path = name
        .strip_prefix(PREFIX)
        .unwrap_or(name)
        .to_ascii_lowercase();
    let path: Vec<&str> = path.split(SEPARATOR).collect();
    if path.contains(&"") {
        return Err(Fault::new(
            "a part of the name is empty",
            "write CALLVAULT__SECTION__KEY, with two underscores between the parts",
        ));
    }
    let Ok(text) = value.into_string() else {
        return Err(Fault::new("its value is not UTF-8", "set it to plain text"));
    };
    let place = Place::Variable(name.to_owned());
    set(
        tree,
        &path,
        Node {
            value: Value::Variable(text),
            place,
        },
    )
}

fn set(table: &mut Table, path: &[&str], node: Node) -> Result<(), Fault> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let index = position(table, first).unwrap_or_else(|| {
        let empty = Node {
            value: Value::Table(Table::new()),
            place: node.place.clone(),
        };
        table.push(((*first).to_owned(), empty));
        table.len() - 1
    });
    let entry = &mut table[index].1;
    if rest.is_empty() {
        *entry = node;
        return Ok(());
    }
    unfold(entry);
    match &mut entry.value {
        Value::Table(inner) => set(inner, rest, node),
        other => Err(Fault::new(
            format!(
                "`{first}` is {}, not a table, so nothing in it can be set",
                other.type_name()
            ),
            "set it as a whole, in TOML's notation, or change it in the file",
        )),
    }
}

/// A table that another variable gave in one piece, made ready for more keys.
fn unfold(node: &mut Node) {
    if let Value::Variable(text) = &node.value
        && let Some(table @ Value::Table(_)) = parse_value(text, &node.place)
    {
        node.value = table;
    }
}

/// A key as the file spells it, else in any case: names of variables are upper-case.
fn position(table: &Table, name: &str) -> Option<usize> {
    let exact = table.iter().position(|(key, _)| key == name);
    exact.or_else(|| {
        table
            .iter()
            .position(|(key, _)| key.eq_ignore_ascii_case(name))
    })
}
