//! Which nodes a task is for.

use std::collections::BTreeSet;

use basic_membership::{Cluster, MemberState, NodeId};

use super::refusal::SubmitError;
use super::standing::Known;
use crate::config::nearest;

/// The nodes that a task names, each once; without names, all that belong to the cluster now.
pub(super) fn targets(
    cluster: &Cluster,
    names: &[String],
) -> Result<BTreeSet<String>, SubmitError> {
    if names.is_empty() {
        return Ok(nodes(cluster));
    }
    let known = |name: &&String| {
        let id = name.parse::<NodeId>();
        id.is_ok_and(|id| Known::of(&id, cluster).can_be_target())
    };
    match names.iter().find(|name| !known(name)) {
        None => Ok(names.iter().cloned().collect()),
        Some(unknown) => {
            let nodes = nodes(cluster);
            Err(SubmitError::Unknown {
                node: unknown.chars().take(64).collect(),
                nearest: nearest(unknown, nodes.iter().map(String::as_str)).map(str::to_owned),
                known: nodes.into_iter().collect(),
            })
        }
    }
}

/// All that belong to the cluster, be they up or down, but for those that have left.
fn nodes(cluster: &Cluster) -> BTreeSet<String> {
    let stays = |state| !matches!(state, MemberState::Left | MemberState::Removed);
    let members = cluster.members();
    let away = cluster.roster();
    let away = away
        .iter()
        .filter(|entry| stays(entry.last_state) && members.find(&entry.id).is_none());
    let away = away.map(|entry| entry.id.to_string());
    let members = members.iter().filter(|member| stays(member.state));
    members
        .map(|member| member.id.to_string())
        .chain(away)
        .collect()
}
