//! The screening of arriving frames: every check there is, and no IO.
//!
//! In goes a frame with its source and the time; out comes a [`Verdict`]. The
//! checks stand in the order of what they cost and of what they prove: sealed
//! with a key of ours, not seen before, meant for us, of our cluster, from an
//! address that is its sender's own, and obeying the rules of the protocol. Along
//! the way the screen notes what a frame proves once it is authentic: that its
//! sender can be heard, with which keys and by which clock, what the sender holds
//! of this node's state, that this node is reached by others, and that another
//! process uses its id. All tables are bounded, and only authentic frames reach
//! them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{ChitchatId, ChitchatMessage, Deserializable};
use tokio::time::Instant;

use super::addresses::{AddressTable, Source};
use super::clocks::ClockTable;
use super::inspect::{self, Inspected, Refusal};
use super::keyring::{KeyId, Keyring};
use super::replay::{Admission, ReplayTable};
use super::sealed::{self, Envelope, FrameKind, OpenError, Opened, PeerKeys};
use crate::clock::ClockOffset;
use crate::diagnostics::journal::Refused;
use crate::diagnostics::{IdentityConflict, RejectReason};
use crate::heartbeat::{HeartbeatTable, LeftOut, Moment};
use crate::identity::Incarnation;
use crate::name::{ClusterName, NodeId};

/// Who sent an authentic frame, and how an answer reaches it.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) node: NodeId,
    /// The way that the frame came.
    pub(crate) source: Source,
    /// Its peer port, as it advertises it under the seal.
    pub(crate) address: SocketAddr,
    pub(crate) keys: PeerKeys,
}

/// A message that passed every check.
pub(crate) struct Accepted {
    pub(crate) sender: Sender,
    pub(crate) message: ChitchatMessage,
    /// Whether another node begins an exchange with it.
    pub(crate) begins_exchange: bool,
    /// Entries of its digest that were left out: the members do not fit.
    pub(crate) crowded_out: usize,
    /// The same, because they cannot be true.
    pub(crate) implausible: usize,
}

/// What becomes of a frame.
pub(crate) enum Verdict {
    Accepted(Accepted),
    /// It is our own.
    Ignored,
    Refused(Refused),
    /// Refused too; `tell` is its sender where that is due to be told why.
    OtherCluster {
        refused: Refused,
        tell: Option<Sender>,
    },
}

/// What is known of the senders, and of this node as they see it.
pub(crate) struct Screen {
    cluster: ClusterName,
    keyring: Keyring,
    node: NodeId,
    own: ChitchatId,
    replays: ReplayTable,
    heartbeats: HeartbeatTable,
    /// The newest version of this node's state that each peer says it holds.
    confirmed: HashMap<NodeId, u64>,
    /// Where authentic frames came from, and when last.
    heard: HashMap<SocketAddr, Instant>,
    addresses: AddressTable,
    clocks: ClockTable,
    /// When another node last began an exchange.
    inbound: Option<Instant>,
    /// When agents of other clusters were last told so.
    told: HashMap<SocketAddr, Instant>,
    rival: Option<Rival>,
    #[cfg(test)]
    inspection_off: bool,
}

/// A process that speaks with our id and has heard of our present life: what was
/// recorded of a former one, however much and however well timed, cannot name it.
struct Rival {
    /// The one heard last, of however many there are.
    conflict: IdentityConflict,
    /// The highest incarnation that any of them had.
    latest: Incarnation,
    first: Instant,
    last: Instant,
}

impl Screen {
    pub(crate) fn new(
        cluster: ClusterName,
        keyring: Keyring,
        node: NodeId,
        own: ChitchatId,
        heartbeats: HeartbeatTable,
    ) -> Screen {
        Screen {
            cluster,
            keyring,
            node,
            own,
            replays: ReplayTable::default(),
            heartbeats,
            confirmed: HashMap::new(),
            heard: HashMap::new(),
            addresses: AddressTable::default(),
            clocks: ClockTable::default(),
            inbound: None,
            told: HashMap::new(),
            rival: None,
            #[cfg(test)]
            inspection_off: false,
        }
    }

