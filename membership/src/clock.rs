//! How far another node's wall clock is from ours.
//!
//! Membership itself never compares clocks: its times are intervals of this
//! node's own. The offset is measured for the people and the parts that do
//! depend on clocks, and shown with each member.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Another node's wall clock minus ours, in milliseconds; positive where it is
/// ahead.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClockOffset(pub i64);

impl ClockOffset {
    /// The offset as milliseconds without its sign.
    pub fn abs_ms(self) -> u64 {
        self.0.unsigned_abs()
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+} ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_shows_its_direction() {
        assert_eq!(ClockOffset(250).to_string(), "+250 ms");
        assert_eq!(ClockOffset(-3).to_string(), "-3 ms");
        assert_eq!(ClockOffset(i64::MIN).abs_ms(), 1 << 63);
    }
}
