use super::*;
use crate::model::document::Action;
use crate::model::{Collection, Delta, PeerId, ReplicaId};
use crate::protocol::{
    AckTarget, Config, Input, Message, Operation, Output, RequestId, WriteRequest, commit, standing,
};
use crate::storage::state::{self, FeedItem};
use crate::storage::{Failing, Finish, MemoryStorage, Storage, Table, read, records};

/// A replica, and its clock.
struct Bench {
    storage: MemoryStorage,
    replica: Replica,
    now: Now,
    seen: u64,
    /// What it has pushed.
    pushed: Vec<Delta>,
}

fn open(storage: &MemoryStorage, replica: u8, now: Now) -> Replica {
    let id = ReplicaId([replica; 16]);
    Replica::open(storage, Config::default(), id, now, 1).unwrap()
}

fn key(name: &str) -> Key {
    Key::new(Collection::new("users").unwrap(), name).unwrap()
}

impl Bench {
    fn new(replica: u8) -> Self {
        let storage = MemoryStorage::default();
        let now = Now {
            wall_ms: 1_000_000,
            elapsed: Duration::ZERO,
        };
        Self {
            replica: open(&storage, replica, now),
            storage,
            now,
            seen: 0,
            pushed: Vec::new(),
        }
    }

    fn commit(&mut self, inputs: Vec<Input>) {
        let outputs = commit(&mut self.replica, &self.storage, self.now, inputs);
        for output in outputs.unwrap() {
            match output {
                Output::Broadcast(Message::Push { changes }) => self.pushed.extend(changes),
                Output::Reply(_, reply) => drop(reply.unwrap()),
                _ => {}
            }
        }
    }

    fn write(&mut self, name: &str, action: Action, ttl_ms: Option<u64>) {
        let operation = Operation {
            ttl: ttl_ms.map(Duration::from_millis),
            ..Operation::new(key(name), action)
        };
        let request = WriteRequest {
            id: RequestId(1),
            operations: vec![operation],
            acks: AckTarget::Local,
            acks_timeout: Duration::ZERO,
        };
        self.commit(vec![Input::Write(request)]);
    }

    fn put(&mut self, name: &str, text: &'static str, ttl_ms: Option<u64>) {
        self.write(name, Action::Put(text.as_bytes().into()), ttl_ms);
    }

    fn take(&mut self, changes: Vec<Delta>) {
        let push = Message::Push { changes };
        let mut inputs = standing::greeting("n2", ReplicaId([200; 16]), self.now);
        inputs.push(Input::Message(PeerId::new("n2"), push));
        self.commit(inputs);
    }

    /// Time passes, and nothing happens but what is due.
    fn pass(&mut self, ms: u64) {
        let end = self.now.elapsed + Duration::from_millis(ms);
        loop {
            let due = self.replica.next_deadline().max(self.now.elapsed).min(end);
            let passed = due.as_millis() - self.now.elapsed.as_millis();
            self.now.elapsed = due;
            self.now.wall_ms += u64::try_from(passed).unwrap();
            self.commit(vec![Input::Tick]);
            if due == end {
                break;
            }
        }
    }

    fn restart(&mut self) {
        self.replica = open(&self.storage, 1, self.now);
    }

    fn items(&mut self) -> Vec<FeedItem> {
        let after = self.seen;
        let items = read(&self.storage, |reader| {
            state::feed_after(reader, after, usize::MAX, usize::MAX)
        });
        let items = items.unwrap();
        self.seen += items.len() as u64;
        items
    }

    /// What a watcher is told since the last call.
    fn told(&mut self) -> Vec<String> {
        let told = |item: &FeedItem| {
            let value = item.change.entry.value.as_ref();
            let value = value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            let name = item.change.key.name();
            match (value, item.expired) {
                (None, true) => format!("{name} expired"),
                (None, false) => format!("{name} deleted"),
                (Some(value), false) => format!("{name} = {value}"),
                (Some(value), true) => format!("{name} = {value} still"),
            }
        };
        self.items().iter().map(told).collect()
    }
}

