//! The screen, frame by frame, without a network.

use super::*;
use crate::identity::Incarnation;
use crate::transport::forge::{self, Entry};
use crate::transport::keyring::GossipKey;

const CLUSTER: &str = "c";

fn ring(seed: u8) -> Keyring {
    Keyring::new(GossipKey::from_bytes([seed; 32]))
}

fn source() -> SocketAddr {
    ([10, 0, 0, 2], 9400).into()
}

/// The screen of node `here` in its incarnation 10, and a clock.
struct Bench {
    screen: Screen,
    now: Moment,
    sequence: u64,
}

impl Bench {
    fn new() -> Bench {
        let second = Duration::from_secs(1);
        let screen = Screen::new(
            CLUSTER.parse().unwrap(),
            ring(1),
            "here".parse().unwrap(),
            forge::member("here", 10, 9400),
            HeartbeatTable::new(second, second * 2),
        );
        Bench {
            screen,
            now: Moment::now(),
            sequence: 0,
        }
    }

    fn pass(&mut self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        self.now = Moment {
            instant: self.now.instant + by,
            wall: self.now.wall + by,
        };
    }

    /// The envelope that an honest peer would write next.
    fn envelope(&mut self) -> Envelope {
        self.sequence += 1;
        Envelope {
            kind: FrameKind::Gossip,
            sender: "peer".parse().unwrap(),
            incarnation: Incarnation(5),
            sequence: self.sequence,
            cluster: CLUSTER.parse().unwrap(),
            recipient: Some("here".parse().unwrap()),
        }
    }

    fn offer(&mut self, frame: &[u8]) -> Verdict {
        self.screen.examine(source(), frame, self.now)
    }

    fn offer_sealed(&mut self, envelope: &Envelope) -> Verdict {
        self.offer(&sealed::seal(&ring(1), envelope, &honest_syn()).unwrap())
    }

    fn offer_message(&mut self, message: &[u8]) -> Verdict {
        let envelope = self.envelope();
        self.offer(&sealed::seal(&ring(1), &envelope, message).unwrap())
    }
}

fn honest_syn() -> Vec<u8> {
    forge::syn(CLUSTER, &[Entry::of(forge::member("peer", 5, 9400))])
}

#[track_caller]
fn accepted(verdict: Verdict) -> Accepted {
    match verdict {
        Verdict::Accepted(accepted) => accepted,
        Verdict::Refused(refused) => panic!("refused: {refused:?}"),
        Verdict::Ignored | Verdict::OtherCluster { .. } => panic!("not accepted"),
    }
}

#[track_caller]
fn refused(verdict: Verdict) -> Refused {
    match verdict {
        Verdict::Refused(refused) => refused,
        _ => panic!("not refused"),
    }
}

#[test]
fn an_honest_frame_is_accepted_once() {
    let mut bench = Bench::new();
    let frame = sealed::seal(&ring(1), &bench.envelope(), &honest_syn()).unwrap();
    assert_eq!(accepted(bench.offer(&frame)).sender.as_str(), "peer");
    assert_eq!(refused(bench.offer(&frame)).reason, RejectReason::Replayed);
}

#[test]
fn an_answer_meant_for_another_node_is_worthless_here() {
    let mut bench = Bench::new();
    let elsewhere = Envelope {
        recipient: Some("there".parse().unwrap()),
        ..bench.envelope()
    };
    assert_eq!(
        refused(bench.offer_sealed(&elsewhere)).reason,
        RejectReason::Misaddressed
    );
    let anybody = Envelope {
        recipient: None,
        ..bench.envelope()
    };
    accepted(bench.offer_sealed(&anybody));
}

#[test]
fn our_own_echo_is_ignored_without_a_word() {
    let mut bench = Bench::new();
    let sender = "here".parse().unwrap();
    let echo = Envelope {
        sender,
        incarnation: Incarnation(10),
        ..bench.envelope()
    };
    assert!(matches!(bench.offer_sealed(&echo), Verdict::Ignored));
}

