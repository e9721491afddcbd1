//! The configuration file: read with a limit, parsed as TOML, every entry with its line and column.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use toml_edit::{Document, Item, Table, TableLike};

use super::collection::{self, COLLECTIONS_MAX};
use super::layer::{self, Layer};
use super::origin::Origin;
use super::problem::Fault;
use super::schema::{self, COLLECTIONS};
use super::suggestion::Hint;
use super::value::{self, Raw, ValueError};

/// Largest file, in bytes; real ones have a few thousand.
const FILE_MAX: u64 = 1024 * 1024;

/// Why a configuration file could not be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not exist.
    #[error("no such file; `basic-agent config default` prints one to begin with")]
    NotFound,
    /// It is a directory.
    #[error("is a directory; name the file in it")]
    Directory,
    /// It is larger than any configuration.
    #[error("larger than 1 MiB, so it is hardly a configuration file")]
    TooLarge,
    /// It holds bytes that are no text.
    #[error("not UTF-8 from here on; save the file as UTF-8")]
    NotUtf8,
    /// The operating system refuses.
    #[error("cannot be read: {cause}")]
    Unreadable {
        /// What it says.
        cause: String,
    },
}

/// Reads a file. What is wrong with it is among the problems of the layer.
pub(super) fn read(path: &Path) -> Layer {
    let mut layer = Layer::default();
    match read_bytes(path) {
        Ok(bytes) => parse(path, &bytes, &mut layer),
        Err(error) => {
            let origin = Origin::File {
                path: path.to_owned(),
                line: 1,
                column: 1,
            };
            layer.refuse(origin, None, Fault::File(error));
        }
    }
    layer
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::of_io)?;
    let metadata = file.metadata().map_err(FileError::of_io)?;
    if metadata.is_dir() {
        return Err(FileError::Directory);
    }
    // The length of a pipe is not known beforehand, so that of a file is not relied upon either.
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(FileError::of_io)?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(FileError::TooLarge);
    }
    Ok(bytes)
}

impl FileError {
    fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Unreadable {
                cause: error.to_string(),
            },
        }
    }
}

/// Parses the bytes of a file into `layer`.
fn parse(path: &Path, bytes: &[u8], layer: &mut Layer) {
    let places = Places::new(path, bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let origin = places.origin(error.valid_up_to());
            return layer.refuse(origin, None, Fault::File(FileError::NotUtf8));
        }
    };
    match Document::parse(text) {
        Ok(document) => {
            for (name, item) in document.as_table() {
                read_table(document.as_table(), name, item, &places, layer);
            }
        }
        Err(error) => {
            let origin = places.origin(error.span().map_or(0, |span| span.start));
            layer.refuse(
                origin,
                None,
                Fault::Syntax {
                    message: error.message().to_owned(),
                },
            );
        }
    }
}

fn read_table(root: &Table, name: &str, item: &Item, places: &Places<'_>, layer: &mut Layer) {
    let is_known = name == COLLECTIONS || schema::tables().contains(&name);
    let Some(table) = item.as_table_like().filter(|_| is_known) else {
        let (subject, fault) = if is_known {
            (
                format!("[{name}]"),
                Fault::NotATable {
                    found: item_type_name(item),
                },
            )
        } else if item.is_value() && !item.is_inline_table() {
            (
                name.to_owned(),
                Fault::KeyOutsideTable {
                    hint: layer::homeless_key_hint(name),
                },
            )
        } else {
            (
                format!("[{name}]"),
                Fault::UnknownTable {
                    hint: layer::table_hint(name),
                },
            )
        };
        return layer.refuse(places.origin_of_key(root, name, item), Some(subject), fault);
    };
    if name == COLLECTIONS {
        if table.len() > COLLECTIONS_MAX {
            let fault = ValueError::TooMany {
                count: table.len(),
                max: COLLECTIONS_MAX,
            };
            let origin = places.origin_of_key(root, name, item);
            layer.refuse(origin, Some(format!("[{name}]")), fault.into());
        }
        for (name, item) in table.iter() {
            read_collection(table, name, item, places, layer);
        }
        return;
    }
    for (key, item) in table.iter() {
        let origin = places.origin_of_value(table, key, item);
        // An item without a value is one that was taken out of its table, which a parser never does.
        if let Ok(value) = item.clone().into_value() {
            layer.assign(name, key, Raw::Toml(value), origin);
        }
    }
}

fn read_collection(
    collections: &dyn TableLike,
    name: &str,
    item: &Item,
    places: &Places<'_>,
    layer: &mut Layer,
) {
    let origin = places.origin_of_key(collections, name, item);
    let Some(table) = item.as_table_like() else {
        let (subject, fault) = if let Some(key) = schema::find_of_collection(name) {
            // A key in [collections], where only tables belong: which collection is it for?
            let hint = Hint::Nearest(key.id().to_string());
            (
                format!("[{COLLECTIONS}] {name}"),
                Fault::UnknownKey { hint },
            )
        } else {
            let found = item_type_name(item);
            (collection::header(name), Fault::NotATable { found })
        };
        return layer.refuse(origin, Some(subject), fault);
    };
    if let Err(fault) = collection::check_name(name) {
        layer.refuse(origin, Some(format!("[{COLLECTIONS}]")), fault.into());
    }
    layer.add_collection(name);
    for (key, item) in table.iter() {
        let origin = places.origin_of_value(table, key, item);
        layer.assign_to_collection(name, key, item, origin);
    }
}

fn item_type_name(item: &Item) -> &'static str {
    match item {
        Item::Value(value) => value::type_name(value),
        Item::ArrayOfTables(_) => "an array of tables",
        Item::Table(_) | Item::None => "a table",
    }
}

/// Offsets in a file as lines and columns.
struct Places<'a> {
    path: PathBuf,
    bytes: &'a [u8],
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(path: &Path, bytes: &'a [u8]) -> Self {
        let after_breaks = bytes
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(i, _)| i + 1);
        let line_starts = std::iter::once(0).chain(after_breaks).collect();
        Self {
            path: path.to_owned(),
            bytes,
            line_starts,
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        let offset = offset.min(self.bytes.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self
            .line_starts
            .get(line.wrapping_sub(1))
            .copied()
            .unwrap_or(0);
        let before = self.bytes.get(start..offset).unwrap_or_default();
        // Every character has one byte that is no continuation byte.
        let column = before
            .iter()
            .filter(|b| **b & 0b1100_0000 != 0b1000_0000)
            .count()
            + 1;
        Origin::File {
            path: self.path.clone(),
            line,
            column,
        }
    }

    fn origin_of_value(&self, table: &dyn TableLike, name: &str, item: &Item) -> Origin {
        let key = table.key(name).and_then(|key| key.span());
        self.origin(key.or(item.span()).map_or(0, |span| span.start))
    }

    fn origin_of_key(&self, table: &dyn TableLike, name: &str, item: &Item) -> Origin {
        // A table header is where the table is; its key may first occur in another header, such as [node.labels].
        let header = item.as_table().and_then(Table::span);
        let key = table.key(name).and_then(|key| key.span());
        self.origin(header.or(key).map_or(0, |span| span.start))
    }
}
