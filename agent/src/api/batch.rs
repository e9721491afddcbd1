//! `POST /v1/data:batch`: several operations that take effect together or not at all.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use basic_sync::model::VALUE_BYTES_MAX;
use basic_sync::model::document::Action;
use basic_sync::net::WriteError;
use basic_sync::protocol::{Condition, Operation, WriteReceipt, WriteRefused};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::data::{self, Wait};
use super::extract::Params;
use super::problem::Problem;

/// Largest body: all the documents that one write may hold, their keys, and what stands around them.
const BODY_MAX: usize = VALUE_BYTES_MAX + 512 * 1024;

/// `?acks=N|all&timeout=5s`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchQuery {
    acks: Option<String>,
    timeout: Option<String>,
}

/// `{"operations":[…]}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    operations: Vec<Order>,
}

/// One operation as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    op: Op,
    collection: String,
    key: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    ttl: Option<String>,
    if_match: Option<String>,
    #[serde(default)]
    if_absent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Patch,
    Delete,
}

#[derive(Serialize)]
struct Written {
    results: Vec<OneWritten>,
    acks: usize,
}

#[derive(Serialize)]
struct OneWritten {
    version: String,
}

/// `POST /v1/data:batch`.
pub(super) async fn write(
    State(api): State<Api>,
    Params(query): Params<BatchQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let wait = Wait::of(query.acks.as_deref(), query.timeout.as_deref())?;
    let operations = operations(&data::collect(body, BODY_MAX).await?)?;
    let names: Vec<String> = operations.iter().map(name).collect();
    let failed = |error| failed(error, &names);
    data::carry_out(&api, &headers, operations, wait, failed, |receipt| {
        Some(Json(Written::of(receipt)).into_response())
    })
    .await
}

fn operations(body: &Bytes) -> Result<Vec<Operation>, Problem> {
    let batch: Batch = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!("the body is not a batch: {error}")).with_next(
            "send {\"operations\":[{\"op\":\"put\",\"collection\":\"users\",\"key\":\"u1\",\"value\":{}}]}; op is put, patch or delete, \
             and ttl, if_match or if_absent may stand beside it",
        )
    })?;
    let orders = batch.operations.into_iter().enumerate();
    let operations = orders.map(|(index, order)| {
        let name = format!("{}/{}", order.collection, order.key);
        order
            .operation()
            .map_err(|problem| problem.of_operation(index, &name))
    });
    operations.collect()
}

impl Order {
    fn operation(self) -> Result<Operation, Problem> {
        data::writable(&self.collection)?;
        Ok(Operation {
            key: data::key(&self.collection, &self.key)?,
            condition: self.condition()?,
            ttl: match (self.op, self.ttl.as_deref()) {
                (Op::Delete, Some(_)) => {
                    return Err(Problem::bad_request("a delete takes no \"ttl\""));
                }
                (_, ttl) => data::ttl(ttl)?,
            },
            action: self.action()?,
        })
    }

    fn condition(&self) -> Result<Condition, Problem> {
        match (self.if_match.as_deref(), self.if_absent) {
            (None, false) => Ok(Condition::Always),
            (None, true) => Ok(Condition::Absent),
            (Some("*"), false) => Ok(Condition::Exists),
            (Some(version), false) => match version.trim_matches('"').parse() {
                Ok(revision) => Ok(Condition::Is(revision)),
                Err(error) => Err(Problem::bad_request(format!("if_match: {error}"))),
            },
            (Some(_), true) => Err(Problem::bad_request(
                "give \"if_match\" or \"if_absent\", not both",
            )),
        }
    }

    fn action(self) -> Result<Action, Problem> {
        let value = self.value.map(|value| {
            let text: Box<str> = value.into();
            Bytes::from(String::from(text))
        });
        match (self.op, value) {
            (Op::Put, Some(value)) => Ok(Action::Put(value)),
            (Op::Patch, Some(value)) => Ok(Action::Patch(value)),
            (Op::Delete, None) => Ok(Action::Delete),
            (Op::Put, None) => Err(Problem::bad_request(
                "a put needs a \"value\": the document",
            )),
            (Op::Patch, None) => Err(Problem::bad_request(
                "a patch needs a \"value\": the change",
            )),
            (Op::Delete, Some(_)) => Err(Problem::bad_request("a delete takes no \"value\"")),
        }
    }
}

impl Written {
    fn of(receipt: &WriteReceipt) -> Self {
        let results = receipt.revisions.iter().map(|revision| OneWritten {
            version: revision.to_string(),
        });
        Self {
            results: results.collect(),
            acks: receipt.acks,
        }
    }
}

/// Which operation it was, where it was one.
fn failed(error: WriteError, names: &[String]) -> Problem {
    let index = match (&error, names.len()) {
        (WriteError::Refused(WriteRefused::Operation { index, .. }), _) => Some(*index),
        // Of one operation alone the replica says no number.
        (
            WriteError::Refused(
                WriteRefused::ConditionFailed { .. }
                | WriteRefused::NotFound(_)
                | WriteRefused::Unfit(_)
                | WriteRefused::Conflict(_)
                | WriteRefused::DocumentTooLarge { .. },
            ),
            1,
        ) => Some(0),
        _ => None,
    };
    let problem = data::write_failed(error);
    match index.and_then(|index| Some((index, names.get(index)?))) {
        Some((index, name)) => problem.of_operation(index, name),
        None => problem,
    }
}

fn name(operation: &Operation) -> String {
    let key = &operation.key;
    format!("{}/{}", key.collection(), key.name())
}

/// A member that is there, be it `null`, which is a document as any other.
fn present<'de, D: Deserializer<'de>>(member: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(member).map(Some)
}

#[cfg(test)]
mod tests;
