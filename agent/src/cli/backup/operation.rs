//! Operations of a rollback, and other ways to do one that was refused.

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Elements that a set takes at once.
const ELEMENTS_MAX: usize = 4096;

/// An operation of a batch. Documents go through as text, digit by digit.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Operation {
    pub(super) op: &'static str,
    pub(super) collection: String,
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<String>,
}

/// Ways to do an operation that was refused, each as batches one after the other: alone; over nothing, since what is
/// there may be of another kind (a counter where there was a list); and a set, which takes so many elements at once, in
/// parts.
pub(super) fn attempts(operation: &Operation) -> Vec<Vec<Vec<Operation>>> {
    let mut ways = vec![vec![vec![operation.clone()]]];
    let Some(value) = operation.value.as_deref().filter(|_| operation.op == "put") else {
        return ways;
    };
    let change = |op, value| Operation {
        op,
        value,
        ttl: None,
        ..operation.clone()
    };
    ways.push(vec![vec![change("delete", None), operation.clone()]]);
    let elements: Vec<&RawValue> = serde_json::from_str(value.get()).unwrap_or_default();
    if elements.len() > ELEMENTS_MAX {
        let (first, rest) = elements.split_at(ELEMENTS_MAX);
        let first = Operation {
            value: raw(&first),
            ..operation.clone()
        };
        let rest = rest.chunks(ELEMENTS_MAX);
        let added = rest.map(|part| change("patch", raw(&json!({ "add": part }))));
        let parts = std::iter::once(first).chain(added);
        ways.push(parts.map(|part| vec![part]).collect());
    }
    ways
}

fn raw(value: &impl Serialize) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &str) -> Operation {
        Operation {
            op: "put",
            collection: "sets".to_owned(),
            key: "s".to_owned(),
            value: RawValue::from_string(value.to_owned()).ok(),
            ttl: Some("5000ms".to_owned()),
        }
    }

    fn text(way: &[Vec<Operation>]) -> String {
        serde_json::to_string(way).unwrap()
    }

    #[test]
    fn a_put_that_was_refused_is_tried_over_nothing_and_a_large_set_in_parts() {
        let ways = attempts(&put("1e400"));
        assert_eq!(ways.len(), 2);
        let over = r#"{"op":"put","collection":"sets","key":"s","value":1e400,"ttl":"5000ms"}"#;
        assert_eq!(text(&ways[0]), format!("[[{over}]]"));
        let delete = r#"{"op":"delete","collection":"sets","key":"s"}"#;
        assert_eq!(text(&ways[1]), format!("[[{delete},{over}]]"));

        let elements: Vec<usize> = (0..ELEMENTS_MAX * 2 + 1).collect();
        let ways = attempts(&put(&json!(elements).to_string()));
        let parts: Vec<&str> = ways[2].iter().map(|batch| batch[0].op).collect();
        assert_eq!(parts, ["put", "patch", "patch"]);
        let last = r#"[{"op":"patch","collection":"sets","key":"s","value":{"add":[8192]}}]"#;
        assert_eq!(serde_json::to_string(&ways[2][2]).unwrap(), last);
    }

    #[test]
    fn a_delete_is_tried_as_it_is() {
        let delete = Operation {
            op: "delete",
            value: None,
            ..put("1")
        };
        assert_eq!(attempts(&delete).len(), 1);
    }
}
