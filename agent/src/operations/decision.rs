//! The documents of decisions, and what they mean taken together.
//!
//! One document for each decision about a node, so that two operators who decide different things at the same time do
//! not overwrite each other: `{id}/drain`, `{id}/fail`, `{id}/weight`, `{id}/removed`. Lifting a decision deletes its
//! document. Every document says who gave the order. Pure: documents in, directives out.

use basic_membership::{Directive, Directives, JoinMark, NodeId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The heaviest share of the load; as for `[app] weight`.
pub const WEIGHT_MAX: u32 = u16::MAX as u32;

/// Who gave an order, when, by which agent, and why. What a document leaves out is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Order {
    /// When, as RFC 3339 text, by the clock of the agent that was asked.
    pub at: String,
    /// By whom, in their own words.
    pub by: String,
    /// From which address.
    pub from: String,
    /// On which node's agent.
    pub on: String,
    /// Why, if they said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Default for Order {
    fn default() -> Self {
        let unknown = || "unknown".to_owned();
        Self {
            at: unknown(),
            by: unknown(),
            from: unknown(),
            on: unknown(),
            why: None,
        }
    }
}

/// Another share of the load than the node announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightOrder {
    /// The share, up to [`WEIGHT_MAX`].
    pub weight: u32,
    /// Who gave it.
    #[serde(flatten)]
    pub order: Order,
}

/// A removal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalOrder {
    /// It holds for the node until it joins after this mark.
    pub joined: JoinMark,
    /// Who gave it.
    #[serde(flatten)]
    pub order: Order,
}

/// What a document in `agent.members` decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No new requests.
    Drain,
    /// It counts as failed.
    Fail,
    /// Another share of the load.
    Weight,
    /// It is no member.
    Removed,
}

/// A decision as the API and the audit record show it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DecisionView {
    /// No new requests.
    pub drain: bool,
    /// Counts as failed.
    pub failed: bool,
    /// Its share of the load, where it is not the one that it announces.
    pub weight: Option<u32>,
    /// It is removed.
    pub removed: bool,
}

/// A document that has no effect, because it is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misread {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Kind {
    const ALL: [Kind; 4] = [Self::Drain, Self::Fail, Self::Weight, Self::Removed];

    fn suffix(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Fail => "fail",
            Self::Weight => "weight",
            Self::Removed => "removed",
        }
    }

    /// The key of this decision about a node.
    pub fn key(self, id: &NodeId) -> String {
        format!("{id}/{}", self.suffix())
    }
}

impl DecisionView {
    /// Of a directive about a node that joined at `joined`.
    pub fn of(directive: &Directive, joined: JoinMark) -> Self {
        Self {
            drain: directive.drain,
            failed: directive.failed,
            weight: directive.weight,
            removed: directive.removes(joined),
        }
    }
}

/// What the documents of `agent.members` decide about each node, and those that are not understood. Documents that
/// decide nothing, such as a server's registration, are passed over.
pub fn directives(documents: &[(String, Value)]) -> (Directives, Vec<Misread>) {
    let mut directives = Directives::new();
    let mut misread = Vec::new();
    for (key, document) in documents {
        let Some((id, kind)) = parse_key(key) else {
            continue;
        };
        match decide(
            directives.get(&id).copied().unwrap_or_default(),
            kind,
            document,
        ) {
            Ok(directive) => {
                directives.insert(id, directive);
            }
            Err(error) => misread.push(Misread {
                key: key.clone(),
                reason: error.to_string(),
            }),
        }
    }
    (directives, misread)
}

fn parse_key(key: &str) -> Option<(NodeId, Kind)> {
    let (id, suffix) = key.rsplit_once('/')?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.suffix() == suffix)?;
    Some((id.parse().ok()?, kind))
}

