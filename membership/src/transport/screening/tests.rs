//! The screen, frame by frame, without a network.

use super::*;
use crate::identity::Incarnation;
use crate::transport::addresses::HEARD_LATELY;
use crate::transport::forge::{self, Entry};
use crate::transport::keyring::GossipKey;

const CLUSTER: &str = "c";

fn ring(seed: u8) -> Keyring {
    Keyring::new(GossipKey::from_bytes([seed; 32]))
}

fn peer_address() -> SocketAddr {
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
            incarnation: Incarnation(5),
            sequence: self.sequence,
            recipient: Some("here".parse().unwrap()),
            ..forge::envelope("peer", CLUSTER, peer_address())
        }
    }

    fn offer(&mut self, frame: &[u8]) -> Verdict {
        let source = Source::Datagram(peer_address());
        self.screen.examine(source, frame, self.now)
    }

    fn offer_sealed(&mut self, envelope: &Envelope) -> Verdict {
        self.offer(&forge::frame(&ring(1), envelope, &honest_syn()))
    }

    fn offer_message(&mut self, message: &[u8]) -> Verdict {
        let envelope = self.envelope();
        self.offer(&forge::frame(&ring(1), &envelope, message))
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
    let frame = forge::frame(&ring(1), &bench.envelope(), &honest_syn());
    assert_eq!(accepted(bench.offer(&frame)).sender.node.as_str(), "peer");
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
    let foreign = forge::frame(&ring(2), &bench.envelope(), &honest_syn());
    assert_eq!(
        refused(bench.offer(&foreign)).reason,
        RejectReason::OtherSecret
    );
    let mut altered = forge::frame(&ring(1), &bench.envelope(), &honest_syn());
    altered[40] ^= 1;
    assert_eq!(refused(bench.offer(&altered)).reason, RejectReason::Forged);
    assert_eq!(refused(bench.offer(b"x")).reason, RejectReason::NotGossip);
    assert_eq!(
        refused(bench.offer(&[0; 1400])).reason,
        RejectReason::NotGossip
    );
    assert!(!bench.screen.heard_from(peer_address()));
    accepted(bench.offer_message(&honest_syn()));
    assert!(bench.screen.heard_from(peer_address()));
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
                tell.is_some_and(|sender| sender.node.as_str() == "peer")
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
fn a_living_process_with_our_id_is_noticed_for_as_long_as_it_speaks() {
    let mut bench = Bench::new();
    let mut speak_as_us = |pause| {
        bench.pass(pause);
        let envelope = Envelope {
            sender: "here".parse().unwrap(),
            ..bench.envelope()
        };
        let of_both = [forge::member("here", 5, 9401), bench.screen.own().clone()];
        let syn = forge::syn(CLUSTER, &of_both.map(Entry::of));
        accepted(bench.offer(&forge::frame(&ring(1), &envelope, &syn)));
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
fn processes_with_our_id_that_take_turns_are_one_conflict_and_the_latest_is_outlived() {
    let mut bench = Bench::new();
    for turn in 0..8 {
        bench.pass(1);
        // One was there before this life, one came after it.
        let incarnation = [5, 77][turn % 2];
        let envelope = Envelope {
            sender: "here".parse().unwrap(),
            incarnation: Incarnation(incarnation),
            ..bench.envelope()
        };
        let of_both = [
            forge::member("here", incarnation, 9401),
            bench.screen.own().clone(),
        ];
        let syn = forge::syn(CLUSTER, &of_both.map(Entry::of));
        accepted(bench.offer(&forge::frame(&ring(1), &envelope, &syn)));
        let noticed = bench.screen.rival(bench.now.instant).is_some();
        assert_eq!(noticed, turn >= 2, "{turn}");
        assert_eq!(bench.screen.outlived(bench.now.instant), None);
    }
    let long_after = bench.now.instant + RIVAL_FORGOTTEN;
    assert_eq!(bench.screen.outlived(long_after), Some(Incarnation(77)));
    bench.screen.renew(forge::member("here", 78, 9400));
    assert_eq!(bench.screen.outlived(long_after), None);
}

#[test]
fn a_recording_of_our_former_life_is_no_rival_however_long_it_goes_on() {
    let mut bench = Bench::new();
    for _half_second in 0..20 {
        bench.now.instant += Duration::from_millis(500);
        let envelope = Envelope {
            sender: "here".parse().unwrap(),
            ..bench.envelope()
        };
        // What it heard in its time: itself at this very address, and the others.
        let heard = [
            forge::member("here", 5, 9400),
            forge::member("peer", 5, 9401),
        ];
        let syn = forge::syn(CLUSTER, &heard.map(Entry::of));
        accepted(bench.offer(&forge::frame(&ring(1), &envelope, &syn)));
        assert_eq!(bench.screen.rival(bench.now.instant), None);
    }
}

#[test]
fn an_address_is_its_holders_while_its_heartbeats_advance_and_free_soon_after() {
    let mut bench = Bench::new();
    let beat = |count| Entry {
        heartbeat: count,
        ..Entry::of(ChitchatId::new("peer", 5, peer_address()))
    };
    accepted(bench.offer_message(&forge::syn(CLUSTER, &[beat(1)])));
    let claim = |bench: &mut Bench| {
        bench.sequence += 1;
        let envelope = Envelope {
            sequence: bench.sequence,
            ..forge::envelope("newcomer", CLUSTER, peer_address())
        };
        let frame = forge::frame(&ring(1), &envelope, &forge::syn(CLUSTER, &[]));
        let source = Source::Connection(peer_address());
        bench.screen.examine(source, &frame, bench.now)
    };
    for count in 2..5 {
        bench.pass(5);
        // The holder itself is not heard for long; another passes its beats on.
        let envelope = Envelope {
            sequence: count,
            ..forge::envelope("other", CLUSTER, ([10, 0, 0, 3], 9400).into())
        };
        let syn = forge::syn(CLUSTER, &[beat(count)]);
        accepted(bench.offer(&forge::frame(&ring(1), &envelope, &syn)));
        let refused = refused(claim(&mut bench));
        assert_eq!(refused.reason, RejectReason::AddressTaken);
    }
    bench.pass(5);
    refused(claim(&mut bench));
    bench.pass(1);
    accepted(claim(&mut bench));
}

#[test]
fn a_life_that_the_others_outran_is_told_of_once_the_later_one_is_over() {
    let mut bench = Bench::new();
    let later = || Entry::of(forge::member("here", 77, 9400));
    accepted(bench.offer_message(&forge::syn(CLUSTER, &[later()])));
    assert_eq!(bench.screen.outrun_by(bench.now.instant), None);
    bench.pass(6);
    let outrun = bench.screen.outrun_by(bench.now.instant);
    assert_eq!(outrun, Some(Incarnation(77)));
    let own = Entry::of(bench.screen.own().clone());
    accepted(bench.offer_message(&forge::syn(CLUSTER, &[later(), own])));
    let outrun = bench.screen.outrun_by(bench.now.instant);
    assert_eq!(outrun, None, "a peer knows the present life");
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

#[test]
fn a_node_that_advertises_the_address_of_another_is_refused_and_told_of() {
    let mut bench = Bench::new();
    accepted(bench.offer_message(&honest_syn()));
    let own = bench.screen.own().gossip_advertise_addr;
    for (sender, address, taken) in [
        ("faulty", peer_address(), true),
        ("faulty", own, true),
        ("faulty", ([10, 0, 0, 3], 9400).into(), false),
    ] {
        bench.sequence += 1;
        let envelope = Envelope {
            sequence: bench.sequence,
            ..forge::envelope(sender, CLUSTER, address)
        };
        let syn = forge::syn(CLUSTER, &[]);
        let frame = forge::frame(&ring(1), &envelope, &syn);
        let from = SocketAddr::from(([10, 0, 0, 3], 9400));
        // Over a connection it may write what it likes.
        let source = Source::Connection(if taken { address } else { from });
        let verdict = bench.screen.examine(source, &frame, bench.now);
        if taken {
            let refused = refused(verdict);
            assert_eq!(refused.reason, RejectReason::AddressTaken);
            assert_eq!(refused.sender.unwrap().as_str(), "faulty");
            assert_eq!(refused.detail, Some(address.to_string()));
        } else {
            assert_eq!(accepted(verdict).sender.address, address);
        }
    }
    let impossible = Envelope {
        address: ([0, 0, 0, 0], 9400).into(),
        ..bench.envelope()
    };
    let verdict = bench.offer_sealed(&impossible);
    assert_eq!(refused(verdict).reason, RejectReason::Faulty);
}

#[test]
fn a_peer_is_answered_with_its_key_and_asked_with_it_for_as_long_as_it_is_heard() {
    let mut bench = Bench::new();
    let [old, new] = [1, 2].map(|seed| GossipKey::from_bytes([seed; 32]));
    bench.screen.keyring.install(new.clone()).unwrap();
    bench.screen.keyring.use_key(new.id()).unwrap();
    assert_eq!(
        bench.screen.keys_at(peer_address(), bench.now.instant),
        None
    );
    let theirs = Keyring::new(old.clone());
    for expected in [[old.id(); 2], [new.id(); 2]] {
        let frame = forge::frame(&theirs, &bench.envelope(), &honest_syn());
        let sender = accepted(bench.offer(&frame)).sender;
        assert_eq!(sender.keys.best_first(), expected);
        let now = bench.now.instant;
        assert_eq!(bench.screen.keys_at(peer_address(), now), Some(expected));
        let long_after = now + HEARD_LATELY;
        assert_eq!(bench.screen.keys_at(peer_address(), long_after), None);
        theirs.replace(new.clone(), []).unwrap();
    }
}

#[test]
fn only_what_another_node_begins_proves_that_this_one_is_reached() {
    let mut bench = Bench::new();
    assert_eq!(bench.screen.last_inbound(bench.now.instant), None);
    let answer = forge::syn_ack(&[Entry::of(forge::member("peer", 5, 9400))], &[]);
    accepted(bench.offer_message(&answer));
    let itself = Envelope {
        sender: "here".parse().unwrap(),
        ..bench.envelope()
    };
    accepted(bench.offer_sealed(&itself));
    assert_eq!(bench.screen.last_inbound(bench.now.instant), None);
    accepted(bench.offer_message(&honest_syn()));
    bench.pass(3);
    let age = bench.screen.last_inbound(bench.now.instant);
    assert_eq!(age, Some(Duration::from_secs(3)));
}

#[test]
fn a_wild_clock_is_measured_and_does_no_harm() {
    let mut bench = Bench::new();
    let peer: NodeId = "peer".parse().unwrap();
    assert_eq!(bench.screen.clock_offset(&peer), None);
    let year = 365 * 24 * 3600 * 1000;
    for clock_ms in [0, 1_790_000_000_000 + year, u64::MAX, u64::MAX, u64::MAX] {
        let envelope = Envelope {
            clock_ms,
            ..bench.envelope()
        };
        accepted(bench.offer_sealed(&envelope));
    }
    assert_eq!(
        bench.screen.clock_offset(&peer),
        Some(ClockOffset(i64::MAX))
    );
    let median = bench.screen.clock_offset_median(|_| true);
    assert_eq!(median, Some(ClockOffset(0)), "of two, nobody knows better");
    bench
        .screen
        .retain_members(|_| false, bench.now.instant + HEARD_LATELY);
    assert_eq!(bench.screen.clock_offset(&peer), None);
}