    /// Goes on as a new incarnation, of which nobody holds anything yet. What is
    /// known of the others stays.
    pub(crate) fn renew(&mut self, own: ChitchatId) {
        self.own = own;
        self.confirmed.clear();
        self.heartbeats.own_version = 0;
    }

    /// The incarnation that this node goes by.
    pub(crate) fn own(&self) -> &ChitchatId {
        &self.own
    }

    /// Examines a frame.
    pub(crate) fn examine(&mut self, source: Source, frame: &[u8], now: Moment) -> Verdict {
        let from = source.address();
        let refused = |reason| Refused::by(from, reason);
        let opened = match sealed::open(&self.keyring, frame) {
            Ok(opened) => opened,
            Err(error) => return Verdict::Refused(refused(reason_of(error))),
        };
        let Opened {
            envelope,
            keys,
            body,
        } = opened;
        let refused = |reason| refused(reason).sent_by(&envelope.sender);
        let ours = envelope.sender == self.node && envelope.cluster == self.cluster;
        if ours && envelope.incarnation.0 == self.own.generation_id {
            // Our own address among the seeds, or an echo.
            return Verdict::Ignored;
        }
        match self.replays.admit(&envelope) {
            Admission::Fresh => {}
            Admission::Repeated => return Verdict::Refused(refused(RejectReason::Replayed)),
            Admission::FormerLife => {
                return Verdict::Refused(refused(RejectReason::FormerLife));
            }
        }
        if envelope
            .recipient
            .as_ref()
            .is_some_and(|recipient| *recipient != self.node)
        {
            return Verdict::Refused(refused(RejectReason::Misaddressed));
        }
        let faulty = |refusal| refused(RejectReason::Faulty).because(refusal);
        if !inspect::is_possible_address(envelope.address) {
            return Verdict::Refused(faulty(Refusal::ImpossibleMember));
        }
        let sender = Sender {
            node: envelope.sender.clone(),
            source,
            address: envelope.address,
            keys,
        };
        if envelope.cluster != self.cluster {
            let due = envelope.kind == FrameKind::Gossip
                && note_if_due(&mut self.told, from, now.instant);
            return Verdict::OtherCluster {
                refused: refused(RejectReason::OtherCluster).of_cluster(&envelope.cluster),
                tell: due.then_some(sender),
            };
        }
        if !self.note_sender(&sender, now.instant) {
            let taken = refused(RejectReason::AddressTaken);
            return Verdict::Refused(taken.because(sender.address));
        }
        if !ours {
            self.clocks.note(&sender.node, envelope.clock_ms, now);
        }
        let (body, left_out) = match self.inspect(&envelope, from, body, now) {
            Ok(inspected) => inspected,
            Err(refusal) => return Verdict::Refused(faulty(refusal)),
        };
        let Ok(message) = ChitchatMessage::deserialize(&mut body.as_slice()) else {
            return Verdict::Refused(faulty(Refusal::Malformed));
        };
        let begins_exchange = !ours && matches!(message, ChitchatMessage::Syn { .. });
        if begins_exchange {
            self.inbound = Some(now.instant);
        }
        Verdict::Accepted(Accepted {
            sender,
            message,
            begins_exchange,
            crowded_out: left_out.crowded_out.len(),
            implausible: left_out.implausible.len(),
        })
    }

    /// Keys that the agent at an address opens frames with, the best first; none
    /// if it was not heard lately.
    pub(crate) fn keys_at(&self, address: SocketAddr, now: Instant) -> Option<[KeyId; 2]> {
        let keys = self.addresses.keys(address, now)?;
        Some(keys.best_first())
    }

    /// A member's clock minus ours, once it was heard directly and often enough.
    pub(crate) fn clock_offset(&self, node: &NodeId) -> Option<ClockOffset> {
        self.clocks.offset(node)
    }

