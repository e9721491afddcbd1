//! The command line itself, and the commands that need no agent.

use std::fs;

use clap::{CommandFactory as _, Parser as _};
use tempfile::TempDir;

use super::super::Cli;
use super::{run, run_in};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn the_command_line_is_consistent_in_itself() {
    Cli::command().debug_assert();
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_code_2() {
    for args in [
        &["basic-agent"][..],
        &["basic-agent", "statsu"],
        &["basic-agent", "run", "--wieght", "5"],
        &["basic-agent", "data", "get", "users"],
        &["basic-agent", "data", "get", "users", ""],
        &["basic-agent", "data", "list", "users", "--limit", "0"],
        &["basic-agent", "leave", "--timeout", "soon"],
        &["basic-agent", "sync", "repair", "--apply", "--dry-run"],
        &["basic-agent", "sync", "repair", "--partial"],
        &["basic-agent", "run", "--peer-secret", SECRET],
    ] {
        let error = Cli::try_parse_from(args).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args:?}");
    }
}

#[test]
fn flags_override_each_other_in_the_order_of_the_command_line() {
    let weight = |args: &[&str]| {
        let shown = run(&[&["config", "show", "--json"], args].concat());
        let json: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        json["app"]["weight"].clone()
    };
    assert_eq!(weight(&["--weight", "1", "--set", "app.weight=2"]), 2);
    assert_eq!(weight(&["--set", "app.weight=2", "--weight", "1"]), 1);
    assert_eq!(
        weight(&["--set", "app.weight=2", "--set", "app.weight=3"]),
        3
    );
}

#[test]
fn repeated_flags_of_a_list_add_up_and_a_switch_needs_no_value() {
    let shown = run(&[
        "config",
        "show",
        "--seed",
        "a:1",
        "--insecure",
        "--seed",
        "b:2",
    ]);
    assert!(
        shown.stdout.contains("seeds = [\"a:1\", \"b:2\"]"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("insecure = true"), "{}", shown.stdout);
    let shown = run_in(
        &[("BASIC_AGENT_PEER_INSECURE", "true")],
        &["config", "show", "--insecure=false"],
    );
    assert!(
        shown.stdout.contains("insecure = false"),
        "{}",
        shown.stdout
    );
}

#[test]
fn show_with_origin_tells_where_each_value_came_from() {
    let shown = run_in(
        &[("BASIC_AGENT_LOG_FORMAT", "json")],
        &["config", "show", "--origin", "--id", "n1"],
    );
    assert!(
        shown
            .stdout
            .contains("# environment BASIC_AGENT_LOG_FORMAT\n"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("# flag --id\n"), "{}", shown.stdout);
    assert!(shown.stdout.contains("# default\n"), "{}", shown.stdout);
}

#[test]
fn check_says_ok_with_a_summary_and_makes_nothing() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let checked = run(&[
        "config",
        "check",
        "--id",
        "n1",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert_eq!(checked.code, 0);
    assert_eq!(
        checked.stdout,
        format!(
            "ok: no file, so defaults, environment and flags\n\
             node   n1, in cluster jobfirst-cluster-1, data in {0}\n\
             peer   127.0.0.1:9400; no seeds, so this node begins a cluster or waits to be found\n\
             secret file {0}/peer.secret, made at the first start\n\
             app    http://127.0.0.1:8080, health /health, weight 100\n\
             api    http://127.0.0.1:9401\n\
             proxy  http://127.0.0.1:9402\n",
            data.display()
        )
    );
    assert!(!data.exists());
}

#[test]
fn check_tells_all_problems_and_ends_with_code_2() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("agent.toml");
    fs::write(&file, "[peer]\nadvertize = \"x\"\n[gossip]\nphi = \"x\"\n").unwrap();
    let file = file.to_str().unwrap();
    let checked = run(&["config", "check", "--config", file]);
    assert_eq!(checked.code, 2);
    assert_eq!(checked.stdout, "");
    assert_eq!(
        checked.stderr,
        format!(
            "error: the configuration has 2 problems, so nothing was started:\n  \
             {file}:2:1: [peer] advertize: unknown key; did you mean \"advertise\"?\n  \
             {file}:4:1: [gossip] phi: expected a number such as 8.0, found a string"
        )
    );
}

#[test]
fn check_refuses_a_secret_that_run_would_refuse() {
    let checked = run_in(
        &[("BASIC_AGENT_PEER_SECRET", "short")],
        &["config", "check"],
    );
    assert_eq!(checked.code, 2);
    assert!(
        checked
            .stderr
            .contains("has 5 characters; it needs 32 or more"),
        "{}",
        checked.stderr
    );
}

#[test]
fn the_default_configuration_passes_the_check() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("agent.toml");
    fs::write(&file, run(&["config", "default"]).stdout).unwrap();
    let data = dir.path().join("data");
    let flags = [
        "--config",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let checked = run(&[&["config", "check"], &flags[..]].concat());
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    assert!(
        checked
            .stdout
            .starts_with(&format!("ok: {}\n", file.display())),
        "{}",
        checked.stdout
    );
}

#[test]
fn run_hands_configuration_and_secret_to_the_agent_and_reports_its_error() {
    let started = run_in(
        &[("BASIC_AGENT_PEER_SECRET", SECRET)],
        &["run", "--cluster", "c1"],
    );
    assert_eq!(started.code, 1);
    assert_eq!(started.stderr, "error: c1 was started");
}

#[test]
fn run_with_a_wrong_configuration_starts_nothing() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let flags = [
        "run",
        "--data-dir",
        data.to_str().unwrap(),
        "--weight",
        "heavy",
    ];
    let started = run(&flags);
    assert_eq!(started.code, 2);
    assert!(
        started
            .stderr
            .contains("[app] weight: \"heavy\" is not an integer"),
        "{}",
        started.stderr
    );
    assert!(!data.exists());
}

#[test]
fn completions_know_the_commands_and_the_flags_of_the_schema() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completions", shell]).stdout;
        for word in ["members", "proxy-listen", "app-url"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
}
