//! Decisions about a cluster of one node, in which membership runs for real.

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use basic_balancer::{Admission, Balancer, Endpoint, EndpointId};
use basic_membership::{
    AnnouncedState, Cluster, Config, GossipKey, Identity, Keyring, MemberState, Metadata,
};
use basic_sync::net::Handle;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::records::tests::replica;
use crate::records::{Batch, Records, System};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The agent on `n1`, as far as decisions go.
struct Node {
    operations: Operations,
    cluster: Cluster,
    records: Records,
    replica: Handle,
    balancer: Balancer,
    directory: TempDir,
}

async fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let id = "n1".parse().unwrap();
    let now = SystemTime::now();
    let identity = Identity::load_or_create(directory.path(), Some(id), now).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = Config::new("c".parse().unwrap(), identity, socket.local_addr().unwrap());
    let mut metadata = Metadata::new(1);
    metadata.announced = AnnouncedState::Active;
    let keyring = Keyring::new(GossipKey::from_bytes([7; 32]));
    let cluster = Cluster::join(config, keyring, socket, metadata, None)
        .await
        .unwrap();
    let replica = replica();
    let (records, signalling) = Records::new(replica.clone());
    tokio::spawn(signalling);
    tokio::spawn(apply::keep_applying(cluster.clone(), records.clone()));
    let balancer = Balancer::new(basic_balancer::Config::default());
    let latch = ConflictLatch::new(cluster.clone(), replica.clone());
    Node {
        operations: Operations::new(cluster.clone(), records.clone(), balancer.clone(), latch),
        cluster,
        records,
        replica,
        balancer,
        directory,
    }
}

fn actor() -> Actor {
    Actor::new(Some("liang"), "127.0.0.1".parse().ok(), Some("a new disk")).unwrap()
}

impl Node {
    async fn decide(&self, name: &str, action: Action) -> Result<Outcome, OperationError> {
        self.operations.decide(name, action, &actor(), false).await
    }

    /// The actions on record, the newest first.
    fn audited(&self) -> Vec<String> {
        let entries = self.operations.audit().newest(None, 100).unwrap();
        entries.into_iter().map(|entry| entry.action).collect()
    }

    fn route_to(&self, ids: &[&str]) {
        let endpoint = |id: &&str| Endpoint {
            id: EndpointId::new(*id),
            target: "127.0.0.1:1".parse().unwrap(),
            weight: 100,
            local: false,
            admission: Admission::Accepting,
        };
        self.balancer
            .set_endpoints(ids.iter().map(endpoint).collect());
    }
}

#[tokio::test]
async fn a_decision_shows_when_it_is_answered_and_is_recorded_once() {
    let node = node().await;
    let drained = node.decide("n1", Action::Drain).await.unwrap();
    assert!(drained.changed && drained.decision.drain);
    assert_eq!(drained.state, Some(MemberState::Draining));
    let again = node.decide("n1", Action::Drain).await.unwrap();
    assert!(!again.changed && again.decision.drain);
    let undrained = node.decide("n1", Action::Undrain).await.unwrap();
    assert_eq!(undrained.state, Some(MemberState::Active));
    assert!(!node.decide("n1", Action::Undrain).await.unwrap().changed);
    assert_eq!(node.audited(), ["undrain", "drain"]);
    let entries = node.operations.audit().newest(Some("n1"), 1).unwrap();
    assert_eq!(entries[0].before["drain"], true);
    assert_eq!(entries[0].after["drain"], false);
    assert_eq!(entries[0].order.why.as_deref(), Some("a new disk"));
}

#[tokio::test]
async fn failing_and_reviving_a_node_changes_its_state_and_back() {
    let node = node().await;
    let failed = node.decide("n1", Action::Fail).await.unwrap();
    assert_eq!(failed.state, Some(MemberState::Failed));
    let revived = node.decide("n1", Action::Revive).await.unwrap();
    assert_eq!(revived.state, Some(MemberState::Active));
    assert!(!node.decide("n1", Action::Revive).await.unwrap().changed);
}

