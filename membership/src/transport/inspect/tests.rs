//! Every rule of the inspection, with a message that breaks it alone.

use chitchat::ChitchatMessage;
use proptest::prelude::*;

use super::*;
use crate::transport::forge::{self, Entry, Op};

const CLUSTER: &str = "c";

fn check(message: &[u8]) -> Result<Inspected, Refusal> {
    inspect(message, &CLUSTER.parse().unwrap())
}

#[track_caller]
fn refused(message: &[u8], refusal: Refusal) {
    assert_eq!(check(message).unwrap_err(), refusal);
}

fn honest() -> ChitchatId {
    forge::member("n1", 5, 9400)
}

#[test]
fn honest_messages_pass_here_and_are_read_by_chitchat() {
    let ops = [
        Op::node(honest()),
        Op::set("state", 1),
        Op::set("format", 2),
    ];
    let entries = [Entry::of(honest()), Entry::of(forge::member("n2", 5, 9401))];
    for message in [
        forge::syn(CLUSTER, &entries),
        forge::syn_ack(&entries, &ops),
        forge::ack(&ops),
    ] {
        check(&message).unwrap();
        ChitchatMessage::deserialize(&mut message.as_slice()).unwrap();
    }
    let inspected = check(&forge::syn_ack(&entries, &ops)).unwrap();
    assert_eq!(inspected.digest[1].member.node_id.as_ref(), "n2");
    assert_eq!(inspected.delta[0].keys.len(), 2);
}

#[test]
fn what_is_no_message_is_refused() {
    refused(b"", Refusal::Malformed);
    refused(b"GET / HTTP/1.1\r\n", Refusal::Malformed);
    refused(&forge::bad_cluster(), Refusal::Malformed);
    let mut trailing = forge::syn(CLUSTER, &[]);
    trailing.push(0);
    refused(&trailing, Refusal::Malformed);
    refused(&forge::syn("d", &[]), Refusal::Cluster);
    refused(&forge::ack(&[Op::set("state", 1)]), Refusal::Malformed);
    refused(&forge::ack(&[Op::MaxVersion(1)]), Refusal::Malformed);
}

#[test]
fn members_that_no_node_has_are_refused() {
    let too_many: Vec<_> = (0..2000)
        .map(|n| Entry::of(forge::member(&format!("n{n}"), 1, 9400)))
        .collect();
    refused(&forge::syn(CLUSTER, &too_many), Refusal::TooManyMembers);
    let mut many = too_many;
    many.truncate(1000);
    check(&forge::syn(CLUSTER, &many)).unwrap();
    let twice = [Entry::of(honest()), Entry::of(honest())];
    refused(&forge::syn(CLUSTER, &twice), Refusal::RepeatedMember);
    for impossible in [
        forge::member("a b", 1, 9400),
        forge::member("", 1, 9400),
        forge::member("n1", u64::MAX, 9400),
        forge::member("n1", 1, 0),
        ChitchatId::new("n1", 1, ([0, 0, 0, 0], 9400).into()),
        ChitchatId::new("n1", 1, ([224, 0, 0, 1], 9400).into()),
        ChitchatId::new("n1", 1, "[::ffff:10.0.0.1]:9400".parse().unwrap()),
    ] {
        refused(
            &forge::syn(CLUSTER, &[Entry::of(impossible.clone())]),
            Refusal::ImpossibleMember,
        );
        refused(
            &forge::ack(&[Op::node(impossible)]),
            Refusal::ImpossibleMember,
        );
    }
}

#[test]
fn versions_out_of_order_or_range_are_refused() {
    let ack = |ops: Vec<Op>| {
        let mut all = vec![Op::node(honest())];
        all.extend(ops);
        forge::ack(&all)
    };
    refused(
        &ack(vec![Op::set("a", 2), Op::set("b", 1)]),
        Refusal::Versions,
    );
    refused(
        &ack(vec![Op::set("a", 2), Op::set("b", 2)]),
        Refusal::Versions,
    );
    refused(&ack(vec![Op::set("a", 0)]), Refusal::Versions);
    refused(&ack(vec![Op::set("a", u64::MAX)]), Refusal::Versions);
    refused(
        &ack(vec![Op::set("a", 5), Op::MaxVersion(4)]),
        Refusal::Versions,
    );
    refused(&ack(vec![Op::MaxVersion(u64::MAX)]), Refusal::Versions);
    let entry = Entry {
        max_version: u64::MAX,
        ..Entry::of(honest())
    };
    refused(&forge::syn(CLUSTER, &[entry]), Refusal::Versions);
    check(&ack(vec![Op::MaxVersion(4), Op::set("a", 5)])).unwrap();
}

