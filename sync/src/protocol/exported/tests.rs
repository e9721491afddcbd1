use std::time::Duration;

use super::*;
use crate::model::PeerId;
use crate::model::document::{Document, Merge};
use crate::model::{
    Collection, Dot, Epoch, Key, Origin, ReplicaId, SeqRange, Timestamp, Version, VersionVector,
};
use crate::protocol::{Config, Input, Policies, Policy, RequestId, TakeIn, TakenIn, commit};
use crate::storage::{
    Fill, Finish, MemoryStorage, RosterLine, Settlement, Storage, read, settlement,
};

/// What is settled up to here.
const FLOOR: u64 = 500_000;

struct Bench {
    storage: MemoryStorage,
    replica: Replica,
}

fn now() -> Now {
    Now {
        wall_ms: 1_000_000,
        elapsed: Duration::ZERO,
    }
}

fn key(collection: &str, name: &str) -> Key {
    Key::new(Collection::new(collection).unwrap(), name).unwrap()
}

fn origin(replica: u8) -> Origin {
    Origin {
        replica: ReplicaId([replica; 16]),
        epoch: Epoch(1),
    }
}

/// A write of a whole document.
fn delta(replica: u8, seq: u64, date_ms: u64, name: &str, text: Option<&'static str>) -> Delta {
    let dot = Dot {
        origin: origin(replica),
        seq,
    };
    let clock = Timestamp::from_millis(date_ms);
    let document = Document::of_root(Version { clock, dot }, text.map(Into::into));
    Delta {
        key: key("users", name),
        write: document.writes()[0].clone(),
    }
}

fn open(storage: &MemoryStorage) -> Replica {
    let named = [Merge::Counter].map(|merge| {
        let policy = Policy {
            merge,
            ..Policy::default()
        };
        (merge.to_string(), policy)
    });
    let config = Config {
        policies: Policies {
            named: named.into(),
            ..Policies::default()
        },
        ..Config::default()
    };
    Replica::open(storage, config, ReplicaId([1; 16]), now(), 1).unwrap()
}

impl Bench {
    /// A replica that has settled all up to the floor, and has given up replica 9.
    fn new() -> Self {
        let storage = MemoryStorage::default();
        drop(open(&storage));
        let line = |replica: u8, fenced| RosterLine {
            replica: ReplicaId([replica; 16]),
            name: PeerId::new(&format!("n{replica}")),
            fenced,
            born: Timestamp(1),
            absent_ms: 0,
        };
        Self::with(
            storage,
            &Settlement {
                roster: vec![line(1, false), line(2, false), line(9, true)],
                floor: Timestamp::from_millis(FLOOR),
                ..Settlement::default()
            },
        )
    }

    fn with(storage: MemoryStorage, settled: &Settlement) -> Self {
        let set = storage.write(&mut |writer| {
            storage::set_settlement(writer, settled)?;
            Ok(Finish::Commit)
        });
        set.unwrap();
        let replica = open(&storage);
        Self { storage, replica }
    }

    fn commit(&mut self, input: Input) -> Vec<Output> {
        commit(&mut self.replica, &self.storage, now(), vec![input]).unwrap()
    }

    fn export(&self, delta: &Delta) {
        let kept = self.storage.write(&mut |writer| {
            storage::export(writer, delta.clone())?;
            Ok(Finish::Commit)
        });
        kept.unwrap();
    }

    fn decide(&mut self, numbers: &[u64], write: bool) -> Result<WriteReceipt, WriteRefused> {
        let id = RequestId(7);
        let numbers = numbers.to_vec();
        let outputs = self.commit(Input::Decide(Decide { id, numbers, write }));
        let mut replies = outputs.into_iter().filter_map(|output| match output {
            Output::Reply(RequestId(7), outcome) => Some(outcome),
            _ => None,
        });
        replies.next().unwrap()
    }

    fn restore(
        &mut self,
        changes: Vec<Delta>,
        claim: Option<VersionVector>,
    ) -> Result<TakenIn, WriteRefused> {
        let id = RequestId(8);
        let outputs = self.commit(Input::TakeIn(TakeIn { id, changes, claim }));
        let mut taken = outputs.into_iter().filter_map(|output| match output {
            Output::TakenIn(RequestId(8), taken) => Some(taken),
            _ => None,
        });
        taken.next().unwrap()
    }

    fn value(&self, key: &Key) -> Option<String> {
        let entry = read(&self.storage, |reader| state::entry(reader, key)).unwrap()?;
        let value = entry.document.value(now().wall_ms)?;
        Some(String::from_utf8(value.to_vec()).unwrap())
    }

    fn exported(&self) -> Vec<u64> {
        let all = read(&self.storage, storage::exported).unwrap();
        all.iter().map(|one| one.number).collect()
    }
}

