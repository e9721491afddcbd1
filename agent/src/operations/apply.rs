//! Keeps membership in step with the decisions, and notices that they remove this very node.

use std::collections::HashSet;

use basic_membership::{Cluster, Identity, MemberState};
use tracing::{error, warn};

use super::decision::{self, Kind, Misread, Order, RemovalOrder};
use super::subject;
use crate::records::{RecordError, Records, System};

/// Documents without effect of which it is remembered that they were mentioned.
const MENTIONED_MAX: usize = 1024;

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
