//! Tasks in the plan's JSON: carried out by priority, confirmed by the nodes that they name, and never lost.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::{Answer, Client};
use basic_tests::harness::node::{Node, Service, agent_command};
use basic_tests::harness::process::Signal;
use basic_tests::harness::wait::wait_until;
use http::Method;
use serde_json::{Value, json};

use crate::support::{LIMIT, assert_problem, wait_for_document, wait_for_state};

/// Settings under which node 1 is busy with one task for as long as its target is stopped: it has one worker, and is
/// slow to believe that a node is down.
const BUSY: &str = "[sync]\nworkers = 1\nqueue_max = 3\nretry_interval = \"200ms\"\nretries = 50\ntask_timeout = \"60s\"\n\n[gossip]\nphi = 32.0\n";

/// A cluster whose nodes run as children of the test.
struct World {
    cluster: Cluster,
    nodes: Vec<Node>,
    client: Client,
}

impl World {
    /// As many nodes as there are settings, each with those.
    async fn start(name: &str, settings: &[&str]) -> Self {
        let count = u16::try_from(settings.len()).unwrap();
        let cluster = Cluster::prepare(name, count).unwrap();
        cluster.layout().write().unwrap();
        for (node, settings) in cluster.layout().iter().zip(settings) {
            let file = fs::File::options().append(true).open(node.config_file());
            write!(file.unwrap(), "\n{settings}").unwrap();
        }
        let start = |number| Node::start(cluster.binaries(), cluster.node(number)).unwrap();
        let nodes = (1..=count).map(start).collect();
        for observer in 1..=count {
            for number in 1..=count {
                wait_for_state(&cluster, observer, &format!("n{number}"), "active").await;
            }
        }
        Self {
            cluster,
            nodes,
            client: Client::default(),
        }
    }

    fn signal(&self, node: usize, signal: Signal) {
        assert!(self.nodes[node - 1].agent.signal(signal).unwrap());
    }

    async fn post(&self, node: u16, task: &Value) -> Answer {
        let url = self.cluster.api(node, "/v1/sync/tasks");
        self.client.post_json(&url, task).await.unwrap()
    }

