//! This node, its app, and the members as it sees them.

use std::fmt;
use std::sync::Arc;

use basic_balancer::probe::{AppHealth, AppState};
use basic_membership::{AnnouncedState, Member, MemberState, Members};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};

use super::sheet::Sheet;
use crate::api::Api;

/// Members with series of their own.
const MEMBERS_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct Node {
    id: String,
    cluster: String,
    announced: AnnouncedState,
    members: Arc<Members>,
    /// Of the servers without an agent, one for each.
    servers: Vec<MemberState>,
    app: AppHealth,
    writes_refused: bool,
    identity_conflict: bool,
}

impl Node {
    pub(super) fn of(api: &Api) -> Self {
        let servers = api.registry.servers();
        Self {
            id: api.cluster.identity().id.to_string(),
            cluster: api.config.node.cluster.to_string(),
            announced: api.cluster.metadata().announced,
            members: api.cluster.members(),
            servers: servers.iter().map(|server| server.state()).collect(),
            app: api.app_health.borrow().clone(),
            writes_refused: api.replica.writes_refused().is_some(),
            identity_conflict: api.operations.latch().closed().is_some(),
        }
    }

    /// A number of each member of which it is known.
    fn per_member<V: EncodeGaugeValue>(
        &self,
        read: impl Fn(&Member) -> Option<V>,
    ) -> impl Iterator<Item = ([(&'static str, &str); 1], V)> {
        let members = self.members.iter().take(MEMBERS_MAX);
        members.filter_map(move |member| Some(([("member", member.id.as_str())], read(member)?)))
    }
}

impl Collector for Node {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(encoder);
        let version = env!("CARGO_PKG_VERSION");
        sheet.info("build", "What runs here.", &[("version", version)])?;
        let labels = [("node", self.id.as_str()), ("cluster", &self.cluster)];
        sheet.info("node", "Which node this is, of which cluster.", &labels)?;
        sheet.states(
            "state",
            "What this node announces of itself: 1 at its state.",
            AnnouncedState::ALL.map(AnnouncedState::as_str),
            self.announced.as_str(),
        )?;
        sheet.flag(
            "writes_refused",
            "Whether this node takes no writes for the time being; status tells why.",
            self.writes_refused,
        )?;
        sheet.flag(
            "identity_conflict",
            "Whether another process has the id of this node.",
            self.identity_conflict,
        )?;
        app(&mut sheet, &self.app)?;

        let members = self.members.iter().map(|member| member.state);
        sheet.gauges(
            "members",
            "Members with an agent, this node among them, by the state that it sees them in.",
            by_state(members),
        )?;
        sheet.gauges(
            "servers",
            "Servers without an agent, by state.",
            by_state(self.servers.iter().copied()),
        )?;
        sheet.gauges(
            "member_up",
            "Whether this node hears a member. Of more than 1024 members, the first by name have series of their own.",
            self.per_member(|member| Some(u32::from(member.live))),
        )?;
        sheet.gauges(
            "member_app_healthy",
            "Whether the app beside a member passes its health checks, by that member's own word.",
            self.per_member(|member| Some(u32::from(member.metadata.app.healthy))),
        )?;
        sheet.gauges(
            "member_heartbeat_age_seconds",
            "How long ago the heartbeat of a member last advanced here.",
            self.per_member(|member| Some(member.heartbeat_age?.as_secs_f64())),
        )?;
        sheet.gauges(
            "member_clock_offset_seconds",
            "The clock of a member minus the clock of this node.",
            self.per_member(|member| Some(seconds(member.clock_offset?.0))),
        )
    }
}

fn app(sheet: &mut Sheet<'_>, app: &AppHealth) -> fmt::Result {
    sheet.gauge_if_known(
        "app_healthy",
        "Whether the app beside this agent passes its health checks; left out before the first of them.",
        match app.state {
            AppState::Unknown => None,
            AppState::Healthy => Some(1u32),
            AppState::Unhealthy => Some(0),
        },
    )?;
    sheet.gauge_if_known(
        "app_check_seconds",
        "How long the latest good health check of the app took.",
        app.latency.map(|latency| latency.as_secs_f64()),
    )
}

/// Every state, also those that nobody is in.
fn by_state(
    present: impl Iterator<Item = MemberState>,
) -> impl Iterator<Item = ([(&'static str, &'static str); 1], usize)> {
    let present: Vec<MemberState> = present.collect();
    MemberState::ALL.into_iter().map(move |state| {
        let with = present.iter().filter(|present| **present == state);
        ([("state", state.as_str())], with.count())
    })
}

#[allow(clippy::cast_precision_loss)] // far more than anybody's clock is off
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_nobody_is_in_are_zero() {
        let states = [
            MemberState::Active,
            MemberState::Failed,
            MemberState::Active,
        ];
        let counts: Vec<_> = by_state(states.into_iter()).collect();
        assert_eq!(counts.len(), MemberState::ALL.len());
        for ([(_, state)], count) in counts {
            let expected = match state {
                "active" => 2,
                "failed" => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{state}");
        }
    }

    #[test]
    fn an_offset_keeps_its_sign() {
        assert!((seconds(-1_500) + 1.5).abs() < 1e-9);
    }
}
