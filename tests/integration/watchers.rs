//! Watches: as many as ten thousand at once, too many, and those that nobody reads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use basic_tests::harness::cluster::Cluster;
use basic_tests::harness::http::Client;
use basic_tests::harness::load::quantile;
use basic_tests::harness::node::Node;
use basic_tests::harness::process::Usage;
use basic_tests::harness::wait::wait_until;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{LIMIT, assert_problem, put};

/// Watchers that are served at once.
const MANY: usize = 10_000;
/// Connections that are opened at once.
const OPENING: usize = 128;
/// Resident bytes that an idle watcher costs the agent, at most.
const WATCHER_BYTES_MAX: u64 = 48 * 1024;
const MIB: u64 = 1 << 20;

/// An open watch.
struct Watcher {
    stream: BufReader<TcpStream>,
    /// Cursor after the last event.
    cursor: String,
}

impl Watcher {
    /// Opens one from a cursor on, or from now on; `Err` is the status with which it was
    /// refused.
    async fn open(api: SocketAddr, query: &str) -> Result<Self, u16> {
        let mut watcher = Self::begin(api, query).await?;
        let cursor = async {
            // The first event has only the cursor.
            while watcher.cursor.is_empty() {
                watcher.line().await.expect("the first event");
            }
        };
        timeout(LIMIT, cursor).await.expect("a cursor in time");
        Ok(watcher)
    }

    /// The same, and nothing of it is read.
    async fn begin(api: SocketAddr, query: &str) -> Result<Self, u16> {
        let stream = TcpStream::connect(api).await.unwrap();
        let mut watcher = Self {
            stream: BufReader::with_capacity(2048, stream),
            cursor: String::new(),
        };
        let request = format!("GET /v1/watch?{query} HTTP/1.1\r\nhost: {api}\r\n\r\n");
        let opened = async {
            watcher.stream.write_all(request.as_bytes()).await.unwrap();
            let line = watcher.line().await.expect("an answer");
            let status: u16 = line.split(' ').nth(1).unwrap().parse().unwrap();
            match status {
                200 => Ok(()),
                _ => Err(status),
            }
        };
        timeout(LIMIT, opened).await.expect("a watch in time")?;
        Ok(watcher)
    }

    /// The next line, or `None` at the end. Sizes of chunks are lines too, and say nothing.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).await;
        if !matches!(read, Ok(bytes) if bytes > 0) {
            return None;
        }
        if let Some(cursor) = line.strip_prefix("id: ") {
            self.cursor = cursor.trim_end().to_owned();
        }
        Some(line)
    }

    /// The next change.
    async fn change(&mut self) -> Value {
        let next = async {
            loop {
                let line = self.line().await.expect("a change, and not the end");
                if let Some(data) = line.strip_prefix("data: ") {
                    return serde_json::from_str(data).unwrap();
                }
            }
        };
        timeout(LIMIT, next).await.expect("a change in time")
    }
}

/// A node alone, with a setting from its environment.
async fn node(name: &str, setting: Option<(&str, &str)>) -> (Cluster, Node, Client) {
    let cluster = Cluster::prepare(name, 1).unwrap();
    cluster.layout().write().unwrap();
    let node = Node::start_by(cluster.binaries(), cluster.node(1), |mut command| {
        command.envs(setting);
        command
    });
    let client = Client::default();
    let ready = cluster.api(1, "/readyz");
    wait_until("the agent to be ready", LIMIT, || async {
        let answer = client.get(&ready).await.map_err(|e| e.to_string())?;
        match answer.status.is_success() {
            true => Ok(()),
            false => Err(answer.text()),
        }
    })
    .await
    .unwrap();
    (cluster, node.unwrap(), client)
}

async fn stats(cluster: &Cluster, client: &Client) -> Value {
    let answer = client.get(&cluster.api(1, "/v1/sync/stats")).await;
    answer.unwrap().json()
}

/// Waits until so many watches are open.
async fn wait_for_watches(cluster: &Cluster, client: &Client, count: usize) {
    wait_until(format!("{count} watches"), LIMIT, || async {
        let open = stats(cluster, client).await["watches"].clone();
        match open == count {
            true => Ok(()),
            false => Err(format!("there are {open}")),
        }
    })
    .await
    .unwrap();
}