#[test]
fn frames_without_the_key_are_told_apart_and_prove_nothing() {
    let mut bench = Bench::new();
    let foreign = sealed::seal(&ring(2), &bench.envelope(), &honest_syn()).unwrap();
    assert_eq!(
        refused(bench.offer(&foreign)).reason,
        RejectReason::OtherSecret
    );
    let mut altered = sealed::seal(&ring(1), &bench.envelope(), &honest_syn()).unwrap();
    altered[40] ^= 1;
    assert_eq!(refused(bench.offer(&altered)).reason, RejectReason::Forged);
    assert_eq!(refused(bench.offer(b"x")).reason, RejectReason::NotGossip);
    assert_eq!(
        refused(bench.offer(&[0; 1400])).reason,
        RejectReason::NotGossip
    );
    assert!(!bench.screen.heard_from(source()));
    accepted(bench.offer_message(&honest_syn()));
    assert!(bench.screen.heard_from(source()));
}

#[test]
fn an_agent_of_another_cluster_is_due_to_be_told_now_and_then_and_never_in_a_circle() {
    let mut bench = Bench::new();
    let mut tell = |pause, kind| {
        bench.pass(pause);
        let envelope = Envelope {
            kind,
            cluster: "other".parse().unwrap(),
            ..bench.envelope()
        };
        match bench.offer_sealed(&envelope) {
            Verdict::OtherCluster { refused, tell } => {
                assert_eq!(refused.cluster.unwrap().as_str(), "other");
                assert_eq!(refused.sender.unwrap().as_str(), "peer");
                tell
            }
            _ => panic!("not noticed"),
        }
    };
    assert!(tell(0, FrameKind::Gossip));
    assert!(!tell(4, FrameKind::Gossip));
    assert!(tell(1, FrameKind::Gossip));
    assert!(
        !tell(60, FrameKind::OtherCluster),
        "what we are told is not told back"
    );
}

#[test]
fn a_peer_that_breaks_the_rules_is_named_with_the_rule() {
    let mut bench = Bench::new();
    let refused = refused(bench.offer_message(&forge::bomb(2500)));
    assert_eq!(refused.reason, RejectReason::Faulty);
    assert_eq!(refused.sender.unwrap().as_str(), "peer");
    assert!(refused.detail.unwrap().contains("decompresses"));
}

#[test]
fn a_digest_confirms_what_its_sender_holds_of_us() {
    let mut bench = Bench::new();
    let own = bench.screen.own().clone();
    let peer: NodeId = "peer".parse().unwrap();
    for (version, confirmed) in [(7, 7), (6, 7), (9, 9)] {
        let about_us = Entry {
            max_version: version,
            ..Entry::of(own.clone())
        };
        let about_itself = Entry::of(forge::member("peer", 5, 9400));
        accepted(bench.offer_message(&forge::syn(CLUSTER, &[about_itself, about_us])));
        assert_eq!(bench.screen.confirmed(&peer), confirmed);
    }
    bench.screen.renew(forge::member("here", 11, 9400));
    assert_eq!(bench.screen.confirmed(&peer), 0);
}

#[test]
fn a_living_process_with_our_id_is_noticed_and_an_echo_of_the_past_is_not() {
    let mut bench = Bench::new();
    let mut speak_as_us = |pause| {
        bench.pass(pause);
        let envelope = Envelope {
            sender: "here".parse().unwrap(),
            ..bench.envelope()
        };
        accepted(bench.offer_sealed(&envelope));
        let now = bench.now.instant;
        (
            bench.screen.rival(now),
            bench.screen.rival(now + RIVAL_FORGOTTEN),
        )
    };
    assert_eq!(speak_as_us(0), (None, None));
    let (lately, long_after) = speak_as_us(3);
    assert_eq!(lately.unwrap().incarnation, Incarnation(5));
    assert_eq!(long_after, None);
}

#[test]
fn what_an_honest_peer_passes_on_of_a_faulty_one_is_left_out_of_its_message() {
    let mut bench = Bench::new();
    let heartbeat = |value| Entry {
        heartbeat: value,
        ..Entry::of(forge::member("n1", 5, 9401))
    };
    let itself = || Entry::of(forge::member("peer", 5, 9400));
    accepted(bench.offer_message(&forge::syn(CLUSTER, &[itself(), heartbeat(3)])));
    let message = forge::syn(CLUSTER, &[heartbeat(u64::MAX), itself()]);
    let accepted = accepted(bench.offer_message(&message));
    assert_eq!((accepted.implausible, accepted.crowded_out), (1, 0));
    let read = chitchat::Serializable::serialize_to_vec(&accepted.message);
    let digest = inspect::inspect(&read, &CLUSTER.parse().unwrap())
        .unwrap()
        .digest;
    assert_eq!(digest.len(), 1);
    assert_eq!(digest[0].member.node_id.as_ref(), "peer");
}
