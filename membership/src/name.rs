//! The names people give: node ids and cluster names.
//!
//! Both are short, printable and free of characters that need escaping in a
//! URL, a file name or a metric label: 1 to 64 of `A-Z a-z 0-9 . _ -`. The
//! check happens once, when the name is made; from there on the type is the
//! proof. Cloning copies a pointer.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::NameError;

/// Longest name accepted, in bytes.
pub const NAME_LEN_MAX: usize = 64;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }
    };
}

name_type! {
    /// Names a node for as long as its data directory lives. Not an address.
    NodeId
}

name_type! {
    /// Names a cluster. Agents with different cluster names never mix, even if
    /// they share a secret.
    ClusterName
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_LEN_MAX {
        return Err(NameError::TooLong { len: text.len() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match text.chars().find(|&c| !allowed(c)) {
        Some(found) => Err(NameError::Character { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_allowed_characters_survives_json() {
        let id: NodeId = "n1.zone_a-7".parse().unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"n1.zone_a-7\"");
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), id);
    }

    #[test]
    fn empty_long_and_strange_names_are_refused() {
        assert_eq!("".parse::<NodeId>(), Err(NameError::Empty));
        assert_eq!(
            "x".repeat(65).parse::<NodeId>(),
            Err(NameError::TooLong { len: 65 })
        );
        assert_eq!(
            "a b".parse::<ClusterName>(),
            Err(NameError::Character { found: ' ' })
        );
        assert_eq!(
            "节点".parse::<NodeId>(),
            Err(NameError::Character { found: '节' })
        );
        assert!(serde_json::from_str::<NodeId>("\"a/b\"").is_err());
    }
}
