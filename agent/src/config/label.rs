//! Labels of a node: a small table of texts that other nodes see.
//!
//! They travel by gossip, where every byte is sent to every node; membership sets the limits.

use std::collections::BTreeMap;

use basic_membership::metadata::{
    LABEL_NAME_LEN_MAX, LABEL_VALUE_LEN_MAX, LABELS_LEN_MAX, LABELS_MAX, labels_len,
};
use toml_edit::{InlineTable, Value};

use super::schema::FlagShape;
use super::value::{self, Setting, ValueError};

const NAME_EXPECTED: &str =
    "a label name of 1 to 63 letters, digits, \".\", \"_\", \"-\" or \"/\" of ASCII";
const VALUE_EXPECTED: &str = "a label value of at most 128 bytes without control characters";

impl Setting for BTreeMap<String, String> {
    const EXPECTED: &'static str = "a table of strings such as { zone = \"a\" }";
    const FLAG_SHAPE: FlagShape = FlagShape::Many;

    /// Reads `zone=a,rack=3`.
    fn from_text(text: &str) -> Result<Self, ValueError> {
        let pairs = text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty());
        let pairs: Vec<_> = pairs
            .map(|pair| {
                pair.split_once('=').ok_or_else(|| ValueError::Malformed {
                    value: pair.to_owned(),
                    expected: "a label such as zone=a",
                })
            })
            .collect::<Result<_, _>>()?;
        labels(pairs.into_iter())
    }

    fn to_text(&self) -> String {
        let pairs: Vec<_> = self
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join(",")
    }

    fn from_toml(value: &Value) -> Result<Self, ValueError> {
        let table = value
            .as_inline_table()
            .ok_or_else(|| ValueError::wrong_type::<Self>(value))?;
        let pairs: Vec<_> = table
            .iter()
            .map(|(name, value)| match value.as_str() {
                Some(text) => Ok((name, text)),
                None => Err(ValueError::WrongType {
                    expected: "a string for every label",
                    found: value::type_name(value),
                }),
            })
            .collect::<Result<_, _>>()?;
        labels(pairs.into_iter())
    }

    fn to_toml(&self) -> Value {
        let table: InlineTable = self
            .iter()
            .map(|(name, value)| (name, value.as_str()))
            .collect();
        Value::from(table)
    }
}

/// Labels from anywhere, held to the rules of `[node] labels`.
///
/// # Errors
/// If there are too many, a name or a value is not one of a label, or all of them together are too long.
pub(crate) fn labels<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> Result<BTreeMap<String, String>, ValueError> {
    if pairs.len() > LABELS_MAX {
        return Err(ValueError::TooMany {
            count: pairs.len(),
            max: LABELS_MAX,
        });
    }
    let labels: BTreeMap<String, String> = pairs
        .map(|(name, value)| {
            if !is_label_name(name) {
                return Err(ValueError::Malformed {
                    value: name.to_owned(),
                    expected: NAME_EXPECTED,
                });
            }
            if value.len() > LABEL_VALUE_LEN_MAX || value.chars().any(char::is_control) {
                return Err(ValueError::Malformed {
                    value: value.to_owned(),
                    expected: VALUE_EXPECTED,
                });
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect::<Result<_, ValueError>>()?;
    match labels_len(&labels) {
        len if len > LABELS_LEN_MAX => Err(ValueError::TooLong {
            len,
            max: LABELS_LEN_MAX,
        }),
        _ => Ok(labels),
    }
}

fn is_label_name(name: &str) -> bool {
    (1..=LABEL_NAME_LEN_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
}