#[test]
fn deletions_and_resets_are_refused() {
    let reset = Op::Node {
        member: honest(),
        collected_version: 7,
        from_version: 0,
    };
    refused(&forge::ack(&[reset, Op::set("a", 8)]), Refusal::Deletion);
    let deletion = Op::Delete {
        key: "state",
        version: 1,
    };
    refused(
        &forge::ack(&[Op::node(honest()), deletion]),
        Refusal::Deletion,
    );
    let entry = Entry {
        collected_version: 1,
        ..Entry::of(honest())
    };
    refused(&forge::syn(CLUSTER, &[entry]), Refusal::Deletion);
}

#[test]
fn keys_that_no_node_has_are_refused() {
    for key in ["", "é", "State", "a b"] {
        let ops = [
            Op::node(honest()),
            Op::Set {
                key,
                value: String::new(),
                version: 1,
            },
        ];
        refused(&forge::ack(&ops), Refusal::KeyValue);
    }
    let long = Op::Set {
        key: "labels",
        value: "x".repeat(5000),
        version: 1,
    };
    refused(&forge::ack(&[Op::node(honest()), long]), Refusal::KeyValue);
}

#[test]
fn a_bomb_is_refused_after_a_mebibyte() {
    let bomb = forge::bomb(2500);
    assert!(bomb.len() < 65_535, "it fits one message: {}", bomb.len());
    refused(&bomb, Refusal::Bomb);
}

#[test]
fn a_length_that_lies_is_refused_without_being_believed() {
    let mut message = forge::ack(&[]);
    message.pop();
    message.extend_from_slice(&[2, 0xff, 0xff, 1, 2, 3]);
    refused(&message, Refusal::Malformed);
    let mut digest = forge::syn(CLUSTER, &[]);
    digest[4] = 0x90;
    refused(&digest, Refusal::Malformed);
}

/// The names in the digest of a message.
fn names(message: &[u8]) -> Vec<String> {
    let digest = check(message).unwrap().digest;
    digest
        .iter()
        .map(|entry| entry.member.node_id.to_string())
        .collect()
}

#[test]
fn entries_left_out_leave_the_rest_of_the_message_as_it_was() {
    let entries: Vec<_> = ["a", "bb", "ccc"]
        .map(|id| Entry::of(forge::member(id, 1, 9400)))
        .into();
    let ops = [Op::node(honest()), Op::set("state", 1)];
    for message in [
        forge::syn(CLUSTER, &entries),
        forge::syn_ack(&entries, &ops),
    ] {
        let inspected = check(&message).unwrap();
        let left_out = [inspected.digest[1].bytes.clone()];
        let rest = without(&message, &inspected.digest, &left_out);
        assert_eq!(names(&rest), ["a", "ccc"]);
        assert_eq!(check(&rest).unwrap().delta.len(), inspected.delta.len());
        let all: Vec<_> = inspected
            .digest
            .iter()
            .map(|entry| entry.bytes.clone())
            .collect();
        assert!(names(&without(&message, &inspected.digest, &all)).is_empty());
        assert_eq!(without(&message, &inspected.digest, &[]), message);
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(
        kind in 0u8..4,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let _ = check(&bytes);
        let [low, high] = CHITCHAT_MAGIC.to_le_bytes();
        let _ = check(&[&[low, high, 0, kind][..], &bytes].concat());
    }

    /// What passes here, chitchat must be able to read.
    #[test]
    fn a_changed_byte_is_refused_here_or_read_by_chitchat(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let entries = [Entry::of(honest())];
        let ops = [Op::node(honest()), Op::set("state", 1), Op::set("weight", 2)];
        let mut message = forge::syn_ack(&entries, &ops);
        let at = at.index(message.len());
        message[at] = byte;
        if check(&message).is_ok() {
            prop_assert!(ChitchatMessage::deserialize(&mut message.as_slice()).is_ok());
        }
    }
}
