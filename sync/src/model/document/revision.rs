//! Names of states of a document, for clients that write only if nothing changed.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Document, Part};
use crate::model::{Epoch, Origin, Version};

/// Which state of a document: two states of one key with the same revision are the
/// same state.
///
/// Where one write says everything, its version says everything too. Else two nodes
/// may hold the same greatest version above different older parts, so a fingerprint
/// of all parts is added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Revision {
    /// The greatest version in the document.
    pub version: Version,
    /// The document's fingerprint, unless it is one write of a root and nothing else.
    pub fingerprint: Option<u64>,
}

/// `VERSION`, or `VERSION-FINGERPRINT` with 16 hexadecimal digits; opaque to clients.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)?;
        match self.fingerprint {
            Some(fingerprint) => write!(f, "-{fingerprint:016x}"),
            None => Ok(()),
        }
    }
}

/// The text is not a revision.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("not a revision; give one exactly as a write or an ETag returned it")]
pub struct ParseRevisionError;

impl FromStr for Revision {
    type Err = ParseRevisionError;

    fn from_str(text: &str) -> Result<Self, ParseRevisionError> {
        const DASHES_IN_VERSION: usize = 3;
        let dashes = text.matches('-').count();
        let (version, fingerprint) = match text.rsplit_once('-') {
            Some((version, digits)) if dashes > DASHES_IN_VERSION => (version, Some(digits)),
            _ => (text, None),
        };
        Ok(Self {
            version: version.parse().map_err(|_| ParseRevisionError)?,
            fingerprint: fingerprint.map(parse_fingerprint).transpose()?,
        })
    }
}

fn parse_fingerprint(digits: &str) -> Result<u64, ParseRevisionError> {
    if digits.len() != 16 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(ParseRevisionError);
    }
    u64::from_str_radix(digits, 16).map_err(|_| ParseRevisionError)
}

impl Document {
    /// The name of this state; `None` where nothing was ever written.
    pub fn revision(&self) -> Option<Revision> {
        let plain = self.only_root().is_some();
        Some(Revision {
            version: self.version()?,
            fingerprint: (!plain).then(|| self.fingerprint()),
        })
    }

    /// Hashes all parts and their versions; values need not go in, since a version means
    /// its values. Of a single root only the version goes in.
    pub fn hash_into(&self, hasher: &mut blake3::Hasher) {
        let plain = self.only_root().is_some();
        for (version, write) in self.iter() {
            hasher.update(&version.clock.0.to_be_bytes());
            hash_origin(hasher, version.dot.origin);
            hasher.update(&version.dot.seq.to_be_bytes());
            if !plain {
                hash_part(hasher, &write.part);
            }
        }
    }

    /// 64 bits over all parts and their versions, which tell states apart.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        self.hash_into(&mut hasher);
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(first)
    }
}

/// Each sort of part begins with a byte of its own and says how long it is, so that no
/// two lists of parts read the same.
fn hash_part(hasher: &mut blake3::Hasher, part: &Part) {
    match part {
        Part::Root => {
            hasher.update(&[0]);
        }
        Part::Field(name) => {
            hasher.update(&[1]);
            hasher.update(&(name.len() as u64).to_be_bytes());
            hasher.update(name.as_bytes());
        }
        Part::Tally(origin) => {
            hasher.update(&[2]);
            hash_origin(hasher, *origin);
        }
        Part::Reset(origin) => {
            hasher.update(&[3]);
            hash_origin(hasher, *origin);
        }
        Part::Set => {
            hasher.update(&[4]);
        }
        Part::Element(tag) => {
            hasher.update(&[5]);
            hash_origin(hasher, tag.dot.origin);
            hasher.update(&tag.dot.seq.to_be_bytes());
            hasher.update(&tag.index.to_be_bytes());
        }
        Part::Expiry => {
            hasher.update(&[6]);
        }
    }
}

fn hash_origin(hasher: &mut blake3::Hasher, origin: Origin) {
    let Epoch(epoch) = origin.epoch;
    hasher.update(&origin.replica.0);
    hasher.update(&epoch.to_be_bytes());
}
