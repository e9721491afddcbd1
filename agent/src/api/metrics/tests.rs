use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use basic_sync::model::{Epoch, Origin, PeerId, ReplicaId, SeqRange, Timestamp, VersionVector};
use basic_sync::net::{DiskFailure, DiskStatus, LinkStatus, Peer, PeerLag, Queued};
use basic_sync::protocol::{Counters, PeerStatus, Progress, Status, Trust};
use basic_sync::storage::state::{Digest, FeedEnds};
use prometheus_client::collector::Collector;
use serde_json::json;

use super::*;
use crate::api::author::NodeCounts;
use crate::api::sync::CountersView;
use crate::host::DiskSpace;
use crate::sync_tasks::Statistics;
use crate::sync_tasks::board::Counts;

/// The lines that are no comments.
fn written(collector: impl Collector, format: Format) -> Vec<String> {
    let mut all = Registry::default();
    all.register_collector(Box::new(collector));
    let text = format.write(&all).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_owned).collect()
}

/// The series of a family.
fn series(lines: &[String], family: &str) -> Vec<String> {
    let of_it = |line: &&String| {
        let rest = line.strip_prefix(family);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    lines.iter().filter(of_it).cloned().collect()
}

fn origin(replica: u8, epoch: u64) -> Origin {
    Origin {
        replica: ReplicaId([replica; 16]),
        epoch: Epoch(epoch),
    }
}

fn vector(has: &[(Origin, u64)]) -> VersionVector {
    let mut vector = VersionVector::default();
    for &(origin, last) in has {
        vector.insert_range(origin, SeqRange { first: 1, last });
    }
    vector
}

/// A peer that is linked, has told what it has and has all that there is.
fn level(name: &str) -> PeerStatus {
    PeerStatus {
        peer: PeerId::new(name),
        linked: true,
        near: true,
        lazy: false,
        heard: true,
        behind: 0,
        unacknowledged: 0,
        caught_up: true,
        trust: Trust::Full,
        progress: Progress::default(),
    }
}

fn lag(status: PeerStatus) -> PeerLag {
    PeerLag {
        peer: status.peer.clone(),
        status: Some(status),
        link: None,
        silent_for: Some(Duration::from_millis(250)),
        unacknowledged_for: None,
        behind_for: None,
    }
}

fn status(vector: VersionVector, peers: Vec<PeerStatus>) -> Status {
    Status {
        origin: origin(1, 7),
        written: 0,
        feed: FeedEnds::default(),
        digest: Digest::default(),
        vector,
        peers,
        dated_ahead: Vec::new(),
        floor: Timestamp::default(),
        roster: Vec::new(),
        filling: false,
        counters: Counters::default(),
    }
}

#[test]
fn a_hostile_name_stays_within_its_label() {
    let name = "a\"} 1\n# EOF\nup{x=\\\"\t梁";
    for format in [Format::OpenMetrics, Format::Prometheus] {
        let peers = peers::Peers::new(vec![lag(level(name))]);
        let lines = written(peers, format);
        let label = r#"{peer="a\"} 1\n# EOF\nup{x=\\\""#.to_owned() + "\t梁\"}";
        assert_eq!(
            series(&lines, "peer_linked"),
            [format!("peer_linked{label} 1")]
        );
        assert!(
            lines.iter().all(|line| line.starts_with("peer")),
            "{lines:?}"
        );
    }
}

#[test]
fn of_many_peers_the_near_ones_have_series_and_they_are_bounded() {
    let peer = |number: usize| lag(level(&format!("n{number}")));
    let mut lags: Vec<_> = (0..peers::PEERS_MAX + 500).map(peer).collect();
    let far = |lag: &mut PeerLag| lag.status.as_mut().unwrap().near = false;
    lags.iter_mut().take(100).for_each(far);
    let total = lags.len();
    let lines = written(peers::Peers::new(lags), Format::OpenMetrics);
    assert_eq!(series(&lines, "peers"), [format!("peers {total}")]);
    assert_eq!(series(&lines, "peers_listed"), ["peers_listed 1024"]);
    assert_eq!(series(&lines, "peer_linked").len(), peers::PEERS_MAX);
    assert!(!lines.iter().any(|line| line.contains("\"n99\"")));
}

#[test]
fn what_is_not_known_of_a_peer_is_left_out() {
    let peer = Peer {
        id: PeerId::new("n2"),
        address: "127.0.0.1:1".parse().unwrap(),
    };
    let link = LinkStatus {
        peer,
        up: false,
        since: SystemTime::now(),
        last_error: Some("connection refused".to_owned()),
        frames_lost: 3,
        queued: Queued::default(),
    };
    let never_linked = PeerLag {
        link: Some(link),
        status: None,
        silent_for: None,
        ..lag(level("n2"))
    };
    let never_heard = lag(PeerStatus {
        heard: false,
        unacknowledged: 4,
        ..level("n3")
    });
    let peers = vec![never_linked, never_heard];
    let lines = written(peers::Peers::new(peers), Format::OpenMetrics);
    let told = |family: &str| series(&lines, family);
    assert_eq!(told("peer_behind_writes"), [""; 0]);
    assert_eq!(told("peer_behind_seconds"), [""; 0]);
    assert_eq!(
        told("peer_unacknowledged_writes"),
        ["peer_unacknowledged_writes{peer=\"n3\"} 4"]
    );
    // Made in an earlier life, nobody knows when.
    assert_eq!(told("peer_unacknowledged_seconds"), [""; 0]);
    assert_eq!(told("peer_error"), ["peer_error{peer=\"n2\"} 1"]);
    assert_eq!(
        told("peer_frames_lost_total"),
        ["peer_frames_lost_total{peer=\"n2\"} 3"]
    );
    assert_eq!(
        told("peer_linked"),
        ["peer_linked{peer=\"n2\"} 0", "peer_linked{peer=\"n3\"} 1"]
    );
    let trust = told("peer_trust");
    assert_eq!(trust.len(), 10);
    assert!(trust.contains(&"peer_trust{peer=\"n2\",trust=\"unknown\"} 1".to_owned()));
    assert!(trust.contains(&"peer_trust{peer=\"n3\",trust=\"unknown\"} 0".to_owned()));
}

#[test]
fn a_peer_that_is_level_is_behind_by_nothing_for_no_time() {
    let late = PeerLag {
        behind_for: Some(Duration::from_millis(1_500)),
        ..lag(PeerStatus {
            behind: 7,
            ..level("n3")
        })
    };
    let lines = written(
        peers::Peers::new(vec![lag(level("n2")), late]),
        Format::Prometheus,
    );
    assert_eq!(
        series(&lines, "peer_behind_writes"),
        [
            "peer_behind_writes{peer=\"n2\"} 0",
            "peer_behind_writes{peer=\"n3\"} 7"
        ]
    );
    let seconds = series(&lines, "peer_behind_seconds");
    assert_eq!(seconds.len(), 2);
    assert!(seconds[1].ends_with("{peer=\"n3\"} 1.5"), "{seconds:?}");
}

#[test]
fn the_origins_of_which_most_is_lacking_are_told_of_once_however_many_peers_have_them() {
    let many: Vec<_> = (1..=100).map(|epoch| (origin(2, epoch), epoch)).collect();
    let strange = (origin(9, 1), 1_000);
    let ahead = |name: &str, own: Origin| PeerStatus {
        behind: 1,
        progress: Progress {
            origin: Some(own),
            vector: Some(Arc::new(vector(&[&many[..], &[strange]].concat()))),
            ..Progress::default()
        },
        ..level(name)
    };
    let peers = vec![ahead("n2", origin(2, 100)), ahead("n3", origin(3, 1))];
    let status = status(vector(&[(origin(1, 7), 3)]), peers);
    let lines = written(origins::Origins::new(&status, "n1"), Format::OpenMetrics);
    assert_eq!(series(&lines, "origins"), ["origins 1"]);
    assert_eq!(series(&lines, "origins_lacking"), ["origins_lacking 101"]);
    let lacking = series(&lines, "origin_lacking_writes");
    assert_eq!(lacking.len(), origins::ORIGINS_MAX);
    let told = |origin: Origin, node: &str, writes: u64| {
        format!("origin_lacking_writes{{origin=\"{origin}\",node=\"{node}\"}} {writes}")
    };
    assert_eq!(lacking[0], told(origin(9, 1), "", 1_000));
    assert_eq!(lacking[1], told(origin(2, 100), "n2", 100));
}

/// A new counter does not compile until it is here.
#[test]
fn every_counter_of_the_replica_is_told_under_its_name_in_the_api() {
    let counters = Counters {
        written: 1,
        taken_in: 2,
        superseded: 3,
        repeated: 4,
        pulls_begun: 5,
        pulls_completed: 6,
        pulls_abandoned: 7,
        pulls_served: 8,
        pulls_refused: 9,
        dated_ahead: 10,
        dates_come: 11,
        expired: 12,
        epochs_begun: 13,
        snapshots_taken: 14,
        snapshots_served: 15,
        collected: 16,
        buried: 17,
        fencings: 18,
        fenced: 19,
        exported: 20,
        untrusted: 21,
        forwarded: 22,
        pruned: 23,
        grafted: 24,
        roll_calls: 25,
    };
    let status = Status {
        counters,
        ..status(VersionVector::default(), Vec::new())
    };
    let replica = replica::Replica::new(Arc::new(status), 0);
    let lines = written(replica, Format::OpenMetrics);
    let told: BTreeMap<String, u64> = lines
        .iter()
        .filter_map(|line| {
            let (name, value) = line.strip_prefix("replica_")?.split_once(' ')?;
            let name = name.strip_suffix("_total")?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect();
    assert_eq!(json!(told), json!(CountersView(counters)));
    // Nothing is let go of yet.
    assert_eq!(
        series(&lines, "deletions_settled_timestamp_seconds"),
        [""; 0]
    );
}

#[test]
fn a_disk_that_does_not_answer_is_asked_for_nothing() {
    let failure = DiskFailure {
        full: true,
        reason: "no space left on device".to_owned(),
        since: SystemTime::now(),
        last: SystemTime::now(),
    };
    let store = store::Store {
        disk: DiskStatus {
            stuck: Some(Duration::from_secs(9)),
            failure: Some(failure),
        },
        space: None,
        exported: None,
    };
    let lines = written(store, Format::OpenMetrics);
    assert_eq!(
        lines,
        [
            "store_stuck 1",
            "store_stuck_seconds 9.0",
            "store_failing 1",
            "store_full 1"
        ]
    );
    let store = store::Store {
        disk: DiskStatus::default(),
        space: Some(DiskSpace { free: 1, total: 2 }),
        exported: Some(0),
    };
    let lines = written(store, Format::OpenMetrics);
    assert_eq!(
        lines,
        [
            "store_stuck 0",
            "store_failing 0",
            "store_full 0",
            "disk_free_bytes 1",
            "disk_size_bytes 2",
            "exported_writes 0"
        ]
    );
}

#[test]
fn tasks_are_told_of_under_our_names_and_the_authors() {
    let mut statistics = Statistics {
        total_sync_tasks: 9,
        completed_sync_tasks: 4,
        failed_sync_tasks: 2,
        retry_sync_tasks: 7,
        sync_targets: BTreeMap::new(),
    };
    statistics
        .sync_targets
        .entry("n2".to_owned())
        .or_default()
        .success = 4;
    let counts = Counts {
        queued: 2,
        running: 1,
        retrying: 0,
        refused: 5,
    };
    let tasks = tasks::Tasks { counts, statistics };
    assert_eq!(
        written(tasks, Format::OpenMetrics),
        [
            "sync_tasks_pending{state=\"queued\"} 2",
            "sync_tasks_pending{state=\"running\"} 1",
            "sync_tasks_pending{state=\"retrying\"} 0",
            "sync_tasks_total 9",
            "sync_tasks_completed_total 4",
            "sync_tasks_failed_total 2",
            "sync_task_retries_total 7",
            "sync_tasks_refused_total 5",
            "sync_target_tasks_total{target=\"n2\",outcome=\"success\"} 4",
            "sync_target_tasks_total{target=\"n2\",outcome=\"failed\"} 0"
        ]
    );
    let author = author::Author {
        nodes: NodeCounts {
            total: 3,
            active: 2,
        },
        requests: 8,
        endpoints: Vec::new(),
        tasks: 9,
        tasks_failed: 2,
    };
    assert_eq!(
        written(author, Format::Prometheus),
        [
            "cluster_nodes_total 3",
            "cluster_nodes_active 2",
            "cluster_requests_total 8",
            "sync_tasks_total 9",
            "sync_tasks_failed 2"
        ]
    );
}
