//! The network between agents: seeds, strangers, whether this node is reached, replication links.

use std::time::Duration;

use basic_membership::{Member, MemberState, NodeId, RejectReason, Rejection};
use basic_sync::net::LinkStatus;

use super::{Code, Facts, Finding, START_MAX};

/// Refused datagrams older than this are history.
const REJECTION_RECENT: Duration = Duration::from_secs(120);
/// Others begin an exchange with this node several times a second; this long without is no chance.
const INBOUND_MAX: Duration = Duration::from_secs(5);
/// The same, in rounds of gossip, where these are slow.
const INBOUND_ROUNDS: u32 = 25;

/// All of them.
pub(super) fn findings(facts: &Facts<'_>) -> impl Iterator<Item = Finding> {
    let rejections = facts.gossip.rejections.iter();
    let strangers = rejections.filter_map(|rejection| stranger(facts, rejection));
    let links = facts.links.iter().filter_map(|link| broken(facts, link));
    strangers
        .chain(not_reached(facts))
        .chain(alone(facts))
        .chain(own_seed(facts))
        .chain(silent_seeds(facts))
        .chain(unresolved_seeds(facts))
        .chain(links)
}

fn stranger(facts: &Facts<'_>, rejection: &Rejection) -> Option<Finding> {
    // A moment that lies ahead of ours was just now.
    let age = facts.now.duration_since(rejection.last).unwrap_or_default();
    if age >= REJECTION_RECENT {
        return None;
    }
    let source = rejection.source;
    // Whoever is let in by now has put it right.
    if facts.others_live().any(|member| member.peer == source) {
        return None;
    }
    let (fact, cause, next) = match rejection.reason {
        RejectReason::OtherSecret => (
            format!("an agent at {source} has another peer secret"),
            "the secrets differ",
            "give all agents the same secret: compare the files named by [peer] secret_file; \
             where the key was rotated, a fresh token brings it (`basic-agent token` here, `basic-agent join` there)",
        ),
        RejectReason::OtherCluster => (
            format!("an agent at {source} belongs to another cluster"),
            "the same secret is used with another cluster name",
            "set [node] cluster alike on all nodes",
        ),
        RejectReason::AddressTaken => (
            format!(
                "the agent {} at {source} advertises {}, the peer port of another node",
                rejection.sender.as_ref().map_or("there", NodeId::as_str),
                rejection.detail.as_deref().unwrap_or("an address"),
            ),
            "two agents advertise one address; the second is not let in",
            "give each agent a [peer] advertise of its own, where the others reach it; if this one has replaced \
             the other, it is let in by itself within 10 s of the other's silence",
        ),
        RejectReason::FormerLife => (
            format!(
                "the agent {} at {source} speaks as an earlier life than was heard before",
                rejection.sender.as_ref().map_or("there", NodeId::as_str),
            ),
            "its data directory is new and its clock has gone back, or somebody sends a recording",
            "set its clock right (NTP; `timedatectl` shows the state) and start that agent again; if none was \
             started there, it is a recording, and harmless",
        ),
        _ => return None,
    };
    let handshakes = facts.peer_port.other_secret + facts.peer_port.other_cluster;
    Some(
        Finding::error(Code::StrangeAgent, fact)
            .since(rejection.first)
            .cause(cause)
            .evidence(format!(
                "{} datagrams could not be accepted, the last {} s ago; {handshakes} TLS handshakes failed for it",
                rejection.count,
                age.as_secs()
            ))
            .next(next),
    )
}

