//! What is in a backup, counted while it is read, and printed.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use basic_sync::backup::{Item, Manifest, Piece, Totals};
use bytesize::ByteSize;
use serde_json::json;

use super::super::CliError;
use super::super::output::Output;
use super::super::table::{Cell, Table};
use crate::config::Printable;

/// Collections that are counted one by one.
const COLLECTIONS_MAX: usize = 1024;
/// As which the others are counted.
const OTHERS: &str = "(others)";

/// What has been seen of a backup.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) manifest: Manifest,
    pub(super) totals: Totals,
    pub(super) frames: u64,
    pub(super) file_bytes: u64,
    pub(super) encrypted: bool,
    collections: BTreeMap<String, u64>,
}

impl Survey {
    pub(super) fn new(encrypted: bool, file_bytes: u64) -> Self {
        Self {
            encrypted,
            file_bytes,
            ..Self::default()
        }
    }

    /// Takes note of a piece.
    pub(super) fn note(&mut self, piece: &Piece) {
        self.frames += 1;
        match &piece.item {
            Item::Manifest(manifest) => self.manifest = manifest.clone(),
            Item::End(totals) => self.totals = *totals,
            Item::Claim(_) => {}
            Item::Writes(writes) => {
                for delta in writes {
                    let name = delta.key.collection().as_str();
                    if let Some(count) = self.collections.get_mut(name) {
                        *count += 1;
                        continue;
                    }
                    let full = self.collections.len() >= COLLECTIONS_MAX;
                    let name = if full { OTHERS } else { name };
                    *self.collections.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }

    /// One line for a person.
    pub(super) fn line(&self, file: &str) -> String {
        let Totals {
            writes, deletions, ..
        } = self.totals;
        let seal = if self.encrypted { ", encrypted" } else { "" };
        format!(
            "{}: {writes} writes ({deletions} deletions) of cluster {} as of {}, read from {}; {}{seal}",
            Printable::plain(file),
            Printable::plain(&self.manifest.cluster),
            moment(self.totals.ended_ms),
            Printable::plain(&self.manifest.node),
            ByteSize(self.file_bytes)
        )
    }

    /// The same for a program.
    pub(super) fn json(&self, file: &str) -> String {
        json!({
            "file": file,
            "cluster": self.manifest.cluster,
            "node": self.manifest.node,
            "agent": self.manifest.agent,
            "began": moment(self.manifest.began_ms),
            "taken": moment(self.totals.ended_ms),
            "selected": self.manifest.collections,
            "writes": self.totals.writes,
            "deletions": self.totals.deletions,
            "bytes": self.totals.bytes,
            "file_bytes": self.file_bytes,
            "frames": self.frames,
            "passes": self.totals.passes,
            "encrypted": self.encrypted,
            "collections": self.collections,
        })
        .to_string()
    }

    /// Prints how many writes each collection has.
    pub(super) fn print_collections(&self, output: &mut Output) -> Result<(), CliError> {
        let mut table = Table::new(&["COLLECTION", "WRITES"]);
        for (name, writes) in &self.collections {
            table.row(vec![Cell::new(name), Cell::new(writes.to_string())]);
        }
        let text = table.render(output);
        output.text(&text)
    }
}

/// A moment as text.
pub(super) fn moment(ms: u64) -> String {
    // Later ones are of a broken clock, and have no text.
    const YEAR_10000_MS: u64 = 253_402_300_800_000;
    let since = Duration::from_millis(ms.min(YEAR_10000_MS - 1));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
