//! Names of documents: a collection and a key within it.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Longest name of a collection, in bytes.
const COLLECTION_BYTES_MAX: usize = 64;
/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest document, in bytes. A version must fit one frame.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;

/// A name was refused.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InvalidName {
    /// The name of a collection is empty, too long, or has a character that is not allowed.
    #[error(
        "\"{0}\" cannot name a collection: use 1 to 64 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit"
    )]
    Collection(String),
    /// A key is empty.
    #[error("a key cannot be empty")]
    KeyEmpty,
    /// A key is too long.
    #[error("the key has {0} bytes; at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong(usize),
    /// A key has a control character.
    #[error("a key cannot hold control characters")]
    KeyControlCharacter,
}

/// Name of a collection: 1 to 64 of `a-z 0-9 - _ .`, beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection(Arc<str>);

impl Collection {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName::Collection`].
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        let begins_well = name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if !begins_well || name.len() > COLLECTION_BYTES_MAX || !name.bytes().all(allowed) {
            let shown: String = name.chars().take(COLLECTION_BYTES_MAX).collect();
            return Err(InvalidName::Collection(shown));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Full name of a document.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    collection: Collection,
    name: Arc<str>,
}

impl Key {
    /// Checks a key's name: 1 to [`KEY_BYTES_MAX`] bytes without control characters.
    ///
    /// # Errors
    /// [`InvalidName`] says what is wrong with it.
    pub fn new(collection: Collection, name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() {
            return Err(InvalidName::KeyEmpty);
        }
        if name.len() > KEY_BYTES_MAX {
            return Err(InvalidName::KeyTooLong(name.len()));
        }
        if name.chars().any(char::is_control) {
            return Err(InvalidName::KeyControlCharacter);
        }
        Ok(Self {
            collection,
            name: name.into(),
        })
    }

    /// The collection.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// About how many bytes it takes in a frame or a list; never less than it does.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 32;
        FIXED + self.collection.as_str().len() + self.name.len()
    }

    /// The key within the collection.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_rules_are_refused() {
        for bad in [
            "",
            "Users",
            "a b",
            ".hidden",
            "-x",
            "a/b",
            "café",
            &"x".repeat(65),
        ] {
            assert!(Collection::new(bad).is_err(), "{bad:?}");
        }
        for good in ["users", "a", "0", "user-data_v1.2", &"x".repeat(64)] {
            assert!(Collection::new(good).is_ok(), "{good:?}");
        }
        let users = Collection::new("users").unwrap();
        assert_eq!(Key::new(users.clone(), ""), Err(InvalidName::KeyEmpty));
        assert_eq!(
            Key::new(users.clone(), "a\0b"),
            Err(InvalidName::KeyControlCharacter)
        );
        assert_eq!(
            Key::new(users.clone(), &"k".repeat(513)),
            Err(InvalidName::KeyTooLong(513))
        );
        assert!(Key::new(users, "梁/鑫 1").is_ok());
    }
}
