//! Reading the tree: a [`Section`] hands out its fields by name and type, notes every mistake, and
//! reports at its end what nobody asked for.

use std::{collections::BTreeMap, ops::RangeInclusive};

use super::{
    mistake::{Fault, Mistakes},
    tree::{Node, Sources, Table, join},
    value::{FromNode, whole_within},
};

/// What all sections share: where keys stand, and what was wrong so far.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) sources: Sources,
    pub(super) mistakes: Mistakes,
}

impl Report {
    fn fault(&mut self, key: &str, fault: Fault) {
        self.mistakes
            .push(self.sources.mistake(key, fault.what, fault.mend));
    }
}

/// A table that is being read.
#[derive(Debug)]
pub(super) struct Section<'r> {
    report: &'r mut Report,
    path: String,
    fields: Table,
    known: Vec<&'static str>,
}

impl<'r> Section<'r> {
    /// The whole file.
    pub(super) fn root(report: &'r mut Report, fields: Table) -> Self {
        Self {
            report,
            path: String::new(),
            fields,
            known: Vec::new(),
        }
    }

    /// Notes a mistake about one of this section's fields.
    pub(super) fn fault(&mut self, key: &str, fault: Fault) {
        self.report.fault(&join(&self.path, key), fault);
    }

    /// Notes a mistake about the section itself.
    pub(super) fn own_fault(&mut self, fault: Fault) {
        self.report.fault(&self.path, fault);
    }

    /// Whether a field is there and not yet taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.iter().any(|(name, _)| name == key)
    }

    /// The names that the user chose, in a table of such.
    pub(super) fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(name, _)| name.clone()).collect()
    }

    /// A field's value, made into what it stands for; `None` where it is absent or wrong.
    pub(super) fn take<T: FromNode, U>(
        &mut self,
        key: &'static str,
        make: impl FnOnce(T) -> Result<U, Fault>,
    ) -> Option<U> {
        let node = self.remove(key)?;
        match T::from_node(node).and_then(make) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.fault(key, fault);
                None
            }
        }
    }

    /// A field's value, or the default.
    pub(super) fn or<T: FromNode>(&mut self, key: &'static str, default: T) -> T {
        self.take(key, Ok).unwrap_or(default)
    }

    /// A whole number within bounds, or the default.
    pub(super) fn number<N: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<i64>,
        mend: &str,
        default: N,
    ) -> N {
        self.take(key, |number| whole_within(number, &bounds, mend))
            .unwrap_or(default)
    }

    /// A field that has to be there.
    pub(super) fn require<T: FromNode, U>(
        &mut self,
        key: &'static str,
        mend: &str,
        make: impl FnOnce(T) -> Result<U, Fault>,
    ) -> Option<U> {
        if !self.has(key) {
            self.fault(key, Fault::new("missing", mend));
        }
        self.take(key, make)
    }

    /// A list whose items are judged one by one, each with its own mistake; `None` if one is wrong.
    pub(super) fn list<T: FromNode, U>(
        &mut self,
        key: &'static str,
        mut make: impl FnMut(T) -> Result<U, Fault>,
    ) -> Option<Vec<U>> {
        let items = self.take(key, |items: Vec<Node>| Ok(items))?;
        let length = items.len();
        let mut right = Vec::with_capacity(length);
        for (index, item) in items.into_iter().enumerate() {
            match T::from_node(item).and_then(&mut make) {
                Ok(value) => right.push(value),
                Err(fault) => self
                    .report
                    .fault(&format!("{}[{index}]", join(&self.path, key)), fault),
            }
        }
        (right.len() == length).then_some(right)
    }

    /// The table under a key; an empty one where it is absent or wrong.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'_> {
        let fields = self.take(key, |table: Table| Ok(table)).unwrap_or_default();
        self.inner(join(&self.path, key), fields)
    }

    /// Reads each table of a list of tables.
    pub(super) fn each_in_list(&mut self, key: &'static str, mut read: impl FnMut(Section<'_>)) {
        let items = self
            .take(key, |items: Vec<Node>| Ok(items))
            .unwrap_or_default();
        for (index, item) in items.into_iter().enumerate() {
            self.read_inner(
                format!("{}[{index}]", join(&self.path, key)),
                item,
                &mut read,
            );
        }
    }

    /// Reads each table in a table whose names the user chose.
    pub(super) fn each(mut self, mut read: impl FnMut(&str, Section<'_>)) {
        for (name, node) in std::mem::take(&mut self.fields) {
            self.read_inner(join(&self.path, &name), node, |section| {
                read(&name, section);
            });
        }
    }

    /// All that is in a table whose names the user chose; wrong values are left out.
    pub(super) fn into_map<T: FromNode, U>(
        mut self,
        mut make: impl FnMut(T) -> Result<U, Fault>,
    ) -> BTreeMap<String, U> {
        let mut map = BTreeMap::new();
        for (name, node) in std::mem::take(&mut self.fields) {
            match T::from_node(node).and_then(&mut make) {
                Ok(value) => drop(map.insert(name, value)),
                Err(fault) => self.fault(&name, fault),
            }
        }
        map
    }

    /// Reports the fields that nobody took.
    pub(super) fn finish(mut self) {
        for (name, _) in std::mem::take(&mut self.fields) {
            let mend = self.mend_unknown(&name);
            self.fault(&name, Fault::new("unknown key", mend));
        }
    }

    fn mend_unknown(&self, name: &str) -> String {
        match closest(name, &self.known) {
            Some(key) => format!("did you mean `{key}`?"),
            None => format!("remove it; the keys here are: {}", self.known.join(", ")),
        }
    }

    fn remove(&mut self, key: &'static str) -> Option<Node> {
        self.known.push(key);
        let index = self.fields.iter().position(|(name, _)| name == key)?;
        Some(self.fields.remove(index).1)
    }

    fn inner(&mut self, path: String, fields: Table) -> Section<'_> {
        Section {
            report: self.report,
            path,
            fields,
            known: Vec::new(),
        }
    }

    fn read_inner(&mut self, path: String, node: Node, read: impl FnOnce(Section<'_>)) {
        match Table::from_node(node) {
            Ok(fields) => read(self.inner(path, fields)),
            Err(fault) => self.report.fault(&path, fault),
        }
    }
}

/// The known key that a misspelt one was probably meant to be.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = known
        .iter()
        .map(|key| (strsim::osa_distance(&name, key), *key))
        .min()?;
    let tolerated = near.1.len().div_ceil(3).min(3);
    (near.0 <= tolerated).then_some(near.1)
}