#[test]
fn a_watcher_is_told_once_when_a_document_expires_also_over_a_restart() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(5_000));
    bench.put("u2", "2", Some(9_000));
    let digest = bench.replica.status().digest;
    bench.pass(4_999);
    assert_eq!(bench.told(), ["u1 = 1", "u2 = 2"]);
    bench.pass(1);
    assert_eq!(bench.told(), ["u1 expired"]);
    bench.restart();
    bench.pass(3_999);
    assert_eq!(bench.told(), [""; 0]);
    bench.restart();
    bench.pass(1);
    assert_eq!(bench.told(), ["u2 expired"]);
    bench.restart();
    bench.pass(100_000);
    assert_eq!(bench.told(), [""; 0]);
    // Other nodes have nothing to hear of it.
    assert_eq!(bench.replica.status().digest, digest);
    assert_eq!(bench.pushed.len(), 2);
    // Whoever reads it all afterwards sees the same.
    bench.seen = 0;
    assert_eq!(
        bench.told(),
        ["u1 = 1", "u2 = 2", "u1 expired", "u2 expired"]
    );
}

#[test]
fn the_event_bears_the_version_of_the_document() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(1_000));
    bench.pass(1_000);
    let items = bench.items();
    let revisions: Vec<_> = items
        .iter()
        .map(|item| item.change.entry.revision)
        .collect();
    assert_eq!(revisions, [revisions[0]; 2]);
    assert_eq!([items[0].position, items[1].position], [1, 2]);
}

#[test]
fn who_is_told_of_commits_is_told_of_it() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(1_000));
    let changes = bench.replica.take_changes();
    assert!(matches!(&changes[..], [(_, record)] if !record.expired));
    bench.now.wall_ms += 1_000;
    bench.now.elapsed += Duration::from_secs(1);
    assert!(bench.replica.next_deadline() <= bench.now.elapsed);
    bench.commit(vec![Input::Tick]);
    let changes = bench.replica.take_changes();
    assert!(matches!(&changes[..], [(_, record)] if record.expired && record.position == 2));
    assert_eq!(bench.replica.status().counters.expired, 1);
}

#[test]
fn nothing_is_told_of_what_was_written_again_put_off_or_deleted_before() {
    let mut bench = Bench::new(1);
    for name in ["again", "later", "gone"] {
        bench.put(name, "1", Some(2_000));
    }
    bench.pass(1_000);
    bench.put("again", "2", None);
    bench.write("later", Action::Patch("{}".into()), Some(60_000));
    bench.write("gone", Action::Delete, None);
    bench.told();
    bench.pass(58_000);
    assert_eq!(bench.told(), [""; 0]);
    bench.pass(10_000);
    assert_eq!(bench.told(), ["later expired"]);
}

#[test]
fn a_write_to_what_has_just_expired_comes_after_the_end() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(1_000));
    bench.told();
    // The write is taken in before the tick that was due.
    bench.now.wall_ms += 1_500;
    bench.now.elapsed += Duration::from_millis(1_500);
    bench.put("u1", "2", Some(1_000));
    assert_eq!(bench.told(), ["u1 expired", "u1 = 2"]);
    bench.pass(10_000);
    assert_eq!(bench.told(), ["u1 expired"]);
}

#[test]
fn what_comes_from_a_peer_when_its_time_is_over_is_never_told_as_there() {
    let mut writer = Bench::new(2);
    writer.put("u1", "1", Some(1_000));
    let changes = std::mem::take(&mut writer.pushed);
    let mut bench = Bench::new(1);
    bench.pass(5_000);
    bench.take(changes);
    bench.pass(5_000);
    assert_eq!(bench.told(), ["u1 expired"]);
}