/// Who gave an order is for people: a document without it decides all the same.
fn decide(
    mut directive: Directive,
    kind: Kind,
    document: &Value,
) -> Result<Directive, serde_json::Error> {
    #[derive(Deserialize)]
    struct Weight {
        weight: u16,
    }
    #[derive(Deserialize)]
    struct Removal {
        joined: JoinMark,
    }
    #[derive(Deserialize)]
    struct Anything {}
    match kind {
        Kind::Drain => {
            Anything::deserialize(document)?;
            directive.drain = true;
        }
        Kind::Fail => {
            Anything::deserialize(document)?;
            directive.failed = true;
        }
        Kind::Weight => directive.weight = Some(Weight::deserialize(document)?.weight.into()),
        Kind::Removed => directive.removed = Some(Removal::deserialize(document)?.joined),
    }
    Ok(directive)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn order() -> Order {
        Order {
            at: "2026-01-01T00:00:00Z".to_owned(),
            by: "liang".to_owned(),
            from: "127.0.0.1".to_owned(),
            on: "n1".to_owned(),
            why: Some("a new disk".to_owned()),
        }
    }

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    #[test]
    fn the_documents_about_a_node_add_up_to_one_directive() {
        let weight = WeightOrder {
            weight: 300,
            order: order(),
        };
        let removal = RemovalOrder {
            joined: JoinMark(7),
            order: order(),
        };
        let documents = [
            (Kind::Drain.key(&id("n1")), json!(order())),
            (Kind::Fail.key(&id("n1")), json!(order())),
            (Kind::Weight.key(&id("n1")), json!(weight)),
            (Kind::Removed.key(&id("n2")), json!(removal)),
            ("s1/server".to_owned(), json!({ "address": "10.0.0.9:80" })),
        ];
        let (directives, misread) = directives(&documents);
        assert_eq!(misread, []);
        assert_eq!(
            directives,
            Directives::from([
                (
                    id("n1"),
                    Directive {
                        drain: true,
                        failed: true,
                        weight: Some(300),
                        removed: None
                    }
                ),
                (
                    id("n2"),
                    Directive {
                        removed: Some(JoinMark(7)),
                        ..Directive::default()
                    }
                ),
            ])
        );
    }

    #[test]
    fn what_is_not_understood_has_no_effect_and_is_named() {
        let documents = [
            ("n1/drain".to_owned(), json!(true)),
            ("n1/weight".to_owned(), json!({ "weight": 70_000 })),
            ("n2/weight".to_owned(), json!({ "share": 3 })),
            ("n2/removed".to_owned(), json!({ "joined": "yesterday" })),
            ("n3/drain".to_owned(), json!({})),
        ];
        let (directives, misread) = directives(&documents);
        let keys: Vec<&str> = misread.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(keys, ["n1/drain", "n1/weight", "n2/weight", "n2/removed"]);
        let drained = Directive {
            drain: true,
            ..Directive::default()
        };
        assert_eq!(directives, Directives::from([(id("n3"), drained)]));
    }

    proptest! {
        #[test]
        fn the_order_of_the_documents_does_not_matter(seed in 0_usize..24, weight in 0_u32..=WEIGHT_MAX) {
            let mut documents = vec![
                ("n1/drain".to_owned(), json!(order())),
                ("n1/fail".to_owned(), json!(order())),
                ("n1/weight".to_owned(), json!({ "weight": weight })),
                ("n1/removed".to_owned(), json!({ "joined": 9 })),
            ];
            let expected = directives(&documents);
            documents.rotate_left(seed % 4);
            documents.swap(seed / 8, 3);
            prop_assert_eq!(directives(&documents), expected);
        }

        #[test]
        fn no_key_and_no_document_is_a_panic(key in ".{0,40}", text in ".{0,40}", number: i64) {
            for document in [json!(text), json!(number), json!({ "weight": number, "joined": number }), json!(null)] {
                for key in [key.clone(), format!("{key}/weight"), "n1/removed".to_owned()] {
                    let _ = directives(&[(key, document.clone())]);
                }
            }
        }
    }
}
