//! Which agent tells the hooks of an event.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998) over the
//! agents that take traffic: each has a score for the event's node and kind, and the highest wins. The node that the
//! event is about is never its messenger: it may be down, or about to stop.

use basic_membership::{Member, MemberState, NodeId};

use crate::events::record::Record;

/// The member that delivers an event; none where no other than the event's own node takes traffic.
pub(super) fn of<'a>(
    record: &Record,
    members: impl IntoIterator<Item = &'a Member>,
) -> Option<&'a Member> {
    let able = |member: &&Member| {
        let takes_traffic = matches!(member.state, MemberState::Active | MemberState::Suspect);
        takes_traffic && member.id != record.fact.node
    };
    let agents = members.into_iter().filter(able);
    agents.max_by_key(|member| (score(record, &member.id), &member.id))
}

/// Each part ends with a byte that none of them has, so that no two events are hashed alike.
fn score(record: &Record, agent: &NodeId) -> [u8; 32] {
    let fact = &record.fact;
    let mut hasher = blake3::Hasher::new();
    for part in [fact.node.as_str(), fact.kind.as_str(), agent.as_str()] {
        hasher.update(part.as_bytes()).update(&[0]);
    }
    *hasher.finalize().as_bytes()
}
