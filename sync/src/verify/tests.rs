//! Comparing, planning and mending, on stores that are damaged at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::document::{Action, Document, Merge};
use crate::model::{Collection, Dot, Key, PeerId, ReplicaId, Timestamp, VersionVector};
use crate::protocol::{
    AckTarget, Config, Input, Now, Operation, Output, Policies, Policy, Replica, RequestId, Trust,
    WriteRequest, commit,
};
use crate::storage::mending::{Mend, Mended};
use crate::storage::state::{self, Digest};
use crate::storage::{self, Finish, MemoryStorage, Storage, Table, records};
use crate::verify::indexes::Place;

const NODES: usize = 3;

struct Node {
    storage: MemoryStorage,
    replica: Replica,
}

/// Nodes whose pushes arrive at once.
struct World {
    nodes: Vec<Node>,
    wall_ms: u64,
}

impl World {
    fn new() -> Self {
        let named = [Merge::Lww, Merge::Fields, Merge::Counter, Merge::Set].map(|merge| {
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
        let node = |number: usize| {
            let storage = MemoryStorage::default();
            let id = ReplicaId([u8::try_from(number).unwrap() + 1; 16]);
            let config = Config {
                name: name(number),
                ..config.clone()
            };
            let replica = Replica::open(&storage, config, id, now(1), 1).unwrap();
            Node { storage, replica }
        };
        let mut world = Self {
            nodes: (0..NODES).map(node).collect(),
            wall_ms: 1,
        };
        world.introduce();
        world
    }

    /// All tell each other how they stand, so that each takes what the others push.
    fn introduce(&mut self) {
        let pairs = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
        let mut standings = Vec::new();
        for (from, to) in pairs.filter(|(from, to)| from != to) {
            for output in self.handle(from, Input::LinkUp(name(to))) {
                if let Output::Send(_, standing) = output {
                    standings.push((to, Input::Message(name(from), standing)));
                }
            }
        }
        for (to, standing) in standings {
            self.handle(to, standing);
        }
        for node in &self.nodes {
            let peers = node.replica.status().peers;
            assert!(peers.iter().all(|peer| peer.trust == Trust::Full));
        }
    }

    fn handle(&mut self, node: usize, input: Input) -> Vec<Output> {
        self.wall_ms += 1;
        let Node { storage, replica } = &mut self.nodes[node];
        commit(replica, storage, now(self.wall_ms), vec![input]).unwrap()
    }

    /// Writes on one node; the others learn of it, but for those in `deaf`.
    fn write(&mut self, node: usize, key: &Key, action: Action, deaf: &[usize]) {
        let request = WriteRequest {
            id: RequestId(1),
            operations: vec![Operation::new(key.clone(), action)],
            acks: AckTarget::Local,
            acks_timeout: Duration::ZERO,
        };
        for output in self.handle(node, Input::Write(request)) {
            let Output::Broadcast(message) = output else {
                continue;
            };
            for other in (0..NODES).filter(|other| *other != node && !deaf.contains(other)) {
                self.handle(other, Input::Message(name(node), message.clone()));
            }
        }
    }

    fn items(&self, node: usize) -> BTreeMap<Bytes, Digest> {
        let (items, more) = storage::read(&self.nodes[node].storage, |reader| {
            survey::items(reader, b"", None)
        })
        .unwrap();
        assert!(!more);
        items
            .into_iter()
            .map(|item| (item.key, item.content))
            .collect()
    }

    /// The keys whose digests differ.
    fn differing(&self) -> Vec<Bytes> {
        let all: Vec<_> = (0..NODES).map(|node| self.items(node)).collect();
        let keys: BTreeSet<&Bytes> = all.iter().flat_map(BTreeMap::keys).collect();
        let differs = |key: &&&Bytes| all.iter().any(|one| one.get(**key) != all[0].get(**key));
        keys.iter()
            .filter(differs)
            .map(|key| (*key).clone())
            .collect()
    }

    fn look(&self, key: &Bytes) -> (Vec<Held>, Vec<VersionVector>) {
        let one = |node: &Node| {
            storage::read(&node.storage, |reader| {
                let held = survey::documents(reader, std::slice::from_ref(key))?;
                Ok((held[0].clone(), state::vector(reader)?))
            })
            .unwrap()
        };
        self.nodes.iter().map(one).unzip()
    }

    /// The keys that differ truly.
    fn found(&self) -> BTreeMap<Bytes, Vec<PartDifference>> {
        let judged = self.differing().into_iter().map(|key| {
            let (held, vectors) = self.look(&key);
            let parts = compare::parts(&held, &vectors);
            (key, parts)
        });
        judged.filter(|(_, parts)| !parts.is_empty()).collect()
    }

    fn mend(&mut self, node: usize, work: Mend) -> Mended {
        let input = Input::Mend(RequestId(2), vec![work]);
        let outputs = self.handle(node, input);
        let mended = outputs.into_iter().find_map(|output| match output {
            Output::Mended(RequestId(2), outcomes) => Some(outcomes[0]),
            _ => None,
        });
        mended.unwrap()
    }

    /// Mends documents as planned; returns the reasons.
    fn repair(&mut self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for key in self.found().into_keys() {
            let (held, _) = self.look(&key);
            let plan = plan::plan(&key, &held, Timestamp::default()).unwrap();
            reasons.push(plan.reason);
            for node in plan.nodes {
                let mended = self.mend(
                    node,
                    Mend::Replace {
                        key: key.clone(),
                        expected: held[node].digest,
                        document: plan.document.clone(),
                    },
                );
                assert_eq!(mended, Mended::Done);
            }
        }
        reasons
    }

    fn faults(&self, node: usize) -> Vec<Fault> {
        let (mut faults, mut next) = (Vec::new(), Some(Place::default()));
        while let Some(place) = next {
            let checked = storage::read(&self.nodes[node].storage, |reader| {
                indexes::check(reader, &place)
            });
            let checked = checked.unwrap();
            faults.extend(checked.faults);
            next = checked.next;
        }
        faults
    }

    fn sum(&mut self, node: usize, settle: bool) -> Mended {
        let mut begin = true;
        loop {
            let work = Mend::Sum {
                id: 7,
                begin,
                settle,
            };
            begin = false;
            match self.mend(node, work) {
                Mended::More => {}
                end => return end,
            }
        }
    }

    /// Changes a row behind the replica's back.
    fn damage(&self, node: usize, table: Table, key: &[u8], row: Option<Vec<u8>>) {
        self.nodes[node]
            .storage
            .write(&mut |writer| {
                match &row {
                    Some(row) => writer.insert(table, key, row)?,
                    None => writer.remove(table, key)?,
                }
                Ok(Finish::Commit)
            })
            .unwrap();
    }

    fn row(&self, node: usize, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        storage::read(&self.nodes[node].storage, |reader| reader.get(table, key)).unwrap()
    }

    fn dump(&self, node: usize) -> Vec<(Key, Document)> {
        storage::read(&self.nodes[node].storage, state::dump).unwrap()
    }

    /// All that must hold of every node once nothing is wrong.
    fn assert_sound(&mut self) {
        assert_eq!(self.differing(), Vec::<Bytes>::new());
        for node in 0..NODES {
            assert_eq!(self.faults(node), [], "node {node}");
            assert_eq!(self.sum(node, false), Mended::Done, "node {node}");
            let mut sum = Digest::default();
            for (key, document) in self.dump(node) {
                sum.add(Digest::of(&records::encode_key(&key), &document));
            }
            let header = storage::read(&self.nodes[node].storage, state::header).unwrap();
            assert_eq!(header.unwrap().digest, sum, "node {node}");
            let read = storage::read(&self.nodes[node].storage, |reader| {
                state::feed_after(reader, 0, 100_000, usize::MAX)
            });
            read.unwrap();
        }
    }
}

fn name(node: usize) -> PeerId {
    PeerId::new(&format!("n{node}"))
}

fn now(wall_ms: u64) -> Now {
    Now {
        wall_ms,
        elapsed: Duration::from_millis(wall_ms),
    }
}

fn key(collection: &str, number: u8) -> Key {
    let collection = Collection::new(collection).unwrap();
    Key::new(collection, &format!("k{number}")).unwrap()
}

fn row_key(key: &Key) -> Bytes {
    records::encode_key(key).into()
}

/// A write of some collection with what fits its rule.
fn step() -> impl Strategy<Value = (usize, Key, Action)> {
    (0..NODES, 0..4_usize, 0..5_u8, 0..4_u8, any::<bool>()).prop_map(
        |(node, rule, number, what, patch)| {
            let (collection, text) = match rule {
                0 => ("lww", format!("{{\"a\":{what}}}")),
                1 => ("fields", format!("{{\"f{what}\":{number},\"g\":1}}")),
                2 => ("counter", format!("{what}")),
                _ => ("set", format!("[\"e{what}\"]")),
            };
            let text = match (collection, patch) {
                ("counter", true) => format!("{{\"add\":{what}}}"),
                ("set", true) => format!("{{\"add\":[\"e{what}\"]}}"),
                _ => text,
            };
            let action = match (what, patch) {
                (3, false) => Action::Delete,
                (_, true) => Action::Patch(text.into()),
                (_, false) => Action::Put(text.into()),
            };
            (node, key(collection, number), action)
        },
    )
}

/// A way in which a row can be damaged; `None` where it does not apply.
fn damaged(way: u8, row: &[u8]) -> Option<Vec<u8>> {
    let mut row = row.to_vec();
    match way {
        // Garbage.
        0 => row.truncate(30),
        // The last byte, which is of a value if there is one.
        1 => *row.last_mut()? ^= 1,
        // The clock.
        2 => row[7] ^= 0x10,
        // The number of the greatest write.
        3 => row[39] = row[39].wrapping_add(77),
        // The kind.
        _ => row[48] ^= 0x40,
    }
    Some(row)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damage_is_found_exactly_and_mending_leaves_all_nodes_alike(
        steps in proptest::collection::vec(step(), 1..40),
        hits in proptest::collection::vec((0..NODES, any::<prop::sample::Index>(), proptest::option::of(0..5_u8)), 1..4),
    ) {
        let mut world = World::new();
        for (node, key, action) in steps {
            world.write(node, &key, action, &[]);
        }
        prop_assert_eq!(world.found(), BTreeMap::new(), "no difference without damage");
        let before = world.dump(0);
        prop_assume!(!before.is_empty());
        let mut hit: BTreeMap<Bytes, BTreeSet<usize>> = BTreeMap::new();
        for (node, index, way) in hits {
            let (key, _) = &before[index.index(before.len())];
            let key = row_key(key);
            if hit.get(&key).is_some_and(|nodes| nodes.contains(&node)) {
                // Twice may be as if never.
                continue;
            }
            let Some(row) = world.row(node, Table::Entries, &key) else { continue };
            let row = way.map(|way| damaged(way, &row)).unwrap_or_default();
            let held = world.look(&key).0[node].digest;
            world.damage(node, Table::Entries, &key, row);
            // What only remembers a deletion may be damaged without a difference.
            if world.look(&key).0[node].digest != held {
                hit.entry(key).or_default().insert(node);
            }
        }
        let alike: Vec<Bytes> = hit.keys().cloned().collect();
        let differing = world.differing();
        prop_assert!(differing.iter().all(|key| alike.contains(key)));
        let found: Vec<Bytes> = world.found().into_keys().collect();
        // Where every node was hit there may be nothing left to mend from, or they may have
        // been hit alike.
        let lost: Vec<&Bytes> = hit.iter().filter(|(_, nodes)| nodes.len() == NODES).map(|(key, _)| key).collect();
        prop_assume!(lost.is_empty());
        prop_assert_eq!(&found, &alike, "what was damaged, and nothing else");
        world.repair();
        for node in 0..NODES {
            mend_tables(&mut world, node);
        }
        world.assert_sound();
        // Where one node of three was hit, nothing is lost.
        for (key, document) in before {
            let row = row_key(&key);
            if hit.get(&row).is_none_or(|nodes| nodes.len() == 1) {
                let (held, _) = world.look(&row);
                let now = held[0].document().and_then(|now| now.value(0));
                prop_assert_eq!(now, document.value(0), "{:?}", key);
            }
        }
    }

    #[test]
    fn what_is_on_its_way_is_no_difference(
        steps in proptest::collection::vec((step(), 0..NODES), 1..40),
    ) {
        let mut world = World::new();
        for ((node, key, action), deaf) in steps {
            world.write(node, &key, action, &[deaf]);
            prop_assert_eq!(world.found(), BTreeMap::new());
        }
    }

    #[test]
    fn tables_that_were_damaged_are_right_again(
        steps in proptest::collection::vec(step(), 1..40),
        hits in proptest::collection::vec((0..3_usize, any::<prop::sample::Index>(), any::<Option<u8>>()), 1..4),
    ) {
        let mut world = World::new();
        for (node, key, action) in steps {
            world.write(node, &key, action, &[]);
        }
        for (table, index, change) in hits {
            let table = [Table::Dots, Table::Feed, Table::Past][table];
            let rows = rows(&world, 1, table);
            if rows.is_empty() {
                continue;
            }
            let (key, mut row) = rows[index.index(rows.len())].clone();
            let row = change.map(|change| {
                let at = usize::from(change) % row.len();
                row[at] ^= change | 1;
                row.truncate(at.max(1) + 1);
                row
            });
            // What the past held is not compared with anything; that it is there is.
            if table != Table::Past || row.is_none() {
                world.damage(1, table, &key, row);
            }
        }
        mend_tables(&mut world, 1);
        world.assert_sound();
    }
}

fn rows(world: &World, node: usize, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    storage::read(&world.nodes[node].storage, |_| Ok(())).unwrap();
    Storage::read(&world.nodes[node].storage, &mut |reader| {
        reader.scan(table, &[], None, &mut |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
    })
    .unwrap();
    rows
}

/// Goes through a node's tables and mends what is wrong, as often as a repair does.
fn mend_tables(world: &mut World, node: usize) {
    for _ in 0..4 {
        let faults = world.faults(node);
        if faults.is_empty() {
            break;
        }
        for work in faults.iter().filter_map(Fault::remedy) {
            while world.mend(node, work.clone()) == Mended::More {}
        }
    }
    world.sum(node, true);
}

#[test]
fn a_changed_field_is_named_with_what_each_node_holds() {
    let mut world = World::new();
    let user = key("fields", 1);
    let text = "{\"age\":30,\"name\":\"liang\"}";
    world.write(0, &user, Action::Put(text.into()), &[]);
    world.write(1, &user, Action::Patch("{\"age\":31}".into()), &[]);
    let row = row_key(&user);
    let mut bytes = world.row(2, Table::Entries, &row).unwrap();
    let at = bytes.windows(2).rposition(|two| two == b"31").unwrap();
    bytes[at + 1] = b'9';
    world.damage(2, Table::Entries, &row, Some(bytes));

    let found = world.found();
    let parts = &found[&row];
    assert_eq!(parts.len(), 1, "{parts:?}");
    assert_eq!(
        parts[0].part,
        Some(crate::model::document::Part::Field("age".into()))
    );
    let value = |node: usize| match &parts[0].states[node] {
        Some(PartState::Is(_, Some(value))) => value.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((value(0), value(2)), ("31".into(), "39".into()));
    assert_eq!(world.repair(), [Reason::Majority]);
    world.assert_sound();
}

#[test]
fn two_copies_of_one_write_are_decided_alike_whoever_decides() {
    let mut world = World::new();
    let user = key("lww", 1);
    world.write(0, &user, Action::Put("{\"a\":1}".into()), &[]);
    let row = row_key(&user);
    let mut bytes = world.row(1, Table::Entries, &row).unwrap();
    let last = bytes.len() - 2;
    bytes[last] = b'7';
    world.damage(1, Table::Entries, &row, Some(bytes));
    let (held, _) = world.look(&row);
    let one = plan::plan(&row, &held[..2], Timestamp::default()).unwrap();
    let other = plan::plan(
        &row,
        &[held[1].clone(), held[0].clone()],
        Timestamp::default(),
    )
    .unwrap();
    assert_eq!(one.reason, Reason::Hash);
    assert_eq!(one.document, other.document);
    assert_eq!(one.nodes.len(), 1);
}

#[test]
fn what_has_changed_since_the_plan_is_left_alone() {
    let mut world = World::new();
    let user = key("lww", 1);
    world.write(0, &user, Action::Put("1".into()), &[]);
    let row = row_key(&user);
    let (held, _) = world.look(&row);
    let document = held[0].document().unwrap().clone();
    world.write(0, &user, Action::Put("2".into()), &[]);
    let mended = world.mend(
        1,
        Mend::Replace {
            key: row,
            expected: held[1].digest,
            document,
        },
    );
    assert_eq!(mended, Mended::Changed);
    world.assert_sound();
}

#[test]
fn a_sum_is_right_while_documents_change_under_it() {
    let mut world = World::new();
    for number in 0..250 {
        for collection in ["lww", "fields", "counter"] {
            world.write(0, &key(collection, number), Action::Put("{}".into()), &[]);
            let action = Action::Patch("{\"add\":1}".into());
            world.write(0, &key("counter", number), action, &[]);
        }
    }
    let begin = Mend::Sum {
        id: 9,
        begin: true,
        settle: false,
    };
    assert_eq!(world.mend(1, begin), Mended::More);
    // Before the place where the sum stands, and after it.
    for collection in ["lww", "fields", "counter"] {
        for number in [0, 249] {
            world.write(0, &key(collection, number), Action::Delete, &[]);
            world.write(
                2,
                &key(collection, number),
                Action::Put("{\"a\":1}".into()),
                &[],
            );
        }
    }
    let on = Mend::Sum {
        id: 9,
        begin: false,
        settle: false,
    };
    let mut end = world.mend(1, on.clone());
    while end == Mended::More {
        end = world.mend(1, on.clone());
    }
    assert_eq!(end, Mended::Done);
    assert_eq!(world.mend(1, on), Mended::Lost, "it is over");
}

/// Lets go, on one node, of all deletions of a document, as when they are settled.
fn let_go(world: &mut World, node: usize, key: &Key) {
    let Node { storage, replica } = &mut world.nodes[node];
    let work = &mut |writer: &mut dyn storage::Writer| {
        let mut header = state::header(writer)?.unwrap();
        let Some(before) = state::entry(writer, key)? else {
            return Ok(Finish::Discard);
        };
        let mut after = before.document.clone();
        after.collect(Timestamp::LAST, &|_: Dot| true);
        if after == before.document {
            return Ok(Finish::Discard);
        }
        let storing = state::Storing {
            now_ms: 1,
            keep: storage::history::Keep::default(),
        };
        let placing = storage::Placing {
            tell: false,
            index: true,
        };
        storage::replace(writer, &mut header, key, &before, after, placing, storing)?;
        state::set_header(writer, &header)?;
        Ok(Finish::Commit)
    };
    storage.write(work).unwrap();
    replica.reload(storage).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Some nodes have let go of what is settled, and others have not.
    #[test]
    fn when_a_node_lets_go_of_deletions_is_no_difference(
        steps in proptest::collection::vec((step(), proptest::option::of(0..NODES)), 1..60),
    ) {
        let mut world = World::new();
        for ((node, key, action), lets_go) in steps {
            world.write(node, &key, action, &[]);
            if let Some(node) = lets_go {
                let_go(&mut world, node, &key);
            }
            prop_assert_eq!(world.differing(), Vec::<Bytes>::new());
        }
        world.assert_sound();
    }
}

#[test]
fn a_deleted_document_that_is_there_on_one_node_is_found_and_does_not_come_back() {
    let mut world = World::new();
    let user = key("lww", 1);
    world.write(0, &user, Action::Put("1".into()), &[]);
    let row = row_key(&user);
    let old = world.row(2, Table::Entries, &row).unwrap();
    world.write(0, &user, Action::Delete, &[]);
    for node in 0..NODES {
        let_go(&mut world, node, &user);
        assert_eq!(world.row(node, Table::Entries, &row), None);
    }
    // It came back with an old disk.
    world.damage(2, Table::Entries, &row, Some(old));
    let found = world.found();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&row]);
    let (held, _) = world.look(&row);
    let reason = |held: &[Held], floor| plan::plan(&row, held, floor).unwrap().reason;
    // Before anything can have been let go of, those that lack it have lost it.
    assert_eq!(reason(&held, Timestamp::default()), Reason::Merged);
    assert_eq!(reason(&held, Timestamp::LAST), Reason::Forgotten);
    // Most nodes have it: it is the other one that has lost it.
    let most = [held[0].clone(), held[2].clone(), held[2].clone()];
    assert_eq!(reason(&most, Timestamp::LAST), Reason::Merged);
    let half = [held[0].clone(), held[2].clone()];
    assert_eq!(reason(&half, Timestamp::LAST), Reason::Forgotten);
}

#[test]
fn a_deletion_that_one_node_remembers_wins_over_a_document_that_another_has() {
    let mut world = World::new();
    let user = key("lww", 1);
    world.write(0, &user, Action::Put("1".into()), &[]);
    let row = row_key(&user);
    let old = world.row(2, Table::Entries, &row).unwrap();
    world.write(0, &user, Action::Delete, &[]);
    let_go(&mut world, 1, &user);
    world.damage(2, Table::Entries, &row, Some(old));
    // The index of the node that has it knows nothing of it.
    assert_eq!(world.repair(), [Reason::Sound]);
    for node in 0..NODES {
        let (held, _) = world.look(&row);
        let document = held[node].document();
        assert!(document.is_none_or(|document| document.is_tombstone(0)));
    }
    assert_eq!(
        world.row(1, Table::Entries, &row),
        None,
        "it stays let go of"
    );
    assert_eq!(world.found(), BTreeMap::new());
}
