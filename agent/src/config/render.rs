//! The configuration written out: what is in force, and a file to begin with.

use std::fmt::Write as _;

use serde_json::json;
use toml_edit::Value;

use super::load::Loaded;
use super::origin::{Effective, Origin, Origins};
use super::schema::{self, AnyKey, Initial};
use super::value::Raw;

/// Longest line of a comment, in characters.
const COMMENT_WIDTH: usize = 100;

/// A configuration file with every key at its default, explained. Keys without a default are shown by an example in
/// a comment.
pub fn default_file() -> String {
    let mut text = comment(
        "Configuration of Basic Agent. Every key is shown with its default and may be left out. A variable of the \
         environment goes before the file, BASIC_AGENT_PEER_LISTEN for [peer] listen, and a flag before both: \
         --set peer.listen=127.0.0.1:9400.",
    );
    for table in schema::tables() {
        text.push_str(&format!("\n[{table}]\n"));
        for key in schema::KEYS.iter().filter(|key| key.id().table == table) {
            text.push_str(&comment(&explanation(*key)));
            let mark = match key.initial() {
                Initial::Default(_) => "",
                Initial::Unset { .. } => "# ",
            };
            text.push_str(&format!("{mark}{} = {}\n", key.id().name, initial(*key)));
        }
    }
    text
}

impl Loaded {
    /// A configuration file with what is not at its default, and every other key explained in a comment.
    pub fn to_file(&self) -> String {
        let mut text = comment(
            "Configuration of Basic Agent. Keys in comments are at their default. A variable of the environment goes \
             before this file, BASIC_AGENT_PEER_LISTEN for [peer] listen, and a flag before both.",
        );
        for table in schema::tables() {
            text.push_str(&format!("\n[{table}]\n"));
            for key in schema::KEYS.iter().filter(|key| key.id().table == table) {
                text.push_str(&comment(&explanation(*key)));
                let set = self.origins.in_table(table).find(|effective| {
                    effective.key.id() == key.id() && effective.origin != Origin::Default
                });
                let name = key.id().name;
                text.push_str(&match set {
                    Some(effective) => format!("{name} = {}\n", effective.value),
                    None => format!("# {name} = {}\n", initial(*key)),
                });
            }
        }
        text
    }

    /// The settings in force as a configuration file, on demand with the origin of each as a comment.
    pub fn to_toml(&self, with_origin: bool) -> String {
        let mut text = String::new();
        for table in schema::tables() {
            let lines: Vec<_> = self
                .origins
                .in_table(table)
                .map(|e| (format!("{} = {}", e.key.id().name, e.value), &e.origin))
                .collect();
            let width = lines
                .iter()
                .map(|(line, _)| line.chars().count())
                .max()
                .unwrap_or(0);
            let separator = if text.is_empty() { "" } else { "\n" };
            text.push_str(&format!("{separator}[{table}]\n"));
            for (line, origin) in lines {
                // Writing to a string cannot fail.
                let _ = if with_origin {
                    writeln!(text, "{line:width$}  # {origin}")
                } else {
                    writeln!(text, "{line}")
                };
            }
        }
        text
    }

    /// The settings in force as `{table: {key: value}}`, on demand with `{"value": …, "origin": …}` for each.
    pub fn to_json(&self, with_origin: bool) -> serde_json::Value {
        let table = |table| -> serde_json::Map<_, _> {
            let values = self.origins.in_table(table).map(|effective| {
                let value = json_of(&effective.value);
                let shown = if with_origin {
                    json!({ "value": value, "origin": effective.origin.to_string() })
                } else {
                    value
                };
                (effective.key.id().name.to_owned(), shown)
            });
            values.collect()
        };
        let tables = schema::tables()
            .into_iter()
            .map(|name| (name.to_owned(), table(name).into()));
        serde_json::Value::Object(tables.collect())
    }
}

impl Origins {
    fn in_table(&self, table: &str) -> impl Iterator<Item = &Effective> {
        self.0
            .iter()
            .filter(move |effective| effective.key.id().table == table)
    }
}

/// The default of a key, or else its example.
fn initial(key: &dyn AnyKey) -> Value {
    let (Initial::Default(text) | Initial::Unset { example: text }) = key.initial();
    let value = key.check(&Raw::Text(text.to_owned()));
    value.expect("the schema's defaults and examples are valid")
}

fn explanation(key: &dyn AnyKey) -> String {
    let limits = key
        .limits()
        .map(|(min, max)| format!(" From {min} to {max}."));
    let flag = key.flag().map(|flag| format!(" Flag: {flag}."));
    format!(
        "{}{}{}",
        key.doc(),
        limits.unwrap_or_default(),
        flag.unwrap_or_default()
    )
}

/// A text as comment lines, broken between words.
fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut width = 1;
    for word in text.split_whitespace() {
        let word_width = word.chars().count() + 1;
        if width > 1 && width + word_width > COMMENT_WIDTH {
            lines.push_str("\n#");
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += word_width;
    }
    lines.push('\n');
    lines
}

fn json_of(value: &Value) -> serde_json::Value {
    match value {
        Value::String(text) => text.value().clone().into(),
        Value::Integer(integer) => (*integer.value()).into(),
        Value::Float(float) => (*float.value()).into(),
        Value::Boolean(boolean) => (*boolean.value()).into(),
        Value::Datetime(date) => date.value().to_string().into(),
        Value::Array(array) => array.iter().map(json_of).collect(),
        Value::InlineTable(table) => table
            .iter()
            .map(|(name, value)| (name.to_owned(), json_of(value)))
            .collect(),
    }
}
