//! A cluster too large for a full mesh.

use super::*;
use crate::protocol::{Mesh, PeerStatus, Status, Trust};

const SIZE: u16 = 10;

/// Nodes that link to two others each.
async fn ring() -> Vec<Node> {
    let network = Network::default();
    let node = |number| {
        let mut options = Options::new("c", &format!("n{number}"));
        options.protocol.mesh = Mesh {
            peers_max: 3,
            rings_max: 1,
        };
        node_with(&network, number, MemoryStorage::default(), options)
    };
    let nodes: Vec<Node> = (1..=SIZE).map(node).collect();
    introduce(&nodes).await;
    for node in &nodes {
        let linked = |status: &Arc<Status>| {
            let mut near = status.peers.iter().filter(|peer| peer.near);
            let is_level =
                |peer: &PeerStatus| peer.linked && peer.caught_up && peer.trust == Trust::Full;
            status.peers.len() == usize::from(SIZE) - 1 && near.all(is_level)
        };
        let mut status = node.handle.status();
        let linked = timeout(PATIENCE, status.wait_for(linked));
        drop(linked.await.expect("neighbours find each other").unwrap());
    }
    nodes
}

#[tokio::test]
async fn a_node_links_to_few_and_a_write_reaches_all() {
    let nodes = ring().await;
    for node in &nodes {
        assert_eq!(node.handle.links().len(), 2);
        assert_eq!(node.handle.lags().len(), usize::from(SIZE) - 1);
    }
    for (number, node) in nodes.iter().enumerate() {
        write(node, put(&format!("u{number}"), "1")).await.unwrap();
    }
    for node in &nodes {
        for number in 0..nodes.len() {
            shows(node, &format!("u{number}"), &"1".into()).await;
        }
    }
    let mut forwarded = 0;
    for node in &nodes {
        node.handle.refresh_status().await;
        forwarded += node.handle.status().borrow().counters.forwarded;
    }
    assert!(forwarded > 0);
}

#[tokio::test]
async fn a_write_that_asks_for_all_is_on_the_disks_of_all_when_it_returns() {
    let nodes = ring().await;
    let written = nodes[0]
        .handle
        .write(put("u1", "{}"), AckTarget::All, PATIENCE);
    let receipt = written.await.unwrap();
    let others = usize::from(SIZE) - 1;
    assert_eq!((receipt.acks, receipt.complete), (others, true));
    for node in &nodes {
        assert!(node.handle.entry(&key("u1")).unwrap().is_some());
    }
}