#[test]
fn what_is_made_again_is_a_new_write_and_no_longer_kept_aside() {
    let mut bench = Bench::new();
    bench.export(&delta(9, 1, 400_000, "u1", Some("1")));
    bench.export(&delta(9, 2, 400_000, "u2", Some("2")));
    bench.export(&delta(9, 3, 400_000, "u3", Some("3")));
    let receipt = bench.decide(&[0, 2], true).unwrap();
    assert_eq!(receipt.revisions.len(), 2);
    let values = ["u1", "u2", "u3"].map(|name| bench.value(&key("users", name)));
    assert_eq!(values, [Some("1".into()), None, Some("3".into())]);
    let entry = read(&bench.storage, |reader| {
        state::entry(reader, &key("users", "u1"))
    });
    let version = entry.unwrap().unwrap().document.version().unwrap();
    assert_eq!(version.dot.origin.replica, ReplicaId([1; 16]));
    assert!(version.clock > Timestamp::from_millis(FLOOR));
    assert_eq!(bench.exported(), [1]);

    assert_eq!(bench.decide(&[1], false).unwrap().revisions.len(), 0);
    assert!(bench.exported().is_empty());
    assert_eq!(bench.value(&key("users", "u2")), None);
    // It survives a restart.
    bench.replica = open(&bench.storage);
    assert!(bench.exported().is_empty());
}

#[test]
fn all_of_a_decision_is_done_or_nothing() {
    let mut bench = Bench::new();
    bench.export(&delta(9, 1, 400_000, "u1", Some("1")));
    let count = Delta {
        key: key("counter", "c1"),
        ..delta(9, 2, 400_000, "c1", Some("{}"))
    };
    bench.export(&count);
    let refused = bench.decide(&[0, 1], true).unwrap_err();
    assert!(
        matches!(refused, WriteRefused::Operation { index: 1, .. }),
        "{refused:?}"
    );
    assert_eq!(
        (bench.exported(), bench.value(&key("users", "u1"))),
        (vec![0, 1], None)
    );
    // Somebody else has decided about one of them.
    bench.decide(&[0], false).unwrap();
    assert_eq!(
        bench.decide(&[0, 1], false),
        Err(WriteRefused::NotExported(0))
    );
    assert_eq!(bench.exported(), [1]);
}

#[test]
fn a_backup_does_not_bring_back_what_was_deleted_and_let_go_of() {
    let mut bench = Bench::new();
    let put = delta(2, 1, 300_000, "u1", Some("1"));
    let mut claim = VersionVector::default();
    claim.insert_range(origin(2), SeqRange { first: 1, last: 2 });
    // The deletion came and is forgotten: only the vector knows of both.
    bench.restore(vec![], Some(claim)).unwrap();
    let taken = bench.restore(vec![put], None).unwrap();
    assert_eq!((taken.repeated, taken.deleted, taken.taken_in), (1, 1, 0));
    assert_eq!(bench.value(&key("users", "u1")), None);
    // A document that is here is not deleted.
    let kept = delta(2, 7, 600_000, "u2", Some("2"));
    bench.restore(vec![kept.clone()], None).unwrap();
    let taken = bench.restore(vec![kept], None).unwrap();
    assert_eq!((taken.repeated, taken.deleted), (1, 0));
}

#[test]
fn old_writes_of_a_replica_that_was_given_up_are_kept_aside_once() {
    let mut bench = Bench::new();
    let old = delta(9, 1, 300_000, "old", Some("1"));
    let young = delta(9, 2, FLOOR + 1, "young", Some("2"));
    let known = delta(2, 1, 300_000, "known", Some("3"));
    // A cluster that lost all its disks knows nothing of the replicas it had.
    let strange = delta(77, 1, 300_000, "strange", Some("4"));
    let all = vec![old, young, known, strange];
    let taken = bench.restore(all.clone(), None).unwrap();
    assert_eq!((taken.exported, taken.taken_in), (1, 3));
    let values = ["old", "young", "known", "strange"].map(|name| bench.value(&key("users", name)));
    assert_eq!(
        values.map(|value| value.is_some()),
        [false, true, true, true]
    );
    let taken = bench.restore(all, None).unwrap();
    assert_eq!((taken.exported, taken.repeated), (0, 4));
    assert_eq!(bench.exported(), [0]);
}

#[test]
fn nothing_is_restored_while_a_snapshot_is_taken_over() {
    let bench = Bench::new();
    let settled = Settlement {
        fill: Some(Fill::default()),
        ..read(&bench.storage, settlement).unwrap()
    };
    let mut bench = Bench::with(bench.storage, &settled);
    let write = delta(2, 1, 300_000, "u1", Some("1"));
    assert_eq!(bench.restore(vec![write], None), Err(WriteRefused::Filling));
    assert_eq!(bench.value(&key("users", "u1")), None);
}

#[test]
fn the_replicas_of_a_node_are_given_up_and_all_are_told() {
    let mut bench = Bench::new();
    let outputs = bench.commit(Input::GiveUp(PeerId::new("n2")));
    let told = |output: &Output| {
        matches!(
            output,
            Output::Broadcast(super::super::Message::Standing(_))
        )
    };
    assert!(outputs.iter().any(told));
    let fenced = |settled: &Settlement| -> Vec<bool> {
        settled.roster.iter().map(|line| line.fenced).collect()
    };
    let stored = read(&bench.storage, settlement).unwrap();
    assert_eq!(fenced(&stored), [false, true, true]);
    // Again, itself, and nobody.
    for name in ["n2", "n1", "n77"] {
        let outputs = bench.commit(Input::GiveUp(PeerId::new(name)));
        assert!(!outputs.iter().any(told), "{name}");
    }
    assert_eq!(read(&bench.storage, settlement).unwrap(), stored);
}
