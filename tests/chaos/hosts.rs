//! The hosts themselves: nothing of them stays, whatever happens.

use std::fs;
use std::process::Command;

use basic_tests::harness::network::{Network, PREFIX};

use crate::world::network;

/// Where the names of hosts are kept.
const NAMES: &str = "/etc/netns";
/// No process has a pid as large as this.
const DEAD: &str = "9999999";

#[test]
fn hosts_are_gone_after_a_panic_and_those_of_a_dead_run_before_the_next() {
    if network(1).is_none() {
        return;
    }
    let dead = format!("{PREFIX}{DEAD}");
    let own = format!("{PREFIX}{}", std::process::id());
    succeed("ip", &["netns", "add", &format!("{dead}n1")]);
    succeed(
        "ip",
        &["link", "add", &format!("{dead}b"), "type", "bridge"],
    );
    succeed("nft", &["add", "table", "bridge", &dead]);
    fs::create_dir_all(format!("{NAMES}/{dead}n1")).unwrap();
    assert_eq!(names_with(&dead).len(), 3);

    let failed = std::panic::catch_unwind(|| {
        let network = Network::create(2).unwrap();
        assert_eq!(names_with(&dead), [""; 0]);
        // A table, a bridge, and for each host a namespace, its names and a port.
        let made = names_with(&own);
        assert_eq!(made.len(), 6, "{made:?}");
        network.isolate(1).unwrap();
        std::panic::resume_unwind(Box::new("the test fails here"));
    });
    let reason = *failed.unwrap_err().downcast::<&str>().unwrap();
    assert_eq!(reason, "the test fails here");
    assert_eq!(names_with(&own), [""; 0]);
}

/// The namespaces, with or without names, links and tables of the filter whose names begin so.
fn names_with(prefix: &str) -> Vec<String> {
    let lists = [
        succeed("ip", &["netns", "list"]),
        succeed("ip", &["-oneline", "link", "show"]),
        succeed("nft", &["list", "tables", "bridge"]),
        succeed("ls", &[NAMES]),
    ];
    let words = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    // A link is listed as `7: name@peer:`.
    let names = words.map(|word| word.split(['@', ':']).next().unwrap_or(word));
    let mut found: Vec<String> = names
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// What a command prints, which must succeed.
fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap()
}
