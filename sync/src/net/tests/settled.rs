//! What is settled, over connections: snapshots, and what becomes of replicas that are given up.

use super::*;
use crate::model::document::Merge;
use crate::protocol::{Policy, Status, Trust};

/// A node that takes over a snapshot where it lacks this many writes.
fn filling_node(network: &Network, number: u16, snapshot_from: u64) -> Node {
    let mut options = Options::new("c", &format!("n{number}"));
    options.protocol.policies.other = Policy {
        merge: Merge::Fields,
        document_bytes_max: 16 * 1024 * 1024,
        ..Policy::default()
    };
    options.protocol.snapshot_from = snapshot_from;
    node_with(network, number, MemoryStorage::default(), options)
}

async fn reaches(node: &Node, is: impl Fn(&Status) -> bool) {
    let mut status = node.handle.status();
    let reached = status.wait_for(|status| is(status));
    timeout(PATIENCE, reached).await.unwrap().unwrap();
}

/// More than one chunk, each of which holds a document as large as there may be.
#[tokio::test]
async fn an_empty_node_takes_over_a_snapshot_of_large_documents() {
    let network = Network::default();
    let full = filling_node(&network, 1, u64::MAX);
    let large =
        |number: usize| Bytes::from(format!("\"{}\"", number.to_string().repeat(1_000_000)));
    for number in 0..9 {
        write(&full, put(&format!("k{number}"), large(number)))
            .await
            .unwrap();
    }
    let nodes = [full, filling_node(&network, 2, 5)];
    introduce(&nodes).await;
    reaches(&nodes[1], |status| status.counters.snapshots_taken == 1).await;
    for number in 0..9 {
        let entry = nodes[1].handle.entry(&key(&format!("k{number}")));
        let value = entry.unwrap().unwrap().value;
        assert!(value == Some(large(number)), "document {number}");
    }
    reaches(&nodes[1], |status| !status.filling).await;
    assert_eq!(nodes[1].handle.filled_to().unwrap(), None);
    let (one, other) = (nodes[0].handle.status(), nodes[1].handle.status());
    assert_eq!(one.borrow().digest, other.borrow().digest);
}

/// Its writes fit a frame each, and together they do not.
#[tokio::test]
async fn a_document_that_has_grown_beyond_a_frame_is_taken_over_whole() {
    let network = Network::default();
    let full = filling_node(&network, 1, u64::MAX);
    for number in 0..6 {
        let text = number.to_string().repeat(900_000);
        let patch = Action::Patch(format!("{{\"f{number}\":\"{text}\"}}").into());
        write(&full, vec![Operation::new(key("large"), patch)])
            .await
            .unwrap();
        write(&full, put(&format!("k{number}"), "1")).await.unwrap();
    }
    let nodes = [full, filling_node(&network, 2, 5)];
    introduce(&nodes).await;
    reaches(&nodes[1], |status| status.counters.snapshots_taken == 1).await;
    let value = |node: &Node| node.handle.entry(&key("large")).unwrap().unwrap().value;
    let whole = value(&nodes[0]);
    assert!(whole.as_ref().is_some_and(|whole| whole.len() > 5_000_000));
    assert!(value(&nodes[1]) == whole);
}

#[tokio::test]
async fn replicas_bear_the_names_of_their_nodes_and_one_that_is_given_up_goes_on_as_another() {
    let nodes = cluster(2).await;
    let named = |status: &Status, name: &str, fenced| {
        let lines = status.roster.iter();
        lines
            .filter(|line| line.name.as_str() == name && line.fenced == fenced)
            .count()
    };
    for node in &nodes {
        reaches(node, |status| {
            let full = status.peers.iter().all(|peer| peer.trust == Trust::Full);
            full && named(status, "n1", false) == 1 && named(status, "n2", false) == 1
        })
        .await;
    }
    let before = nodes[1].handle.status().borrow().origin.replica;
    nodes[0].handle.give_up(PeerId::new("n2")).await;
    for node in &nodes {
        reaches(node, |status| {
            let fresh = named(status, "n2", false) == 1 && named(status, "n2", true) == 1;
            fresh && !status.filling
        })
        .await;
    }
    let after = nodes[1].handle.status().borrow().clone();
    assert_ne!(after.origin.replica, before);
    assert_eq!(
        (after.counters.fenced, after.counters.snapshots_taken),
        (1, 1)
    );
    // Nobody gives itself up.
    nodes[0].handle.give_up(PeerId::new("n1")).await;
    nodes[0].handle.refresh_status().await;
    assert_eq!(named(&nodes[0].handle.status().borrow(), "n1", true), 0);
}
