//! Replicas of one document in one thread: what they write is planned as in earnest,
//! and they meet when a test says so.

mod again;
mod collect;
mod expiry;
mod laws;
mod meaning;
mod raw;

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::model::{Epoch, HybridClock, Origin, ReplicaId, Timestamp, Version};

pub(super) fn origin(replica: u8) -> Origin {
    Origin {
        replica: ReplicaId([replica; 16]),
        epoch: Epoch(1),
    }
}

/// One replica.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) doc: Document,
    pub(super) clock: HybridClock,
    seq: u64,
    /// What it has taken in, whether there is something left of it or not.
    pub(super) had: BTreeSet<Dot>,
    /// How far its wall clock is ahead of that of the world.
    skew_ms: u64,
}

/// All of them.
#[derive(Clone)]
pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    pub(super) writes: Vec<Write>,
    pub(super) now_ms: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Act {
        node: usize,
        merge: Merge,
        action: Action,
        ttl_ms: Option<u64>,
    },
    Send {
        from: usize,
        to: usize,
    },
    Pass(u64),
}

pub(super) const NODES: usize = 3;

impl World {
    pub(super) fn new() -> Self {
        let node = |replica: u8| Node {
            origin: origin(replica),
            doc: Document::default(),
            clock: HybridClock::default(),
            seq: 0,
            had: BTreeSet::new(),
            skew_ms: u64::from(replica) * 7,
        };
        Self {
            nodes: (0u8..).take(NODES).map(node).collect(),
            writes: Vec::new(),
            now_ms: 1_000,
        }
    }

    pub(super) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Pass(ms) => self.now_ms += ms,
                Step::Send { from, to } => self.send(*from, *to),
                Step::Act {
                    node,
                    merge,
                    action,
                    ttl_ms,
                } => {
                    let _ = self.act(*node, *merge, action, *ttl_ms);
                }
            }
        }
    }

    /// Does what a client asks a node for, and sees to it that the client reads what
    /// it wrote.
    pub(super) fn act(
        &mut self,
        node: usize,
        merge: Merge,
        action: &Action,
        ttl_ms: Option<u64>,
    ) -> Result<Write, PlanError> {
        let node = &mut self.nodes[node];
        let clock = node.clock.tick(self.now_ms + node.skew_ms, u64::MAX);
        let dot = Dot {
            origin: node.origin,
            seq: node.seq + 1,
        };
        let context = Context {
            now_ms: clock.millis(),
            dated_ms: clock.millis(),
            dot,
            expires_at: ttl_ms.map(|ttl| clock.millis() + ttl),
        };
        let parts = plan(merge, action, &node.doc, context)?;
        let version = Version { clock, dot };
        let write = Write { version, parts };
        write.check().unwrap();
        let expected = expected(merge, action, &node.doc, context.now_ms);
        assert!(node.doc.merge(&write).taken);
        let read = node.doc.value(context.now_ms);
        let read = read.map(|text| serde_json::from_slice::<Value>(&text).unwrap());
        assert_eq!(read, expected, "{merge} {action:?} {:?}", node.doc);
        let live = node.doc.expires_at();
        match action {
            Action::Put(_) => assert_eq!(live, context.expires_at),
            Action::Patch(_) if ttl_ms.is_some() => assert_eq!(live, context.expires_at),
            Action::Patch(_) => {}
            Action::Delete => assert_eq!(live, None),
        }
        assert_eq!(node.doc.is_tombstone(context.now_ms), read.is_none());
        node.seq += 1;
        node.had.insert(dot);
        self.writes.push(write.clone());
        Ok(write)
    }

    pub(super) fn send(&mut self, from: usize, to: usize) {
        let writes = self.nodes[from].doc.writes().to_vec();
        let to = &mut self.nodes[to];
        for write in writes {
            to.clock.observe(write.version.clock, self.now_ms, u64::MAX);
            if to.had.insert(write.version.dot) {
                to.doc.merge(&write);
            }
        }
    }

    /// Brings everything everywhere.
    pub(super) fn settle(&mut self) {
        for node in 1..NODES {
            self.send(node, 0);
        }
        for node in 1..NODES {
            self.send(0, node);
        }
    }

    pub(super) fn put(&mut self, node: usize, merge: Merge, text: &str) {
        self.act(node, merge, &Action::Put(bytes(text)), None)
            .unwrap();
    }

    pub(super) fn patch(&mut self, node: usize, merge: Merge, text: &str) {
        self.act(node, merge, &Action::Patch(bytes(text)), None)
            .unwrap();
    }

    pub(super) fn delete(&mut self, node: usize, merge: Merge) {
        self.act(node, merge, &Action::Delete, None).unwrap();
    }

    /// What a node's readers see.
    pub(super) fn read(&self, node: usize) -> String {
        shown(self.nodes[node].doc.value(self.now_ms))
    }

    /// What they see everywhere in the end.
    pub(super) fn outcome(&mut self) -> String {
        self.settle();
        for node in 1..NODES {
            assert_eq!(self.nodes[node].doc, self.nodes[0].doc);
        }
        self.read(0)
    }
}