    /// Gives node 1 a task about the user of that name, which it must accept.
    async fn accepted(&self, name: &str, priority: i64, target: &str) {
        let answer = self.post(1, &user(name, priority, &[target])).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    async fn task(&self, node: u16, id: &str) -> Result<Value, String> {
        let url = self.cluster.api(node, &format!("/v1/sync/tasks/{id}"));
        let answer = self
            .client
            .get(&url)
            .await
            .map_err(|error| error.to_string())?;
        match answer.status.as_u16() {
            200 => Ok(answer.json()),
            _ => Err(answer.text()),
        }
    }

    async fn wait_for(&self, node: u16, id: &str, status: &str) -> Value {
        wait_until(format!("task {id} to be {status}"), LIMIT, || async {
            let task = self.task(node, id).await?;
            match task["status"] == status {
                true => Ok(task),
                false => Err(task.to_string()),
            }
        })
        .await
        .unwrap()
    }

    async fn statistics(&self, node: u16) -> Value {
        let url = self.cluster.api(node, "/v1/sync/stats");
        self.client.get(&url).await.unwrap().json()
    }

    async fn document(&self, node: u16, path: &str) -> Answer {
        let url = self.cluster.api(node, &format!("/v1/data/{path}"));
        self.client.get(&url).await.unwrap()
    }
}

fn user(name: &str, priority: i64, targets: &[&str]) -> Value {
    json!({
        "task_id": name, "source_node": "basic-server-1", "target_nodes": targets, "data_type": "user",
        "data": {"id": name}, "priority": priority, "timestamp": "2025-09-19T16:15:47.123456789+08:00",
    })
}

/// Which of its node's writes a version is.
fn sequence(version: &Value) -> u64 {
    let digits = version.as_str().unwrap().rsplit('-').next().unwrap();
    u64::from_str_radix(digits, 16).unwrap()
}

#[tokio::test]
async fn a_task_reaches_the_disks_of_the_nodes_that_it_names_and_is_done_once() {
    let world = World::start("tasks", &["", "", ""]).await;
    // Byte by byte what the plan's type marshals to.
    let sent = r#"{"task_id":"user_sync_1_1758298547","source_node":"basic-server-1","target_nodes":["n2","n3"],"data_type":"user","data":{"id":1,"username":"梁鑫 \u003cadmin\u003e"},"priority":5,"timestamp":"2025-09-19T16:15:47.123456789+08:00"}"#;
    let url = world.cluster.api(1, "/v1/sync/tasks");
    let post = |body: &str| {
        world
            .client
            .call(Method::POST, &url, body.to_owned().into())
    };
    let answer = post(sent).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = "user_sync_1_1758298547";
    assert_eq!(answer.json(), json!({"task_id": id, "status": "queued"}));
    assert_eq!(
        answer.header("location"),
        Some("/v1/sync/tasks/user_sync_1_1758298547")
    );
    let done = world.wait_for(1, id, "completed").await;
    assert_eq!(
        (&done["node"], &done["attempts"]),
        (&json!("n1"), &json!(1)),
        "{done}"
    );
    assert_eq!(done["source_node"], "basic-server-1");
    let targets = done["targets"].as_object().unwrap();
    assert_eq!(targets.keys().collect::<Vec<_>>(), ["n2", "n3"]);
    assert!(
        targets
            .values()
            .all(|target| target["status"] == "confirmed"),
        "{done}"
    );
    for node in [2, 3] {
        let read = world.document(node, "users/1").await;
        assert_eq!(
            read.text(),
            r#"{"id":1,"username":"梁鑫 \u003cadmin\u003e"}"#,
            "node {node}"
        );
        let tag = read.header("etag").unwrap().trim_matches('"').to_owned();
        assert_eq!(done["version"], tag, "node {node}");
        // Any node can tell what became of it.
        world.wait_for(node, id, "completed").await;
    }

    // The same again is the same task; under its id nothing else is done.
    let again = post(sent).await.unwrap();
    assert_eq!(
        (again.status.as_u16(), &again.json()["status"]),
        (200, &json!("completed"))
    );
    let by_2 = world.cluster.api(2, "/v1/sync/tasks");
    let by_2 = world.client.call(Method::POST, &by_2, sent.into()).await;
    assert_eq!(by_2.unwrap().status, 200);
    assert_problem(
        &post(&sent.replace(r#""id":1"#, r#""id":2"#)).await.unwrap(),
        409,
    );
    let read = world.document(1, "users/1").await;
    assert_eq!(
        read.header("etag").unwrap().trim_matches('"'),
        done["version"]
    );

    // Without an id it is given one, and without names it is for all.
    let config = r#"{"task_id":"","source_node":"","target_nodes":null,"data_type":"config","data":{"id":"app","level":"info"},"priority":0,"timestamp":"0001-01-01T00:00:00Z"}"#;
    let answer = post(config).await.unwrap();
    let made = answer.json()["task_id"].as_str().unwrap().to_owned();
    assert_eq!(made.len(), 36, "{made}");
    let done = world.wait_for(1, &made, "completed").await;
    let targets = done["targets"].as_object().unwrap();
    assert_eq!(targets.keys().collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    assert_eq!(
        world.document(3, "config/app").await.json()["level"],
        "info"
    );

    let statistics = world.statistics(1).await;
    assert_eq!(statistics["total_sync_tasks"], 2, "{statistics}");
    assert_eq!(statistics["completed_sync_tasks"], 2, "{statistics}");
    assert_eq!(statistics["failed_sync_tasks"], 0, "{statistics}");
    assert_eq!(
        statistics["sync_targets"]["n2"],
        json!({"success": 2, "failed": 0})
    );
    let list = world
        .client
        .get(&format!("{url}?status=completed&limit=1"))
        .await
        .unwrap();
    assert_eq!(list.json()["items"][0]["task_id"], made);
}

#[tokio::test]
async fn the_command_line_gives_a_task_and_shows_what_became_of_it() {
    let world = World::start("tasks-cli", &[""]).await;
    let api = world.cluster.api(1, "");
    let agent = |arguments: &[&str]| {
        let mut command = Command::new(world.cluster.binaries().agent());
        command
            .args(["sync", "task"])
            .args(arguments)
            .args(["--api", &api]);
        command
    };
    let mut put = agent(&["put", "-"]);
    let put = put.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = put.spawn().unwrap();
    let task = json!({"data_type": "state", "data": {"id": "s1"}});
    child
        .stdin
        .take()
        .unwrap()
        .write_all(task.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    world.wait_for(1, &id, "completed").await;
    for arguments in [
        &["get", id.as_str()][..],
        &["list", "--status", "completed"],
    ] {
        let shown = agent(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(
            text.contains("completed") && text.contains("state/s1"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_target_that_is_down_is_tried_again_until_it_returns_or_the_retries_are_used_up() {
    let patient = "[sync]\nretries = 50\nretry_interval = \"200ms\"\n";
    let impatient = "[sync]\nretries = 2\nretry_interval = \"100ms\"\ntask_timeout = \"1s\"\n";
    let world = World::start("tasks-down", &[patient, impatient, ""]).await;
    world.signal(3, Signal::STOP);
    for node in [1, 2] {
        let name = format!("by-{node}");
        let answer = world.post(node, &user(&name, 0, &["n1", "n2", "n3"])).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    let failed = world.wait_for(2, "by-2", "failed").await;
    assert_eq!(failed["attempts"], 3, "{failed}");
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("n3: ") && error.contains("reaches all nodes"),
        "{failed}"
    );
    assert_eq!(failed["targets"]["n1"]["status"], "confirmed", "{failed}");
    assert_eq!(failed["targets"]["n3"]["status"], "failed", "{failed}");
    let statistics = world.statistics(2).await;
    assert_eq!(statistics["failed_sync_tasks"], 1, "{statistics}");
    assert_eq!(statistics["retry_sync_tasks"], 2, "{statistics}");
    assert_eq!(
        statistics["sync_targets"]["n3"],
        json!({"success": 0, "failed": 1})
    );
    assert_eq!(
        statistics["sync_targets"]["n1"],
        json!({"success": 1, "failed": 0})
    );

    let retrying = world.wait_for(1, "by-1", "retrying").await;
    assert_eq!(
        retrying["targets"]["n2"]["status"], "confirmed",
        "{retrying}"
    );
    assert!(
        retrying["targets"]["n3"]["reason"].is_string(),
        "{retrying}"
    );
    assert!(retrying["next_attempt_at"].is_string(), "{retrying}");
    assert_eq!(world.document(2, "users/by-1").await.status, 200);
    world.signal(3, Signal::CONT);
    let done = world.wait_for(1, "by-1", "completed").await;
    assert!(done["attempts"].as_u64() > Some(1), "{done}");
    let statistics = world.statistics(1).await;
    let retries = done["attempts"].as_u64().unwrap() - 1;
    assert_eq!(statistics["retry_sync_tasks"], retries, "{statistics}");
    assert_eq!(
        statistics["sync_targets"]["n3"],
        json!({"success": 1, "failed": 0})
    );
    // What failed was late, and not lost.
    let late = world.cluster.api(3, "/v1/data/users/by-2");
    wait_for_document(&world.client, &late).await;
}

#[tokio::test]
async fn a_high_priority_overtakes_a_full_queue_and_what_does_not_fit_is_refused_aloud() {
    let world = World::start("tasks-full", &[BUSY, "", ""]).await;
    world.signal(3, Signal::STOP);
    world.accepted("busy", 0, "n3").await;
    world.wait_for(1, "busy", "running").await;
    for name in ["low-1", "low-2", "low-3"] {
        world.accepted(name, 0, "n2").await;
    }
    let refused = world.post(1, &user("low-4", 0, &["n2"])).await;
    assert_problem(&refused, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    world.accepted("high", 9, "n2").await;
    assert_problem(&world.post(1, &user("high-2", 9, &["n2"])).await, 429);
    assert_eq!(
        world.statistics(1).await["tasks"],
        json!({"queued": 4, "running": 1, "retrying": 0, "refused": 2})
    );
    for refused in ["low-4", "high-2"] {
        assert!(world.task(1, refused).await.is_err());
    }

    world.signal(3, Signal::CONT);
    let mut order = Vec::new();
    for name in ["busy", "low-1", "low-2", "low-3", "high"] {
        let done = world.wait_for(1, name, "completed").await;
        order.push((sequence(&done["version"]), name));
    }
    order.sort_unstable();
    let order: Vec<&str> = order.into_iter().map(|(_, name)| name).collect();
    assert_eq!(order, ["busy", "high", "low-1", "low-2", "low-3"]);
    // There is room again.
    world.accepted("low-4", 0, "n2").await;
    world.wait_for(1, "low-4", "completed").await;
}

#[tokio::test]
async fn an_accepted_task_survives_the_kill_of_its_node_and_takes_effect_once() {
    let mut world = World::start("tasks-kill", &[BUSY, "", ""]).await;
    world.signal(3, Signal::STOP);
    world.accepted("busy", 0, "n3").await;
    world.wait_for(1, "busy", "running").await;
    wait_for_document(&world.client, &world.cluster.api(2, "/v1/data/users/busy")).await;
    let written = world.document(2, "users/busy").await;
    world.accepted("waits", 0, "n2").await;
    assert_problem(&world.document(1, "users/waits").await, 404);

    world.signal(1, Signal::KILL);
    world.nodes[0].agent.exit(LIMIT).await.unwrap();
    world.signal(3, Signal::CONT);
    let layout = world.cluster.node(1);
    let mut agent = agent_command(world.cluster.binaries(), &layout);
    world.nodes[0].agent = Service::start(&mut agent, layout.agent_log()).unwrap();
    for name in ["busy", "waits"] {
        world.wait_for(1, name, "completed").await;
        world.wait_for(2, name, "completed").await;
    }
    let read = world.document(2, "users/waits").await;
    assert_eq!(read.json(), json!({"id": "waits"}));
    let after = world.document(2, "users/busy").await;
    assert_eq!(
        after.header("etag"),
        written.header("etag"),
        "it was written a second time"
    );
    let again = world.post(1, &user("waits", 0, &["n2"])).await;
    assert_eq!(again.status, 200, "{}", again.text());
    let statistics = world.statistics(1).await;
    assert_eq!(statistics["completed_sync_tasks"], 2, "{statistics}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_reason_and_nothing_is_done() {
    let world = World::start("tasks-refused", &[""]).await;
    let url = world.cluster.api(1, "/v1/sync/tasks");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let with =
        |data_type: &str, data: Value| json!({"data_type": data_type, "data": data}).to_string();
    for (body, status, words) in [
        ("not JSON".to_owned(), 400, "not a ClusterSyncTask"),
        ("{".to_owned(), 400, "not a ClusterSyncTask"),
        (
            r#"{"data_type":"user","data":{"id":1},"priority":"high"}"#.to_owned(),
            400,
            "i64",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"operation":"delete"}"#.to_owned(),
            400,
            "`operation`",
        ),
        (
            format!(r#"{{"data_type":"user","data":{{"id":1,"deep":{deep}}}}}"#),
            400,
            "recursion limit",
        ),
        (with("user", json!({})), 400, "has no key"),
        (with("user", json!(null)), 400, "no \"data\""),
        (with("user", json!("u1")), 400, "must be an object"),
        (
            with("User", json!({"id": 1})),
            400,
            "cannot name a collection",
        ),
        (
            with("agent.members", json!({"id": 1})),
            403,
            "belongs to the agents",
        ),
        (
            with("counters", json!({"id": 1})),
            400,
            "merges as a counter",
        ),
        (
            with("user", json!({"id": 1, "text": "x".repeat(1024 * 1024)})),
            413,
            "at most 1048576",
        ),
        (
            with(
                "user",
                json!({"id": 1, "text": "x".repeat(1024 * 1024 + 64 * 1024)}),
            ),
            413,
            "bytes here",
        ),
        (
            user("t", 0, &["n1", "n11"]).to_string(),
            400,
            "no node is called \"n11\"; did you mean \"n1\"?",
        ),
        (
            user("t", 0, &[""]).to_string(),
            400,
            "no node is called \"\"",
        ),
        (
            user("t", 0, &["../n1"]).to_string(),
            400,
            "no node is called",
        ),
    ] {
        let answer = world
            .client
            .call(Method::POST, &url, body.into())
            .await
            .unwrap();
        assert_problem(&answer, status);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{words}: {detail}");
    }
    for (path, status) in [
        ("/none", 404),
        ("?status=done", 400),
        ("?limit=0", 400),
        ("?state=failed", 400),
    ] {
        let answer = world.client.get(&format!("{url}{path}")).await.unwrap();
        assert_problem(&answer, status);
    }
    assert_eq!(
        world.client.get(&url).await.unwrap().json(),
        json!({"items": []})
    );
    assert_eq!(world.statistics(1).await["total_sync_tasks"], 0);
    for collection in ["users", "agent.tasks", "agent.task-data"] {
        let list = world.document(1, collection).await;
        assert_eq!(list.json()["items"], json!([]), "{collection}");
    }
}
