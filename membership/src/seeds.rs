//! Seeds: the places where a node looks for its cluster.
//!
//! Addresses are handed to chitchat, which speaks to them now and then for ever.
//! Names are resolved here: chitchat would look once and then again after a
//! minute, which is too long for a cluster whose names appear while it starts.
//! While this node is alone every name is asked each second, later each minute,
//! so that a name with many addresses, such as a headless Kubernetes service,
//! also heals a split. A name that does not resolve is said once, and its
//! recovery once.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::diagnostics::journal::Journal;
use crate::error::JoinError;
use crate::transport::datagrams::canonical;

/// Most seeds that are used.
pub(crate) const SEEDS_MAX: usize = 64;
/// Most addresses of one name that are spoken to.
const ADDRESSES_MAX: usize = 64;
const INTERVAL_ALONE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(60);

/// The configured seeds, told apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seeds {
    pub(crate) addresses: BTreeSet<SocketAddr>,
    pub(crate) names: BTreeSet<String>,
}

impl Seeds {
    /// Checks the form of each seed; nothing is resolved yet.
    pub(crate) fn parse(seeds: &[String]) -> Result<Seeds, JoinError> {
        let mut parsed = Seeds::default();
        for seed in seeds {
            match seed.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 => {
                    parsed.addresses.insert(canonical(address));
                }
                Err(_) if is_name_and_port(seed) => {
                    parsed.names.insert(seed.clone());
                }
                Ok(_) | Err(_) => return Err(JoinError::Seed { seed: seed.clone() }),
            }
        }
        Ok(parsed)
    }
}

fn is_name_and_port(seed: &str) -> bool {
    let Some((host, port)) = seed.rsplit_once(':') else {
        return false;
    };
    let host_ok = (1..=253).contains(&host.len())
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        && host.chars().any(|c| c.is_ascii_alphabetic());
    host_ok && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Resolves one name until `found` closes; what it stands for is sent each time,
/// and the journal knows whether it resolves.
pub(crate) async fn resolve(
    name: String,
    journal: Arc<Journal>,
    mut alone: watch::Receiver<bool>,
    found: mpsc::Sender<Vec<SocketAddr>>,
) {
    let mut failing = false;
    loop {
        match lookup_host(&name).await {
            Ok(addresses) => {
                if failing {
                    info!(seed = %name, "the seed resolves again");
                }
                failing = false;
                journal.note_seed(&name, None);
                if found
                    .send(addresses.take(ADDRESSES_MAX).map(canonical).collect())
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(error) => {
                if !failing {
                    warn!(seed = %name, %error, "the seed does not resolve; trying on");
                }
                failing = true;
                journal.note_seed(&name, Some(error.to_string()));
                if found.is_closed() {
                    return;
                }
            }
        }
        let interval = if *alone.borrow_and_update() {
            INTERVAL_ALONE
        } else {
            INTERVAL
        };
        // Ends early when this node becomes alone, or the driver has gone.
        if let Ok(Err(_)) = timeout(interval, alone.changed()).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(seeds: &[&str]) -> Result<Seeds, JoinError> {
        Seeds::parse(
            &seeds
                .iter()
                .map(|seed| (*seed).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        let seeds = parse(&[
            "10.0.0.2:9400",
            "[::ffff:10.0.0.2]:9400",
            "[::1]:9400",
            "basic.example.org:9400",
        ]);
        let seeds = seeds.unwrap();
        let expected = ["10.0.0.2:9400", "[::1]:9400"].map(|seed| seed.parse().unwrap());
        assert_eq!(seeds.addresses, BTreeSet::from(expected));
        assert_eq!(seeds.names.first().unwrap(), "basic.example.org:9400");
    }

    #[test]
    fn what_is_no_seed_is_refused_by_name() {
        for bad in [
            "",
            "10.0.0.2",
            "10.0.0.2:0",
            "host",
            "host:",
            ":9400",
            "host:99999",
            "300.1.1.1:94",
            "http://h:1",
        ] {
            let error = parse(&[bad]).unwrap_err();
            assert!(
                matches!(&error, JoinError::Seed { seed } if seed == bad),
                "{bad}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_name_is_asked_at_once_and_the_task_ends_with_its_listener() {
        let (_alone, watching) = watch::channel(true);
        let (found, mut listener) = mpsc::channel(1);
        let task = tokio::spawn(resolve(
            "localhost:9400".to_owned(),
            Arc::default(),
            watching,
            found,
        ));
        let addresses = listener.recv().await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback()));
        assert!(!addresses.is_empty());
        drop(listener);
        timeout(Duration::from_secs(30), task)
            .await
            .unwrap()
            .unwrap();
    }
}
