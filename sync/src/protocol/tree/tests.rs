//! One replica between three peers, message by message.

use super::*;
use crate::model::document::{Action, Part, PartWrite, Write};
use crate::model::numbered::origin;
use crate::model::{Collection, Key, ReplicaId, Seq, SeqRange, Timestamp, Version, VersionVector};
use crate::protocol::{
    AckTarget, Config, Input, Mesh, Operation, RequestId, WriteReceipt, WriteRequest, commit,
    standing,
};
use crate::storage::{Failing, MemoryStorage};

fn peer(number: u8) -> PeerId {
    PeerId::new(&format!("n{number}"))
}

fn delta(writer: u8, seq: Seq) -> Delta {
    let version = Version {
        clock: Timestamp::from_millis(1_000 + seq),
        dot: Dot {
            origin: origin(writer),
            seq,
        },
    };
    let root = PartWrite {
        part: Part::Root,
        value: Some(b"1".as_slice().into()),
    };
    let collection = Collection::new("users").unwrap();
    Delta {
        key: Key::new(collection, &format!("{writer}-{seq}")).unwrap(),
        write: Write {
            version,
            parts: vec![root],
        },
    }
}

fn forward(changes: &[Delta]) -> TreeMessage {
    let changes = changes.to_vec();
    TreeMessage::Forward { changes }
}

fn upto(writer: u8, last: Seq) -> VersionVector {
    let mut vector = VersionVector::default();
    vector.insert_range(origin(writer), SeqRange { first: 1, last });
    vector
}

fn have(after: u64, upto: u64, vector: VersionVector) -> Have {
    Have {
        origin: origin(9),
        life: 77,
        after,
        upto,
        heard: u64::MAX,
        vector,
    }
}

struct Rig {
    replica: Replica,
    disk: MemoryStorage,
    now: Duration,
    replies: Vec<WriteReceipt>,
}

type Sent = Vec<(PeerId, Message)>;

impl Rig {
    /// Peers 1, 2 and 3 are linked to, and a dozen others are not.
    fn new() -> Self {
        let disk = MemoryStorage::default();
        let config = Config {
            name: PeerId::new("n0"),
            mesh: Mesh {
                peers_max: 2,
                rings_max: 1,
            },
            ..Config::default()
        };
        let now = Now::default();
        let id = ReplicaId([100; 16]);
        let replica = Replica::open(&disk, config, id, now, 1).unwrap();
        let replies = Vec::new();
        let mut rig = Self {
            replica,
            disk,
            now: Duration::from_millis(1),
            replies,
        };
        rig.take(vec![Input::Peers((1..16).map(peer).collect())]);
        for number in 1..=3 {
            let replica = ReplicaId([200 + number; 16]);
            let name = peer(number);
            rig.take(standing::greeting(name.as_str(), replica, rig.time()));
        }
        // They are level.
        for number in 1..=3 {
            rig.tree(
                number,
                TreeMessage::Have(have(0, 1, VersionVector::default())),
            );
        }
        rig.take(vec![Input::Tick]);
        rig
    }

    fn time(&self) -> Now {
        Now {
            wall_ms: 2_000,
            elapsed: self.now,
        }
    }

