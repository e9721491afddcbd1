//! Copies of the data that are not trusted, snapshots, and writes that were kept aside.

use std::collections::BTreeSet;
use std::time::Duration;

use basic_membership::{MemberState, NodeId};
use basic_sync::protocol::{PeerStatus, Trust};

use super::{Code, Facts, Finding};

pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let peers = facts.peers.iter().filter_map(|peer| of_peer(facts, peer));
    given_up(facts)
        .into_iter()
        .chain(peers)
        .chain(filling(facts))
        .chain(exported(facts))
}

/// What is not taken from a peer, and why.
fn of_peer(facts: &Facts<'_>, peer: &PeerStatus) -> Option<Finding> {
    let id = &peer.peer;
    let found = match peer.trust {
        Trust::Unknown | Trust::Full => return None,
        Trust::Fenced => {
            let fact = format!("nothing is taken from {id}: its copy of the data is not whole");
            Finding::warning(Code::ReplicaFenced, fact)
                .cause("it was away for too long, or takes over a snapshot for another reason")
                .next("wait: it takes over a snapshot by itself, and is trusted again then")
        }
        Trust::Stale => {
            let fact = format!(
                "nothing is taken from {id}: it lacks deletions that the others no longer remember"
            );
            Finding::warning(Code::ReplicaStale, fact)
                .cause("an old copy of its disk was put back, most likely, or of this node's")
                .next(
                    "wait a minute: the one of the two that is behind takes over a snapshot by itself. If it stays so, each lacks something of the other: decide whose copy counts, stop the other agent, move its data directory away (and keep it), and start it again",
                )
        }
        Trust::Foreign => {
            let fact =
                format!("nothing is exchanged with {id}: its data is that of another cluster");
            Finding::error(Code::ReplicaForeign, fact)
                .cause("both sides were in use before they met, and each has forgotten deletions by now")
                .next(
                    "decide which side stays; on each node of the other: `basic-agent backup`, stop the agent, move its data directory away, start it again, and `basic-agent restore --as-new` what is missing",
                )
        }
    };
    let found = found.evidence(format!(
        "its agent is {}linked and has {} writes that are not here",
        if peer.linked { "" } else { "not " },
        peer.behind
    ));
    let member = facts
        .members
        .iter()
        .find(|one| one.id.as_str() == id.as_str());
    Some(match member {
        Some(member) => found.about(&member.id),
        None => found,
    })
}

/// Nodes of which no replica counts any more, also those that this node has not heard of since it started. One that was
/// removed, or has left in good order, is away on purpose.
fn given_up(facts: &Facts<'_>) -> Vec<Finding> {
    let names = |fenced: bool| -> BTreeSet<&str> {
        let lines = facts.roster.iter().filter(|line| line.fenced == fenced);
        lines.map(|line| line.name.as_str()).collect()
    };
    let (gone, there) = (names(true), names(false));
    let gone = gone.difference(&there).filter(|id| !is_meant(facts, id));
    // A peer that is there says more.
    let told = |id: &str| {
        let mut peers = facts.peers.iter();
        peers.any(|peer| peer.peer.as_str() == id && peer.trust == Trust::Fenced)
    };
    let gone = gone.filter(|id| !told(id));
    gone.filter_map(|id| Some(away_too_long(facts, &id.parse().ok()?)))
        .collect()
}

fn is_meant(facts: &Facts<'_>, id: &str) -> bool {
    let member = facts.members.iter().find(|one| one.id.as_str() == id);
    let state = member.map(|member| member.state);
    matches!(state, Some(MemberState::Left | MemberState::Removed))
        || facts.orders.contains_key(&format!("{id}/removed"))
}

fn away_too_long(facts: &Facts<'_>, id: &NodeId) -> Finding {
    let lines = facts.roster.iter();
    let lines = lines.filter(|line| line.name.as_str() == id.as_str());
    let absent = lines.map(|line| line.absent_ms).max().unwrap_or(0);
    let limit = humantime::format_duration(facts.config.replication.absent_max);
    let fact = format!("{id} is away, and deletions are no longer remembered for it");
    Finding::warning(Code::ReplicaFenced, fact)
        .about(id)
        .cause("it was away for too long, or an operator had removed it")
        .evidence(format!(
            "it was away for {:.1?} while most nodes were here; [replication] absent_max is {limit}",
            Duration::from_millis(absent)
        ))
        .next(format!(
            "start its agent: it takes over a snapshot, and what only it had is kept aside there (`basic-agent sync exported`); or `basic-agent remove {id}`"
        ))
}