/// Others are heard, and yet none of them ever begins to speak to this node.
fn not_reached(facts: &Facts<'_>) -> Option<Finding> {
    let others = facts.others_live().count();
    let limit = INBOUND_MAX.max(facts.config.gossip.interval * INBOUND_ROUNDS);
    let reached = facts.gossip.last_inbound.is_some_and(|age| age <= limit);
    if others == 0 || reached || facts.uptime < START_MAX.max(limit) || facts.gossip.removals_held {
        return None;
    }
    let evidence = match facts.gossip.last_inbound {
        Some(age) => format!(
            "{others} other members are heard, and none began an exchange with this node for {age:.0?}"
        ),
        None => format!(
            "{others} other members are heard, and none has ever begun an exchange with this node"
        ),
    };
    Some(
        Finding::error(
            Code::NotReached,
            format!("other nodes do not reach this one at {}, the address they are told", facts.own_address),
        )
        .about(facts.own_id)
        .cause("[peer] advertise is another node's or nobody's address, or a firewall keeps datagrams from the peer port")
        .evidence(evidence)
        .next("basic-agent doctor shows where the advertised address leads; correct [peer] advertise, or let UDP and TCP through"),
    )
}

fn alone(facts: &Facts<'_>) -> Option<Finding> {
    let others = facts.members.iter().any(|member| !member.is_self);
    let seeds = &facts.config.peer.seeds;
    let elsewhere = seeds
        .iter()
        .filter(|seed| seed.socket_address() != Some(facts.own_address));
    let elsewhere: Vec<String> = elsewhere.map(ToString::to_string).collect();
    if others || elsewhere.is_empty() || facts.uptime < START_MAX {
        return None;
    }
    let unresolved: Vec<String> = unresolved(facts).collect();
    let cause = if unresolved.is_empty() {
        "no seed answers".to_owned()
    } else {
        unresolved.join("; ")
    };
    Some(
        Finding::error(Code::Alone, "no other member was found")
            .cause(cause)
            .evidence(format!(
                "asked for {:.0?}, without an answer: {}",
                facts.uptime,
                elsewhere.join(", ")
            ))
            .next("start an agent on a seed, correct [peer] seeds, or let UDP through on the peer port; basic-agent doctor tries each seed"),
    )
}

/// All seeds are the address that this node advertises: so it is where the address of the node to join was given for
/// its own.
fn own_seed(facts: &Facts<'_>) -> Option<Finding> {
    let others = facts.members.iter().any(|member| !member.is_self);
    let seeds = &facts.config.peer.seeds;
    let own = |address| address == Some(facts.own_address);
    if others || seeds.is_empty() || !seeds.iter().all(|seed| own(seed.socket_address())) {
        return None;
    }
    let address = facts.own_address;
    Some(
        Finding::warning(
            Code::Alone,
            "no other member was found: [peer] seeds names nobody but this node",
        )
        .cause("[peer] advertise is the address of the node to join, or [peer] seeds that of this node")
        .evidence(format!("both are {address}"))
        .next("set [peer] advertise to an address of this node; basic-agent doctor shows where the advertised one leads"),
    )
}

fn silent_seeds(facts: &Facts<'_>) -> Option<Finding> {
    let silent = facts.gossip.silent_seeds.iter();
    let silent: Vec<String> = silent
        .filter(|seed| **seed != facts.own_address)
        .map(ToString::to_string)
        .collect();
    // A node that found nobody says so in another finding.
    let found_others = facts.members.len() > 1;
    if silent.is_empty() || !found_others || facts.uptime < START_MAX {
        return None;
    }
    Some(
        Finding::warning(
            Code::SeedSilent,
            format!("no agent has answered at {}, which [peer] seeds names", silent.join(", ")),
        )
        .cause("no agent runs there, or the address is wrong")
        .evidence("the other members were found without it; a restart of the whole cluster may need it")
        .next("start an agent there, or take it out of [peer] seeds; basic-agent doctor tries each seed"),
    )
}

fn unresolved_seeds(facts: &Facts<'_>) -> Option<Finding> {
    let unresolved: Vec<String> = unresolved(facts).collect();
    let found_others = facts.members.len() > 1;
    if unresolved.is_empty() || !found_others {
        return None;
    }
    Some(
        Finding::warning(Code::SeedSilent, "the name of a seed does not resolve")
            .cause("the name is wrong, or the name server does not answer")
            .evidence(unresolved.join("; "))
            .next("correct [peer] seeds, or the name server; `getent hosts NAME` asks as the agent does"),
    )
}

