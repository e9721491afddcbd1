//! Leaving in good order: nobody loses a request, and nobody calls it a failure.

use std::time::Duration;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::load::Load;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use http::Request;

use crate::support::{LIMIT, wait_for_state};

#[tokio::test]
async fn a_graceful_leave_loses_no_request_and_is_seen_as_left() {
    let cluster = Cluster::up("leave", 3).await.unwrap();
    let gets = Load::get(&cluster.proxy(1, "/whoami")).unwrap().start();
    let posts = Load::post(&cluster.proxy(1, "/count"))
        .unwrap()
        .per_second(50)
        .start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.command(&["leave", "3"]).await.unwrap();
    for observer in [1, 2] {
        wait_for_state(&cluster, observer, "n3", "left").await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, report) in [("GET", gets.stop().await), ("POST", posts.stop().await)] {
        eprintln!("leave 3, {name}: {report}");
        assert!(report.answers_by_node().contains_key("n3"), "{report}");
        let failures = report.failures();
        assert!(failures.is_empty(), "{name}: {failures:?}");
    }

    cluster.command(&["restart", "3"]).await.unwrap();
    wait_for_state(&cluster, 1, "n3", "active").await;
}

#[tokio::test]
async fn sigterm_exits_zero_after_the_last_answer() {
    let cluster = Cluster::prepare("sigterm", 1).unwrap();
    cluster.layout().write().unwrap();
    let mut node = Node::start(cluster.binaries(), cluster.node(1)).unwrap();
    let client = Client::default();
    // Through the proxy, too: it may find the server healthy a little later.
    for url in [cluster.api(1, "/readyz"), cluster.proxy(1, "/count/slow")] {
        wait_until("the agent to be ready", LIMIT, || async {
            let answer = client.get(&url).await.map_err(|error| error.to_string())?;
            if answer.status.is_success() {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await
        .unwrap();
    }

    // A request that the server has, and answers only after the signal.
    let slow = Request::post(cluster.proxy(1, "/count"))
        .header("x-request-id", "slow")
        .header("x-sample-delay", "1500ms")
        .body(Default::default())
        .unwrap();
    let slow_answer = client.send(slow);
    let terminate = async {
        let count = cluster.app(1, "/count/slow");
        wait_until("the slow request to have arrived", LIMIT, || async {
            let seen = client
                .get(&count)
                .await
                .map_err(|error| error.to_string())?
                .json();
            if seen["count"] == 1 {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        })
        .await
        .unwrap();
        assert!(node.agent.signal(Signal::TERM).unwrap());
    };
    let (answer, ()) = tokio::join!(slow_answer, terminate);
    assert_eq!(answer.unwrap().status, 200);
    let status = node.agent.exit(LIMIT).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status}: {}", node.agent.output());
}

#[tokio::test]
async fn what_a_leaving_node_acknowledged_is_on_the_others_when_it_is_gone() {
    let cluster = Cluster::up("leave-writes", 3).await.unwrap();
    let client = Client::default();
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.command(&["leave", "3"]).await.unwrap();
    };
    let writing = async {
        let mut acknowledged = Vec::new();
        for number in 0.. {
            let path = format!("/v1/data/late/k{number}");
            let document = serde_json::json!({ "n": number });
            // From some write on the node is stopping, or gone.
            match client.put_json(&cluster.api(3, &path), &document).await {
                Ok(answer) if answer.status.is_success() => acknowledged.push(path),
                Ok(_) | Err(_) => break,
            }
        }
        acknowledged
    };
    let ((), acknowledged) = tokio::join!(leaving, writing);
    eprintln!(
        "{} writes were acknowledged while node 3 left",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 10);
    for path in acknowledged {
        let answer = client.get(&cluster.api(1, &path)).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}