pub(super) fn shown(value: Option<Bytes>) -> String {
    match value {
        Some(text) => String::from_utf8(text.to_vec()).unwrap(),
        None => "nothing".to_owned(),
    }
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What a client that asked for `action` reads afterwards.
fn expected(merge: Merge, action: &Action, before: &Document, now_ms: u64) -> Option<Value> {
    let read = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
    let body = match action {
        Action::Delete => return None,
        Action::Put(body) | Action::Patch(body) => body,
    };
    let put = matches!(action, Action::Put(_));
    let value = before.value(now_ms);
    let set = |text: &[u8]| -> BTreeSet<Bytes> {
        let list: Vec<Value> = serde_json::from_slice(text).unwrap();
        list.into_iter().map(json::canonical).collect()
    };
    let as_list = |set: BTreeSet<Bytes>| set.iter().map(|text| read(text)).collect();
    Some(match merge {
        Merge::Lww | Merge::Fields | Merge::Counter if put => read(body),
        Merge::Lww | Merge::Fields => {
            let value = value
                .as_deref()
                .map(|text| std::str::from_utf8(text).unwrap());
            read(json::merge_patch(value, std::str::from_utf8(body).unwrap()).as_bytes())
        }
        Merge::Counter => {
            let step = read(body)["add"].as_i64().unwrap();
            let sum = before.count(now_ms).unwrap_or(0) + i128::from(step);
            i64::try_from(sum).unwrap().into()
        }
        Merge::Set if put => Value::Array(as_list(set(body))),
        Merge::Set => {
            let list = |name: &str| {
                set(read(body)
                    .get(name)
                    .unwrap_or(&Value::Array(vec![]))
                    .to_string()
                    .as_bytes())
            };
            let before = set(value.as_deref().unwrap_or(b"[]"));
            let kept: BTreeSet<Bytes> = &(&before | &list("add")) - &list("remove");
            Value::Array(as_list(kept))
        }
    })
}

pub(super) const BODIES: &[&str] = &[
    r#"{"a":1}"#,
    r#"{"a":1.0,"b":[1]}"#,
    r#"{"b":{"x":1,"z":2},"a":"\u00e9"}"#,
    r#"{"c":null,"a":2}"#,
    r#"{"a":null}"#,
    r#"{"b":{"x":null,"y":{"q":null,"r":1}}}"#,
    r#"{"c":3,"a":null}"#,
    "{}",
    "5",
    "-7",
    "9223372036854775807",
    "null",
    "\"s\"",
    "[]",
    r#"["x",1,{"b":1,"a":2}]"#,
    r#"["y","x","x"]"#,
    "[0.1, 1e3, 12345678901234567890123]",
    r#"{"add":5}"#,
    r#"{"add":-3}"#,
    r#"{"add":["x","y"]}"#,
    r#"{"remove":["x",1]}"#,
    r#"{"add":["z"],"remove":["y"]}"#,
];

fn actions(bodies: &'static [&'static str]) -> impl Strategy<Value = Action> {
    let body = || prop::sample::select(bodies).prop_map(bytes);
    prop_oneof![
        3 => body().prop_map(Action::Put),
        4 => body().prop_map(Action::Patch),
        1 => Just(Action::Delete),
    ]
}

/// Steps of clients and of the network. Most worlds keep to one merge rule; in the
/// others it changes under the document.
pub(super) fn steps(len: usize) -> impl Strategy<Value = Vec<Step>> {
    let all = vec![Merge::Lww, Merge::Fields, Merge::Counter, Merge::Set];
    let one = prop::sample::select(all.clone()).prop_map(|merge| vec![merge]);
    let rules = prop_oneof![2 => one, 1 => Just(all)];
    rules.prop_flat_map(move |rules| {
        let ttl = prop_oneof![4 => Just(None), 1 => (1u64..60).prop_map(Some)];
        let act = (0..NODES, prop::sample::select(rules), actions(BODIES), ttl).prop_map(
            |(node, merge, action, ttl_ms)| Step::Act {
                node,
                merge,
                action,
                ttl_ms,
            },
        );
        let step = prop_oneof![
            6 => act,
            3 => (0..NODES, 0..NODES).prop_map(|(from, to)| Step::Send { from, to }),
            1 => (1u64..40).prop_map(Step::Pass),
        ];
        prop::collection::vec(step, 1..len)
    })
}

/// It was told of as one byte more, so that one of the largest size allowed was refused.
#[test]
fn a_document_of_one_root_takes_as_many_bytes_as_its_text() {
    let dot = Dot {
        origin: origin(1),
        seq: 1,
    };
    let version = Version {
        clock: Timestamp(1),
        dot,
    };
    let document = Document::of_root(version, Some(bytes("{\"a\":1}")));
    assert_eq!(document.value_bytes(), 7);
}
