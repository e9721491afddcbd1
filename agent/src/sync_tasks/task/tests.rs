//! The plan's JSON, and what comes near it.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What the plan's `ClusterSyncTask` with all members set marshals to, by Go's `encoding/json`.
const GOLDEN: &str = r#"{"task_id":"user_sync_1_1758298547","source_node":"basic-server-1","target_nodes":["basic-server-2","basic-server-3"],"data_type":"user","data":{"email":"liang@example.org","id":1,"role":"admin","status":"active","username":"梁鑫 \u003cadmin\u003e"},"priority":5,"timestamp":"2025-09-19T16:15:47.123456789+08:00"}"#;
/// The same type with nothing but what there must be, the rest as Go leaves it.
const GOLDEN_ZERO: &str = r#"{"task_id":"","source_node":"","target_nodes":null,"data_type":"config","data":{"id":"app"},"priority":0,"timestamp":"0001-01-01T00:00:00Z"}"#;

fn task(body: &str) -> Task {
    Task::from_json(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn refusal(body: &str) -> String {
    Task::from_json(body.as_bytes()).unwrap_err().to_string()
}

fn with_data(data_type: &str, data: Value) -> String {
    json!({ "data_type": data_type, "data": data }).to_string()
}

#[test]
fn the_plans_json_is_taken_as_it_is() {
    let task = task(GOLDEN);
    assert_eq!(task.id.as_deref(), Some("user_sync_1_1758298547"));
    assert_eq!(task.source.as_deref(), Some("basic-server-1"));
    assert_eq!(task.targets, ["basic-server-2", "basic-server-3"]);
    assert_eq!((task.data_type.as_str(), task.priority), ("user", 5));
    assert_eq!(
        task.timestamp.as_deref(),
        Some("2025-09-19T16:15:47.123456789+08:00")
    );
    assert_eq!(format!("{:?}", task.document), "users/1");
    let begin = GOLDEN.find(r#"{"email""#).unwrap();
    let end = GOLDEN.find(r#","priority""#).unwrap();
    assert_eq!(task.data, &GOLDEN[begin..end], "byte by byte");
}

#[test]
fn what_go_leaves_empty_stands_for_nothing() {
    let task = task(GOLDEN_ZERO);
    let nothing = (None, None, None, 0);
    assert_eq!(
        (task.id, task.source, task.timestamp, task.priority),
        nothing
    );
    assert!(task.targets.is_empty());
    assert_eq!(format!("{:?}", task.document), "config/app");
    let least = Task::from_json(br#"{"data_type":"config","data":{"id":"app"}}"#).unwrap();
    assert_eq!(least.fingerprint, task.fingerprint);
    assert!(refusal(&GOLDEN_ZERO.replace(r#"{"id":"app"}"#, "null")).contains("no \"data\""));
}

#[test]
fn the_key_is_the_first_that_there_is() {
    for (data_type, data, document) in [
        ("user", json!({"id": "u1", "user_id": 2}), "users/u1"),
        (
            "users",
            json!({"id": 18446744073709551615_u64}),
            "users/18446744073709551615",
        ),
        (
            "user",
            json!({"id": null, "user_id": -2, "uuid": "x"}),
            "users/-2",
        ),
        ("state", json!({"uuid": "a/b 梁"}), "state/a/b 梁"),
        ("business", json!({"business_id": "b"}), "business/b"),
        ("order-lines", json!({"id": 1}), "order-lines/1"),
    ] {
        assert_eq!(
            format!("{:?}", task(&with_data(data_type, data)).document),
            document
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    for (body, words) in [
        ("", "not a ClusterSyncTask"),
        ("[]", "expected a ClusterSyncTask"),
        (
            r#"{"data_type":"user","data":{"id":1},"action":"x"}"#,
            "unknown field `action`",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"priority":"high"}"#,
            "expected i64",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"priority":1.5}"#,
            "expected i64",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"target_nodes":"n2"}"#,
            "expected a sequence",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"timestamp":"yesterday"}"#,
            "RFC 3339",
        ),
        (
            r#"{"data_type":"user","data":{"id":1},"data":{"id":2}}"#,
            "duplicate field",
        ),
        (r#"{"data_type":"user","data":{"id":1}} {}"#, "trailing"),
        (
            r#"{"data_type":"user","data":{"id":1},"task_id":"a\u0000"}"#,
            "control characters",
        ),
        (r#"{"data":{"id":1}}"#, "no \"data_type\""),
        (r#"{"data_type":"user"}"#, "no \"data\""),
        (&with_data("user", json!([1])), "must be an object"),
        (
            &with_data("user", json!({})),
            "\"id\", \"user_id\" or \"uuid\"",
        ),
        (
            &with_data("user", json!({"id": 1.5})),
            "must be a string or a whole number",
        ),
        (
            &with_data("user", json!({"id": {}})),
            "must be a string or a whole number",
        ),
        (&with_data("user", json!({"id": ""})), "cannot be empty"),
        (
            &with_data("user", json!({"id": "k".repeat(513)})),
            "at most 512",
        ),
        (
            &with_data("User Data", json!({"id": 1})),
            "cannot name a collection",
        ),
    ] {
        let refusal = refusal(body);
        assert!(refusal.contains(words), "{body}: {refusal}");
    }
    let long = json!({"data_type": "user", "data": {"id": 1}, "task_id": "t".repeat(257)});
    assert!(refusal(&long.to_string()).contains("256"));
    let many = json!({"data_type": "user", "data": {"id": 1}, "target_nodes": vec!["n2"; 257]});
    assert!(refusal(&many.to_string()).contains("257 targets"));
    let source = json!({"data_type": "user", "data": {"id": 1}, "source_node": "s".repeat(257)});
    assert!(refusal(&source.to_string()).contains("257 bytes"));
}

#[test]
fn data_that_is_nested_too_deep_is_refused_and_does_not_overflow_the_stack() {
    for depth in [200, 1_000_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = format!(r#"{{"data_type":"user","data":{{"id":1,"a":{deep}}}}}"#);
        let refusal = refusal(&body);
        assert!(refusal.contains("recursion limit"), "{refusal}");
    }
}

#[test]
fn the_fingerprint_tells_contents_apart_and_nothing_else() {
    let first = task(GOLDEN).fingerprint;
    let spaced: Value = serde_json::from_str(GOLDEN).unwrap();
    let mut other = spaced.clone();
    other["task_id"] = json!("other");
    assert_eq!(
        task(&serde_json::to_string_pretty(&other).unwrap()).fingerprint,
        first
    );
    for (member, value) in [
        ("source_node", json!("x")),
        ("target_nodes", json!(["basic-server-3"])),
        ("data_type", json!("users")),
        ("data", json!({"id": 1})),
        ("priority", json!(6)),
        ("timestamp", json!("2025-09-19T16:15:48Z")),
    ] {
        let mut other = spaced.clone();
        other[member] = value;
        assert_ne!(task(&other.to_string()).fingerprint, first, "{member}");
    }
}

#[test]
fn a_new_id_is_a_uuid_of_version_7() {
    let id = new_id(0x0199_6000_abcd, [0xff; 10]);
    assert_eq!(id, "01996000-abcd-7fff-bfff-ffffffffffff");
    assert_eq!(new_id(1, [0; 10]), "00000000-0001-7000-8000-000000000000");
    assert!(is_id(&id));
}

proptest! {
    #[test]
    fn any_bytes_are_a_task_or_are_refused_without_a_panic(body: Vec<u8>) {
        let _ = Task::from_json(&body);
    }

    #[test]
    fn any_values_are_a_task_or_are_refused_without_a_panic(
        id in ".{0,300}", kind in "[a-z.A-Z]{0,70}", key in ".{0,600}", priority: i64, moment in ".{0,40}",
    ) {
        let body = json!({
            "task_id": id, "data_type": kind, "data": {"id": key}, "priority": priority, "timestamp": moment,
        });
        let _ = Task::from_json(body.to_string().as_bytes());
    }
}
