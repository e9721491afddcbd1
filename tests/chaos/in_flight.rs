//! Requests that a node has, and has not answered, when the way to it is cut.

use std::time::Duration;

use basic_tests::harness::http::Client;
use basic_tests::harness::network::Family;
use basic_tests::harness::wait::wait_until;
use http::Request;
use tokio::task::JoinSet;

use crate::world::{LIMIT, World};

const REQUESTS: usize = 50;
/// How long each server takes for each of them.
const DELAY: &str = "1500ms";
/// Longer than the detection and two delays take, and shorter than the cut.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn gets_that_wait_for_a_node_that_is_cut_off_are_answered_by_others() {
    let Some(world) = World::up(Family::V4, 5, 5).await else {
        return;
    };
    let mut requests = JoinSet::new();
    for number in 0..REQUESTS {
        let request = Request::get(format!("http://{}/count", world.layout(1).proxy()))
            .header("x-request-id", format!("in-flight-{number}"))
            .header("x-sample-delay", DELAY)
            .body(Default::default())
            .unwrap();
        let client = Client::with_timeout(PATIENCE);
        requests.spawn(async move { client.send(request).await });
    }
    // A fifth of them is at node 3 before it is cut.
    let at_node = format!("http://{}/counts", world.layout(3).app());
    wait_until("requests to be at node 3", LIMIT, || async {
        let counts = world.client.get(&at_node).await;
        let counts = counts.map_err(|error| error.to_string())?.json();
        match counts["requests"].as_u64() {
            Some(1..) => Ok(()),
            _ => Err(counts.to_string()),
        }
    })
    .await
    .unwrap();
    world.network.isolate(3).unwrap();

    let mut lost = Vec::new();
    while let Some(answer) = requests.join_next().await {
        match answer.unwrap() {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => lost.push(format!("{}: {}", answer.status, answer.text())),
            Err(error) => lost.push(error.to_string()),
        }
    }
    eprintln!("{REQUESTS} GETs in flight, {} lost", lost.len());
    assert!(lost.is_empty(), "{lost:?}");
}
