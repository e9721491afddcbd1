//! How often the log speaks about one address.
//!
//! Anybody can connect to the peer port a thousand times a second, and an agent
//! with a wrong secret does so for ever. Each address is spoken about once an
//! interval, together with how often it was silent in between. The table is
//! bounded: while it is full of addresses of this interval, all further ones
//! share one entry.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Time between two notices about one address.
const INTERVAL: Duration = Duration::from_secs(30);
const ADDRESSES_MAX: usize = 256;

/// Decides which notices are said.
#[derive(Debug, Default)]
pub(super) struct Notices {
    addresses: Mutex<HashMap<Option<IpAddr>, Entry>>,
}

#[derive(Debug)]
struct Entry {
    said: Instant,
    suppressed: u64,
}

impl Notices {
    /// Whether to speak about this address now: then `Some` with the number of
    /// notices that were held back since the last one.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Option<u64> {
        let mut addresses = self
            .addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(address);
        if !addresses.contains_key(&key) && addresses.len() >= ADDRESSES_MAX {
            addresses.retain(|_, entry| now.duration_since(entry.said) < INTERVAL);
            if addresses.len() >= ADDRESSES_MAX {
                key = None;
            }
        }
        let Some(entry) = addresses.get_mut(&key) else {
            addresses.insert(
                key,
                Entry {
                    said: now,
                    suppressed: 0,
                },
            );
            return Some(0);
        };
        if now.duration_since(entry.said) < INTERVAL {
            entry.suppressed += 1;
            return None;
        }
        entry.said = now;
        Some(std::mem::take(&mut entry.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spoken_about_once_an_interval_with_the_count_held_back() {
        let notices = Notices::default();
        let [a, b] = [1, 2].map(|n| IpAddr::from([10, 0, 0, n]));
        let start = Instant::now();
        assert_eq!(notices.admit(a, start), Some(0));
        assert_eq!(notices.admit(a, start), None);
        assert_eq!(notices.admit(a, start + INTERVAL / 2), None);
        assert_eq!(notices.admit(b, start), Some(0));
        assert_eq!(notices.admit(a, start + INTERVAL), Some(2));
        assert_eq!(notices.admit(a, start + 2 * INTERVAL), Some(0));
    }

    #[test]
    fn the_table_is_bounded_and_old_entries_make_room() {
        let notices = Notices::default();
        let start = Instant::now();
        let said = (0..4 * ADDRESSES_MAX)
            .filter(|&n| {
                let bits = u32::try_from(n).expect("small");
                notices
                    .admit(IpAddr::from(bits.to_be_bytes()), start)
                    .is_some()
            })
            .count();
        assert_eq!(
            said,
            ADDRESSES_MAX + 1,
            "each up to the bound, then one for all others"
        );
        assert!(notices.addresses.lock().expect("not poisoned").len() <= ADDRESSES_MAX + 1);

        let later = start + INTERVAL;
        assert_eq!(notices.admit(IpAddr::from([192, 0, 2, 1]), later), Some(0));
        assert_eq!(notices.addresses.lock().expect("not poisoned").len(), 1);
    }
}
