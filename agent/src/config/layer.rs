//! One source read: the values that it gives to keys, and what is wrong with it.

use super::origin::Origin;
use super::problem::{Fault, Problem};
use super::schema::{self, AnyKey};
use super::suggestion::{self, Hint};
use super::value::Raw;

/// What one source says.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) assignments: Vec<Assignment>,
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
                let subject = format!("[{table}] {name}");
                self.refuse(
                    origin,
                    Some(subject),
                    Fault::UnknownKey {
                        hint: key_hint(table, name),
                    },
                );
            }
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
    match suggestion::nearest(table, schema::tables()) {
        Some(nearest) => Hint::Nearest(format!("[{nearest}]")),
        None => Hint::OneOf {
            whose: "the tables are".to_owned(),
            names: schema::tables()
                .into_iter()
                .map(|table| format!("[{table}]"))
                .collect(),
        },
    }
}

/// What might have been meant by a key before the first table: the same key within one.
pub(super) fn homeless_key_hint(name: &str) -> Hint {
    let homes: Vec<_> = schema::KEYS
        .iter()
        .map(|key| key.id())
        .filter(|id| id.name == name)
        .collect();
    match homes.as_slice() {
        [] => table_hint(name),
        [home] => Hint::Nearest(home.to_string()),
        homes => Hint::OneOf {
            whose: "there are".to_owned(),
            names: homes.iter().map(ToString::to_string).collect(),
        },
    }
}

/// What might have been meant by a key that its table does not have.
fn key_hint(table: &str, name: &str) -> Hint {
    if let Some(nearest) = suggestion::nearest(name, schema::names(table)) {
        return Hint::Nearest(nearest.to_owned());
    }
    let elsewhere = schema::KEYS
        .iter()
        .map(|key| key.id())
        .find(|id| id.name == name);
    match elsewhere {
        Some(id) => Hint::Nearest(id.to_string()),
        None => Hint::OneOf {
            whose: format!("[{table}] takes"),
            names: schema::names(table).map(str::to_owned).collect(),
        },
    }
}
