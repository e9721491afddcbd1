//! Named scenarios of single messages of a pull.

use std::time::Duration;

use basic_sync::model::document::Action;
use basic_sync::model::{ReplicaId, VersionVector};
use basic_sync::protocol::{
    AckTarget, Config, Input, Message, Now, Operation, Output, PullChunk, Replica, RequestId,
    WriteRequest, commit,
};
use basic_sync::storage::MemoryStorage;

use crate::runs::run;
use crate::world::{key, name};

const NOW: Now = Now {
    wall_ms: 1_700_000_000_000,
    elapsed: Duration::from_secs(1),
};

/// A replica that has a link to peer 1.
struct Server {
    replica: Replica,
    disk: MemoryStorage,
}

impl Server {
    fn new() -> Self {
        let disk = MemoryStorage::default();
        let identity = ReplicaId([1; 16]);
        let replica = Replica::open(&disk, Config::default(), identity, NOW, 1).unwrap();
        let mut server = Self { replica, disk };
        server.take(Input::Peers(vec![name(1)]));
        server.take(Input::LinkUp(name(1)));
        server
    }

    fn take(&mut self, input: Input) -> Vec<Output> {
        commit(&mut self.replica, &self.disk, NOW, vec![input]).unwrap()
    }

    fn write(&mut self, number: usize) {
        let action = Action::Put(format!("{number}").into());
        self.take(Input::Write(WriteRequest {
            id: RequestId(number as u64),
            operations: vec![Operation::new(key(number), action)],
            acks: AckTarget::Local,
            acks_timeout: Duration::ZERO,
        }));
    }

    /// What it answers to a request for everything.
    fn asked(&mut self, session: u64) -> Vec<PullChunk> {
        let vector = VersionVector::default();
        let request = Message::PullRequest { session, vector };
        let outputs = self.take(Input::Message(name(1), request));
        let chunk = |output| match output {
            Output::Send(_, Message::PullChunk(chunk)) => Some(chunk),
            _ => None,
        };
        outputs.into_iter().filter_map(chunk).collect()
    }
}

/// A request arrived twice, and was answered twice, with another write in between: from the
/// first answer the asker took the beginning, from the second the claim of that write,
/// which it did not get.
#[test]
fn a_pull_that_is_asked_for_twice_is_answered_once() {
    let mut server = Server::new();
    server.write(1);
    let first = server.asked(7);
    assert!(first.iter().any(|chunk| chunk.claim.is_some()));
    server.write(2);
    assert_eq!(server.asked(7), []);
    let changes = |chunks: Vec<PullChunk>| chunks.iter().map(|chunk| chunk.changes.len()).sum();
    let next: usize = changes(server.asked(8));
    assert_eq!(next, 2, "the next session is another");
}

#[test]
fn the_seed_that_showed_two_answers_to_one_request() {
    run(1278);
}