#[tokio::test]
async fn a_weight_is_laid_over_the_announced_one_and_taken_off() {
    let node = node().await;
    let own = |node: &Node| {
        node.cluster
            .members()
            .find(&"n1".parse().unwrap())
            .unwrap()
            .weight()
    };
    let announced = own(&node);
    node.decide("n1", Action::Weight(Some(300))).await.unwrap();
    assert_eq!(own(&node), 300);
    node.decide("n1", Action::Weight(None)).await.unwrap();
    assert_eq!(own(&node), announced);
    assert_eq!(node.audited(), ["weight", "weight"]);
}

#[tokio::test]
async fn an_unknown_node_is_answered_with_the_nearest_name() {
    let node = node().await;
    node.records
        .put(System::Members, "shop/server", &json!({}))
        .await
        .unwrap();
    let error = node.decide("shpo", Action::Drain).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no node is called \"shpo\"; did you mean \"shop\"?; known are n1, shop"
    );
    for name in ["", "a/b", "n1/drain", &"x".repeat(10_000)] {
        let error = node.decide(name, Action::Drain).await.unwrap_err();
        assert!(matches!(error, OperationError::Unknown { .. }), "{name}");
        assert!(error.to_string().len() < 200);
    }
    assert_eq!(node.audited(), [""; 0]);
}

#[tokio::test]
async fn the_last_node_that_takes_requests_stays_unless_forced() {
    let node = node().await;
    node.route_to(&["n1"]);
    for action in [
        Action::Drain,
        Action::Fail,
        Action::Weight(Some(0)),
        Action::Remove,
    ] {
        let refused = node.decide("n1", action).await.unwrap_err();
        assert!(
            matches!(refused, OperationError::LastOne { .. }),
            "{action}"
        );
    }
    assert_eq!(node.audited(), [""; 0]);
    node.route_to(&["n1", "n2"]);
    node.decide("n1", Action::Drain).await.unwrap();
    node.route_to(&["n1"]);
    let forced = node
        .operations
        .decide("n1", Action::Fail, &actor(), true)
        .await;
    assert!(forced.unwrap().decision.failed);
}

#[tokio::test]
async fn a_removed_node_can_only_be_removed_and_learns_of_it() {
    let node = node().await;
    let identity = node.cluster.identity().clone();
    assert_eq!(apply::own_removal(&node.records, &identity).unwrap(), None);
    let learning = apply::removed_meanwhile(node.cluster.clone(), node.records.clone());
    let removed = node.decide("n1", Action::Remove).await.unwrap();
    assert_eq!(removed.state, Some(MemberState::Removed));
    let learned = timeout(PATIENCE, learning).await.unwrap();
    for words in ["n1", "liang", "a new disk", "basic-agent join"] {
        assert!(learned.to_string().contains(words), "{learned}");
    }
    let refused = node.decide("n1", Action::Drain).await.unwrap_err();
    assert!(matches!(refused, OperationError::Removed { .. }));
    assert!(!node.decide("n1", Action::Remove).await.unwrap().changed);

    // So does the next start, until the node joins again.
    assert_eq!(
        apply::own_removal(&node.records, &identity).unwrap(),
        Some(learned)
    );
    let joined = Identity::rejoin(node.directory.path(), None, SystemTime::now()).unwrap();
    assert_eq!(apply::own_removal(&node.records, &joined).unwrap(), None);
}

#[tokio::test]
async fn removing_a_server_without_an_agent_deletes_all_that_was_decided_about_it() {
    let node = node().await;
    node.records
        .put(System::Members, "s1/server", &json!({}))
        .await
        .unwrap();
    node.records
        .put(System::Members, "s10/server", &json!({}))
        .await
        .unwrap();
    let drained = node.decide("s1", Action::Drain).await.unwrap();
    assert_eq!((drained.state, drained.decision.drain), (None, true));
    assert!(node.decide("s1", Action::Remove).await.unwrap().changed);
    let left = node
        .records
        .all::<serde_json::Value>(System::Members)
        .unwrap();
    assert_eq!(left, [("s10/server".to_owned(), json!({}))]);
}

