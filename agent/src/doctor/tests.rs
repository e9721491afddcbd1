//! The whole examination, of an agent that does not run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::*;
use crate::config::FlagValue;

const SECRET: &str = "a secret of more than thirty-two characters";

/// Settings of an agent with ports that are free, and a data directory.
fn sources(directory: &Path, more: &[(&str, &str)]) -> Sources {
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let set = |key: &str, value: &str| FlagValue {
        flag: "--set".to_owned(),
        value: format!("{key}={value}"),
    };
    let mut flags = vec![
        set("node.data_dir", directory.to_str().unwrap()),
        set("peer.listen", &free()),
        set("api.listen", &free()),
        set("proxy.listen", &free()),
        set("app.url", &format!("http://{}", free())),
    ];
    flags.extend(more.iter().map(|(key, value)| set(key, value)));
    let secret = (
        OsString::from("BASIC_AGENT_PEER_SECRET"),
        OsString::from(SECRET),
    );
    Sources {
        file: None,
        environment: [secret].into_iter().collect(),
        flags,
    }
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    let mut checks = report.checks.iter();
    checks
        .find(|check| check.name == name)
        .unwrap_or_else(|| panic!("no {name} in {report:#?}"))
}

/// Names, sizes, modes, times and contents of all files.
fn snapshot(directory: &Path) -> BTreeMap<String, (u64, u32, i64, i64, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let metadata = entry.metadata().unwrap();
            let facts = (
                metadata.len(),
                metadata.mode(),
                metadata.mtime_nsec(),
                metadata.ctime_nsec(),
                fs::read(entry.path()).unwrap(),
            );
            (entry.file_name().into_string().unwrap(), facts)
        })
        .collect()
}

#[tokio::test]
async fn nothing_is_changed_and_no_secret_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let missing = examine(&sources(&data, &[])).await;
    assert!(!data.exists(), "it is not the doctor who makes it");

    fs::create_dir(&data).unwrap();
    drop(basic_sync::storage::JournaledStorage::open(&data, 1 << 20).unwrap());
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    drop(file.open(data.join("peer.secret")).unwrap());
    fs::write(data.join("peer.secret"), SECRET).unwrap();
    let before = (snapshot(&data), data.metadata().unwrap().mtime_nsec());
    let present = examine(&sources(&data, &[])).await;
    assert_eq!(
        before,
        (snapshot(&data), data.metadata().unwrap().mtime_nsec())
    );

    for report in [missing, present] {
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        for name in [
            "configuration",
            "secret",
            "data directory",
            "peer port (UDP)",
        ] {
            assert_eq!(check(&report, name).verdict, Verdict::Ok, "{report:#?}");
        }
        assert_eq!(check(&report, "clocks").verdict, Verdict::Unknown);
        assert_eq!(check(&report, "advertised address").verdict, Verdict::Ok);
        let app = check(&report, "app");
        assert!(app.fact.contains("does not run"), "{app:?}");
    }
}

#[tokio::test]
async fn a_store_that_another_process_has_open_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = basic_sync::storage::JournaledStorage::open(directory.path(), 1 << 20).unwrap();
    let report = examine(&sources(directory.path(), &[])).await;
    let found = check(&report, "store");
    assert_eq!(found.verdict, Verdict::Failure, "{found:?}");
    assert!(found.next.as_ref().unwrap().contains("[node] data_dir"));
    drop(store);
    let report = examine(&sources(directory.path(), &[])).await;
    assert!(report.checks.iter().all(|check| check.name != "store"));
}

#[tokio::test]
async fn a_configuration_that_would_be_refused_is_all_that_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let same = [
        ("api.listen", "127.0.0.1:9477"),
        ("proxy.listen", "127.0.0.1:9477"),
    ];
    let report = examine(&sources(directory.path(), &same)).await;
    assert_eq!(report.verdict, Verdict::Failure);
    assert!(
        report
            .checks
            .iter()
            .all(|check| check.name == "configuration")
    );
    let [problem] = report.checks.as_slice() else {
        panic!("{report:#?}");
    };
    assert!(problem.fact.contains("[api] listen"), "{problem:?}");
    assert!(
        problem.evidence[0].contains("--set proxy.listen"),
        "{problem:?}"
    );
}

#[tokio::test]
async fn the_data_directory_of_another_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let kept = "n1".parse().unwrap();
    let now = std::time::SystemTime::now();
    basic_membership::Identity::load_or_create(directory.path(), Some(kept), now).unwrap();
    let report = examine(&sources(directory.path(), &[("node.id", "n2")])).await;
    let id = check(&report, "node id");
    assert_eq!(id.verdict, Verdict::Failure, "{id:?}");
    assert!(id.fact.contains("n1") && id.fact.contains("n2"), "{id:?}");
}

#[tokio::test]
async fn a_seed_is_told_by_what_answers_there() {
    let directory = tempfile::tempdir().unwrap();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let stranger: SocketAddr = plain.local_addr().unwrap();
    // It hangs up as a web server does that is spoken to in TLS.
    let served = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = plain.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let seeds = format!("{stranger},{gone},no-such-host.invalid:9400");
    let report = examine(&sources(directory.path(), &[("peer.seeds", &seeds)])).await;
    served.join().unwrap();
    let found = |seed: &str| check(&report, &format!("seed {seed}"));
    let web = found(&stranger.to_string());
    assert_eq!(web.verdict, Verdict::Failure, "{web:?}");
    assert!(web.fact.contains("no agent"), "{web:?}");
    assert_eq!(found(&gone.to_string()).verdict, Verdict::Warning);
    let name = found("no-such-host.invalid:9400");
    assert!(
        name.verdict >= Verdict::Unknown && name.verdict != Verdict::Warning,
        "{name:?}"
    );
}