fn usage(node: &Node) -> Usage {
    node.agent.id().usage().expect("it runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_see_each_change_and_keep_nobody_from_asking() {
    let (cluster, node, client) = node("watchers", None).await;
    let api = cluster.node(1).api();
    let before = usage(&node);
    let began = Instant::now();
    let opening = stream::iter(0..MANY).map(|_| Watcher::open(api, "collection=news"));
    let watchers: Vec<Watcher> = opening
        .buffer_unordered(OPENING)
        .map(|opened| opened.unwrap())
        .collect()
        .await;
    let opened = began.elapsed();
    wait_for_watches(&cluster, &client, MANY).await;
    let idle = usage(&node);
    let each = (idle.resident - before.resident) / MANY as u64;
    eprintln!(
        "{MANY} watches open after {:.2} s; {:.1} MiB before, {:.1} MiB now: {each} bytes a watcher; {} open files",
        opened.as_secs_f64(),
        before.resident as f64 / MIB as f64,
        idle.resident as f64 / MIB as f64,
        idle.open_files,
    );
    assert!(each <= WATCHER_BYTES_MAX, "{each} bytes a watcher");

    // One change to one key, seen by all.
    let changes = 5;
    let first = Instant::now();
    let watching = watchers.into_iter().map(|mut watcher| {
        tokio::spawn(async move {
            let mut numbers = vec![watcher.change().await["value"]["n"].clone()];
            let seen = first.elapsed();
            for _ in 1..changes {
                numbers.push(watcher.change().await["value"]["n"].clone());
            }
            (watcher, seen, numbers)
        })
    });
    let watching: Vec<_> = watching.collect();
    // All of them wait for it.
    tokio::task::yield_now().await;
    let lead = first.elapsed();
    let url = cluster.api(1, "/v1/data/news/today");
    for n in 0..changes {
        put(&client, &url, &json!({ "n": n })).await;
    }
    let written = first.elapsed() - lead;
    let mut seen = Vec::new();
    let mut watchers = Vec::new();
    for watching in watching {
        let (watcher, after, numbers) = watching.await.unwrap();
        let expected: Vec<Value> = (0..changes).map(Value::from).collect();
        assert_eq!(numbers, expected, "each change once, in order");
        seen.push(after - lead);
        watchers.push(watcher);
    }
    let all = first.elapsed() - lead;
    seen.sort();
    eprintln!(
        "{changes} writes answered after {:.1} ms; the first change was seen after {:.1} ms (half), {:.1} ms (99 %), {:.1} ms (last); all {} events after {:.2} s",
        written.as_secs_f64() * 1e3,
        quantile(&seen, 0.5).as_secs_f64() * 1e3,
        quantile(&seen, 0.99).as_secs_f64() * 1e3,
        quantile(&seen, 1.0).as_secs_f64() * 1e3,
        changes * MANY,
        all.as_secs_f64(),
    );
    // A document with an end is seen to end.
    let short = cluster.api(1, "/v1/data/news/short?ttl=1s");
    put(&client, &short, &json!({})).await;
    for watcher in watchers.iter_mut().step_by(100) {
        assert_eq!(watcher.change().await["op"], "put");
        let end = watcher.change().await;
        assert_eq!([&end["op"], &end["reason"]], ["delete", "expired"], "{end}");
    }
    let after = usage(&node);
    eprintln!(
        "{:.1} MiB after all changes",
        after.resident as f64 / MIB as f64
    );
    let most = before.resident + MANY as u64 * WATCHER_BYTES_MAX;
    assert!(after.resident <= most, "{after:?}");
    drop(watchers);
    wait_for_watches(&cluster, &client, 0).await;
}

#[tokio::test]
async fn one_watch_too_many_is_told_to_come_back_and_requests_go_on() {
    let setting = ("BASIC_AGENT_API_WATCHES_MAX", "2");
    let (cluster, _node, client) = node("watch-bound", Some(setting)).await;
    let api = cluster.node(1).api();
    let first = Watcher::open(api, "")
        .await
        .unwrap_or_else(|s| panic!("{s}"));
    let _second = Watcher::open(api, "")
        .await
        .unwrap_or_else(|s| panic!("{s}"));
    let refused = client.get(&cluster.api(1, "/v1/watch")).await.unwrap();
    assert_problem(&refused, 503);
    assert!(refused.header("retry-after").is_some());
    let events = client.get(&cluster.api(1, "/v1/events?follow=true")).await;
    assert_problem(&events.unwrap(), 503);
    put(&client, &cluster.api(1, "/v1/data/users/u1"), &json!(1)).await;
    drop(first);
    wait_for_watches(&cluster, &client, 1).await;
    assert!(Watcher::open(api, "").await.is_ok());
}

#[tokio::test]
async fn who_does_not_read_costs_little_and_is_cut_off_and_the_feed_stays_bounded() {
    const SLOW: usize = 100;
    const WRITES: u64 = 320;
    let (cluster, node, client) = node("slow-watchers", None).await;
    let api = cluster.node(1).api();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let opened = Watcher::open(api, "collection=large").await;
        slow.push(opened.unwrap_or_else(|status| panic!("{status}")));
    }
    put(&client, &cluster.api(1, "/v1/data/large/first"), &json!(1)).await;
    let before = usage(&node);
    let document = Bytes::from(format!("\"{}\"", "x".repeat((1 << 20) - 64)));
    let began = Instant::now();
    for _ in 0..WRITES {
        let request = Request::put(cluster.api(1, "/v1/data/large/one"))
            .header("content-type", "application/json")
            .body(document.clone());
        let answer = client.send(request.unwrap()).await.unwrap();
        assert!(answer.status.is_success(), "{}", answer.text());
    }
    let after = usage(&node);
    let feed = stats(&cluster, &client).await["feed"].clone();
    eprintln!(
        "{WRITES} writes of 1 MiB in {:.1} s before {SLOW} watchers that do not read: {:.1} MiB before, {:.1} MiB after; the feed: {feed}",
        began.elapsed().as_secs_f64(),
        before.resident as f64 / MIB as f64,
        after.resident as f64 / MIB as f64,
    );
    // What they have not taken would be 32 GiB; the store's memory is in this as well.
    assert!(after.resident - before.resident <= 400 * MIB, "{after:?}");
    assert!(feed["past_bytes"].as_u64().unwrap() <= 257 * MIB, "{feed}");
    assert!(feed["floor"].as_u64().unwrap() > 0, "{feed}");

    wait_for_watches(&cluster, &client, 0).await;
    let mut late = slow.remove(0);
    let mut taken = Vec::new();
    // What the kernel had taken for it, and then the end.
    let _ = timeout(LIMIT, late.stream.read_to_end(&mut taken)).await;
    assert!((taken.len() as u64) < WRITES * MIB);
    let from = format!("collection=large&from={}", late.cursor);
    assert_eq!(Watcher::open(api, &from).await.err(), Some(410));
    let begun = Watcher::begin(api, "collection=large&from=snapshot").await;
    let mut anew = begun.unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(anew.change().await["key"], "first");
    assert_eq!(anew.change().await["key"], "one");
    assert_eq!(
        anew.change().await,
        json!({ "op": "snapshot-end", "documents": 2 })
    );
}

