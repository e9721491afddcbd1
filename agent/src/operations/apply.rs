//! Keeps membership in step with the decisions, and notices that they remove this very node.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use basic_membership::{Cluster, Identity, MemberState, NodeId};
use basic_sync::model::PeerId;
use basic_sync::net::Handle;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::decision::{self, Kind, Misread, Order, RemovalOrder};
use super::subject;
use crate::records::{RecordError, Records, System};

/// Documents without effect of which it is remembered that they were mentioned.
const MENTIONED_MAX: usize = 1024;
/// Time after which it is looked again whether a removed node has a replica that counts.
const GIVE_UP_PAUSE: Duration = Duration::from_secs(5);

/// This node was removed from its cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {node} was removed from the cluster at {} by {}{}, through the agent on {}. To bring it back, ask for a token \
     on one of the other nodes (`basic-agent token`) and join here again: `basic-agent join TOKEN`",
    .order.at, .order.by, why(.order), .order.on
)]
pub struct Removed {
    /// The node's id.
    pub node: String,
    /// Who removed it.
    pub order: Box<Order>,
}

fn why(order: &Order) -> String {
    let why = order.why.as_ref();
    why.map_or_else(String::new, |why| format!(" (\"{why}\")"))
}

/// Applies the decisions that are stored now. Called before anything is routed, so that a node that starts does not
/// send requests where an operator has forbidden it.
///
/// # Errors
/// [`RecordError`].
pub fn apply(cluster: &Cluster, records: &Records) -> Result<Vec<Misread>, RecordError> {
    let (directives, misread) = decision::directives(&subject::documents(records)?);
    cluster.set_directives(directives);
    Ok(misread)
}

/// Applies the decisions at each change, for as long as the agent runs.
pub async fn keep_applying(cluster: Cluster, records: Records) {
    let mut changes = records.changes(System::Members);
    let mut mentioned = HashSet::new();
    loop {
        match apply(&cluster, &records) {
            Ok(misread) => mention(misread, &mut mentioned),
            // What was in force stays so; the next change is tried again.
            Err(error) => error!(%error, "decisions of operators cannot be read"),
        }
        changes.changed().await;
    }
}

/// Sees to it that nobody waits for the data of removed nodes, for as long as the agent runs: their replicas are given
/// up at once, and deletions are no longer remembered for them.
///
/// A node that lives when it is removed hears that it was given up before it stops, and goes on as another replica
/// until then. So it is looked again from time to time whether a removed node bears one, and not at once, lest the two
/// go on as long as it lives.
pub async fn keep_giving_up(cluster: Cluster, records: Records, replica: Handle) {
    let mut decisions = records.changes(System::Members);
    loop {
        match removed_nodes(&cluster, &records) {
            Ok(removed) => {
                for node in unfenced(&replica, &removed) {
                    info!(%node, "the data of a removed node is no longer waited for");
                    replica.give_up(node).await;
                }
            }
            Err(error) => error!(%error, "decisions of operators cannot be read"),
        }
        tokio::select! {
            () = decisions.changed() => {}
            () = sleep(GIVE_UP_PAUSE) => {}
        }
    }
}

/// The other nodes that are removed and have not joined again since.
fn removed_nodes(cluster: &Cluster, records: &Records) -> Result<BTreeSet<PeerId>, RecordError> {
    let (directives, _) = decision::directives(&subject::documents(records)?);
    let members = cluster.members();
    let roster = cluster.roster();
    let joined = |id: &NodeId| {
        let member = members.find(id).map(|member| member.metadata.joined);
        let entry = roster.iter().find(|entry| entry.id == *id);
        member.max(entry.map(|entry| entry.joined))
    };
    let removed = directives.iter().filter(|(id, directive)| {
        let is_removed = joined(id).map(|joined| directive.removes(joined));
        **id != cluster.identity().id && is_removed.unwrap_or(directive.removed.is_some())
    });
    Ok(removed.map(|(id, _)| PeerId::new(id.as_str())).collect())
}

/// Those of them that have a replica which counts.
fn unfenced(replica: &Handle, removed: &BTreeSet<PeerId>) -> BTreeSet<PeerId> {
    let status = replica.status();
    let status = status.borrow();
    let lines = status.roster.iter().filter(|line| !line.fenced);
    let named = lines.map(|line| line.name.clone());
    named.filter(|name| removed.contains(name)).collect()
}

/// The removal of this node, if one that is stored here holds for it.
///
/// # Errors
/// [`RecordError`].
pub fn own_removal(records: &Records, identity: &Identity) -> Result<Option<Removed>, RecordError> {
    let key = Kind::Removed.key(&identity.id);
    let removal = match records.get::<RemovalOrder>(System::Members, &key) {
        // As everywhere, what is not understood has no effect.
        Err(RecordError::Unintelligible { .. }) => None,
        found => found?,
    };
    let removal = removal.filter(|removal| identity.joined <= removal.joined);
    Ok(removal.map(|removal| Removed {
        node: identity.id.to_string(),
        order: Box::new(removal.order),
    }))
}

/// Waits until this node is removed while it runs; returns who did it.
pub async fn removed_meanwhile(cluster: Cluster, records: Records) -> Removed {
    let identity = cluster.identity().clone();
    let mut changes = cluster.watch();
    loop {
        let members = changes.borrow_and_update().clone();
        let own = members.find(&identity.id);
        if own.is_some_and(|own| own.is_self && own.state == MemberState::Removed) {
            match own_removal(&records, &identity) {
                Ok(Some(removed)) => return removed,
                Ok(None) => {}
                Err(error) => warn!(%error, "the record that removes this node cannot be read"),
            }
        }
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn mention(misread: Vec<Misread>, mentioned: &mut HashSet<(String, String)>) {
    for Misread { key, reason } in misread {
        if mentioned.len() >= MENTIONED_MAX {
            mentioned.clear();
        }
        if mentioned.insert((key.clone(), reason.clone())) {
            warn!(
                key,
                reason,
                "a decision is not understood and has no effect; did a newer agent write it?"
            );
        }
    }
}
