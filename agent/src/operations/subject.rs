//! What a decision is about: a node that is known here in any way.

use basic_membership::{Cluster, JoinMark, Member, NodeId};
use serde_json::Value;

use crate::config::nearest;
use crate::records::{RecordError, Records, System};

/// How the key of a server's registration ends.
const SERVER_SUFFIX: &str = "/server";

/// A node or a server that decisions can be about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// A member as gossip shows it.
    Member(Member),
    /// A node that was seen before and is away; when it last joined.
    Away(NodeId, JoinMark),
    /// A registered server without an agent; when it was registered.
    Server(NodeId, JoinMark),
}

/// There is no such node; what there is.
#[derive(Debug)]
pub(super) struct NotFound {
    pub(super) nearest: Option<String>,
    pub(super) known: Vec<String>,
}

impl Subject {
    pub(super) fn id(&self) -> &NodeId {
        match self {
            Self::Member(member) => &member.id,
            Self::Away(id, _) | Self::Server(id, _) => id,
        }
    }

    /// When it last joined; a server does by being registered.
    pub(super) fn joined(&self) -> JoinMark {
        match self {
            Self::Member(member) => member.metadata.joined,
            Self::Away(_, joined) | Self::Server(_, joined) => *joined,
        }
    }

    pub(super) fn member(&self) -> Option<&Member> {
        match self {
            Self::Member(member) => Some(member),
            Self::Away(..) | Self::Server(..) => None,
        }
    }
}

/// Finds what `name` names: among the members, those who are away, and the servers in `documents`.
pub(super) fn find(
    name: &str,
    cluster: &Cluster,
    documents: &[(String, Value)],
) -> Result<Subject, NotFound> {
    let members = cluster.members();
    let roster = cluster.roster();
    let servers: Vec<(&str, &Value)> = documents
        .iter()
        .filter_map(|(key, document)| Some((key.strip_suffix(SERVER_SUFFIX)?, document)))
        .collect();
    if let Ok(id) = name.parse::<NodeId>() {
        if let Some(member) = members.find(&id) {
            return Ok(Subject::Member(member.clone()));
        }
        if let Some((_, document)) = servers.iter().find(|(server, _)| *server == id.as_str()) {
            return Ok(Subject::Server(id, registered(document)));
        }
        if let Some(entry) = roster.iter().find(|entry| entry.id == id) {
            return Ok(Subject::Away(id, entry.joined));
        }
    }
    let mut known: Vec<String> = members.iter().map(|member| member.id.to_string()).collect();
    known.extend(roster.iter().map(|entry| entry.id.to_string()));
    known.extend(servers.iter().map(|(server, _)| (*server).to_owned()));
    known.sort();
    known.dedup();
    let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
    Err(NotFound { nearest, known })
}

/// When a server was registered. One whose record does not say so can be decided about all the same: no removal of an
/// earlier bearer of its name holds for it.
fn registered(document: &Value) -> JoinMark {
    let registered = document.get("registered").and_then(Value::as_u64);
    registered.map_or(JoinMark::MAX, JoinMark)
}

/// All documents about nodes.
pub(super) fn documents(records: &Records) -> Result<Vec<(String, Value)>, RecordError> {
    records.all(System::Members)
}