    /// The median of the clocks of this node and the `live` ones, minus ours.
    pub(crate) fn clock_offset_median(
        &self,
        live: impl Fn(&NodeId) -> bool,
    ) -> Option<ClockOffset> {
        self.clocks.median_offset(live)
    }

    /// How long ago another node last began an exchange with this one, by datagram
    /// or connection: only then is the address that this node advertises reached.
    pub(crate) fn last_inbound(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.inbound?))
    }

    /// What is known of the members' heartbeats.
    pub(crate) fn heartbeats(&self) -> &HeartbeatTable {
        &self.heartbeats
    }

    /// Forgets the members that chitchat has forgotten.
    pub(crate) fn retain_members(&mut self, known: impl Fn(&ChitchatId) -> bool, now: Instant) {
        self.heartbeats.retain(known, now);
        let ids = self.heartbeats.node_ids();
        self.confirmed.retain(|id, _| ids.contains(id.as_str()));
        self.clocks.retain(|id| ids.contains(id.as_str()));
    }

    /// The newest version of this node's state that `peer` is known to hold.
    pub(crate) fn confirmed(&self, peer: &NodeId) -> u64 {
        self.confirmed.get(peer).copied().unwrap_or(0)
    }

    /// The newest version of this node's state that anybody says to hold.
    pub(crate) fn newest_claim(&self) -> u64 {
        self.confirmed.values().copied().max().unwrap_or(0)
    }

    /// Whether an authentic frame ever came from there, or from a node that
    /// advertises this address.
    pub(crate) fn heard_from(&self, address: SocketAddr) -> bool {
        self.heard.contains_key(&address) || self.addresses.knows(address)
    }

    /// Another live process with this node's id, if one was heard lately.
    pub(crate) fn rival(&self, now: Instant) -> Option<IdentityConflict> {
        let rival = self.rival.as_ref()?;
        let lasting = rival.last.saturating_duration_since(rival.first) >= RIVAL_LASTS;
        (lasting && !rival.is_silent(now)).then(|| rival.conflict.clone())
    }

    /// A later life of this node that others remember and nobody lives, where
    /// none of them knows the present one: they refuse all that it says as a
    /// recording. So it is after a data directory was lost and the clock went back.
    pub(crate) fn outrun_by(&self, now: Instant) -> Option<Incarnation> {
        if !self.confirmed.is_empty() {
            return None;
        }
        self.heartbeats.ended_later_life(&self.own, now)
    }

    /// A later life of this node that another process had, and that is over. Whoever
    /// heard that one first, or only of it, takes this one for a recording.
    pub(crate) fn outlived(&self, now: Instant) -> Option<Incarnation> {
        let rival = (self.rival.as_ref()).filter(|rival| rival.is_silent(now))?;
        let own = Incarnation(self.own.generation_id);
        (rival.latest > own).then_some(rival.latest)
    }

    /// Notes how far this node's own state has come: what others hold of it.
    pub(crate) fn note_own_version(&mut self, version: u64) {
        self.heartbeats.own_version = version;
    }

    /// Whether authentic messages are inspected, or reach chitchat as they are.
    #[cfg(test)]
    pub(crate) fn set_inspection(&mut self, on: bool) {
        self.inspection_off = !on;
    }

    /// Notes that a member was heard. False, and nothing is noted, if the address
    /// that it advertises is another's. Another process with this node's id may
    /// well have this node's address too: that is for the operator to solve, and
    /// shown as such.
    fn note_sender(&mut self, sender: &Sender, now: Instant) -> bool {
        if sender.node != self.node {
            let Sender {
                node,
                source,
                address,
                keys,
            } = sender;
            let heartbeats = &self.heartbeats;
            let lives = |holder: &NodeId, heard: Instant| {
                now.saturating_duration_since(heard) < heartbeats.silence_max()
                    || heartbeats.beats(holder, *address, now)
            };
            if *address == self.own.gossip_advertise_addr
                || !(self.addresses).claim(*address, node, *source, *keys, now, lives)
            {
                return false;
            }
        }
        if let Source::Datagram(from) = sender.source {
            note(&mut self.heard, from, now);
        }
        true
    }

    /// Returns what chitchat may read of the message.
    fn inspect(
        &mut self,
        envelope: &Envelope,
        from: SocketAddr,
        body: Vec<u8>,
        now: Moment,
    ) -> Result<(Vec<u8>, LeftOut), Refusal> {
        #[cfg(test)]
        if self.inspection_off {
            return Ok((body, LeftOut::default()));
        }
        if envelope.kind != FrameKind::Gossip {
            return Err(Refusal::Malformed);
        }
        let message = inspect::inspect(&body, &self.cluster)?;
        let left_out = self.heartbeats.admit(&message, &self.own, now)?;
        self.note_confirmation(envelope, from, &message, now);
        let ranges = [&left_out.crowded_out[..], &left_out.implausible].concat();
        if ranges.is_empty() {
            return Ok((body, left_out));
        }
        Ok((inspect::without(&body, &message.digest, &ranges), left_out))
    }

    /// Notes what a message says of our present life, if it does.
    fn note_confirmation(
        &mut self,
        envelope: &Envelope,
        from: SocketAddr,
        message: &Inspected,
        now: Moment,
    ) {
        let about_us = message.digest.iter().find(|entry| entry.member == self.own);
        let Some(about_us) = about_us else { return };
        let sender = &envelope.sender;
        if *sender == self.node {
            self.note_rival(envelope.incarnation, from, now);
            return;
        }
        if self.confirmed.len() < inspect::MEMBERS_MAX || self.confirmed.contains_key(sender) {
            let version = self.confirmed.entry(sender.clone()).or_default();
            *version = about_us.max_version.max(*version);
        }
    }

    fn note_rival(&mut self, incarnation: Incarnation, from: SocketAddr, now: Moment) {
        // Several may take turns, or one may start again and again.
        let known = (self.rival.as_ref()).filter(|rival| !rival.is_silent(now.instant));
        let first = known.map_or(now.instant, |rival| rival.first);
        let latest = known.map_or(incarnation, |rival| rival.latest.max(incarnation));
        let conflict = IdentityConflict {
            incarnation,
            address: from,
            last: now.wall,
        };
        self.rival = Some(Rival {
            conflict,
            latest,
            first,
            last: now.instant,
        });
    }
}

