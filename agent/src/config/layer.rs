//! One source read: the values that it gives to keys, and what is wrong with it.

use std::collections::BTreeMap;

use toml_edit::Item;

use super::collection;
use super::origin::Origin;
use super::problem::{Fault, Problem};
use super::schema::{self, AnyKey, COLLECTION_KEYS, COLLECTIONS};
use super::suggestion::{self, Hint};
use super::value::Raw;

/// What one source says.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) assignments: Vec<Assignment>,
    /// Those to the keys of collections, by the name of the collection, which may have none.
    pub(super) collections: BTreeMap<String, Vec<Assignment>>,
    pub(super) problems: Vec<Problem>,
}

/// A value given to a key.
pub(super) struct Assignment {
    pub(super) key: &'static dyn AnyKey,
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

impl Layer {
    /// Gives a value to the key of `table` called `name`, or notes that there is none.
    pub(super) fn assign(&mut self, table: &str, name: &str, raw: Raw, origin: Origin) {
        match schema::find(table, name) {
            Some(key) => self.assignments.push(Assignment { key, raw, origin }),
            None => {
                let table_header = format!("[{table}]");
                let hint = key_hint(&table_header, schema::names(table), name);
                let subject = format!("{table_header} {name}");
                self.refuse(origin, Some(subject), Fault::UnknownKey { hint });
            }
        }
    }

    /// Gives a collection a table. Its name has been judged: where it was refused, its keys still are to be.
    pub(super) fn add_collection(&mut self, collection: &str) {
        self.collections.entry(collection.to_owned()).or_default();
    }

    /// Gives the value of `item` to the key of a collection called `name`, or notes that there is none.
    pub(super) fn assign_to_collection(
        &mut self,
        collection: &str,
        name: &str,
        item: &Item,
        origin: Origin,
    ) {
        let Some(key) = schema::find_of_collection(name) else {
            let header = collection::header(collection);
            let hint = dotted_name_hint(collection, name, item).unwrap_or_else(|| {
                key_hint(
                    &header,
                    COLLECTION_KEYS.iter().map(|key| key.id().name),
                    name,
                )
            });
            let subject = format!("{header} {name}");
            return self.refuse(origin, Some(subject), Fault::UnknownKey { hint });
        };
        // An item without a value is one that was taken out of its table, which a parser never does.
        if let Ok(value) = item.clone().into_value() {
            let assignments = self.collections.entry(collection.to_owned()).or_default();
            let raw = Raw::Toml(value);
            assignments.push(Assignment { key, raw, origin });
        }
    }

    /// Notes a problem.
    pub(super) fn refuse(&mut self, origin: Origin, subject: Option<String>, fault: Fault) {
        self.problems.push(Problem {
            origin,
            subject,
            fault,
        });
    }
}

/// What might have been meant by a table that does not exist.
pub(super) fn table_hint(table: &str) -> Hint {
    let tables = schema::tables().into_iter().chain([COLLECTIONS]);
    match suggestion::nearest(table, tables.clone()) {
        Some(nearest) => Hint::Nearest(format!("[{nearest}]")),
        None => Hint::OneOf {
            whose: "the tables are".to_owned(),
            names: tables.map(|table| format!("[{table}]")).collect(),
        },
    }
}

/// What might have been meant by a key before the first table: the same key within one.
pub(super) fn homeless_key_hint(name: &str) -> Hint {
    let homes: Vec<_> = schema::homes(name).collect();
    match homes.as_slice() {
        [] => table_hint(name),
        [home] => Hint::Nearest(home.to_string()),
        homes => Hint::OneOf {
            whose: "there are".to_owned(),
            names: homes.iter().map(ToString::to_string).collect(),
        },
    }
}

/// What might have been meant by a key that its table does not have; `own` are those it has.
fn key_hint(
    table_header: &str,
    own: impl Iterator<Item = &'static str> + Clone,
    name: &str,
) -> Hint {
    if let Some(nearest) = suggestion::nearest(name, own.clone()) {
        return Hint::Nearest(nearest.to_owned());
    }
    match schema::homes(name).next() {
        Some(id) => Hint::Nearest(id.to_string()),
        None => Hint::OneOf {
            whose: format!("{table_header} takes"),
            names: own.map(str::to_owned).collect(),
        },
    }
}

/// What was meant by a table within that of a collection: to TOML, `[collections.a.b]` is that of `b` in that of `a`.
fn dotted_name_hint(collection: &str, name: &str, item: &Item) -> Option<Hint> {
    let dotted = format!("{collection}.{name}");
    let is_meant = item.is_table_like() && collection::check_name(&dotted).is_ok();
    is_meant.then(|| Hint::Nearest(collection::header(&dotted)))
}
