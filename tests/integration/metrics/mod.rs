//! What an agent tells Prometheus, while a peer stops, comes back, dies and starts again.

mod exposition;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::json;

use crate::support::{LIMIT, assert_problem, put, wait_for_state};
use exposition::Exposition;

/// Tasks are tried again soon, and as often as the test takes.
const SETTINGS: &str =
    "\n[sync]\nretry_interval = \"200ms\"\nretries = 50\ntask_timeout = \"1s\"\n";
const WRITES: u32 = 20;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A series, and what its value is to be.
type Wanted = (&'static str, fn(f64) -> bool);

struct World {
    cluster: Cluster,
    nodes: Vec<Node>,
    client: Client,
}

impl World {
    async fn start() -> Self {
        let cluster = Cluster::prepare("metrics", 3).unwrap();
        cluster.layout().write().unwrap();
        for node in cluster.layout().iter() {
            let file = fs::File::options().append(true).open(node.config_file());
            file.unwrap().write_all(SETTINGS.as_bytes()).unwrap();
        }
        let start = |number| Node::start(cluster.binaries(), cluster.node(number)).unwrap();
        let nodes = (1..=3).map(start).collect();
        for observer in 1..=3 {
            for number in 1..=3 {
                wait_for_state(&cluster, observer, &format!("n{number}"), "active").await;
            }
        }
        Self {
            cluster,
            nodes,
            client: Client::default(),
        }
    }

    /// What node 1 tells who takes this, and what it says that it is.
    async fn text(&self, accept: &str) -> Result<(String, String), String> {
        let request = Request::get(self.cluster.api(1, "/metrics"))
            .header("accept", accept)
            .body(Bytes::new())
            .unwrap();
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        Ok((answer.text(), kind))
    }

    /// What node 1 tells, read strictly.
    async fn scrape(&self) -> Result<Exposition, String> {
        let (text, kind) = self.text("application/openmetrics-text").await?;
        assert_eq!(kind, OPEN_METRICS);
        Ok(Exposition::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}")))
    }

    /// Waits until all of these series of node 1 have such values.
    async fn wait_for(&self, what: &str, wanted: &[Wanted]) -> Exposition {
        wait_until(what, LIMIT, || async {
            let told = self.scrape().await?;
            let mut other = wanted.iter().filter(|(series, holds)| {
                let value = told.value(series);
                !value.is_some_and(holds)
            });
            match other.next() {
                None => Ok(told),
                Some((series, _)) => Err(format!("{series} is {:?}", told.value(series))),
            }
        })
        .await
        .unwrap()
    }

    /// What the linter of Prometheus says of node 1: nothing.
    async fn lint(&self) {
        let (text, kind) = self.text("text/plain").await.unwrap();
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        let Some(mut promtool) = promtool() else {
            return;
        };
        let mut promtool = promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = promtool.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = promtool.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
    }
}

/// The linter, of Debian's package `prometheus`; `None`, and a word, where it is missing.
fn promtool() -> Option<Command> {
    let runs = Command::new("promtool").arg("--version").output();
    if runs.is_ok_and(|output| output.status.success()) {
        return Some(Command::new("promtool"));
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "promtool is missing; scripts/test unpacks it"
    );
    eprintln!("skipped: promtool is not in the path");
    None
}

fn none(value: f64) -> bool {
    value == 0.0
}

fn one(value: f64) -> bool {
    value == 1.0
}

fn some(value: f64) -> bool {
    value >= 1.0
}

fn all_writes(value: f64) -> bool {
    value >= f64::from(WRITES)
}

#[tokio::test]
async fn a_scrape_shows_a_peer_fall_behind_and_catch_up_and_passes_the_linters() {
    let mut world = World::start().await;
    let (client, cluster) = (&world.client, &world.cluster);
    put(client, &cluster.api(1, "/v1/data/m/first"), &json!(0)).await;
    wait_until("an answer through the proxy", LIMIT, || async {
        let answer = client.get(&cluster.proxy(1, "/whoami")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let well = answer.status.is_success();
        well.then_some(()).ok_or_else(|| answer.text())
    })
    .await
    .unwrap();
    let well = world
        .wait_for(
            "all to be well",
            &[
                ("basic_agent_members{state=active}", |value| value == 3.0),
                ("basic_agent_peer_unacknowledged_writes{peer=n3}", none),
                ("basic_agent_peer_caught_up{peer=n3}", one),
                ("basic_agent_peer_trust{peer=n3,trust=full}", one),
                ("basic_agent_proxy_requests_total", some),
                ("basic_agent_replica_written_total", some),
            ],
        )
        .await;
    for series in [
        "basic_agent_build_info{version=0.1.0}",
        "basic_agent_node_info{cluster=jobfirst-cluster-1,node=n1}",
        "basic_agent_state{state=active}",
        "basic_agent_members{state=removed}",
        "basic_agent_member_up{member=n1}",
        "basic_agent_member_clock_offset_seconds{member=n2}",
        "basic_agent_app_healthy",
        "basic_agent_peer_queue_bytes{peer=n2}",
        "basic_agent_peer_error{peer=n2}",
        "basic_agent_origins_lacking",
        "basic_agent_roster_replicas{fenced=false}",
        "basic_agent_feed_head",
        "basic_agent_disk_free_bytes",
        "basic_agent_exported_writes",
        "basic_agent_watches",
        "basic_agent_gossip_datagrams_received_total",
        "basic_agent_peer_port_admitted_total",
        "basic_agent_endpoint_in_rotation{node=n3}",
        "basic_agent_events_unwritten_total",
        "cluster_nodes_total",
        "cluster_nodes_active",
        "cluster_requests_total",
        "cluster_request_duration_seconds_count{node=n1}",
        "sync_tasks_total",
        "sync_tasks_failed",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(well.value(series).is_some(), "{series} is missing");
    }
    assert_eq!(well.value("cluster_nodes_total"), Some(3.0));
    let no_task = well.value("basic_agent_sync_target_tasks_total{outcome=success,target=n3}");
    assert_eq!(no_task, None);
    world.lint().await;

    assert!(world.nodes[2].agent.signal(Signal::STOP).unwrap());
    for number in 0..WRITES {
        let url = cluster.api(1, &format!("/v1/data/m/k{number}"));
        put(client, &url, &json!(number)).await;
    }
    let task = json!({
        "task_id": "t1", "source_node": "basic-server-1", "target_nodes": ["n3"], "data_type": "user",
        "data": {"id": 1}, "priority": 5, "timestamp": "2025-09-19T16:15:47+08:00",
    });
    let url = cluster.api(1, "/v1/sync/tasks");
    let answer = client.post_json(&url, &task).await.unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
    world
        .wait_for(
            "node 3 alone to be late, and its task to be tried again",
            &[
                (
                    "basic_agent_peer_unacknowledged_writes{peer=n3}",
                    all_writes,
                ),
                ("basic_agent_peer_unacknowledged_seconds{peer=n3}", some),
                ("basic_agent_peer_silent_seconds{peer=n3}", some),
                ("basic_agent_peer_unacknowledged_writes{peer=n2}", none),
                ("basic_agent_peer_unacknowledged_seconds{peer=n2}", none),
                ("basic_agent_sync_task_retries_total", some),
                ("basic_agent_sync_tasks_completed_total", none),
                ("sync_tasks_total", one),
            ],
        )
        .await;
    world.lint().await;

    assert!(world.nodes[2].agent.signal(Signal::CONT).unwrap());
    world
        .wait_for(
            "node 3 to have all, and its task to be done",
            &[
                ("basic_agent_peer_unacknowledged_writes{peer=n3}", none),
                ("basic_agent_peer_unacknowledged_seconds{peer=n3}", none),
                ("basic_agent_sync_tasks_completed_total", one),
                (
                    "basic_agent_sync_target_tasks_total{outcome=success,target=n3}",
                    one,
                ),
                ("basic_agent_sync_tasks_pending{state=retrying}", none),
                ("sync_tasks_failed", none),
            ],
        )
        .await;

    assert!(world.nodes[2].agent.signal(Signal::KILL).unwrap());
    world
        .wait_for(
            "node 3 to be gone",
            &[
                ("basic_agent_members{state=failed}", one),
                ("basic_agent_member_up{member=n3}", none),
                ("basic_agent_peer_linked{peer=n3}", none),
                ("basic_agent_peer_error{peer=n3}", one),
            ],
        )
        .await;
    world.nodes[2].agent.exit(LIMIT).await.unwrap();
    let layout = world.cluster.node(3);
    world.nodes.pop();
    let again = Node::start(world.cluster.binaries(), layout).unwrap();
    world.nodes.push(again);
    world
        .wait_for(
            "node 3 to be back",
            &[
                ("basic_agent_members{state=active}", |value| value == 3.0),
                ("basic_agent_member_up{member=n3}", one),
                ("basic_agent_peer_linked{peer=n3}", one),
                ("basic_agent_peer_error{peer=n3}", none),
                ("basic_agent_peer_unacknowledged_writes{peer=n3}", none),
            ],
        )
        .await;
    world.lint().await;

    // The guards of the API are before it, and it is for reading only.
    let elsewhere = Request::get(world.cluster.api(1, "/metrics"))
        .header("origin", "http://evil.example")
        .body(Bytes::new());
    let answer = world.client.send(elsewhere.unwrap()).await.unwrap();
    assert_problem(&answer, 403);
    let url = world.cluster.api(1, "/metrics");
    let answer = world.client.delete(&url).await.unwrap();
    assert_problem(&answer, 405);
}
