//! What is read as a batch, and what is refused, in which words.

use std::time::Duration;

use basic_sync::model::document::Action;
use basic_sync::protocol::Condition;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(body: &Value) -> Result<Vec<Operation>, Value> {
    let body = Bytes::from(body.to_string());
    operations(&body).map_err(|problem| serde_json::to_value(problem).unwrap())
}

/// What a batch is refused for whose second operation is this one.
fn refusal(second: Value) -> Value {
    let first = json!({"op": "put", "collection": "users", "key": "u1", "value": 1});
    read(&json!({"operations": [first, second]})).unwrap_err()
}

#[test]
fn operations_are_read_in_their_order_with_all_that_stands_beside_them() {
    let version = "1c9-0123456789abcdef0123456789abcdef-7-3";
    let read = read(&json!({"operations": [
        {"op": "put", "collection": "users", "key": "u1", "value": {"a": 1}, "ttl": "30m", "if_absent": true},
        {"op": "patch", "collection": "users", "key": "u1", "value": {"a": null}, "if_match": version},
        {"op": "delete", "collection": "other", "key": "a/b", "if_match": "*"},
        {"op": "put", "collection": "users", "key": "u2", "value": null, "if_absent": false},
    ]}));
    let read = read.unwrap();
    let actions: Vec<Action> = read.iter().map(|one| one.action.clone()).collect();
    assert_eq!(
        actions,
        [
            Action::Put(Bytes::from_static(b"{\"a\":1}")),
            Action::Patch(Bytes::from_static(b"{\"a\":null}")),
            Action::Delete,
            Action::Put(Bytes::from_static(b"null")),
        ]
    );
    let conditions: Vec<Condition> = read.iter().map(|one| one.condition).collect();
    assert_eq!(
        conditions,
        [
            Condition::Absent,
            Condition::Is(version.parse().unwrap()),
            Condition::Exists,
            Condition::Always
        ]
    );
    assert_eq!(read[0].ttl, Some(Duration::from_secs(1800)));
    assert_eq!(read[1].ttl, None);
    let names: Vec<String> = read.iter().map(name).collect();
    assert_eq!(names, ["users/u1", "users/u1", "other/a/b", "users/u2"]);
}

#[test]
fn an_operation_that_makes_no_sense_is_named() {
    let with = |member: &str, value: Value| {
        let mut order = json!({"op": "put", "collection": "users", "key": "u2", "value": 1});
        order[member] = value;
        order
    };
    for (order, status, words) in [
        (
            json!({"op": "put", "collection": "users", "key": "u2"}),
            400,
            "needs a \"value\"",
        ),
        (
            json!({"op": "patch", "collection": "users", "key": "u2"}),
            400,
            "needs a \"value\"",
        ),
        (with("op", json!("delete")), 400, "takes no \"value\""),
        (with("ttl", json!("1ms")), 400, "ttl must be"),
        (
            json!({"op": "delete", "collection": "users", "key": "u2", "ttl": "30m"}),
            400,
            "takes no \"ttl\"",
        ),
        (
            with("if_match", json!("7")),
            400,
            "if_match: not a revision",
        ),
        (
            json!({"op": "delete", "collection": "users", "key": "u2", "if_match": "*", "if_absent": true}),
            400,
            "not both",
        ),
        (with("key", json!("")), 400, "key"),
        (with("collection", json!("us ers")), 400, "us ers"),
        (
            with("collection", json!("agent.members")),
            403,
            "belongs to the agents",
        ),
    ] {
        let problem = refusal(order.clone());
        assert_eq!(problem["status"], status, "{order}: {problem}");
        assert_eq!(problem["operation"], 1, "{order}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("operations[1] ("), "{detail}");
        assert!(detail.contains(words), "{order}: {detail}");
    }
}

#[test]
fn what_is_not_known_or_not_there_is_refused() {
    for order in [
        json!({"op": "put", "collection": "users", "key": "u2", "value": 1, "tll": "30m"}),
        json!({"op": "get", "collection": "users", "key": "u2"}),
        json!({"collection": "users", "key": "u2", "value": 1}),
        json!({"op": "put", "key": "u2", "value": 1}),
        json!("put"),
    ] {
        let problem = refusal(order);
        assert_eq!(problem["status"], 400, "{problem}");
        assert!(problem["next"].as_str().unwrap().contains("operations"));
    }
    for body in [json!({}), json!([]), json!({"operations": [], "acks": 1})] {
        assert_eq!(read(&body).unwrap_err()["status"], 400, "{body}");
    }
}

#[test]
fn a_refusal_of_the_replica_names_the_operation_that_it_is_about() {
    let names = ["users/u1".to_owned(), "users/u2".to_owned()];
    let detail = |refused, names: &[String]| {
        let problem = failed(WriteError::Refused(refused), names);
        let problem = serde_json::to_value(problem).unwrap();
        (
            problem["operation"].clone(),
            problem["detail"].as_str().unwrap().to_owned(),
        )
    };
    let conflict = || WriteRefused::Conflict("no counter".to_owned());
    let second = WriteRefused::Operation {
        index: 1,
        reason: Box::new(conflict()),
    };
    assert_eq!(
        detail(second, &names),
        (json!(1), "operations[1] (users/u2): no counter".to_owned())
    );
    assert_eq!(
        detail(conflict(), &names[..1]),
        (json!(0), "operations[0] (users/u1): no counter".to_owned())
    );
    assert_eq!(
        detail(WriteRefused::TooManyWaiting, &names[..1]).0,
        Value::Null
    );
    assert_eq!(detail(WriteRefused::DiskFull, &names).0, Value::Null);
}

proptest! {
    /// Whatever a body is, it is read or refused; what is read is what a client could have said by single writes.
    #[test]
    fn any_body_is_read_or_refused_without_a_panic(
        text in ".{0,60}",
        members in proptest::collection::vec(("op|collection|key|value|ttl|if_match|if_absent|x", "put|delete|users|u1|1|null|true|\\*"), 0..7),
    ) {
        let _ = operations(&Bytes::from(text.clone()));
        let mut order = serde_json::Map::new();
        for (member, value) in members {
            let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
            order.insert(member, value);
        }
        let unknown = order.contains_key("x");
        let read = read(&json!({"operations": [order]}));
        prop_assert!(!(unknown && read.is_ok()));
        let _ = operations(&Bytes::from(format!("{{\"operations\":[{text}]}}")));
    }
}
