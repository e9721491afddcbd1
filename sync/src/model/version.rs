//! Dots and versions: which write it was, and which of two writes wins.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Epoch, Origin, ReplicaId, Seq, Timestamp};

/// One write: the `seq`-th of its origin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who wrote it.
    pub origin: Origin,
    /// As which of its writes.
    pub seq: Seq,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.seq)
    }
}

/// The version of a key's value. Compared by clock, then origin, then sequence
/// number, so that two versions of different writes are never equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// When it was written, by the writer's hybrid logical clock.
    pub clock: Timestamp,
    /// Which write it was.
    pub dot: Dot,
}

/// `CLOCK-REPLICA-EPOCH-SEQ` in lower-case hexadecimal; opaque to clients.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:x}-{}-{:x}-{:x}",
            self.clock.0, self.dot.origin.replica, self.dot.origin.epoch.0, self.dot.seq
        )
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.dot, self.clock)
    }
}

/// The text is not a version.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("not a version; give one exactly as a write or an ETag returned it")]
pub struct ParseVersionError;

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, ParseVersionError> {
        let number = |part: Option<&str>| -> Result<u64, ParseVersionError> {
            u64::from_str_radix(part.ok_or(ParseVersionError)?, 16).map_err(|_| ParseVersionError)
        };
        let mut parts = text.split('-');
        let clock = Timestamp(number(parts.next())?);
        let replica = parts.next().ok_or(ParseVersionError)?;
        let replica = u128::from_str_radix(replica, 16).map_err(|_| ParseVersionError)?;
        let epoch = Epoch(number(parts.next())?);
        let seq = number(parts.next())?;
        if parts.next().is_some() {
            return Err(ParseVersionError);
        }
        let origin = Origin {
            replica: ReplicaId(replica.to_be_bytes()),
            epoch,
        };
        Ok(Self {
            clock,
            dot: Dot { origin, seq },
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_version_survives_its_text(clock: u64, replica: [u8; 16], epoch: u64, seq: u64) {
            let origin = Origin { replica: ReplicaId(replica), epoch: Epoch(epoch) };
            let version = Version { clock: Timestamp(clock), dot: Dot { origin, seq } };
            prop_assert_eq!(version.to_string().parse::<Version>(), Ok(version));
        }

        #[test]
        fn any_text_parses_or_is_refused_without_a_panic(text in ".{0,80}") {
            let _ = text.parse::<Version>();
        }
    }
}