fn unresolved(facts: &Facts<'_>) -> impl Iterator<Item = String> {
    let names = facts.gossip.unresolved_seeds.iter();
    names.map(|(name, error)| format!("{name} does not resolve: {error}"))
}

fn broken(facts: &Facts<'_>, link: &LinkStatus) -> Option<Finding> {
    let id = link.peer.id.as_str();
    let removed = |member: &Member| member.state == MemberState::Removed;
    let member = facts
        .others_live()
        .find(|member| member.id.as_str() == id && !removed(member))?;
    let error = link.last_error.as_ref().filter(|_| !link.up)?;
    Some(
        Finding::error(
            Code::ReplicationBroken,
            format!("no data goes to {id} although it is alive"),
        )
        .about(&member.id)
        .cause(error.clone())
        .evidence(format!(
            "a connection to {} fails; gossip reaches it",
            link.peer.address
        ))
        .next("if the cause is the network, let TCP through on the peer port as well as UDP"),
    )
}

#[cfg(test)]
mod tests {
    use basic_sync::model::PeerId;
    use basic_sync::net::Peer;

    use super::super::scene::{Scene, now};
    use super::*;

    fn seeds(scene: &mut Scene, seeds: &str) {
        use crate::config::{Config, FlagValue, Sources};
        let flag = FlagValue {
            flag: "--set".to_owned(),
            value: format!("peer.seeds={seeds}"),
        };
        let sources = Sources {
            flags: vec![flag],
            environment: [("BASIC_AGENT_PEER_SECRET".into(), "x".repeat(32).into())]
                .into_iter()
                .collect(),
            ..Sources::default()
        };
        scene.config.peer = Config::load(&sources).unwrap().config.peer;
    }

    #[test]
    fn an_agent_with_another_secret_is_told_while_it_is_recent() {
        let mut scene = Scene::healthy();
        scene.gossip.rejections = vec![Rejection {
            source: "10.0.0.9:9400".parse().unwrap(),
            reason: RejectReason::OtherSecret,
            sender: None,
            cluster: None,
            detail: None,
            count: 40,
            first: now() - Duration::from_secs(600),
            last: now() - Duration::from_secs(1),
        }];
        let found = scene.only(Code::StrangeAgent);
        assert!(
            found.is_error() && found.fact.contains("10.0.0.9:9400"),
            "{found:?}"
        );
        scene.gossip.rejections[0].last = now() - Duration::from_secs(600);
        assert_eq!(scene.findings(), []);
        scene.gossip.rejections[0].last = now();
        scene.gossip.rejections[0].reason = RejectReason::NotGossip;
        assert_eq!(scene.findings(), [], "anybody may send anything");
    }

    #[test]
    fn an_agent_that_is_not_let_in_is_told_with_what_ends_it() {
        let mut scene = Scene::healthy();
        let refused = |reason, detail: Option<&str>| Rejection {
            source: "10.0.0.9:9400".parse().unwrap(),
            reason,
            sender: Some("n9".parse().unwrap()),
            cluster: None,
            detail: detail.map(str::to_owned),
            count: 4,
            first: now(),
            last: now(),
        };
        let taken = refused(RejectReason::AddressTaken, Some("10.0.0.2:9400"));
        scene.gossip.rejections = vec![taken];
        let found = scene.only(Code::StrangeAgent);
        assert!(found.fact.contains("10.0.0.2:9400"), "{found:?}");
        assert!(found.next.contains("within 10 s"), "{found:?}");
        scene.gossip.rejections = vec![refused(RejectReason::FormerLife, None)];
        let found = scene.only(Code::StrangeAgent);
        assert!(found.fact.contains("n9"), "{found:?}");
        assert!(found.next.contains("clock"), "{found:?}");
    }

