//! The roster: every member ever seen and not removed.
//!
//! Gossip forgets the dead after a while, and a process everything at its end;
//! the roster does not. In go the members at each round, and the operators'
//! removals; out come [`RosterEntry`]s, for those who must know of nodes that are
//! away, and addresses to speak to when the configured seeds are silent, so that
//! a cluster which was stopped as a whole finds itself again. It holds
//! [`ENTRIES_MAX`] nodes; where it is full, one that was never heard makes room,
//! or else the one not heard for longest. `store` reads and writes the file, `keeper` decides when, `caller` whom
//! to speak to. Losing it is no error: it is knowledge that comes again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::directive::{Directives, JoinMark};
use crate::identity::Incarnation;
use crate::member::{Member, MemberState, Members};
use crate::name::NodeId;

pub(crate) mod caller;
pub(crate) mod keeper;
mod store;

/// Most nodes in the roster.
pub const ENTRIES_MAX: usize = 1024;

/// What is remembered of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterEntry {
    /// Its id.
    pub id: NodeId,
    /// The incarnation that counted last.
    pub incarnation: Incarnation,
    /// When it was joined on purpose, by its own clock.
    pub joined: JoinMark,
    /// Where its peer port was last.
    pub peer: SocketAddr,
    /// When this node first knew of it, by this node's clock.
    pub first_seen: SystemTime,
    /// When this node last heard it, by this node's clock; `None` if it is known
    /// by hearsay only.
    pub last_seen: Option<SystemTime>,
    /// The state it was in when it was last a member here.
    pub last_state: MemberState,
}

/// The entries by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Roster {
    entries: BTreeMap<NodeId, RosterEntry>,
}

impl Roster {
    /// Of several entries with one id the last one stays, and of too many the
    /// first [`ENTRIES_MAX`].
    pub(crate) fn from_entries(entries: impl IntoIterator<Item = RosterEntry>) -> Roster {
        let entries = entries.into_iter().take(ENTRIES_MAX);
        Roster {
            entries: entries.map(|entry| (entry.id.clone(), entry)).collect(),
        }
    }

    /// Takes in the members as they are now. True if anything but the time when
    /// somebody was last seen has changed.
    pub(crate) fn note(
        &mut self,
        members: &Members,
        directives: &Directives,
        now: SystemTime,
    ) -> bool {
        let before = self.entries.len();
        self.entries.retain(|id, entry| {
            let directive = directives.get(id);
            !directive.is_some_and(|directive| directive.removes(entry.joined))
        });
        let mut changed = self.entries.len() != before;
        let kept = |member: &&Member| member.state != MemberState::Removed;
        for member in members.iter().filter(kept) {
            changed |= self.note_member(member, now);
        }
        changed
    }

    /// All entries, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RosterEntry> {
        self.entries.values()
    }

    fn note_member(&mut self, member: &Member, now: SystemTime) -> bool {
        let Some(entry) = self.entries.get_mut(&member.id) else {
            self.make_room();
            let entry = RosterEntry {
                id: member.id.clone(),
                incarnation: member.incarnation,
                joined: member.metadata.joined,
                peer: member.peer,
                first_seen: now,
                last_seen: member.live.then_some(now),
                last_state: member.state,
            };
            self.entries.insert(member.id.clone(), entry);
            return true;
        };
        if member.live {
            entry.last_seen = Some(now);
        }
        let next = RosterEntry {
            incarnation: member.incarnation,
            joined: member.metadata.joined,
            peer: member.peer,
            last_state: settled(entry.last_state, member.state),
            ..entry.clone()
        };
        let changed = next != *entry;
        *entry = next;
        changed
    }

    fn make_room(&mut self) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        let oldest = self.entries.values().min_by_key(|entry| entry.last_seen);
        if let Some(id) = oldest.map(|entry| entry.id.clone()) {
            self.entries.remove(&id);
        }
    }
}

/// A doubt is too short-lived to be written down.
fn settled(last: MemberState, now: MemberState) -> MemberState {
    match now {
        MemberState::Suspect => last,
        state => state,
    }
}

#[cfg(test)]
mod tests;
