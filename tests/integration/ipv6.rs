//! Three nodes on [::1]: all that is done with addresses, done with IPv6 ones.

use std::net::{IpAddr, Ipv6Addr};

use basic_tests::harness::binaries::Binaries;
use basic_tests::harness::http::Client;
use basic_tests::harness::layout::Hosts;
use basic_tests::harness::load::Load;
use basic_tests::harness::node::Node;
use basic_tests::harness::ports;
use basic_tests::harness::wait::wait_until;
use serde_json::json;

use crate::support::{LIMIT, member, put, wait_for_document};

#[tokio::test]
async fn a_cluster_on_ipv6_finds_itself_replicates_balances_and_notices_a_death() {
    let binaries = Binaries::locate().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let hosts = Hosts::Shared(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let layout = ports::free_layout_on(hosts, directory.path().to_owned(), 3).unwrap();
    layout.write().unwrap();
    let start = |node| Node::start(&binaries, node).unwrap();
    let mut nodes: Vec<Node> = layout.iter().map(start).collect();
    let apis: Vec<String> = layout
        .iter()
        .map(|node| format!("http://{}", node.api()))
        .collect();
    for api in &apis {
        for id in ["n1", "n2", "n3"] {
            wait_for(api, id, "active").await;
        }
    }

    let client = Client::default();
    put(
        &client,
        &format!("{}/v1/data/users/u1", apis[0]),
        &json!({ "name": "six" }),
    )
    .await;
    wait_for_document(&client, &format!("{}/v1/data/users/u1", apis[2])).await;
    let proxy = layout.node(1).unwrap().proxy();
    let load = Load::get(&format!("http://{proxy}/whoami")).unwrap();
    let report = load.run_for(std::time::Duration::from_secs(1)).await;
    assert!(report.failures().is_empty(), "{report}");
    assert_eq!(report.answers_by_node().len(), 3, "{report}");

    drop(nodes.pop());
    for api in &apis[..2] {
        wait_for(api, "n3", "failed").await;
    }
}

async fn wait_for(api: &str, id: &str, state: &str) {
    let client = Client::default();
    let seen = || async {
        let member = member(&client, api, id).await?;
        match member["state"] == state {
            true => Ok(()),
            false => Err(member.to_string()),
        }
    };
    wait_until(format!("{api} to see {id} {state}"), LIMIT, seen)
        .await
        .unwrap();
}
