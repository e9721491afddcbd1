//! Whose writes this node lacks, by origin: each life of each node's store is one.

use std::cmp::Reverse;
use std::fmt;

use basic_sync::model::VersionVector;
use basic_sync::protocol::Status;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;
use crate::api::sync::names;

/// Origins with series of their own.
pub(super) const ORIGINS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Origins {
    /// How many have writes here.
    here: usize,
    /// Of how many there are writes elsewhere and not here.
    lacking: usize,
    /// Those of which most is lacking.
    most: Vec<Lack>,
}

#[derive(Debug)]
struct Lack {
    origin: String,
    /// Whose it is; empty where that is not known.
    node: String,
    writes: u64,
}

impl Origins {
    pub(super) fn of(api: &Api) -> Self {
        let status = api.replica.status().borrow().clone();
        Self::new(&status, api.cluster.identity().id.as_str())
    }

    pub(super) fn new(status: &Status, own_id: &str) -> Self {
        // Most of the time nobody has anything that is not here, and then there is nothing to go through.
        let ahead = status.peers.iter().filter(|peer| peer.behind > 0);
        let mut lacking = VersionVector::default();
        for theirs in ahead.filter_map(|peer| peer.progress.vector.as_deref()) {
            for (origin, range) in status.vector.missing_from(theirs) {
                lacking.insert_range(origin, range);
            }
        }
        let mut most: Vec<_> = lacking
            .iter()
            .map(|(origin, missing)| {
                let ranges = missing.ranges();
                let writes = ranges.fold(0u64, |sum, range| sum.saturating_add(range.count()));
                (Reverse(writes), origin)
            })
            .collect();
        most.sort_unstable();
        let total = most.len();
        most.truncate(ORIGINS_MAX);
        let names = names(status, own_id);
        let most = most.into_iter().map(|(Reverse(writes), origin)| Lack {
            origin: origin.to_string(),
            node: names
                .get(&origin.replica)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            writes,
        });
        Self {
            here: status.vector.iter().count(),
            lacking: total,
            most: most.collect(),
        }
    }
}

impl Collector for Origins {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        sheet.gauge(
            "origins",
            "Origins of the writes that this node has; each life of each store is one.",
            self.here,
        )?;
        sheet.gauge(
            "origins_lacking",
            "Origins of which a peer has writes that this node lacks.",
            self.lacking,
        )?;
        let most = self.most.iter().map(|lack| {
            let labels = [("origin", lack.origin.as_str()), ("node", &lack.node)];
            (labels, lack.writes)
        });
        sheet.gauges(
            "origin_lacking_writes",
            "How many writes of an origin those are. Of more than 64 such origins, those of which most is lacking have series.",
            most,
        )
    }
}