#[test]
fn what_an_expiry_leaves_is_told_as_what_it_is() {
    let mut bench = Bench::new(1);
    bench.put("u1", r#"{"a":1}"#, Some(2_000));
    // Another node, whose clock is a second behind, adds what it dates after the expiry.
    let mut other = Bench::new(2);
    other.pass(3_000);
    let mut policies = crate::protocol::Policies::default();
    policies.other.merge = crate::model::document::Merge::Fields;
    other.replica.config.policies = policies;
    other.write("u1", Action::Patch(r#"{"b":2}"#.into()), None);
    bench.take(std::mem::take(&mut other.pushed));
    bench.told();
    bench.pass(5_000);
    assert_eq!(bench.told(), [r#"u1 = {"b":2} still"#]);
}

#[test]
fn many_that_expire_at_once_are_told_in_several_transactions() {
    let mut bench = Bench::new(1);
    let count = 2 * EXPIRED_MAX + 10;
    for number in 0..count {
        bench.put(&format!("u{number}"), "1", Some(60_000));
    }
    bench.told();
    bench.now.wall_ms += 61_000;
    bench.now.elapsed += Duration::from_secs(61);
    for told in [EXPIRED_MAX, EXPIRED_MAX, 10, 0] {
        bench.commit(vec![Input::Tick]);
        assert_eq!(bench.told().len(), told);
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_tell_a_second_time() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(60_000));
    bench.told();
    bench.now.wall_ms += 3_600_000;
    bench.pass(2_000);
    assert_eq!(bench.told(), ["u1 expired"]);
    bench.now.wall_ms -= 3_600_000;
    bench.pass(120_000);
    assert_eq!(bench.told(), [""; 0]);
}

#[test]
fn a_disk_that_fails_is_left_alone_for_a_while_and_nothing_is_told_twice() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(1_000));
    bench.told();
    bench.now.wall_ms += 1_000;
    bench.now.elapsed += Duration::from_secs(1);
    let tick = vec![Input::Tick];
    let failed = commit(
        &mut bench.replica,
        &Failing(&bench.storage),
        bench.now,
        tick,
    );
    assert!(failed.is_err());
    let deadline = bench.replica.expiries.deadline();
    assert_eq!(deadline, Some(bench.now.elapsed + PAUSE));
    bench.pass(999);
    assert_eq!(bench.told(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.told(), ["u1 expired"]);
}

#[test]
fn a_store_without_an_index_gets_one_when_it_is_opened() {
    let mut bench = Bench::new(1);
    for name in ["u1", "u2", "u3"] {
        bench.put(name, "1", (name != "u2").then_some(5_000));
    }
    bench.told();
    let forgets = |writer: &mut dyn Writer| {
        for due in expiries::due(writer, 0, u64::MAX, 10)? {
            let row = [&due.at_ms.to_be_bytes()[..], b"users\0"].concat();
            for name in ["u1", "u3"] {
                let row = [&row, name.as_bytes()].concat();
                writer.remove(Table::Expiries, &row)?;
            }
        }
        writer.remove(Table::Meta, records::META_EXPIRIES)?;
        Ok(Finish::Commit)
    };
    bench.storage.write(&mut { forgets }).unwrap();
    let left = read(&bench.storage, |reader| expiries::first(reader, 0));
    assert_eq!(left.unwrap(), None);
    bench.restart();
    bench.pass(6_000);
    assert_eq!(bench.told(), ["u1 expired", "u3 expired"]);
}

#[test]
fn a_row_without_its_document_holds_up_nothing() {
    let mut bench = Bench::new(1);
    bench.put("u1", "1", Some(1_000));
    bench.put("u2", "2", Some(2_000));
    bench.told();
    let first_row = [&1_000_500_u64.to_be_bytes()[..], b"users\0nobody"].concat();
    let stray = |writer: &mut dyn Writer| {
        writer.insert(Table::Expiries, &first_row, &[])?;
        Ok(Finish::Commit)
    };
    bench.storage.write(&mut { stray }).unwrap();
    bench.restart();
    bench.pass(3_000);
    assert_eq!(bench.told(), ["u1 expired", "u2 expired"]);
    let left = read(&bench.storage, |reader| expiries::first(reader, 0));
    assert_eq!(left.unwrap(), None);
}
