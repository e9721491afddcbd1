//! The configuration written out: what is in force, and a file to begin with.

use std::fmt::Write as _;

use serde_json::{Map, json};
use toml_edit::Value;

use super::collection::{self, COLLECTIONS_MAX};
use super::load::Loaded;
use super::origin::{Effective, Origin, Origins};
use super::schema::{self, AnyKey, COLLECTION_KEYS, COLLECTIONS, Initial};
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
    text.push_str(&collection_example());
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
        text.push_str(&collection_example());
        for (name, effective) in &self.origins.collections {
            text.push_str(&format!("\n{}\n", collection::header(name)));
            for effective in effective.iter().filter(|e| e.origin != Origin::Default) {
                text.push_str(&line(effective));
                text.push('\n');
            }
        }
        text
    }

    /// The settings in force as a configuration file, on demand with the origin of each as a comment.
    pub fn to_toml(&self, with_origin: bool) -> String {
        let tables = schema::tables().into_iter().map(|table| {
            let effective = self.origins.in_table(table);
            section(&format!("[{table}]"), effective, with_origin)
        });
        let collections = self.origins.collections.iter();
        let collections = collections.map(|(name, effective)| {
            section(&collection::header(name), effective.iter(), with_origin)
        });
        tables.chain(collections).collect::<Vec<_>>().join("\n")
    }

    /// The settings in force as `{table: {key: value}}`, on demand with `{"value": …, "origin": …}` for each.
    pub fn to_json(&self, with_origin: bool) -> serde_json::Value {
        let tables = schema::tables().into_iter().map(|name| {
            let effective = self.origins.in_table(name);
            (name.to_owned(), object(effective, with_origin).into())
        });
        let collections = self.origins.collections.iter();
        let collections: Map<_, _> = collections
            .map(|(name, effective)| {
                let settings = object(effective.iter(), with_origin);
                (name.clone(), settings.into())
            })
            .collect();
        let collections = (COLLECTIONS.to_owned(), collections.into());
        serde_json::Value::Object(tables.chain([collections]).collect())
    }
}

impl Origins {
    fn in_table(&self, table: &str) -> impl Iterator<Item = &Effective> {
        self.keys
            .iter()
            .filter(move |effective| effective.key.id().table == table)
    }
}

/// A table with all that is in force in it.
fn section<'a>(
    header: &str,
    effective: impl Iterator<Item = &'a Effective>,
    with_origin: bool,
) -> String {
    let lines: Vec<_> = effective.map(|e| (line(e), &e.origin)).collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut text = format!("{header}\n");
    for (line, origin) in lines {
        // Writing to a string cannot fail.
        let _ = if with_origin {
            writeln!(text, "{line:width$}  # {origin}")
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}

fn line(effective: &Effective) -> String {
    format!("{} = {}", effective.key.id().name, effective.value)
}

fn object<'a>(
    effective: impl Iterator<Item = &'a Effective>,
    with_origin: bool,
) -> Map<String, serde_json::Value> {
    let values = effective.map(|effective| {
        let value = json_of(&effective.value);
        let shown = if with_origin {
            json!({ "value": value, "origin": effective.origin.to_string() })
        } else {
            value
        };
        (effective.key.id().name.to_owned(), shown)
    });
    values.collect()
}

/// The table of a collection in comments, because there is none by default.
fn collection_example() -> String {
    let mut text = comment(&format!(
        "A collection of documents may have a policy of its own, in a table by its name. A name with a dot is put in \
         quotation marks: [{COLLECTIONS}.\"a.b\"]. At most {COLLECTIONS_MAX}, and in a file only.",
    ));
    text.insert(0, '\n');
    text.push_str(&format!("#\n# {}\n", collection::header("users")));
    for key in COLLECTION_KEYS {
        text.push_str(&comment(&explanation(*key)));
        text.push_str(&format!("# {} = {}\n", key.id().name, initial(*key)));
    }
    text
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
