//! What is asked for when a server is registered, in either of its two shapes.
//!
//! Ours: `{"id","address":"host:port" or "url":"http://host:port","health","weight","labels"}`. That of `NodeConfig`
//! in the original plan: `{"node_id","host","port","weight","metadata"}`, with `status` and dates that it carries
//! along. The two may be mixed; what is said twice must be said alike. Out comes a checked [`Registration`], or the
//! first thing that is wrong, by the name of its field. Pure.

use std::collections::BTreeMap;

use basic_membership::{NameError, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::registration::{HEALTH_DEFAULT, Registration, WEIGHT_DEFAULT};
use crate::config::{HostPort, HttpUrl, Printable, UrlFault, ValueError, labels};

/// The body of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    /// The id of the server, unique among all members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The same in the shape of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Where it is, `host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The same as `http://host:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The same in the shape of the plan: the host ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// ... and the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i64>,
    /// The path that is asked for health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
    /// Its share of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i64>,
    /// Its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, Value>>,
    /// The same in the shape of the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, Value>>,
    /// What the plan's shape says of its state. Only `active` can be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// A date that the plan's shape carries; it means nothing here.
    #[serde(skip_serializing)]
    pub created_at: Option<Value>,
    /// A date that the plan's shape carries; it means nothing here.
    #[serde(skip_serializing)]
    pub updated_at: Option<Value>,
    /// Why, for the audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who asks, for the audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What is wrong with a request. Nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// A field is missing.
    #[error("the field \"{field}\" is missing; {example}")]
    Missing {
        /// Which.
        field: &'static str,
        /// What to write.
        example: &'static str,
    },
    /// Two fields say the same thing in different ways.
    #[error("\"{one}\" and \"{other}\" do not say the same; leave one of them out")]
    Contradiction {
        /// The one field.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The id is not one.
    #[error("\"id\": {0}")]
    Id(NameError),
    /// The value of a field is not what it takes.
    #[error("\"{field}\": {fault}")]
    Value {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        fault: ValueError,
    },
    /// The URL is not one.
    #[error("\"url\": {} {fault}", Printable::quoted(.url))]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        fault: UrlFault,
    },
    /// A number is out of its range.
    #[error("\"{field}\": {value} is out of range: from {min} to 65535")]
    Range {
        /// The field.
        field: &'static str,
        /// What was given.
        value: i64,
        /// The smallest number allowed.
        min: u16,
    },
    /// A label is no text.
    #[error("\"{field}\": the value of {} is not a text; a label is a name and a text", Printable::quoted(.name))]
    LabelKind {
        /// The field.
        field: &'static str,
        /// The name of the label.
        name: String,
    },
    /// A state is asked for that a registration cannot give.
    #[error(
        "\"status\": a server is registered as active, not as {}; register it, and then `basic-agent drain` it",
        Printable::quoted(.0)
    )]
    Status(String),
}

impl Request {
    /// Id and registration, if all is right.
    ///
    /// # Errors
    /// [`RegistrationError`].
    pub fn check(&self) -> Result<(NodeId, Registration), RegistrationError> {
        if let Some(status) = self.status.as_deref()
            && !matches!(status, "" | "active")
        {
            return Err(RegistrationError::Status(status.to_owned()));
        }
        let id = either(("id", &self.id), ("node_id", &self.node_id))?;
        let id = id.ok_or(RegistrationError::Missing {
            field: "id",
            example: "give the server a name, such as \"s1\"",
        })?;
        let health = self.health.as_deref().unwrap_or(HEALTH_DEFAULT);
        let weight = self.weight.unwrap_or(WEIGHT_DEFAULT.into());
        let registration = Registration {
            address: self.address()?,
            health: health.parse().map_err(in_field("health"))?,
            weight: number("weight", weight, 0)?,
            labels: self.labels()?,
        };
        Ok((id.parse().map_err(RegistrationError::Id)?, registration))
    }

    fn address(&self) -> Result<HostPort, RegistrationError> {
        let address = self.address.as_deref().map(str::parse).transpose();
        let address = address.map_err(in_field("address"))?;
        let url = self.url.as_deref().map(|url| {
            let parsed = HttpUrl::parse(url).map_err(|fault| RegistrationError::Url {
                url: url.to_owned(),
                fault,
            });
            parsed.map(|url| url.host_port().clone())
        });
        let parts = self.host_and_port()?;
        let known = either(("address", &address), ("url", &url.transpose()?))?.cloned();
        let known = either(("address", &known), ("host", &parts))?.cloned();
        known.ok_or(RegistrationError::Missing {
            field: "address",
            example: "say where the server is, such as \"10.0.0.9:8080\"",
        })
    }

    fn host_and_port(&self) -> Result<Option<HostPort>, RegistrationError> {
        let (host, port) = match (&self.host, self.port) {
            (None, None) => return Ok(None),
            (Some(host), Some(port)) => (host, number("port", port, 1)?),
            (Some(_), None) => {
                return Err(RegistrationError::Missing {
                    field: "port",
                    example: "\"host\" needs one, such as 8080",
                });
            }
            (None, Some(_)) => {
                return Err(RegistrationError::Missing {
                    field: "host",
                    example: "\"port\" needs one, such as \"10.0.0.9\"",
                });
            }
        };
        let is_bare_ipv6 = host.contains(':') && !host.starts_with('[');
        let text = if is_bare_ipv6 {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        text.parse().map(Some).map_err(in_field("host"))
    }

    fn labels(&self) -> Result<BTreeMap<String, String>, RegistrationError> {
        let given = either(("labels", &self.labels), ("metadata", &self.metadata))?;
        let field = if self.labels.is_some() {
            "labels"
        } else {
            "metadata"
        };
        let texts = given.into_iter().flatten().map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(bool) => bool.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => {
                    let name = name.clone();
                    return Err(RegistrationError::LabelKind { field, name });
                }
            };
            Ok((name.as_str(), text))
        });
        let texts: Vec<(&str, String)> = texts.collect::<Result<_, _>>()?;
        let pairs = texts.iter().map(|(name, text)| (*name, text.as_str()));
        labels(pairs).map_err(in_field(field))
    }
}