    fn take(&mut self, inputs: Vec<Input>) -> Sent {
        let now = self.time();
        let outputs = commit(&mut self.replica, &self.disk, now, inputs).unwrap();
        let mut sent = Vec::new();
        for output in outputs {
            match output {
                Output::Send(peer, message) => sent.push((peer, message)),
                Output::Multicast(peers, message) => {
                    sent.extend(peers.into_iter().map(|peer| (peer, message.clone())));
                }
                Output::Reply(_, receipt) => self.replies.push(receipt.unwrap()),
                Output::Broadcast(Message::Standing(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        sent
    }

    fn tree(&mut self, from: u8, message: TreeMessage) -> Sent {
        self.take(vec![Input::Message(peer(from), Message::Tree(message))])
    }

    fn after(&mut self, millis: u64) -> Sent {
        self.now += Duration::from_millis(millis);
        self.take(vec![Input::Tick])
    }

    fn write(&mut self, acks: AckTarget) -> Sent {
        let key = delta(0, 1).key;
        self.take(vec![Input::Write(WriteRequest {
            id: RequestId(1),
            operations: vec![Operation::new(key, Action::Put(b"1".as_slice().into()))],
            acks,
            acks_timeout: Duration::from_secs(9),
        })])
    }

    fn is_lazy(&self, number: u8) -> bool {
        let status = self.replica.status();
        let known = status.peers.iter().find(|known| known.peer == peer(number));
        known.unwrap().lazy
    }
}

/// To whom a message of a kind was sent, and which.
fn sent(sent: &Sent, kind: impl Fn(&TreeMessage) -> bool) -> Vec<(&str, &TreeMessage)> {
    let sent = sent.iter().filter_map(|(peer, message)| match message {
        Message::Tree(message) if kind(message) => Some((peer.as_str(), message)),
        _ => None,
    });
    sent.collect()
}

fn is_forward(message: &TreeMessage) -> bool {
    matches!(message, TreeMessage::Forward { .. })
}

fn is_graft(message: &TreeMessage) -> bool {
    matches!(message, TreeMessage::Graft { .. })
}

fn is_have(message: &TreeMessage) -> bool {
    matches!(message, TreeMessage::Have(_))
}

#[test]
fn a_write_is_passed_on_to_all_but_the_one_it_came_from() {
    let mut rig = Rig::new();
    let changes = [delta(1, 1), delta(5, 1)];
    let passed = rig.tree(1, forward(&changes));
    let passed = sent(&passed, is_forward);
    assert_eq!(
        passed,
        [("n2", &forward(&changes)), ("n3", &forward(&changes))]
    );
}

#[test]
fn a_push_that_came_sooner_by_another_link_is_the_last_on_its_own() {
    let mut rig = Rig::new();
    rig.tree(1, forward(&[delta(5, 1)]));
    assert_eq!(rig.tree(1, forward(&[delta(5, 1)])), [], "it came twice");
    let both = [delta(5, 1), delta(5, 2)];
    rig.tree(2, forward(&both));
    assert!(!rig.is_lazy(2), "one of the two was new");
    let answer = rig.tree(3, forward(&both));
    assert_eq!(answer, [(peer(3), Message::Tree(TreeMessage::Prune))]);
    assert!(rig.is_lazy(3));
    let passed = rig.tree(1, forward(&[delta(5, 3)]));
    assert_eq!(
        sent(&passed, is_forward),
        [("n2", &forward(&[delta(5, 3)]))]
    );
    // It is told instead, soon.
    let told = rig.after(100);
    let told = sent(&told, is_have);
    let [("n3", TreeMessage::Have(told))] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(told.vector, upto(5, 3));
}

#[test]
fn who_was_pruned_by_its_peer_is_told_and_pushed_to_again_when_it_asks() {
    let mut rig = Rig::new();
    rig.tree(2, TreeMessage::Prune);
    rig.tree(1, forward(&[delta(5, 1), delta(5, 2)]));
    let mut wanted = VersionVector::default();
    wanted.insert(delta(5, 2).dot());
    wanted.insert(delta(6, 1).dot());
    let answer = rig.tree(2, TreeMessage::Graft { wanted });
    let given = sent(&answer, is_forward);
    assert_eq!(given, [("n2", &forward(&[delta(5, 2)]))]);
    assert!(!rig.is_lazy(2));
    assert!(
        answer.contains(&(peer(2), Message::Tree(TreeMessage::Gone))),
        "{answer:?}"
    );
}

#[test]
fn what_was_told_of_and_does_not_come_is_asked_for_of_one_after_the_other_and_then_pulled() {
    let mut rig = Rig::new();
    rig.tree(2, TreeMessage::Prune);
    rig.tree(3, TreeMessage::Prune);
    for number in [2, 3] {
        rig.now += Duration::from_millis(10);
        let told = have(1, 2, upto(5, 2));
        assert_eq!(rig.tree(number, TreeMessage::Have(told)), []);
    }
    rig.tree(1, forward(&[delta(5, 1)]));
    let mut wanted = VersionVector::default();
    wanted.insert(delta(5, 2).dot());
    let graft = TreeMessage::Graft { wanted };
    assert_eq!(sent(&rig.after(480), is_graft), []);
    let mut asked = Vec::new();
    let mut pulled = None;
    for waited in (500..5_000).step_by(10) {
        for (to, message) in rig.after(10) {
            match message {
                Message::Tree(message) if message == graft => asked.push((waited, to)),
                Message::PullRequest { .. } => pulled = pulled.or(Some(waited)),
                _ => {}
            }
        }
    }
    let [(first, a), (second, b), ..] = asked.as_slice() else {
        panic!("{asked:?}");
    };
    assert_eq!((a, b), (&peer(2), &peer(3)));
    assert!(*first <= 1_000 && *second >= first + 500, "{asked:?}");
    let pulled = pulled.expect("nobody has given it");
    assert!((1_500..=2_600).contains(&pulled), "{pulled}");
}

#[test]
fn what_a_peer_cannot_give_any_more_is_pulled_at_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.tree(2, TreeMessage::Gone), [], "nothing lacks");
    rig.tree(2, TreeMessage::Have(have(1, 2, upto(5, 2))));
    let asked = rig.tree(2, TreeMessage::Gone);
    assert!(matches!(asked.as_slice(), [(to, Message::PullRequest { .. })] if *to == peer(2)));
}

#[test]
fn what_comes_in_time_is_not_asked_for() {
    let mut rig = Rig::new();
    rig.tree(2, TreeMessage::Have(have(1, 2, upto(5, 1))));
    rig.tree(1, forward(&[delta(5, 1)]));
    assert_eq!(sent(&rig.after(1_500), is_graft), []);
}

#[test]
fn a_lazy_link_takes_the_place_of_an_eager_one_that_went_down() {
    let mut rig = Rig::new();
    rig.tree(3, TreeMessage::Prune);
    let asked = rig.take(vec![Input::LinkDown(peer(1))]);
    assert_eq!(sent(&asked, is_graft).len(), 1);
    assert!(!rig.is_lazy(3));
    let asked = rig.take(vec![Input::LinkDown(peer(2))]);
    assert_eq!(asked, [], "there is no other");
}

#[test]
fn who_is_pruned_by_all_asks_one_of_them() {
    let mut rig = Rig::new();
    assert_eq!(rig.tree(1, TreeMessage::Prune), []);
    assert_eq!(rig.tree(2, TreeMessage::Prune), []);
    let asked = rig.tree(3, TreeMessage::Prune);
    let asked = sent(&asked, is_graft);
    assert_eq!(asked.len(), 1);
    assert_ne!(asked[0].0, "n3", "it has just said no");
}

/// Each of two links brought something first: one of them stays.
#[test]
fn a_push_is_not_in_vain_because_of_a_link_that_has_been_given_up() {
    let mut rig = Rig::new();
    rig.tree(1, forward(&[delta(5, 1)]));
    rig.tree(2, forward(&[delta(6, 1)]));
    rig.tree(2, forward(&[delta(5, 1)]));
    assert!(rig.is_lazy(2));
    rig.tree(1, forward(&[delta(6, 1)]));
    assert!(!rig.is_lazy(1));
}

#[test]
fn what_a_peer_did_not_hear_is_told_again() {
    let mut rig = Rig::new();
    let told = |rig: &mut Rig| {
        let sent = rig.after(1_300);
        let told = sent.into_iter().find_map(|(to, message)| match message {
            Message::Tree(TreeMessage::Have(have)) if to == peer(1) => Some(have),
            _ => None,
        });
        told.expect("everyone is told every second")
    };
    let first = told(&mut rig);
    rig.tree(2, forward(&[delta(5, 1)]));
    let news = told(&mut rig);
    assert_eq!((news.after, &news.vector), (first.upto, &upto(5, 1)));
    let nothing = told(&mut rig);
    assert_eq!(nothing.vector, VersionVector::default());
    // It heard the first, and not the news.
    let mut answer = have(1, 1, VersionVector::default());
    answer.heard = first.upto;
    rig.tree(1, TreeMessage::Have(answer));
    let again = told(&mut rig);
    assert_eq!((again.after, &again.vector), (first.upto, &upto(5, 1)));
}

#[test]
fn word_that_was_lost_is_missed_and_what_is_told_after_it_counts_all_the_same() {
    let mut rig = Rig::new();
    rig.tree(1, TreeMessage::Have(have(5, 6, upto(7, 2))));
    let status = rig.replica.status();
    let known = &status.peers.iter().find(|known| known.peer == peer(1));
    assert_eq!(known.unwrap().behind, 2);
    let heard = |rig: &mut Rig| {
        let sent = rig.after(1_300);
        sent.into_iter().find_map(|(to, message)| match message {
            Message::Tree(TreeMessage::Have(have)) if to == peer(1) => Some(have.heard),
            _ => None,
        })
    };
    assert_eq!(heard(&mut rig), Some(1), "2 to 5 are missed");
    rig.tree(1, TreeMessage::Have(have(1, 6, upto(7, 2))));
    assert_eq!(heard(&mut rig), Some(6));
    let mut other_life = have(3, 4, upto(7, 2));
    other_life.life = 78;
    rig.tree(1, TreeMessage::Have(other_life));
    assert_eq!(heard(&mut rig), Some(0), "it is to tell all");
}

#[test]
fn what_was_not_committed_is_neither_passed_on_nor_given_to_who_asks() {
    let mut rig = Rig::new();
    let message = Message::Tree(forward(&[delta(5, 1)]));
    let inputs = vec![Input::Message(peer(1), message)];
    let now = rig.time();
    let failed = commit(&mut rig.replica, &Failing(&rig.disk), now, inputs);
    assert!(failed.is_err());
    let wanted = upto(5, 1);
    let answer = rig.tree(2, TreeMessage::Graft { wanted });
    assert_eq!(answer, [(peer(2), Message::Tree(TreeMessage::Gone))]);
    let passed = rig.tree(1, forward(&[delta(5, 1)]));
    assert_eq!(sent(&passed, is_forward).len(), 2, "it is new again");
}

#[test]
fn the_writer_is_told_by_its_neighbours_whoever_passed_its_write_on() {
    let mut rig = Rig::new();
    let mut told = have(1, 2, VersionVector::default());
    told.origin = origin(5);
    rig.tree(3, TreeMessage::Have(told));
    let passed = rig.tree(1, forward(&[delta(5, 1)]));
    let ack = Message::Ack {
        origin: origin(5),
        upto: 1,
    };
    assert!(passed.contains(&(peer(3), ack)), "{passed:?}");
}

#[test]
fn a_write_that_asks_for_more_than_the_neighbours_calls_the_roll_and_counts_names() {
    let mut rig = Rig::new();
    let asked = rig.write(AckTarget::Peers(5));
    let calls = sent(&asked, |message| {
        matches!(message, TreeMessage::RollCall { .. })
    });
    assert_eq!(calls.len(), 3);
    let origin = rig.replica.status().origin;
    let present = |own, others: &[u8]| TreeMessage::Present {
        origin,
        own,
        others: others.iter().map(|number| (peer(*number), 1)).collect(),
    };
    rig.tree(1, present(Some(1), &[4, 5, 4]));
    // Nobody answers for the one that asks, for one that brings the answer, or for one who
    // is not known.
    rig.tree(2, present(None, &[0, 2, 4, 5, 77]));
    assert!(rig.replies.is_empty());
    rig.tree(2, present(Some(1), &[6]));
    assert_eq!(rig.replies.len(), 1);
    assert_eq!((rig.replies[0].acks, rig.replies[0].complete), (5, true));
}

#[test]
fn a_question_is_passed_on_once_and_answered_when_the_writes_are_here() {
    let mut rig = Rig::new();
    let call = |upto, round| TreeMessage::RollCall {
        origin: origin(5),
        upto,
        round,
    };
    let passed = rig.tree(1, call(2, 1));
    let calls = sent(&passed, |message| {
        matches!(message, TreeMessage::RollCall { .. })
    });
    assert_eq!(calls, [("n2", &call(2, 1)), ("n3", &call(2, 1))]);
    assert_eq!(rig.tree(2, call(2, 1)), [], "it came before");
    rig.tree(1, forward(&[delta(5, 1)]));
    let answered = rig.tree(1, forward(&[delta(5, 2)]));
    let present = |own, others| TreeMessage::Present {
        origin: origin(5),
        own,
        others,
    };
    let is_present = |message: &TreeMessage| matches!(message, TreeMessage::Present { .. });
    assert_eq!(
        sent(&answered, is_present),
        [("n1", &present(Some(2), Vec::new()))]
    );
    let passed = rig.tree(3, present(Some(2), vec![(peer(8), 2)]));
    let both = present(None, vec![(peer(3), 2), (peer(8), 2)]);
    assert_eq!(sent(&passed, is_present), [("n1", &both)]);
    // Another round goes another way, and is answered there anew.
    let answered = rig.tree(2, call(2, 2));
    assert_eq!(
        sent(&answered, is_present),
        [("n2", &present(Some(2), Vec::new()))]
    );
}

fn is_census(message: &TreeMessage) -> bool {
    matches!(message, TreeMessage::Census(_))
}

/// What peer `number` knows when it has counted itself alone.
fn counted_alone(census: u64, number: u8) -> Census {
    let replicas = (1..=3).map(|number| ReplicaId([200 + number; 16]));
    let line = |replica: ReplicaId| {
        let counted = Counted {
            counted: replica == ReplicaId([200 + number; 16]),
            here: true,
            fenced: false,
        };
        (replica, counted)
    };
    Census {
        number: census,
        lines: replicas.map(line).collect(),
        ..Census::default()
    }
}

/// The censuses that are told, and to whom.
fn told(outputs: &Sent) -> Vec<(String, Census)> {
    let told = sent(outputs, is_census);
    let told = told
        .into_iter()
        .filter_map(|(peer, message)| match message {
            TreeMessage::Census(census) => Some((peer.to_owned(), (**census).clone())),
            _ => None,
        });
    told.collect()
}

/// Takes a census from a peer, and what is told after it, at once or a little later.
fn hear(rig: &mut Rig, from: u8, census: Census) -> Vec<(String, Census)> {
    let mut outputs = rig.tree(from, TreeMessage::Census(Box::new(census)));
    outputs.append(&mut rig.after(200));
    told(&outputs)
}

/// Lets it tell what it has counted by itself.
fn tell_all(rig: &mut Rig) {
    while !told(&rig.after(200)).is_empty() {}
}

fn names(told: &[(String, Census)]) -> Vec<&str> {
    told.iter().map(|(name, _)| name.as_str()).collect()
}

#[test]
fn what_is_counted_is_told_to_those_who_lack_it_until_all_have_it() {
    let mut rig = Rig::new();
    tell_all(&mut rig);
    let first = hear(&mut rig, 1, counted_alone(1 << 40, 1));
    assert_eq!(names(&first), ["n1", "n2", "n3"], "it lacks this replica");
    let counted = |census: &Census| {
        let lines = census.lines.values();
        lines.filter(|line| line.counted).count()
    };
    for (_, census) in &first {
        assert_eq!((census.number, counted(census)), (1 << 40, 2));
    }
    assert_eq!(
        hear(&mut rig, 2, first[0].1.clone()),
        [],
        "it has all of it"
    );
    let second = hear(&mut rig, 3, counted_alone(1 << 40, 3));
    assert_eq!(names(&second), ["n1", "n2", "n3"]);
    assert_eq!(counted(&second[0].1), 3);
    for number in 1..=3 {
        assert_eq!(hear(&mut rig, number, second[0].1.clone()), []);
    }
    let again = hear(&mut rig, 2, first[0].1.clone());
    assert_eq!(names(&again), ["n2"], "who says less is told what it lacks");
    assert_eq!(again[0].1, second[0].1);
}

#[test]
fn of_two_censuses_the_later_one_is_told_and_that_of_a_stranger_counts_for_nothing() {
    let mut rig = Rig::new();
    tell_all(&mut rig);
    let present = hear(&mut rig, 1, counted_alone(1 << 40, 1));
    assert_eq!(names(&present), ["n1", "n2", "n3"]);
    let answer = hear(&mut rig, 2, counted_alone((1 << 40) - 1, 2));
    assert_eq!(names(&answer), ["n2"], "it is not there yet");
    assert_eq!(answer[0].1, present[0].1, "and nothing of it counts");
    assert_eq!(hear(&mut rig, 9, counted_alone(1 << 41, 2)), []);
    let later = hear(&mut rig, 3, counted_alone((1 << 40) + 1, 3));
    assert_eq!(names(&later), ["n1", "n2", "n3"]);
    assert_eq!(later[0].1.number, (1 << 40) + 1);
    let counted = later[0].1.lines.values().filter(|line| line.counted);
    assert_eq!(counted.count(), 2, "peer 1 has not been counted again");
}

/// One round of a census may last longer than a replica may be away: one that joined in the
/// middle of a round has been missed in all of it.
#[test]
fn who_is_missed_in_one_census_is_marked_and_given_up_by_the_next() {
    let mut rig = Rig::new();
    let replica = |number| ReplicaId([number; 16]);
    let mut here: BTreeSet<ReplicaId> = [100, 201, 202].map(replica).into();
    let long = 2 * rig.replica.config.absent_max;
    let is_given_up = |rig: &Rig| rig.replica.settled.is_fenced(replica(203));
    rig.replica.note_absence(&here, long);
    assert!(!is_given_up(&rig), "it may have come when all were asked");
    here.insert(replica(203));
    rig.replica.note_absence(&here, long);
    here.remove(&replica(203));
    rig.replica.note_absence(&here, long);
    assert!(!is_given_up(&rig), "it was here in between");
    rig.replica.note_absence(&here, long);
    assert!(is_given_up(&rig));
    assert_eq!(rig.replica.status().counters.fencings, 1);
}
