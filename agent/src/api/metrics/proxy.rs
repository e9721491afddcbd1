//! The proxy, and the endpoints that it sends requests to.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use basic_balancer::EndpointSnapshot;
use basic_balancer::metrics::ProxyMetrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::sheet::Sheet;
use crate::api::Api;

/// Endpoints with series of their own.
pub(super) const ENDPOINTS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Proxy {
    counted: Arc<ProxyMetrics>,
    endpoints: Vec<EndpointSnapshot>,
}

impl Proxy {
    pub(super) fn of(api: &Api) -> Self {
        Self {
            counted: api.proxy.clone(),
            endpoints: api.balancer.snapshot(Instant::now()),
        }
    }

    fn each<V>(
        &self,
        read: impl Fn(&EndpointSnapshot) -> V,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        let listed = self.endpoints.iter().take(ENDPOINTS_MAX);
        listed.map(move |known| ([("node", known.endpoint.id.as_str())], read(known)))
    }

    fn endpoints(&self, sheet: &mut Sheet<'_>) -> fmt::Result {
        sheet.gauge(
            "endpoints",
            "Apps that the proxy knows. Of more than 1024, the first have series of their own.",
            self.endpoints.len(),
        )?;
        sheet.gauges(
            "endpoint_in_rotation",
            "Whether the app of a node is given new requests in the ordinary course.",
            self.each(|known| u32::from(known.in_rotation())),
        )?;
        sheet.gauges(
            "endpoint_ejected",
            "Whether it is left alone for a while because connections to it failed.",
            self.each(|known| u32::from(known.ejected_for.is_some())),
        )?;
        sheet.gauges(
            "endpoint_in_flight",
            "Requests with it now.",
            self.each(|known| known.in_flight),
        )?;
        sheet.counters(
            "endpoint_picked",
            "Times that it was picked, for first attempts and repeats alike.",
            self.each(|known| known.picked),
        )?;
        sheet.counters(
            "endpoint_answered",
            "Heads of responses that it sent, whatever their status.",
            self.each(|known| known.answered),
        )?;
        sheet.counters(
            "endpoint_failures",
            "Its failures of all kinds.",
            self.each(|known| known.failures),
        )?;
        sheet.counters(
            "endpoint_connect_failures",
            "Those of them that were connections which could not be opened.",
            self.each(|known| known.connect_failures),
        )?;
        sheet.counters(
            "endpoint_ejections",
            "Times that it was ejected.",
            self.each(|known| known.ejections),
        )
    }
}

impl Collector for Proxy {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        counted(&mut sheet, &self.counted)?;
        self.endpoints(&mut sheet)
    }
}

fn counted(sheet: &mut Sheet<'_>, counted: &ProxyMetrics) -> fmt::Result {
    let ProxyMetrics {
        connections,
        accepted,
        accept_failures,
        accept_pauses,
        in_flight,
        requests,
        refused,
        heads_timed_out,
        loops,
        no_endpoint,
        failed,
        retries,
        retries_over_budget,
        upstream_connects,
        upstream_reuses,
        responses_cut,
    } = counted;
    sheet.gauge(
        "proxy_connections",
        "Connections of clients that are open now.",
        connections.value(),
    )?;
    sheet.gauge(
        "proxy_in_flight",
        "Requests being served now.",
        in_flight.value(),
    )?;
    for (name, help, counter) in [
        (
            "accepted",
            "Connections of clients that were accepted.",
            accepted,
        ),
        (
            "accept_failures",
            "Times that accepting failed, mostly for lack of file descriptors.",
            accept_failures,
        ),
        (
            "accept_pauses",
            "Times that accepting waited because as many connections as are allowed were open.",
            accept_pauses,
        ),
        ("requests", "Requests whose head was sound.", requests),
        (
            "refused",
            "Requests refused because they had no single meaning or were too large.",
            refused,
        ),
        (
            "heads_timed_out",
            "Connections closed because a request head took too long.",
            heads_timed_out,
        ),
        (
            "loops",
            "Requests refused because they had passed through here before.",
            loops,
        ),
        (
            "no_endpoint",
            "Requests for which no endpoint was left to try.",
            no_endpoint,
        ),
        (
            "failed",
            "Requests answered with an error of this proxy after an endpoint failed.",
            failed,
        ),
        (
            "retries",
            "Requests sent again after a failure, here or elsewhere.",
            retries,
        ),
        (
            "retries_over_budget",
            "Repeats that were allowed but for the budget.",
            retries_over_budget,
        ),
        (
            "upstream_connects",
            "Connections opened to endpoints.",
            upstream_connects,
        ),
        (
            "upstream_reuses",
            "Requests sent on a connection that was open already.",
            upstream_reuses,
        ),
        (
            "responses_cut",
            "Responses that broke off because those of endpoints did.",
            responses_cut,
        ),
    ] {
        sheet.counter(&format!("proxy_{name}"), help, counter.value())?;
    }
    Ok(())
}