impl Rival {
    fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= RIVAL_FORGOTTEN
    }
}

const ADDRESSES_MAX: usize = 1024;
/// An agent of another cluster is told so no more often than this.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);
/// Frames of a rival must come for this long before it counts as alive.
const RIVAL_LASTS: Duration = Duration::from_secs(2);
const RIVAL_FORGOTTEN: Duration = Duration::from_secs(30);

fn reason_of(error: OpenError) -> RejectReason {
    match error {
        OpenError::NotGossip | OpenError::Version(_) => RejectReason::NotGossip,
        OpenError::UnknownKey(_) => RejectReason::OtherSecret,
        OpenError::Forged => RejectReason::Forged,
        OpenError::Envelope => RejectReason::Faulty,
    }
}

/// Notes the time for an address; a full table makes room for the new one.
fn note(table: &mut HashMap<SocketAddr, Instant>, address: SocketAddr, now: Instant) {
    if !table.contains_key(&address) && table.len() >= ADDRESSES_MAX {
        let oldest = table
            .iter()
            .min_by_key(|(_, at)| **at)
            .map(|(address, _)| *address);
        oldest.map(|address| table.remove(&address));
    }
    table.insert(address, now);
}

/// Notes the time unless that was done a short while ago.
fn note_if_due(
    table: &mut HashMap<SocketAddr, Instant>,
    address: SocketAddr,
    now: Instant,
) -> bool {
    let last = table.get(&address);
    let due = last.is_none_or(|at| now.saturating_duration_since(*at) >= NOTICE_INTERVAL);
    if due {
        note(table, address, now);
    }
    due
}

#[cfg(test)]
mod tests;