    #[test]
    fn a_node_that_nobody_speaks_to_is_told_unless_nobody_is_there() {
        for silence in [None, Some(Duration::from_secs(6))] {
            let mut scene = Scene::healthy();
            scene.gossip.last_inbound = silence;
            let found = scene.only(Code::NotReached);
            assert!(found.fact.contains("10.0.0.1:9400"), "{found:?}");
            assert!(found.evidence.starts_with("2 other members"), "{found:?}");
            scene.uptime = Duration::from_secs(3);
            assert_eq!(scene.findings(), [], "it has just started");
            scene.uptime = Duration::from_secs(3600);
            for id in ["n2", "n3"] {
                scene.member(id).live = false;
                scene.member(id).state = MemberState::Left;
            }
            assert_eq!(scene.findings(), []);
        }
    }

    #[test]
    fn a_node_that_finds_nobody_tells_the_seeds_it_asked_and_the_names_it_cannot_resolve() {
        let mut scene = Scene::healthy();
        scene.members.truncate(1);
        scene.endpoints.truncate(1);
        assert_eq!(
            scene.findings(),
            [],
            "without seeds it is meant to be alone"
        );
        seeds(&mut scene, "127.0.0.1:9410,peer.example.org:9400");
        let found = scene.only(Code::Alone);
        assert!(
            found.is_error() && found.evidence.contains("127.0.0.1:9410"),
            "{found:?}"
        );
        let name = "peer.example.org:9400".to_owned();
        let unresolved = &mut scene.gossip.unresolved_seeds;
        unresolved.insert(name, "no such host".to_owned());
        let found = scene.only(Code::Alone);
        assert!(
            found.cause.contains("does not resolve: no such host"),
            "{found:?}"
        );
        scene.uptime = Duration::ZERO;
        assert_eq!(scene.findings(), []);
    }

    #[test]
    fn a_node_whose_seeds_are_all_itself_says_so_at_once() {
        let mut scene = Scene::healthy();
        scene.config.peer.seeds = vec!["10.0.0.1:9400".parse().unwrap()];
        assert_eq!(scene.findings(), [], "it was found by the others");
        scene.members.truncate(1);
        scene.endpoints.truncate(1);
        scene.uptime = Duration::ZERO;
        let found = scene.only(Code::Alone);
        assert!(found.evidence.contains("10.0.0.1:9400"), "{found:?}");
    }

    #[test]
    fn seeds_that_never_answered_or_do_not_resolve_are_a_warning_among_others() {
        let mut scene = Scene::healthy();
        let own = "10.0.0.1:9400".parse().unwrap();
        scene.gossip.silent_seeds = vec![own];
        assert_eq!(scene.findings(), [], "its own address");
        scene.gossip.silent_seeds = vec![own, "10.0.0.7:9400".parse().unwrap()];
        let silent = scene.only(Code::SeedSilent);
        assert!(
            !silent.is_error() && silent.fact.contains("10.0.0.7:9400"),
            "{silent:?}"
        );
        scene.gossip.silent_seeds.clear();
        let name = "peer.example.org:9400".to_owned();
        scene
            .gossip
            .unresolved_seeds
            .insert(name, "no such host".to_owned());
        let unresolved = scene.only(Code::SeedSilent);
        assert!(
            unresolved.evidence.contains("peer.example.org"),
            "{unresolved:?}"
        );
    }

    #[test]
    fn a_link_that_fails_to_a_member_that_is_alive_is_an_error() {
        let mut scene = Scene::healthy();
        scene.links = vec![LinkStatus {
            peer: Peer {
                id: PeerId::new("n2"),
                address: "10.0.0.2:9400".parse().unwrap(),
            },
            up: false,
            since: now(),
            last_error: Some("no answer".to_owned()),
            frames_lost: 0,
            queued: Default::default(),
        }];
        let found = scene.only(Code::ReplicationBroken);
        assert_eq!(found.cause, "no answer");
        scene.member("n2").state = MemberState::Removed;
        scene.member("n2").since = now();
        assert_eq!(scene.findings(), [], "nobody wants to send it data");
        scene.member("n2").live = false;
        scene.member("n2").state = MemberState::Left;
        assert_eq!(scene.findings(), []);
    }
}
