//! Names of hosts, resolved aside.
//!
//! In go addresses as people write them, `host:port`; out come socket addresses. What is an address already needs no
//! look-up. Names are resolved one task each, so that a slow name server delays nothing else, and again every half
//! minute. The last good address stays in use while a name does not resolve; that it does not is said once a time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// Names with their addresses.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashMap<String, Name>,
    lookups: JoinSet<(String, Option<SocketAddr>)>,
}

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Where it leads.
    Found(SocketAddr),
    /// It is being resolved for the first time.
    Pending,
    /// It never resolved.
    Failed,
}

#[derive(Debug)]
struct Name {
    address: Option<SocketAddr>,
    /// Whether a look-up has ended, well or not.
    was_tried: bool,
    again: Instant,
    under_way: bool,
}

impl Names {
    /// Where `host:port` leads now. A name that is asked for the first time, or was not for a while, is looked up;
    /// [`Names::resolved`] tells when there is news.
    pub(crate) fn look_up(&mut self, host_port: &str) -> Lookup {
        if let Ok(address) = host_port.parse() {
            return Lookup::Found(address);
        }
        let now = Instant::now();
        let name = self.known.entry(host_port.to_owned()).or_insert(Name {
            address: None,
            was_tried: false,
            again: now,
            under_way: false,
        });
        if !name.under_way && name.again <= now {
            name.under_way = true;
            let host_port = host_port.to_owned();
            self.lookups.spawn(async move {
                let address = resolve(&host_port).await;
                (host_port, address)
            });
        }
        match name.address {
            Some(address) => Lookup::Found(address),
            None if name.was_tried => Lookup::Failed,
            None => Lookup::Pending,
        }
    }

    /// Waits until a name has resolved, or is to be resolved again.
    pub(crate) async fn resolved(&mut self) {
        let waiting = self.known.values().filter(|name| !name.under_way);
        let again = waiting.map(|name| name.again).min();
        let due = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(looked_up) = self.lookups.join_next() => {
                if let Ok((host_port, address)) = looked_up {
                    self.note(&host_port, address);
                }
            }
            () = due => {}
        }
    }

    /// Forgets the names that are no longer wanted.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.known.retain(|host_port, _| is_wanted(host_port));
    }

    fn note(&mut self, host_port: &str, address: Option<SocketAddr>) {
        let Some(name) = self.known.get_mut(host_port) else {
            return;
        };
        name.under_way = false;
        name.was_tried = true;
        name.again = Instant::now() + RESOLVE_INTERVAL;
        if address.is_none() {
            let in_use = name.address.is_some();
            warn!(address = host_port, in_use, "an address does not resolve");
        }
        name.address = address.or(name.address);
    }
}

/// The address of `host:port`, IPv4 first where a name has both, as most servers listen there.
pub(crate) async fn resolve(host_port: &str) -> Option<SocketAddr> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host(host_port))
        .await
        .ok()?
        .ok()?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_aside_and_kept() {
        let mut names = Names::default();
        assert_eq!(names.look_up("localhost:8080"), Lookup::Pending);
        names.resolved().await;
        let found = names.look_up("localhost:8080");
        assert!(matches!(found, Lookup::Found(address) if address.ip().is_loopback()));
        names.note("localhost:8080", None);
        assert_eq!(
            names.look_up("localhost:8080"),
            found,
            "a failed lookup keeps the last good address"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_told_from_one_that_is_being_resolved() {
        let mut names = Names::default();
        assert_eq!(names.look_up("nowhere.invalid:1"), Lookup::Pending);
        assert_eq!(names.look_up("nowhere.invalid:1"), Lookup::Pending);
        names.note("nowhere.invalid:1", None);
        assert_eq!(names.look_up("nowhere.invalid:1"), Lookup::Failed);
        names.retain(|_| false);
        assert_eq!(names.look_up("nowhere.invalid:1"), Lookup::Pending);
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let address = "[::1]:80".parse().unwrap();
        assert_eq!(Names::default().look_up("[::1]:80"), Lookup::Found(address));
    }
}
