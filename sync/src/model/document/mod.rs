//! A document that can be written anywhere and merges the same way everywhere.
//!
//! A document is a set of [parts](Part). Each part is a register in which the write
//! of the greatest rank stays, and a [root](Part::Root) puts an end to what is older
//! than it. So every merge is a product of registers: **commutative, associative and
//! idempotent** by construction, whatever the parts mean. The merge rule that is
//! configured for a collection does not take part in merging at all; it only decides
//! which parts a client's operation writes ([`plan()`]). Nodes may disagree about the
//! configuration for a while and still hold the same documents.
//!
//! What a reader sees is worked out from the parts (`view`), never stored.

mod again;
mod collect;
mod json;
mod part;
mod plan;
mod revision;
mod tally;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeSet;

use bytes::Bytes;
use thiserror::Error;

pub use again::Again;
pub use collect::Collected;
pub use part::{Amount, FIELD_BYTES_MAX, InvalidWrite, Part, PartWrite, Tag, Write};
pub use plan::{Action, Context, ELEMENTS_MAX, Merge, ParseMergeError, PlanError, plan};
pub use revision::{ParseRevisionError, Revision};
pub use view::Kind;

use super::{Dot, Frontier, Version};

/// The state of one key: every write that still has a say, with what it still says.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Document {
    /// Ascending by version. No part is in two of them, none is empty, and none has
    /// a part that the root covers.
    writes: Vec<Write>,
}

/// What became of a write that was merged.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Merged {
    /// Whether something of it is in the document now that was not before.
    pub taken: bool,
    /// Writes that have no part left in the document.
    pub died: Vec<Dot>,
}

/// Writes that are not the state of a document.
#[derive(Debug, Error)]
pub enum InvalidDocument {
    /// One of them breaks the rules on its own.
    #[error("one of the writes is not valid")]
    Write(#[source] InvalidWrite),
    /// They are not strictly ascending by version.
    #[error("the writes are out of order")]
    Order,
    /// A part is there twice, or was ended by the root.
    #[error("a write holds a part that has been beaten")]
    Beaten,
}

impl Document {
    /// Puts a document together again from its [`writes`](Self::writes). Values are
    /// taken as they are; [`Write::check`] judges those that came from a peer.
    ///
    /// # Errors
    /// [`InvalidDocument`] where they cannot be what [`Self::writes`] returned.
    pub fn from_writes(writes: Vec<Write>) -> Result<Self, InvalidDocument> {
        Self::are_whole(&writes)?;
        Ok(Self { writes })
    }

    /// The same, or the writes merged as any other writes, where they are not a document's.
    pub fn merged(writes: Vec<Write>) -> Self {
        match Self::are_whole(&writes) {
            Ok(()) => Self { writes },
            Err(_) => {
                let mut document = Self::default();
                for write in &writes {
                    document.merge(write);
                }
                document
            }
        }
    }

    /// Whether these can be a document's [`writes`](Self::writes).
    pub(crate) fn are_whole(writes: &[Write]) -> Result<(), InvalidDocument> {
        if !writes.is_sorted_by(|a, b| a.version < b.version) {
            return Err(InvalidDocument::Order);
        }
        let root = writes.iter().filter_map(root_of).max();
        let mut parts = BTreeSet::new();
        for write in writes {
            write.check_order().map_err(InvalidDocument::Write)?;
            for PartWrite { part, .. } in &write.parts {
                if is_ended(part, write.version, root) || !parts.insert(part) {
                    return Err(InvalidDocument::Beaten);
                }
            }
        }
        Ok(())
    }

    /// The writes that still have a say, ascending by version, each with only those
    /// of its parts that do. Merging them all elsewhere brings all that is here.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// The same, where the document is needed no more.
    pub fn into_writes(self) -> Vec<Write> {
        self.writes
    }

    /// A document that is one write of a root.
    pub fn of_root(version: Version, value: Option<Bytes>) -> Self {
        let root = PartWrite {
            part: Part::Root,
            value,
        };
        let parts = vec![root];
        let writes = vec![Write { version, parts }];
        Self { writes }
    }

