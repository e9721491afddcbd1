//! Who delivers an event, and what happens when that agent fails.

use std::time::SystemTime;

use basic_membership::{Directive, Metadata};

use super::*;
use crate::config::{Config, FlagValue, Sources};
use crate::events::record::{Cause, CauseCode, EventId, Fact};

fn hooks(own: &str, set: &[&str]) -> Hooks {
    let mut flags = vec![FlagValue {
        flag: "--set".to_owned(),
        value: "events.command=/no/such/program".to_owned(),
    }];
    flags.extend(set.iter().map(|value| FlagValue {
        flag: "--set".to_owned(),
        value: (*value).to_owned(),
    }));
    let sources = Sources {
        flags,
        ..Sources::default()
    };
    let config = Config::load(&sources).unwrap().config.events;
    Hooks::new(&config, own.parse().unwrap()).unwrap()
}

fn members(states: &[(&str, MemberState)]) -> Vec<Member> {
    let member = |(id, state): &(&str, MemberState)| Member {
        id: id.parse().unwrap(),
        incarnation: Incarnation(1),
        state: *state,
        since: SystemTime::UNIX_EPOCH,
        peer: "10.0.0.1:9400".parse().unwrap(),
        metadata: Arc::new(Metadata::new(1)),
        heartbeat_age: None,
        phi: None,
        is_self: false,
        live: true,
        directive: Directive::default(),
        clock_offset: None,
    };
    states.iter().map(member).collect()
}

fn record(kind: Kind, node: &str) -> Arc<Record> {
    let cause = Cause::new(CauseCode::Silence, "x");
    let node = node.parse().unwrap();
    Arc::new(Record {
        id: EventId(1),
        fact: Fact::new(SystemTime::UNIX_EPOCH, kind, node, cause, "x"),
        seen_by: "n1".parse().unwrap(),
    })
}

const ACTIVE: MemberState = MemberState::Active;
const FAILED: MemberState = MemberState::Failed;

#[test]
fn exactly_one_of_those_who_take_traffic_delivers_and_never_the_node_itself() {
    let members = members(&[
        ("n1", ACTIVE),
        ("n2", ACTIVE),
        ("n3", ACTIVE),
        ("n4", FAILED),
    ]);
    for node in ["n1", "n2", "n3", "n4"] {
        for kind in [Kind::Failed, Kind::Left, Kind::Returned, Kind::Removed] {
            let record = record(kind, node);
            let delivering: Vec<_> = ["n1", "n2", "n3", "n4"]
                .into_iter()
                .filter(|own| hooks(own, &[]).duty(&record, &members) == Duty::Ours)
                .collect();
            assert_eq!(delivering.len(), 1, "{kind} of {node}: {delivering:?}");
            assert!(delivering[0] != node && delivering[0] != "n4");
        }
    }
}

#[test]
fn each_node_delivers_where_that_is_wanted_or_nobody_else_can() {
    let all = members(&[("n1", ACTIVE), ("n2", ACTIVE), ("n3", ACTIVE)]);
    let failed = record(Kind::Failed, "n3");
    for own in ["n1", "n2"] {
        let each = hooks(own, &["events.hooks_on=every-node"]);
        assert_eq!(each.duty(&failed, &all), Duty::Ours);
        let own_affair = record(Kind::GossipRestarted, own);
        assert_eq!(hooks(own, &[]).duty(&own_affair, &all), Duty::Ours);
    }
    let nobody = members(&[("n1", MemberState::CatchingUp), ("n2", FAILED)]);
    assert_eq!(hooks("n1", &[]).duty(&failed, &nobody), Duty::Ours);
}

#[tokio::test]
async fn what_the_owner_was_to_deliver_is_delivered_by_the_next_if_it_fails() {
    let before = members(&[("n1", ACTIVE), ("n2", ACTIVE), ("n3", FAILED)]);
    let failed = record(Kind::Failed, "n3");
    let owner = owner::of(&failed, &before).unwrap().id.clone();
    let other = if owner.as_str() == "n1" { "n2" } else { "n1" };
    let hooks = hooks(other, &[]);
    let now = Instant::now();
    let mut standby = VecDeque::from([Standby {
        record: Arc::clone(&failed),
        owner: owner.clone(),
        incarnation: Incarnation(1),
        until: now + STANDBY,
    }]);
    let waiting = || hooks.status()[0].waiting;

    hooks.take_over(&mut standby, || before.iter(), now);
    assert_eq!((standby.len(), waiting()), (1, 0), "the owner is well");
    let mut after = before.clone();
    for member in &mut after {
        if member.id == owner {
            member.state = FAILED;
        }
    }
    hooks.take_over(&mut standby, || after.iter(), now);
    assert_eq!((standby.len(), waiting()), (0, 1));

    // An owner that fails much later has surely delivered.
    standby.push_back(Standby {
        record: failed,
        owner,
        incarnation: Incarnation(1),
        until: now,
    });
    hooks.take_over(&mut standby, || after.iter(), now);
    assert_eq!((standby.len(), waiting()), (0, 1));
}

#[tokio::test]
async fn only_the_kinds_that_are_wanted_are_taken_up_and_a_full_queue_drops_the_oldest() {
    let hooks = hooks("n1", &["events.on=failed,left"]);
    hooks.offer(&record(Kind::Joined, "n2"));
    assert_eq!(hooks.0.arriving.len(), 0);
    for _ in 0..QUEUE_MAX + 3 {
        hooks.offer(&record(Kind::Failed, "n2"));
    }
    assert_eq!(hooks.0.arriving.len(), QUEUE_MAX);
    assert_eq!(hooks.status()[0].dropped, 3);
    let busy = hooks.idle(Duration::from_millis(10));
    busy.await;
    while hooks.0.arriving.len() > 0 {
        drop(hooks.0.arriving.next().await);
    }
    let none_left = timeout(Duration::from_secs(60), hooks.idle(Duration::MAX));
    none_left.await.unwrap();
}
