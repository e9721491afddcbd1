//! `[collections.NAME]`: every refusal with its exact words.

use super::Given;
use super::collections::names;

#[track_caller]
fn file_is_refused(contents: &str, problems: &[&str]) {
    assert_eq!(Given::nothing().file(contents).problems(), problems);
}

#[test]
fn a_name_that_no_collection_can_have_is_refused_with_the_rule() {
    let rule = "cannot name a collection: use 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit";
    for (file, problem) in [
        (
            "\n[collections.Users]",
            format!("2:1: [collections]: \"Users\" {rule}; did you mean \"users\"?"),
        ),
        (
            "[collections]\n  \"a b\" = {}",
            format!("2:3: [collections]: \"a b\" {rule}"),
        ),
        (
            "[collections.\"\"]",
            format!("1:1: [collections]: \"\" {rule}"),
        ),
        (
            "[collections.\"\\u001b[2J\"]",
            format!("1:1: [collections]: \"\\u{{1b}}[2J\" {rule}"),
        ),
        (
            &format!("[collections.{}]", "x".repeat(65)),
            format!("1:1: [collections]: \"{}\" {rule}", "x".repeat(64)),
        ),
    ] {
        file_is_refused(file, &[&format!("agent.toml:{problem}")]);
    }
}

#[test]
fn a_name_that_belongs_to_the_agents_is_refused() {
    let belongs = "belongs to the agents, and so does every name that begins with \"agent.\"; choose another name";
    for name in ["agent.members", "agent.x", "agent."] {
        file_is_refused(
            &format!("[collections.\"{name}\"]"),
            &[&format!(
                "agent.toml:1:1: [collections]: \"{name}\" {belongs}"
            )],
        );
    }
    let config = Given::nothing()
        .file("[collections.agent]\n[collections.agents]\n")
        .config();
    assert_eq!(names(&config), ["agent", "agents"]);
}

#[test]
fn an_unknown_key_is_refused_with_what_was_meant() {
    for (line, fault) in [
        (
            "[collections.users]\nmerg = 1",
            "[collections.users] merg: unknown key; did you mean \"merge\"?",
        ),
        (
            "[collections.\"a.b\"]\ncolour = 1",
            "[collections.\"a.b\"] colour: unknown key; [collections.\"a.b\"] takes merge, document_max, ttl, history, history_age",
        ),
        (
            "[collections]\nmerge = \"set\"",
            "[collections] merge: unknown key; did you mean \"[collections.NAME] merge\"?",
        ),
        (
            "[replication]\nttl = \"1h\"",
            "[replication] ttl: unknown key; did you mean \"[collections.NAME] ttl\"?",
        ),
        (
            "# To TOML this is a table b in the collection a.\n[collections.a.b]\nmerge = \"set\"",
            "[collections.a] b: unknown key; did you mean \"[collections.\"a.b\"]\"?",
        ),
    ] {
        let problems = Given::nothing().file(line).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("agent.toml:2:"),
            "{problems:?} in {line}"
        );
        assert!(problems[0].ends_with(&format!(": {fault}")), "{problems:?}");
    }
    file_is_refused(
        "ttl = \"1h\"",
        &[
            "agent.toml:1:1: ttl: a key outside of any table; did you mean \"[collections.NAME] ttl\"?",
        ],
    );
    file_is_refused(
        "[collection.users]",
        &["agent.toml:1:2: [collection]: unknown table; did you mean \"[collections]\"?"],
    );
}

#[test]
fn something_else_than_a_table_is_refused() {
    file_is_refused(
        "collections = 5\n",
        &["agent.toml:1:1: [collections]: expected a table, found an integer"],
    );
    file_is_refused(
        "[collections]\nusers = \"fields\"\n",
        &["agent.toml:2:1: [collections.users]: expected a table, found a string"],
    );
    file_is_refused(
        "[[collections.users]]\n",
        &["agent.toml:1:15: [collections.users]: expected a table, found an array of tables"],
    );
}

#[test]
fn a_value_that_a_key_cannot_have_is_refused() {
    for (line, fault) in [
        (
            "merge = 1",
            "merge: expected \"lww\", \"fields\", \"counter\" or \"set\", found an integer",
        ),
        (
            "merge = \"feilds\"",
            "merge: \"feilds\" is not \"lww\", \"fields\", \"counter\" or \"set\"; did you mean \"fields\"?",
        ),
        (
            "document_max = 65536",
            "document_max: expected a size such as \"64MiB\", found an integer",
        ),
        (
            "document_max = \"1023B\"",
            "document_max: 1023B is out of range: from 1KiB to 1MiB",
        ),
        (
            "document_max = \"2MiB\"",
            "document_max: 2MiB is out of range: from 1KiB to 1MiB",
        ),
        (
            "ttl = \"soon\"",
            "ttl: \"soon\" is not a duration such as \"200ms\" or \"1m 30s\"",
        ),
        (
            "ttl = \"999ms\"",
            "ttl: 999ms is out of range: from 1s to 10years",
        ),
        (
            "ttl = \"11 years\"",
            "ttl: 11years is out of range: from 1s to 10years",
        ),
    ] {
        file_is_refused(
            &format!("[collections.users]\n{line}\n"),
            &[&format!("agent.toml:2:1: [collections.users] {fault}")],
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    file_is_refused(
        "[collections.\"agent.x\"]\nmerge = 1\n[collections.b]\nttl = 1\n[gossip]\nphi = 0\n",
        &[
            "agent.toml:1:1: [collections]: \"agent.x\" belongs to the agents, and so does every name that begins with \"agent.\"; choose another name",
            "agent.toml:2:1: [collections.\"agent.x\"] merge: expected \"lww\", \"fields\", \"counter\" or \"set\", found an integer",
            "agent.toml:4:1: [collections.b] ttl: expected a duration such as \"200ms\" or \"1m 30s\", found an integer",
            "agent.toml:6:1: [gossip] phi: 0.0 is out of range: from 1.0 to 32.0",
        ],
    );
}

#[test]
fn more_than_a_thousand_collections_are_refused() {
    let file = |count| {
        let tables = (0..count).map(|i| format!("c{i} = {{}}\n"));
        format!("\n[collections]\n{}", tables.collect::<String>())
    };
    let config = Given::nothing().file(file(1000)).config();
    assert_eq!(config.collections.len(), 1000);
    file_is_refused(
        &file(1001),
        &["agent.toml:2:1: [collections]: 1001 entries are more than the 1000 allowed"],
    );
}

#[test]
fn variables_and_flags_are_refused_and_sent_to_the_file() {
    let given = Given::nothing()
        .environment(&[
            ("BASIC_AGENT_COLLECTIONS", "users"),
            ("BASIC_AGENT_COLLECTIONS_USERS_MERGE", "fields"),
        ])
        .flag("--set", "collections.users.merge=fields");
    let only = "collections are set in the configuration file only; write [collections.NAME] there";
    assert_eq!(
        given.problems(),
        [
            format!("environment BASIC_AGENT_COLLECTIONS: {only}"),
            format!("environment BASIC_AGENT_COLLECTIONS_USERS_MERGE: {only}"),
            format!("flag --set collections.users.merge: {only}"),
        ]
    );
}