#[tokio::test]
async fn a_watch_from_a_snapshot_misses_nothing_that_is_written_meanwhile() {
    const KEYS: u64 = 2_000;
    let (cluster, _node, client) = node("snapshot-watch", None).await;
    let url = |collection: &str, number: u64| {
        cluster.api(1, &format!("/v1/data/{collection}/k{number:04}"))
    };
    let write = async |number: u64, value: Value| {
        put(&client, &url("users", number), &value).await;
    };
    stream::iter(0..KEYS)
        .for_each_concurrent(64, |number| write(number, json!("x".repeat(200))))
        .await;
    put(&client, &url("others", 1), &json!(1)).await;
    let gone = client.delete(&url("users", 7)).await.unwrap();
    assert!(gone.status.is_success());

    let api = cluster.node(1).api();
    let begun = Watcher::begin(api, "collection=users&prefix=k&from=snapshot").await;
    let mut watcher = begun.unwrap_or_else(|status| panic!("{status}"));
    // Some of it is on its way. Of the rest, what is changed now is seen as it was or as it is.
    let mut held = BTreeMap::new();
    let first = watcher.change().await;
    assert_eq!(watcher.cursor, "", "who breaks off here begins again");
    held.insert(first["key"].clone().to_string(), first);
    for number in (0..KEYS).step_by(50) {
        write(number, json!(number)).await;
        let gone = client.delete(&url("users", number + 1)).await.unwrap();
        assert!(gone.status.is_success());
    }
    write(KEYS, json!("the last")).await;
    let (mut documents, mut said) = (1, None);
    loop {
        let change = watcher.change().await;
        match change["op"].as_str() {
            Some("snapshot-end") => {
                assert!(said.is_none() && !watcher.cursor.is_empty(), "{change}");
                said = Some(change["documents"].clone());
                continue;
            }
            Some("put") => {
                held.insert(change["key"].to_string(), change.clone());
            }
            _ => {
                assert!(said.is_some(), "nothing is deleted in what is there");
                held.remove(&change["key"].to_string());
            }
        }
        documents += u64::from(said.is_none());
        if change["value"] == "the last" && said.is_some() {
            break;
        }
    }
    assert_eq!(said, Some(json!(documents)));
    let mut listed = BTreeMap::new();
    let mut after = String::new();
    loop {
        let page = cluster.api(1, &format!("/v1/data/users?limit=500&after={after}"));
        let page = client.get(&page).await.unwrap().json();
        for item in page["items"].as_array().unwrap() {
            listed.insert(item["key"].to_string(), item["version"].clone());
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let held = held.into_iter();
    let held: BTreeMap<_, _> = held
        .map(|(key, seen)| (key, seen["version"].clone()))
        .collect();
    assert_eq!(held, listed);
}
