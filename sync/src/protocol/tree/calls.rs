//! Calling the roll: who has the writes of somebody on disk, beyond his neighbours.
//!
//! The question goes over all links, each replica passing it on once, so that it finds its
//! way whatever the tree looks like. Answers go back to whoever brought the question, and
//! are gathered there: by name, so that one that comes twice counts once. A link adds the
//! name of its peer itself; nobody can answer in the name of a neighbour.
//!
//! Nothing is asked unless a write waits: for acknowledgements of more peers than are linked,
//! or of linked ones that have not answered for a second; then a second later again. So
//! `acks=all` takes a way there and back besides the disks of all, and another second for
//! each answer that is lost on the way. What cannot be answered in time leaves the write
//! durable and its answer incomplete, as in a mesh.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TreeMessage;
use crate::model::{Origin, PeerId, Seq};
use crate::protocol::Replica;

/// Between two calls at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Questions of others that are open at once; a further one is not passed on.
const OPEN_MAX: usize = 256;
/// How long a question is open.
const LIFE: Duration = Duration::from_secs(5);
/// Answers gathered for one question at most.
const ANSWERS_MAX: usize = 4096;

/// The questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Calls {
    open: BTreeMap<Origin, Call>,
    /// Number of our own last question.
    round: u64,
    /// What it asked about.
    asked: Option<(Origin, Seq)>,
    /// When it was.
    asked_at: Option<Duration>,
    /// Another one is to be asked.
    pub(super) wanted: bool,
    /// When it may.
    pub(super) due: Option<Duration>,
}

/// A question of somebody.
#[derive(Clone, Debug)]
struct Call {
    round: u64,
    upto: Seq,
    /// Who brought it.
    back: PeerId,
    until: Duration,
    /// What was answered for this replica itself.
    answered: Seq,
    /// It has not been considered yet.
    new: bool,
    /// Answers of others that are still to be passed on.
    gathered: BTreeMap<PeerId, Seq>,
}

impl Calls {
    pub(super) fn expire(&mut self, now: Duration) {
        self.open.retain(|_, call| call.until > now);
        self.due = self.due.filter(|due| *due > now);
    }

    /// Answers that were not durable are given anew.
    pub(super) fn forget(&mut self) {
        for call in self.open.values_mut() {
            call.answered = 0;
            call.new = true;
        }
        self.wanted |= self.asked.take().is_some();
    }
}

impl Replica {
    /// Asks who has our writes, if some wait for more than the neighbours say.
    pub(super) fn call_roll(&mut self) {
        let upto = self.written();
        let question = (self.header.origin, upto);
        let far = self.waiting.most_needed() > self.tree.linked.len();
        let calls = &mut self.tree.calls;
        calls.wanted &= self.waiting.len() > 0;
        calls.wanted |= far && calls.asked != Some(question);
        if !calls.wanted {
            return;
        }
        let now = self.tree.now;
        if let Some(due) = calls.asked_at.map(|at| at + PAUSE).filter(|due| *due > now) {
            calls.due = Some(due);
            return;
        }
        calls.wanted = false;
        calls.asked = Some(question);
        calls.asked_at = Some(now);
        calls.round += 1;
        let call = TreeMessage::RollCall {
            origin: question.0,
            upto,
            round: calls.round,
        };
        self.counters.roll_calls += 1;
        for peer in self.tree.linked.clone() {
            self.send_tree(&peer, call.clone());
        }
    }

    /// Somebody asks.
    pub(super) fn called(&mut self, peer: PeerId, origin: Origin, upto: Seq, round: u64) {
        let calls = &mut self.tree.calls;
        let known = calls.open.get(&origin);
        let stale = known.is_some_and(|call| call.round >= round);
        let full = known.is_none() && calls.open.len() >= OPEN_MAX;
        if origin == self.header.origin || stale || full {
            return;
        }
        let call = Call {
            round,
            upto,
            back: peer.clone(),
            until: self.tree.now + LIFE,
            answered: 0,
            new: true,
            gathered: BTreeMap::new(),
        };
        calls.open.insert(origin, call);
        let question = TreeMessage::RollCall {
            origin,
            upto,
            round,
        };
        for other in self.tree.linked.clone() {
            if other != peer {
                self.send_tree(&other, question.clone());
            }
        }
    }

    /// Somebody answers: to us, or to one whose question we passed on.
    pub(super) fn answered(
        &mut self,
        peer: PeerId,
        origin: Origin,
        own: Option<Seq>,
        others: Vec<(PeerId, Seq)>,
    ) {
        // The peer for itself last: nobody else answers for it on this link.
        let answers = others
            .into_iter()
            .filter(|(name, _)| *name != peer && *name != self.config.name);
        let answers = answers.chain(own.map(|upto| (peer.clone(), upto)));
        let answers: Vec<(PeerId, Seq)> = answers.collect();
        if origin == self.header.origin {
            for (name, upto) in answers {
                self.acknowledged(&name, origin, upto);
            }
        } else if let Some(call) = self.tree.calls.open.get_mut(&origin) {
            for (name, upto) in answers {
                if call.gathered.len() < ANSWERS_MAX || call.gathered.contains_key(&name) {
                    let gathered = call.gathered.entry(name).or_default();
                    *gathered = upto.max(*gathered);
                }
            }
        }
    }

    /// Answers what is asked, for this replica as soon as it has all that is asked about,
    /// and at once for what it has already; and passes on what others have answered.
    pub(super) fn answer_calls(&mut self) {
        let mut answers = Vec::new();
        for (origin, call) in &mut self.tree.calls.open {
            let here = self.vector.of(*origin).map_or(0, |set| set.contiguous());
            let new = std::mem::take(&mut call.new);
            let tells = here > call.answered && (here >= call.upto || new);
            if tells {
                call.answered = here;
            }
            if !tells && call.gathered.is_empty() {
                continue;
            }
            let answer = TreeMessage::Present {
                origin: *origin,
                own: tells.then_some(here),
                others: std::mem::take(&mut call.gathered).into_iter().collect(),
            };
            answers.push((call.back.clone(), answer));
        }
        for (back, answer) in answers {
            self.send_tree(&back, answer);
        }
    }
}
