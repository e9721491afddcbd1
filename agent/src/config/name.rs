//! Names of the cluster and of its nodes.

use std::fmt;

use super::value::{Setting, ValueError};

/// Longest name, in characters. Names travel in every gossip message.
const NAME_MAX: usize = 64;

/// Name of a cluster: 1 to 64 letters, digits, `.`, `_` or `-` of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName(String);

/// Name of a node within its cluster: 1 to 64 letters, digits, `.`, `_` or `-` of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(String);

impl ClusterName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NodeName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for ClusterName {
    const EXPECTED: &'static str =
        "a name of 1 to 64 letters, digits, \".\", \"_\" or \"-\" of ASCII";

    fn from_text(text: &str) -> Result<Self, ValueError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::malformed::<Self>(text))
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

impl Setting for NodeName {
    const EXPECTED: &'static str = ClusterName::EXPECTED;

    fn from_text(text: &str) -> Result<Self, ValueError> {
        if is_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::malformed::<Self>(text))
        }
    }

    fn to_text(&self) -> String {
        self.0.clone()
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