    /// The value of the root, where one write of it is all there is.
    pub fn only_root(&self) -> Option<Option<&Bytes>> {
        match self.writes.as_slice() {
            [write] => match write.parts.as_slice() {
                [part] if part.part == Part::Root => Some(part.value.as_ref()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the write with this dot still has to say.
    pub fn into_write(self, dot: Dot) -> Option<Write> {
        let mut writes = self.writes.into_iter();
        writes.find(|write| write.version.dot == dot)
    }

    /// About how many bytes its values take together: as many as the document or more,
    /// but for the commas.
    pub fn value_bytes(&self) -> usize {
        let name = |part: &Part| match part {
            Part::Root => 0,
            Part::Field(name) => name.len() + 4,
            _ => 1,
        };
        self.iter()
            .filter_map(|(_, write)| Some(name(&write.part) + write.value.as_ref()?.len()))
            .sum()
    }

    /// The greatest version among the writes.
    pub fn version(&self) -> Option<Version> {
        self.writes.last().map(|write| write.version)
    }

    /// Notes every write that what is read here rests on, deletions included.
    pub fn note_writes(&self, seen: &mut Frontier) {
        for write in &self.writes {
            seen.note(write.version.dot);
        }
    }

    /// Whether it was never written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// The write and the value of a part.
    pub fn part(&self, part: &Part) -> Option<(&Version, Option<&Bytes>)> {
        self.writes.iter().find_map(|write| {
            let at = write.find(part).ok()?;
            Some((&write.version, write.parts[at].value.as_ref()))
        })
    }

    /// About how many bytes it takes; never less than it does.
    pub fn weight(&self) -> usize {
        self.writes.iter().map(Write::weight).sum()
    }

    /// Takes in what `incoming` still has to say.
    pub fn merge(&mut self, incoming: &Write) -> Merged {
        if self.is_empty() && !incoming.parts.is_empty() {
            // Nothing stands against any of it, which is so for most writes.
            self.writes = vec![incoming.clone()];
            return Merged {
                taken: true,
                died: Vec::new(),
            };
        }
        let own_root = self.part(&Part::Root).map(|(version, _)| *version);
        let root = own_root.max(root_of(incoming));
        let mut wins: Vec<bool> = incoming
            .parts
            .iter()
            .map(|write| !is_ended(&write.part, incoming.version, root))
            .collect();
        let mut died = Vec::new();
        self.writes.retain_mut(|write| {
            let version = write.version;
            write
                .parts
                .retain(|own| outlives(own, version, incoming, &mut wins, root));
            if write.parts.is_empty() {
                died.push(version.dot);
            }
            !write.parts.is_empty()
        });
        let taken = wins.contains(&true);
        if taken {
            self.insert(incoming, &wins);
        }
        Merged { taken, died }
    }

    fn insert(&mut self, incoming: &Write, wins: &[bool]) {
        let won = incoming.parts.iter().zip(wins).filter(|(_, wins)| **wins);
        let won = won.map(|(part, _)| part.clone());
        let version = incoming.version;
        match self
            .writes
            .binary_search_by_key(&version, |write| write.version)
        {
            Ok(at) => {
                let parts = &mut self.writes[at].parts;
                parts.extend(won);
                parts.sort_by(|a, b| a.part.cmp(&b.part));
            }
            Err(at) => {
                let parts = won.collect();
                self.writes.insert(at, Write { version, parts });
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&Version, &PartWrite)> {
        self.writes.iter().flat_map(|write| {
            let version = &write.version;
            write.parts.iter().map(move |part| (version, part))
        })
    }
}

fn root_of(write: &Write) -> Option<Version> {
    // The first part there is.
    let root = write.parts.first()?.part == Part::Root;
    root.then_some(write.version)
}

fn is_ended(part: &Part, version: Version, root: Option<Version>) -> bool {
    part.is_covered_by_root() && root.is_some_and(|root| version < root)
}

/// Whether `own` stays when `incoming` comes. Takes the win from an incoming part
/// that does not beat it, which one that is there already does not.
fn outlives(
    own: &PartWrite,
    version: Version,
    incoming: &Write,
    wins: &mut [bool],
    root: Option<Version>,
) -> bool {
    if is_ended(&own.part, version, root) {
        return false;
    }
    let Ok(at) = incoming.find(&own.part) else {
        return true;
    };
    if own.rank(version) >= incoming.parts[at].rank(incoming.version) {
        wins[at] = false;
    }
    !wins[at]
}