fn filling(facts: &Facts<'_>) -> Option<Finding> {
    facts.filling.then(|| {
        let trusted = facts
            .peers
            .iter()
            .filter(|peer| peer.linked && peer.trust == Trust::Full);
        Finding::warning(Code::Filling, "this node takes over a snapshot of the data")
            .cause("it is new, or was away for too long, or an old copy of its disk was put back")
            .evidence(format!("{} linked peers can give it one", trusted.count()))
            .next("wait; `basic-agent sync status` says how far it is")
    })
}

fn exported(facts: &Facts<'_>) -> Option<Finding> {
    let count = Some(facts.exported).filter(|count| *count > 0)?;
    let fact = format!("{count} writes were kept aside and wait for a decision");
    Some(
        Finding::warning(Code::WritesExported, fact)
            .cause("only this node had them when it had been away for too long: whether their documents were deleted meanwhile is not known any more")
            .evidence("they are safe in this node's store, and on no other")
            .next("`basic-agent sync exported` lists them; --write makes them again, --drop forgets them"),
    )
}

#[cfg(test)]
mod tests {
    use basic_sync::model::{PeerId, ReplicaId, Timestamp};
    use basic_sync::protocol::Progress;
    use basic_sync::storage::RosterLine;

    use super::super::scene::Scene;
    use super::*;
    use crate::operations::decision::Order;

    fn peer(trust: Trust) -> PeerStatus {
        PeerStatus {
            peer: PeerId::new("n2"),
            linked: true,
            heard: true,
            behind: 3,
            unacknowledged: 0,
            caught_up: true,
            near: true,
            lazy: false,
            trust,
            progress: Progress::default(),
        }
    }

    fn line(replica: u8, name: &str, fenced: bool) -> RosterLine {
        RosterLine {
            replica: ReplicaId([replica; 16]),
            name: PeerId::new(name),
            fenced,
            born: Timestamp(1),
            absent_ms: 8_000,
        }
    }

    #[test]
    fn a_peer_from_which_nothing_is_taken_is_told_with_what_to_do() {
        for (trust, code, word) in [
            (Trust::Fenced, Code::ReplicaFenced, "by itself"),
            (Trust::Stale, Code::ReplicaStale, "whose copy counts"),
            (Trust::Foreign, Code::ReplicaForeign, "which side stays"),
        ] {
            let mut scene = Scene::healthy();
            scene.peers = vec![peer(trust)];
            let found = scene.only(code);
            assert!(found.next.contains(word), "{found:?}");
            assert_eq!(found.node.as_deref(), Some("n2"));
            assert_eq!(found.is_error(), trust == Trust::Foreign);
        }
        let mut scene = Scene::healthy();
        scene.peers = vec![peer(Trust::Full)];
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_member_that_was_given_up_is_told_until_it_is_back_or_gone_for_good() {
        let mut scene = Scene::healthy();
        scene.roster = vec![line(1, "n1", false), line(2, "n2", true)];
        let found = scene.only(Code::ReplicaFenced);
        assert!(found.evidence.contains("8.0s"), "{found:?}");
        // As another replica.
        scene.roster.push(line(3, "n2", false));
        assert_eq!(scene.findings(), []);
        scene.roster.pop();
        // This node has started since, and not heard of it.
        scene.members.retain(|member| member.id.as_str() != "n2");
        scene
            .endpoints
            .retain(|known| known.endpoint.id.as_str() != "n2");
        scene.only(Code::ReplicaFenced);
        scene
            .orders
            .insert("n2/removed".to_owned(), Order::default());
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_snapshot_and_writes_that_were_kept_aside_are_told() {
        let mut scene = Scene::healthy();
        scene.filling = true;
        assert!(!scene.only(Code::Filling).is_error());
        scene.filling = false;
        scene.exported = 7;
        assert!(
            scene
                .only(Code::WritesExported)
                .fact
                .starts_with("7 writes")
        );
    }
}
