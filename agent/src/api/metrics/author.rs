//! The same under the names of Basic Server's author: `cluster_nodes_total`, `cluster_nodes_active`,
//! `cluster_requests_total`, `cluster_request_duration_seconds`, `sync_tasks_total`, `sync_tasks_failed`.
//!
//! Nodes are counted as in `/api/v1/cluster/status`. Two of his names promise another type than
//! the number has (`cluster_nodes_total` goes down, `sync_tasks_failed` only up), so their type is
//! left open, which breaks no rule of the formats and no linter's.

use std::fmt;
use std::time::Instant;

use basic_balancer::EndpointSnapshot;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::proxy::ENDPOINTS_MAX;
use super::sheet::{Sheet, Waits};
use crate::api::Api;
use crate::api::author::{NodeCounts, node_counts};

#[derive(Debug)]
pub(super) struct Author {
    pub(super) nodes: NodeCounts,
    /// That were sound.
    pub(super) requests: u64,
    pub(super) endpoints: Vec<EndpointSnapshot>,
    pub(super) tasks: u64,
    pub(super) tasks_failed: u64,
}

impl Author {
    pub(super) fn of(api: &Api) -> Self {
        let statistics = api.sync_tasks.statistics();
        let endpoints = api.balancer.snapshot(Instant::now());
        Self {
            nodes: node_counts(api, &endpoints),
            requests: api.proxy.requests.value(),
            endpoints,
            tasks: statistics.total_sync_tasks,
            tasks_failed: statistics.failed_sync_tasks,
        }
    }
}

impl Collector for Author {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        sheet.untyped(
            "cluster_nodes_total",
            "Nodes of the cluster now, without those that have left or were removed.",
            self.nodes.total,
        )?;
        sheet.gauge(
            "cluster_nodes_active",
            "Nodes that take requests.",
            self.nodes.active,
        )?;
        sheet.counter(
            "cluster_requests",
            "Requests to the proxy of this agent whose head was sound.",
            self.requests,
        )?;
        let endpoints = self.endpoints.iter().take(ENDPOINTS_MAX);
        sheet.waits(
            "cluster_request_duration_seconds",
            "What the app of a node took until the head of its response, as this agent's proxy saw it; in one bucket.",
            endpoints.map(|known| {
                let waits = Waits {
                    sum: known.waited.as_secs_f64(),
                    count: known.answered,
                };
                ([("node", known.endpoint.id.as_str())], waits)
            }),
        )?;
        sheet.counter(
            "sync_tasks",
            "Tasks accepted by this agent, or found at its start.",
            self.tasks,
        )?;
        sheet.untyped(
            "sync_tasks_failed",
            "Those of them that have failed since the start.",
            self.tasks_failed,
        )
    }
}
