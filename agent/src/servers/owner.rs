//! Which agent probes which server.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998): each agent
//! has a score for each server, and the highest wins. Agents need not talk about it, and when one comes or goes, only
//! what it wins or had changes hands. While agents see different members two may believe to be the owner, which does
//! no harm: they ask the same server the same question.

use basic_membership::{MemberState, Members, NodeId};

/// The owner of a server among the agents that take traffic and are able to publish what they find. Where none is, as
/// if all were: the owner is then the first that is able again. `None` while no agent takes traffic.
pub fn of<'m>(
    server: &NodeId,
    members: &'m Members,
    is_able: impl Fn(&NodeId) -> bool,
) -> Option<&'m NodeId> {
    first_able(server, || agents(members), is_able)
}

/// The agents that may own servers.
pub fn agents(members: &Members) -> impl Iterator<Item = &NodeId> {
    // An agent that is in doubt keeps what it has: changing owners back and forth gains nothing.
    let attends = |state| matches!(state, MemberState::Active | MemberState::Suspect);
    let agents = members.iter().filter(move |member| attends(member.state));
    agents.map(|member| &member.id)
}

fn first_able<'a, A: Iterator<Item = &'a NodeId>>(
    server: &NodeId,
    agents: impl Fn() -> A,
    is_able: impl Fn(&NodeId) -> bool,
) -> Option<&'a NodeId> {
    let able = agents().filter(|agent| is_able(agent));
    winner(server, able).or_else(|| winner(server, agents()))
}

fn winner<'a>(server: &NodeId, agents: impl IntoIterator<Item = &'a NodeId>) -> Option<&'a NodeId> {
    agents
        .into_iter()
        .max_by_key(|agent| (score(server, agent), *agent))
}

/// Both names end with a byte that no name has, so that no two pairs are hashed alike.
fn score(server: &NodeId, agent: &NodeId) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for name in [server, agent] {
        hasher.update(name.as_str().as_bytes()).update(&[0]);
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn ids(prefix: &str, count: usize) -> Vec<NodeId> {
        (0..count)
            .map(|number| format!("{prefix}{number}").parse().unwrap())
            .collect()
    }

    #[test]
    fn without_agents_there_is_no_owner() {
        assert_eq!(winner(&"s1".parse().unwrap(), []), None);
    }

    #[test]
    fn an_agent_that_cannot_publish_owns_nothing_unless_none_can() {
        let agents = ids("n", 3);
        for server in ids("s", 30) {
            let first = first_able(&server, || agents.iter(), |_| true).unwrap();
            let next = first_able(&server, || agents.iter(), |agent| agent != first);
            assert!(next.is_some_and(|next| next != first), "{server}");
            let of_none = first_able(&server, || agents.iter(), |_| false);
            assert_eq!(of_none, Some(first));
        }
    }

    #[test]
    fn servers_are_shared_out_among_the_agents() {
        let agents = ids("n", 3);
        let mut owned: HashMap<&NodeId, usize> = HashMap::new();
        for server in ids("s", 300) {
            *owned.entry(winner(&server, &agents).unwrap()).or_default() += 1;
        }
        // 100 each on average, with a standard deviation of 8.
        assert!(
            owned.len() == 3 && owned.values().all(|count| (50..150).contains(count)),
            "{owned:?}"
        );
    }

    proptest! {
        #[test]
        fn an_agent_that_goes_gives_up_its_own_servers_and_no_others(
            count in 1usize..20,
            gone in any::<prop::sample::Index>(),
            order in any::<u64>(),
        ) {
            let agents = ids("n", count);
            let gone = gone.get(&agents);
            let mut rest: Vec<&NodeId> = agents.iter().filter(|agent| *agent != gone).collect();
            let shift = usize::try_from(order % 19).unwrap() % rest.len().max(1);
            rest.rotate_left(shift);
            for server in ids("s", 20) {
                let before = winner(&server, &agents);
                let after = winner(&server, rest.iter().copied());
                prop_assert!(before == after || before == Some(gone));
            }
        }
    }
}