#[tokio::test]
async fn a_removal_of_an_earlier_node_of_the_name_is_not_about_the_server() {
    let node = node().await;
    let registered = json!({ "address": "10.0.0.9:80", "registered": 8 });
    let removal = json!({ "joined": 7 });
    for (key, document) in [("s1/server", &registered), ("s1/removed", &removal)] {
        let put = node.records.put(System::Members, key, document);
        put.await.unwrap();
    }
    let drained = node.decide("s1", Action::Drain).await.unwrap();
    assert!(drained.decision.drain && !drained.decision.removed);
    node.decide("s1", Action::Remove).await.unwrap();
    let left = node.records.all::<serde_json::Value>(System::Members);
    assert_eq!(left.unwrap(), [("s1/removed".to_owned(), removal)]);
}

#[tokio::test]
async fn a_request_to_leave_is_on_record() {
    let node = node().await;
    node.operations.record_leave(&actor()).await;
    let entries = node.operations.audit().newest(Some("n1"), 2).unwrap();
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(entry.action, "leave");
    assert_eq!(entry.order.by, "liang");
    assert_eq!(entry.order.from, "127.0.0.1");
    assert_eq!(entry.before["state"], "active");
    assert_eq!(entry.after["state"], "leaving");
}

#[tokio::test]
async fn a_node_goes_on_after_a_conflict_only_if_that_is_on_record() {
    let node = node().await;
    let latch = node.operations.latch();
    let [own, rival] = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
    latch.close(own, rival);
    assert!(node.replica.writes_refused().is_some());
    assert!(node.decide("n1", Action::Revive).await.unwrap().changed);
    assert_eq!(node.audited(), ["revive"]);
    assert_eq!(
        (latch.closed(), node.replica.writes_refused()),
        (None, None)
    );

    latch.close(own, rival);
    node.replica.end_writes();
    let refused = node.decide("n1", Action::Revive).await.unwrap_err();
    assert!(matches!(refused, OperationError::Record(_)), "{refused}");
    assert_eq!(latch.closed().unwrap().rival, rival);
    assert!(node.replica.writes_refused().is_some());
}

#[tokio::test]
async fn what_was_lifted_elsewhere_meanwhile_is_recorded_only_with_what_else_was_decided() {
    let node = node().await;
    let audit = node.operations.audit();
    let entry = AuditEntry {
        action: "revive".to_owned(),
        node: "n1".to_owned(),
        order: audit.order(&actor()),
        before: json!(null),
        after: json!(null),
    };
    let gone = || Batch::default().delete(System::Members, "n1/fail").unwrap();
    let record = node.operations.record(gone(), &entry, false);
    assert!(!record.await.unwrap());
    assert_eq!(node.audited(), [""; 0]);
    let record = node.operations.record(gone(), &entry, true);
    assert!(record.await.unwrap());
    assert_eq!(node.audited(), ["revive"]);
}

#[tokio::test]
async fn the_latch_and_the_replica_say_the_same_however_opening_and_closing_meet() {
    let node = node().await;
    let (latch, replica) = (node.operations.latch().clone(), node.replica.clone());
    let [own, rival] = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
    for _ in 0..500 {
        latch.close(own, rival);
        std::thread::scope(|scope| {
            scope.spawn(|| latch.open());
            scope.spawn(|| latch.close(own, rival));
        });
        assert_eq!(latch.closed().is_some(), replica.writes_refused().is_some());
    }
}

#[tokio::test]
async fn decisions_that_are_stored_hold_from_the_first_moment() {
    let node = node().await;
    node.records
        .put(System::Members, "n1/fail", &json!({}))
        .await
        .unwrap();
    node.records
        .put(System::Members, "n1/drain", &"nonsense")
        .await
        .unwrap();
    let misread = apply::apply(&node.cluster, &node.records).unwrap();
    assert_eq!(misread[0].key, "n1/drain");
    let own = "n1".parse().unwrap();
    let failed = |members: &std::sync::Arc<basic_membership::Members>| {
        let own = members.find(&own).unwrap();
        own.state == MemberState::Failed && !own.directive.drain
    };
    timeout(PATIENCE, node.cluster.watch().wait_for(failed))
        .await
        .unwrap()
        .unwrap();
}
