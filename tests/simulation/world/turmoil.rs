//! What happens by chance in the turmoil of a run: clients write and read, clocks step,
//! replicas crash and lose their disks.

use std::time::Duration;

use basic_sync::model::document::{Action, Merge};
use basic_sync::model::{Collection, Key, VersionVector};
use basic_sync::protocol::AckTarget;
use basic_sync::storage::{read, state};
use rand::RngExt;

use super::{Commit, Event, Node, World, exported};

impl World {
    pub(super) fn client_writes(&mut self) {
        let replica = self.random.random_range(0..self.nodes.len());
        if self.nodes[replica].replica.is_none() {
            return;
        }
        self.client_reads(replica);
        let operations = if self.random.random_bool(0.2) {
            self.random.random_range(2..6)
        } else {
            1
        };
        let mut writes = Vec::new();
        for _ in 0..operations {
            let (key, merge) = mixed_key(self.random.random_range(0..self.options.keys));
            let held = read(&self.nodes[replica].disk, |reader| {
                state::entry(reader, &key)
            });
            let now_ms = self.time_of(replica).wall_ms;
            let live = held
                .expect("memory does not fail")
                .is_some_and(|held| !held.document.is_tombstone(now_ms));
            let delete = live && self.random.random_bool(0.2);
            let action = match delete {
                true => Action::Delete,
                false => self.some_action(merge),
            };
            writes.push((key, action));
        }
        let acks = match self.random.random_range(0..10) {
            0 => AckTarget::Peers(1),
            1 => AckTarget::All,
            _ => AckTarget::Local,
        };
        self.write(replica, writes, acks);
    }

    /// A put or a patch as a client of such a collection sends it.
    fn some_action(&mut self, merge: Merge) -> Action {
        let number = self.next_request + 1;
        let put = self.random.random_bool(0.5);
        let (a, b) = (
            self.random.random_range(0..4),
            self.random.random_range(0..4),
        );
        let text = match (merge, put) {
            (Merge::Lww, _) => format!("{{\"n\":{number}}}"),
            (Merge::Fields, true) => format!("{{\"f{a}\":{number},\"f{b}\":{number}}}"),
            (Merge::Fields, false) => format!("{{\"f{a}\":{number},\"f{b}\":null}}"),
            (Merge::Counter, true) => format!("{}", number % 50),
            (Merge::Counter, false) => format!("{{\"add\":{}}}", a - 2),
            (Merge::Set, true) => format!("[{a},{b}]"),
            (Merge::Set, false) => format!("{{\"add\":[{a}],\"remove\":[{}]}}", a + 1 + b),
        };
        match put {
            true => Action::Put(text.into()),
            false => Action::Patch(text.into()),
        }
    }

    fn client_reads(&mut self, replica: usize) {
        let (key, _) = mixed_key(self.random.random_range(0..self.options.keys));
        let held = read(&self.nodes[replica].disk, |reader| {
            state::entry(reader, &key)
        });
        let version = held
            .expect("memory does not fail")
            .and_then(|held| held.document.version());
        self.history.read(replica, &key, version);
    }

    /// One of the first replicas gets a wrong clock, or now and then a right one.
    pub(super) fn some_clock_steps(&mut self) {
        if self.options.wrong_clocks == 0 {
            return;
        }
        let replica = self.random.random_range(0..self.options.wrong_clocks);
        let most = i64::try_from(self.options.clock_error_max.as_millis()).unwrap_or(0);
        let error = match self.random.random_bool(0.3) {
            true => 0,
            false => self.random.random_range(-most..=most),
        };
        self.set_clock(replica, error);
        self.clock_steps += 1;
    }

    pub(super) fn some_replica_crashes(&mut self) {
        let replica = self.random.random_range(0..self.nodes.len());
        if self.nodes[replica].replica.is_none() {
            return;
        }
        // Half of the crashes come between two outputs of a commit, before it is durable or
        // after.
        if self.random.random_bool(0.5) {
            let sent = self.random.random_range(0..6);
            let ends = match self.random.random_range(0..3) {
                0 => Commit::Sent(sent),
                kind => Commit::PowerLoss {
                    sent,
                    kept: kind == 1,
                },
            };
            self.commit(replica, ends);
        }
        self.crash(replica);
        if self.random.random_bool(self.options.disk_loss) {
            self.disk_is_lost(replica);
        }
        let pause = match self.random.random_bool(self.options.long_absence) {
            true => self.random.random_range(3_000..10_000),
            false => self.random.random_range(1..3_000),
        };
        self.at(
            self.now + Duration::from_millis(pause),
            Event::Start { replica },
        );
    }

    /// A replica that is down gets an empty disk, an old copy of its own, or a copy of
    /// another's, so that there are two of one name. Only if all that was ever written there
    /// is elsewhere: else it is lost, and rightly so.
    fn disk_is_lost(&mut self, replica: usize) {
        let has = |node: &Node| read(&node.disk, state::vector).expect("memory does not fail");
        let lost = has(&self.nodes[replica]);
        let mut others = VersionVector::default();
        for (_, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != replica)
        {
            others.merge(&has(node));
        }
        if !others.covers(&lost) {
            return;
        }
        if self.random.random_bool(0.2) {
            let other = self.random.random_range(1..self.nodes.len());
            let other = (replica + other) % self.nodes.len();
            let copy = self.nodes[other].disk.fork();
            self.nodes[replica].exported = exported(&copy).len();
            self.replace_disk(replica, copy);
            self.disks_copied += 1;
            self.history.forget_watch(replica);
            return;
        }
        let node = &mut self.nodes[replica];
        node.exported = 0;
        match node.backup.take() {
            Some(backup) if self.random.random_bool(0.7) => {
                node.exported = exported(&backup).len();
                node.disk = backup;
                self.disks_restored += 1;
            }
            _ => {
                self.lose_disk(replica);
                self.disks_lost += 1;
            }
        }
        self.history.forget_watch(replica);
    }
}

/// One of the keys of a run, in collections that merge in different ways.
fn mixed_key(number: usize) -> (Key, Merge) {
    let merge = match number % 4 {
        0 => Merge::Lww,
        1 => Merge::Fields,
        2 => Merge::Counter,
        _ => Merge::Set,
    };
    let collection = Collection::new(&merge.to_string()).expect("a sound name");
    let key = Key::new(collection, &format!("k{number}"));
    (key.expect("a sound name"), merge)
}
