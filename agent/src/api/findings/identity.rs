//! Two processes with one node id.

use basic_membership::diagnostics::{ContestedId, IdentityConflict};

use super::{Code, Facts, Finding, rfc3339};

/// As one of the two, and as a third.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let contested = facts.gossip.contested.iter();
    own(facts).into_iter().chain(contested.map(of_others))
}

/// Another process has this node's id. It stays known until an operator decides.
fn own(facts: &Facts<'_>) -> Option<Finding> {
    let heard = facts.gossip.identity_conflict.as_ref();
    let rival = match (facts.conflict, heard) {
        (Some(conflict), _) => conflict.rival,
        (None, Some(heard)) => heard.address,
        (None, None) => return None,
    };
    let id = facts.own_id;
    // Where the other counts as the member of this id, the members tell its address.
    let own = facts
        .conflict
        .map_or(facts.own_address, |conflict| conflict.own);
    let finding = Finding::error(
        Code::IdentityConflict,
        format!(
            "two processes have the node id {id}: this one at {own}, another at {rival}; neither takes writes"
        ),
    )
    .about(id)
    .cause("a data directory was copied, or two nodes have the same [node] id")
    .evidence(evidence(heard))
    .next(format!(
        "stop the one that shall not go on, give it a data directory and an id of its own, then on the other: basic-agent revive {id}"
    ));
    Some(match facts.conflict {
        Some(conflict) => finding.since(conflict.since),
        None => finding,
    })
}

fn evidence(heard: Option<&IdentityConflict>) -> String {
    match heard {
        Some(heard) => format!(
            "gossip from {} (incarnation {}) at {}",
            heard.address,
            heard.incarnation,
            rfc3339(heard.last)
        ),
        None => "the other has not been heard for a while; silence does not tell which of the two should go on".to_owned(),
    }
}

/// Two other processes have one id; whose writes count is for an operator to say.
fn of_others(contested: &ContestedId) -> Finding {
    let id = &contested.id;
    let claimants: Vec<String> = contested
        .claimants
        .iter()
        .map(|claimant| {
            format!(
                "{} (incarnation {})",
                claimant.address, claimant.incarnation
            )
        })
        .collect();
    let claimants = claimants.join(" and ");
    Finding::error(
        Code::IdentityConflict,
        format!("several processes live under the node id {id}: {claimants}"),
    )
    .about(id)
    .since(contested.since)
    .cause("a data directory was copied, or two nodes have the same [node] id")
    .evidence(format!("heartbeats of {claimants} both grow"))
    .next(format!(
        "stop the one that shall not go on, then on the other: basic-agent revive {id}"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use basic_membership::Incarnation;
    use basic_membership::diagnostics::Claimant;

    use super::super::scene::{Scene, now};
    use super::*;
    use crate::operations::TwoNodes;

    #[test]
    fn both_addresses_and_the_way_out_are_told_while_the_latch_is_closed() {
        let mut scene = Scene::healthy();
        scene.conflict = Some(TwoNodes {
            id: "n1".parse().unwrap(),
            own: "10.0.0.1:9400".parse().unwrap(),
            rival: "10.0.0.9:9400".parse().unwrap(),
            since: now() - Duration::from_secs(60),
        });
        let silent = scene.only(Code::IdentityConflict);
        assert!(silent.is_error() && silent.since.is_some());
        for part in ["10.0.0.1:9400", "10.0.0.9:9400", "neither takes writes"] {
            assert!(silent.fact.contains(part), "{silent:?}");
        }
        assert!(silent.next.ends_with("basic-agent revive n1"), "{silent:?}");
        assert!(silent.evidence.contains("not been heard"), "{silent:?}");

        scene.gossip.identity_conflict = Some(IdentityConflict {
            incarnation: Incarnation(7),
            address: "10.0.0.9:9400".parse().unwrap(),
            last: now(),
        });
        let heard = scene.only(Code::IdentityConflict);
        assert!(heard.evidence.contains("incarnation 7"), "{heard:?}");
    }

    #[test]
    fn a_third_node_names_both_claimants() {
        let claimant = |n, address: &str| Claimant {
            incarnation: Incarnation(n),
            address: address.parse().unwrap(),
        };
        let mut scene = Scene::healthy();
        scene.gossip.contested = vec![ContestedId {
            id: "n2".parse().unwrap(),
            claimants: vec![claimant(1, "10.0.0.2:9400"), claimant(2, "10.0.0.8:9400")],
            since: now(),
        }];
        let found = scene.only(Code::IdentityConflict);
        assert_eq!(found.node.as_deref(), Some("n2"));
        assert!(found.fact.contains("10.0.0.2:9400") && found.fact.contains("10.0.0.8:9400"));
    }
}