/// The value that one of two fields has, or both alike.
fn either<'a, T: PartialEq>(
    (one, first): (&'static str, &'a Option<T>),
    (other, second): (&'static str, &'a Option<T>),
) -> Result<Option<&'a T>, RegistrationError> {
    match (first, second) {
        (Some(a), Some(b)) if a != b => Err(RegistrationError::Contradiction { one, other }),
        _ => Ok(first.as_ref().or(second.as_ref())),
    }
}

fn number(field: &'static str, value: i64, min: u16) -> Result<u16, RegistrationError> {
    let number = u16::try_from(value).ok().filter(|number| *number >= min);
    number.ok_or(RegistrationError::Range { field, value, min })
}

fn in_field(field: &'static str) -> impl Fn(ValueError) -> RegistrationError {
    move |fault| RegistrationError::Value { field, fault }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<(NodeId, Registration), String> {
        let request: Request = serde_json::from_value(body).map_err(|error| error.to_string())?;
        request.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_left_out_has_the_defaults_of_a_node() {
        let (id, registration) = check(json!({"id": "s1", "address": "10.0.0.9:8080"})).unwrap();
        assert_eq!(id.as_str(), "s1");
        assert_eq!(registration.address.to_string(), "10.0.0.9:8080");
        assert_eq!(registration.health.as_str(), "/health");
        assert_eq!(registration.weight, 100);
        assert!(registration.labels.is_empty());
    }

    #[test]
    fn the_shape_of_the_plan_means_the_same_as_ours() {
        let ours = json!({"id": "s1", "url": "http://[::1]:8080", "weight": 5,
            "labels": {"zone": "a", "rack": "3"}});
        let plan = json!({"node_id": "s1", "host": "::1", "port": 8080, "weight": 5,
            "status": "active", "metadata": {"zone": "a", "rack": 3},
            "created_at": "2025-09-19T00:00:00Z", "updated_at": null});
        assert_eq!(check(ours).unwrap(), check(plan).unwrap());
    }

    #[test]
    fn what_is_wrong_is_told_by_the_name_of_its_field() {
        let good = json!({"id": "s1", "address": "10.0.0.9:8080"});
        for (field, value, expected) in [
            ("id", json!("a b"), "\"id\": the name contains ' '"),
            ("id", json!(""), "\"id\": the name is empty"),
            (
                "node_id",
                json!("s2"),
                "\"id\" and \"node_id\" do not say the same",
            ),
            (
                "address",
                json!("10.0.0.9"),
                "\"address\": \"10.0.0.9\" is not host:port",
            ),
            (
                "address",
                json!("10.0.0.9:0"),
                "\"address\": \"10.0.0.9:0\" is not host:port",
            ),
            (
                "address",
                json!("0.0.0.0:80"),
                "\"address\": \"0.0.0.0:80\" is not host:port",
            ),
            (
                "url",
                json!("https://a"),
                "\"url\": \"https://a\" is not an http URL",
            ),
            (
                "url",
                json!("http://a:1"),
                "\"address\" and \"url\" do not say the same",
            ),
            ("host", json!("a"), "the field \"port\" is missing"),
            ("port", json!(80), "the field \"host\" is missing"),
            ("port", json!("80"), "invalid type: string"),
            (
                "health",
                json!("health"),
                "\"health\": \"health\" is not a path",
            ),
            (
                "weight",
                json!(65536),
                "\"weight\": 65536 is out of range: from 0 to 65535",
            ),
            ("weight", json!(-1), "\"weight\": -1 is out of range"),
            (
                "labels",
                json!({"a b": "c"}),
                "\"labels\": \"a b\" is not a label name",
            ),
            (
                "labels",
                json!({"a": []}),
                "\"labels\": the value of \"a\" is not a text",
            ),
            (
                "metadata",
                json!({"a": {}}),
                "\"metadata\": the value of \"a\" is not a text",
            ),
            ("status", json!("maintenance"), "`basic-agent drain`"),
            ("wieght", json!(1), "unknown field `wieght`"),
        ] {
            let mut body = good.clone();
            body[field] = value;
            let error = check(body.clone()).unwrap_err();
            assert!(error.contains(expected), "{body}: {error}");
        }
        for (field, expected) in [
            ("id", "\"id\" is missing"),
            ("address", "\"address\" is missing"),
        ] {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(field);
            assert!(check(body).unwrap_err().contains(expected));
        }
    }

    #[test]
    fn more_labels_than_a_node_may_have_are_refused() {
        let labels: BTreeMap<String, Value> = (0..17)
            .map(|number| (format!("l{number}"), json!("x")))
            .collect();
        let body = json!({"id": "s1", "address": "a:1", "labels": labels});
        assert!(check(body).unwrap_err().contains("17 entries"));
    }
}
