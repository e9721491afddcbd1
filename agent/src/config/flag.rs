//! The flags: the named ones of the schema, and `--set table.key=value` for every key but those of collections.

use super::collection::CollectionFault;
use super::layer::{self, Layer};
use super::origin::Origin;
use super::problem::Fault;
use super::schema::{self, COLLECTIONS};
use super::value::Raw;

/// The flag that sets any key but those of collections.
pub(crate) const SET: &str = "--set";

/// One flag as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagValue {
    /// Its name with the dashes: a flag of the schema such as `--seed`, or `--set`.
    pub flag: String,
    /// Its value. Values of a flag that was repeated are joined by commas.
    pub value: String,
}

/// Reads flags in the order in which they were given; of several for one key the last wins.
pub(super) fn read(flags: &[FlagValue]) -> Layer {
    let mut layer = Layer::default();
    for FlagValue { flag, value } in flags {
        if flag == SET {
            read_set(value, &mut layer);
        } else if let Some(key) = schema::KEYS.iter().find(|key| key.flag() == Some(flag)) {
            let origin = Origin::Flag { flag: flag.clone() };
            layer.assign(
                key.id().table,
                key.id().name,
                Raw::Text(value.clone()),
                origin,
            );
        } else {
            let hint = layer::homeless_key_hint(flag.trim_start_matches('-'));
            layer.refuse(
                Origin::Flag { flag: flag.clone() },
                None,
                Fault::UnknownKey { hint },
            );
        }
    }
    layer
}

fn read_set(argument: &str, layer: &mut Layer) {
    let parts = argument.split_once('=').and_then(|(path, value)| {
        let (table, name) = path.trim().split_once('.')?;
        Some((table, name, value.trim()))
    });
    let Some((table, name, value)) = parts else {
        let fault = Fault::MalformedSet {
            argument: argument.to_owned(),
        };
        return layer.refuse(
            Origin::Flag {
                flag: SET.to_owned(),
            },
            None,
            fault,
        );
    };
    let origin = Origin::Flag {
        flag: format!("{SET} {table}.{name}"),
    };
    if table == COLLECTIONS {
        layer.refuse(origin, None, CollectionFault::FileOnly.into());
    } else if schema::tables().contains(&table) {
        layer.assign(table, name, Raw::Text(value.to_owned()), origin);
    } else {
        let fault = Fault::UnknownTable {
            hint: layer::table_hint(table),
        };
        layer.refuse(origin, Some(format!("[{table}]")), fault);
    }
}
