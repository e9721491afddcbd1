//! Backups of replicas in memory, and what becomes of their bytes.

mod bytes;
mod meaning;

use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;

use super::{About, Backup, BackupError, BackupKey, Item, Reader, Sealer};
use crate::model::document::Action;
use crate::model::{Collection, Delta, Key, ReplicaId, VersionVector};
use crate::protocol::{
    AckTarget, Config, Input, Now, Operation, Output, Replica, RequestId, TakeIn, TakenIn,
    WriteRequest, commit,
};
use crate::storage::state::{self, Digest};
use crate::storage::{self, MemoryStorage};

/// A replica with its store and its clock.
struct Node {
    storage: MemoryStorage,
    replica: Replica,
    now: Now,
}

impl Node {
    fn new(number: u8) -> Self {
        Self::on(MemoryStorage::default(), number, 1_000)
    }

    fn on(storage: MemoryStorage, number: u8, wall_ms: u64) -> Self {
        let now = Now {
            wall_ms,
            elapsed: Duration::ZERO,
        };
        let identity = ReplicaId([number; 16]);
        let replica = Replica::open(&storage, Config::default(), identity, now, 7);
        Self {
            storage,
            replica: replica.unwrap(),
            now,
        }
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.now.wall_ms += 1;
        commit(&mut self.replica, &self.storage, self.now, vec![input]).unwrap()
    }

    fn write(&mut self, key: &str, action: Action) {
        let request = WriteRequest {
            id: RequestId(1),
            operations: vec![Operation::new(self::key(key), action)],
            acks: AckTarget::Local,
            acks_timeout: Duration::ZERO,
        };
        let outputs = self.handle(Input::Write(request));
        assert!(matches!(outputs[0], Output::Reply(_, Ok(_))), "{outputs:?}");
    }

    fn put(&mut self, key: &str, text: &str) {
        self.write(key, Action::Put(Bytes::from(format!("\"{text}\""))));
    }

    fn delete(&mut self, key: &str) {
        self.write(key, Action::Delete);
    }

    fn backup(&self) -> Backup {
        let about = About {
            cluster: "c1".to_owned(),
            ..About::default()
        };
        Backup::begin(Arc::new(self.storage.clone()), about, 5).unwrap()
    }

    fn backed_up(&self) -> Vec<u8> {
        rest_of(&mut self.backup())
    }

    fn restore(&mut self, bytes: &[u8]) -> TakenIn {
        let mut sum = TakenIn::default();
        for item in items(bytes, None).unwrap() {
            let taken = match item {
                Item::Writes(writes) => self.take_in(writes, None),
                Item::Claim(claim) => self.take_in(Vec::new(), Some(claim)),
                Item::Manifest(_) | Item::End(_) => continue,
            };
            sum.taken_in += taken.taken_in;
            sum.superseded += taken.superseded;
            sum.repeated += taken.repeated;
        }
        sum
    }

    fn take_in(&mut self, changes: Vec<Delta>, claim: Option<VersionVector>) -> TakenIn {
        let id = RequestId(2);
        let outputs = self.handle(Input::TakeIn(TakeIn { id, changes, claim }));
        let taken = outputs.iter().find_map(|output| match output {
            Output::TakenIn(answered, taken) if *answered == id => Some(taken.clone().unwrap()),
            _ => None,
        });
        taken.unwrap()
    }

    fn digest(&self) -> Digest {
        self.replica.status().digest
    }

    fn vector(&self) -> VersionVector {
        storage::read(&self.storage, state::vector).unwrap()
    }

    fn text(&self, key: &str) -> Option<String> {
        let record = storage::read(&self.storage, |reader| {
            state::entry(reader, &self::key(key))
        });
        let value = record.unwrap()?.document.value(self.now.wall_ms)?;
        Some(serde_json::from_slice(&value).unwrap())
    }
}

fn key(name: &str) -> Key {
    let (collection, name) = name.split_once('/').unwrap_or(("users", name));
    Key::new(Collection::new(collection).unwrap(), name).unwrap()
}

/// All that a backup still gives.
fn rest_of(backup: &mut Backup) -> Vec<u8> {
    let pieces = std::iter::from_fn(|| backup.next_bytes(9).unwrap());
    pieces.flatten().collect()
}

/// What is in a backup, or why it is none. The bytes come in pieces of odd sizes.
fn items(bytes: &[u8], key: Option<&BackupKey>) -> Result<Vec<Item>, BackupError> {
    let mut reader = Reader::new(key.cloned());
    let mut items = Vec::new();
    for piece in bytes.chunks(777) {
        reader.push(piece);
        while let Some(piece) = reader.next_piece()? {
            items.push(piece.item);
        }
    }
    reader.finish().map(|()| items)
}

/// The same backup, sealed.
fn sealed(bytes: &[u8], key: &BackupKey) -> Vec<u8> {
    let mut sealer = Sealer::sealed(key).unwrap();
    let mut sealed = sealer.header().to_vec();
    let mut reader = Reader::new(None);
    reader.push(bytes);
    while let Some(piece) = reader.next_piece().unwrap() {
        sealed.extend(
            sealer
                .frame(piece.frame.kind, piece.frame.packed())
                .unwrap(),
        );
    }
    sealed
}
