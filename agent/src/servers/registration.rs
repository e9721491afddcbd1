//! What is registered of a server: where it is, how it is asked for its health, and its share of the requests.
//!
//! [`Registration`] is the checked form that the agent computes with, [`Record`] the promise that it keeps on disk and
//! towards other agents. Reading a record checks it again, because another version may have written it. Pure.

use std::collections::BTreeMap;

use basic_membership::JoinMark;
use serde::{Deserialize, Serialize};

use crate::config::{HealthPath, HostPort, ValueError, labels};

/// Share of the requests of a server that names none, like that of a node.
pub const WEIGHT_DEFAULT: u16 = 100;
/// What is asked of a server that names nothing.
pub const HEALTH_DEFAULT: &str = "/health";

/// A server as it was registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Where every agent reaches it.
    pub address: HostPort,
    /// What its probe asks for.
    pub health: HealthPath,
    /// Its share of the requests, unless an operator decides otherwise.
    pub weight: u16,
    /// Its labels, by the rules of those of a node.
    pub labels: BTreeMap<String, String>,
}

/// A registration as it is stored, in `agent.members` under `{id}/server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    address: String,
    health: String,
    weight: u16,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    /// When it was registered at this address, by the clock of the agent that was asked. A removal of an earlier date
    /// does not hold for it.
    registered: JoinMark,
}

impl Record {
    /// The record of a registration.
    pub fn new(registration: &Registration, registered: JoinMark) -> Self {
        Self {
            address: registration.address.to_string(),
            health: registration.health.as_str().to_owned(),
            weight: registration.weight,
            labels: registration.labels.clone(),
            registered,
        }
    }

    /// The registration in it, and when it was made.
    ///
    /// # Errors
    /// If an address, a path or a label is not one.
    pub fn read(&self) -> Result<(Registration, JoinMark), ValueError> {
        let pairs: Vec<_> = self.labels.iter().collect();
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let registration = Registration {
            address: self.address.parse()?,
            health: self.health.parse()?,
            weight: self.weight,
            labels: labels(pairs)?,
        };
        Ok((registration, self.registered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        Registration {
            address: "[::1]:8080".parse().unwrap(),
            health: "/health?deep=1".parse().unwrap(),
            weight: 7,
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        }
    }

    #[test]
    fn a_registration_is_the_same_after_it_was_stored() {
        let stored = serde_json::to_string(&Record::new(&registration(), JoinMark(5))).unwrap();
        assert_eq!(
            stored,
            r#"{"address":"[::1]:8080","health":"/health?deep=1","weight":7,"labels":{"zone":"a"},"registered":5}"#
        );
        let record: Record = serde_json::from_str(&stored).unwrap();
        assert_eq!(record.read(), Ok((registration(), JoinMark(5))));
    }

    #[test]
    fn a_record_with_a_value_out_of_the_rules_is_refused() {
        let good = Record::new(&registration(), JoinMark(5));
        let bad_label = BTreeMap::from([("a b".to_owned(), String::new())]);
        for bad in [
            Record {
                address: "nowhere".into(),
                ..good.clone()
            },
            Record {
                health: "health".into(),
                ..good.clone()
            },
            Record {
                labels: bad_label,
                ..good.clone()
            },
        ] {
            assert!(bad.read().is_err(), "{bad:?}");
        }
    }
}
