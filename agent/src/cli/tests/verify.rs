//! `sync verify` and `sync repair`.

use super::run;
use super::server::{Server, json};

const DIFFERS: &str = r#"{"equal":false,"complete":true,"took_ms":1200,
    "nodes":[{"id":"n1","compared":true,"documents":7,"rows":40,"digest_right":true},
             {"id":"n2","compared":false,"error":"connection refused"},
             {"id":"n3","compared":true,"documents":7,"rows":40,"faulty":1,
              "faults":[{"kind":"write-not-in-index","collection":"users","key":"u2","write":"ab:7","position":null}]}],
    "differing":1,"mended":0,
    "differences":[{"collection":"users","key":"u1","parts":[{"part":"field","name":"age","holds":[
        {"node":"n1","state":"value","value":"31","version":"v1"},{"node":"n3","state":"removed","value":null,"version":"v2"}]}],
        "remedy":{"nodes":["n3"],"reason":"hash","outcome":"planned"}}]}"#;

#[test]
fn what_differs_is_a_table_and_ends_with_1() {
    let server = Server::answering(json("200 OK", DIFFERS));
    let shown = run(&[
        "sync",
        "verify",
        "--deep",
        "--timeout",
        "2m",
        "--api",
        &server.url(),
    ]);
    assert_eq!((shown.code, shown.stderr.as_str()), (1, ""));
    assert_eq!(
        server.lines(),
        ["POST /v1/sync/verify?timeout=120000ms&deep=true"]
    );
    let expected = "\
NODE  COMPARED  DOCUMENTS  TABLES
n1    yes       7          40 rows, right
n2    no        0          -
n3    yes       7          1 faults

KEY       PART       NODE  HOLDS
users/u1  field age  n1    31 at v1
users/u1  field age  n3    (removed) at v2

n2 was not compared: connection refused
n3 has 1 faults in its own tables: write-not-in-index users/u2 write ab:7
7 documents on 2 of 3 nodes compared in 1.2s: 1 keys differ
`basic-agent sync repair` says what would mend it
";
    assert_eq!(shown.stdout, expected);
}

#[test]
fn a_plan_says_what_would_change_where_and_why() {
    let server = Server::answering(json("200 OK", DIFFERS));
    let shown = run(&["sync", "repair", "--api", &server.url()]);
    assert_eq!(shown.code, 1);
    assert_eq!(server.lines(), ["POST /v1/sync/repair?timeout=60000ms"]);
    let line = "users/u1  n3          two copies of one write, and no majority: the choice is arbitrary  planned";
    assert!(shown.stdout.contains(line), "{}", shown.stdout);
    assert!(
        shown
            .stdout
            .ends_with("nothing was changed; `basic-agent sync repair --apply` does it\n")
    );
}

#[test]
fn what_is_applied_is_asked_for_in_so_many_words_and_ends_with_0_when_all_is_mended() {
    let mended = r#"{"equal":true,"complete":true,"nodes":[{"id":"n1","compared":true,"documents":7}],
        "differing":2,"mended":2}"#;
    let server = Server::answering(json("200 OK", mended));
    let shown = run(&[
        "sync",
        "repair",
        "--apply",
        "--partial",
        "--api",
        &server.url(),
    ]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    assert_eq!(
        server.lines(),
        ["POST /v1/sync/repair?timeout=60000ms&dry_run=false&partial=true"]
    );
    assert!(
        shown
            .stdout
            .ends_with("2 keys differed, 2 of them were mended\n"),
        "{}",
        shown.stdout
    );
}

#[test]
fn json_is_the_agents_own_and_the_exit_code_is_the_same() {
    let server = Server::answering(json("200 OK", DIFFERS));
    let shown = run(&["sync", "verify", "--json", "--api", &server.url()]);
    assert_eq!((shown.code, shown.stdout), (1, format!("{DIFFERS}\n")));
}
