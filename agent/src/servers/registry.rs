//! The front door: register a server, and see all that are registered.
//!
//! Owns the records `{id}/server` in `agent.members`. Everything about a server that is not registered here comes from
//! other records: decisions of operators, who also unregister it ([`crate::operations`]), and verdicts of its probe.
//! All of them are read anew whenever one has changed, on this node or on another. What is registered is checked, also
//! against the members and by a look at its address; what is refused changes nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use basic_membership::{Directives, JoinMark, MemberState, Members, NodeId};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tracing::{debug, error};

use super::address::{self, AddressFault};
use super::preflight;
use super::registration::{Record, Registration};
use super::server::{Server, Servers};
use super::verdict::Verdict;
use crate::config::HostPort;
use crate::names::resolve;
use crate::operations::decision::{self, Kind};
use crate::operations::{Actor, AuditEntry, AuditLog};
use crate::records::{Batch, RecordError, Records, System};

/// Servers that can be registered. Each costs some agent a connection a second.
pub const SERVERS_MAX: usize = 1024;
/// How the key of a registration ends.
const KEY_SUFFIX: &str = "/server";

/// What became of a registration.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The server as it is now.
    pub server: Server,
    /// Whether it is new.
    pub created: bool,
}

/// A server cannot be registered so. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// A node with an agent has the id.
    #[error("{id} is a node with an agent ({state}); give the server another id")]
    Agent {
        /// The id.
        id: NodeId,
        /// The node's state.
        state: MemberState,
    },
    /// The server of that id is elsewhere.
    #[error("{id} is registered at {known}, not at {wanted}")]
    Elsewhere {
        /// The id.
        id: NodeId,
        /// Where it is registered.
        known: HostPort,
        /// Where it is to be.
        wanted: HostPort,
    },
    /// What is registered under that id is not understood, so it is not known what would be overwritten.
    #[error(
        "what is registered as {id} is not understood by this agent; a newer one may have written it"
    )]
    Unintelligible {
        /// The id.
        id: NodeId,
    },
    /// Another server is there.
    #[error("{address} is registered as {id}, and a server needs only one name")]
    Taken {
        /// The address.
        address: HostPort,
        /// Whose it is.
        id: NodeId,
    },
    /// There are too many.
    #[error("{SERVERS_MAX} servers are registered, and no more can be")]
    Full,
    /// The host has no address.
    #[error("the host of {0} does not resolve on this agent")]
    Unresolved(HostPort),
    /// No server can be at the address.
    #[error(transparent)]
    Address(#[from] AddressFault),
    /// An agent's proxy answers at the address.
    #[error(
        "the proxy of an agent answers at {0}, and requests would go round in a circle; give the address of a server"
    )]
    Proxy(SocketAddr),
    /// The records could not be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The servers without an agent. Clones share it.
#[derive(Clone)]
pub struct Registry {
    records: Records,
    proxy: SocketAddr,
    servers: Arc<watch::Sender<Arc<Servers>>>,
    /// Held while the records are read and shown, so that what was read first is not shown last.
    refreshing: Arc<std::sync::Mutex<()>>,
    /// One registration at a time, so that what it was checked against is still so when it is stored.
    registering: Arc<Mutex<()>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// The servers in these records, and the task that keeps them up to date for as long as the agent runs. `proxy` is
    /// where this agent's own proxy listens.
    pub fn new(
        records: Records,
        proxy: SocketAddr,
    ) -> (Registry, impl Future<Output = ()> + Send + 'static) {
        let registry = Registry {
            records,
            proxy,
            servers: Arc::default(),
            refreshing: Arc::default(),
            registering: Arc::default(),
        };
        (registry.clone(), follow(registry))
    }

    /// The servers as they are now.
    pub fn servers(&self) -> Arc<Servers> {
        self.servers.borrow().clone()
    }

    /// The servers as they change.
    pub fn watch(&self) -> watch::Receiver<Arc<Servers>> {
        self.servers.subscribe()
    }

    /// The records that the servers are made of.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Whether a server may be at `target`, with these members.
    ///
    /// # Errors
    /// [`AddressFault`].
    pub fn judge(&self, target: SocketAddr, members: &Members) -> Result<(), AddressFault> {
        address::judge(target, members.iter(), self.proxy)
    }

    /// Whether a server of that id is registered, by the records and not by what was last seen of them.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn is_registered(&self, id: &NodeId) -> Result<bool, RecordError> {
        let record = self.records.get::<Value>(System::Members, &key(id));
        Ok(record?.is_some())
    }

    /// Registers a server, or changes its registration; what is registered so already stays as it is. A server moves
    /// to another address, and a record that is not understood is overwritten, only if `replace` says so. A removal of
    /// a node with an agent that had the id stays in force for that node. Returns when it is on disk here, with its
    /// audit record.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub async fn register(
        &self,
        id: NodeId,
        registration: Registration,
        replace: bool,
        members: &Members,
        audit: &AuditLog,
        actor: &Actor,
    ) -> Result<Registered, RegisterError> {
        let _one = self.registering.lock().await;
        if let Some(member) = members.find(&id) {
            let state = member.state;
            return Err(RegisterError::Agent { id, state });
        }
        let documents = self.records.all::<Value>(System::Members)?;
        let known = registrations(&documents);
        let before = known.iter().find(|(known, ..)| *known == id);
        let stored = document(&documents, &key(&id));
        if stored.is_some() && before.is_none() && !replace {
            return Err(RegisterError::Unintelligible { id });
        }
        let removal = Kind::Removed.key(&id);
        let removed = document(&documents, &removal).and_then(removal_mark);
        let is_new = before.is_none_or(|(_, before, at)| {
            *before != registration || removed.is_some_and(|removed| *at <= removed)
        });
        if is_new {
            self.check(&id, &registration, replace, members, &known)
                .await?;
            let record = Record::new(&registration, registered(before, &registration, removed));
            let entry = AuditEntry {
                action: "register".to_owned(),
                node: id.to_string(),
                order: audit.order(actor),
                before: stored.cloned().unwrap_or_default(),
                after: json!(record),
            };
            let mut batch = Batch::default().put(System::Members, &key(&id), &record)?;
            if stored.is_none() {
                // What was decided about an earlier bearer of the name does not hold for this one. A removal does not
                // anyway, by its date; it keeps the earlier bearer out.
                let prefix = format!("{id}/");
                let about = documents.iter().filter(|(key, _)| key.starts_with(&prefix));
                for (key, _) in about.filter(|(key, _)| *key != removal) {
                    batch = batch
                        .delete(System::Members, key)
                        .map_err(RecordError::from)?;
                }
            }
            audit.write(batch, &entry).await?;
        }
        let created = stored.is_none();
        let servers = self.refresh()?;
        let server = servers.find(&id).cloned();
        let server = server.unwrap_or_else(|| Server::new(id, registration, JoinMark::default()));
        Ok(Registered { server, created })
    }

    async fn check(
        &self,
        id: &NodeId,
        registration: &Registration,
        replace: bool,
        members: &Members,
        known: &[(NodeId, Registration, JoinMark)],
    ) -> Result<(), RegisterError> {
        let address = &registration.address;
        let before = known.iter().find(|(known, ..)| known == id);
        match before {
            Some((_, before, _)) if before.address == *address => return Ok(()),
            Some((_, before, _)) if !replace => {
                return Err(RegisterError::Elsewhere {
                    id: id.clone(),
                    known: before.address.clone(),
                    wanted: address.clone(),
                });
            }
            None if known.len() >= SERVERS_MAX => return Err(RegisterError::Full),
            _ => {}
        }
        if let Some((other, ..)) = known.iter().find(|(_, known, _)| known.address == *address) {
            return Err(RegisterError::Taken {
                address: address.clone(),
                id: other.clone(),
            });
        }
        let resolved = resolve(&address.to_string()).await;
        let target = resolved.ok_or_else(|| RegisterError::Unresolved(address.clone()))?;
        self.judge(target, members)?;
        if preflight::is_proxy(target, &registration.health).await {
            return Err(RegisterError::Proxy(target));
        }
        Ok(())
    }

    /// Reads all records anew and shows what they say.
    fn refresh(&self) -> Result<Arc<Servers>, RecordError> {
        let _one = self
            .refreshing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let documents = self.records.all::<Value>(System::Members)?;
        let verdicts = self.records.all::<Verdict>(System::Probes)?;
        let (directives, _) = decision::directives(&documents);
        let list = assemble(&registrations(&documents), &directives, &verdicts);
        self.servers.send_if_modified(|servers| {
            let after = Servers::after(servers, list, SystemTime::now());
            let changed = after != **servers;
            *servers = Arc::new(after);
            changed
        });
        Ok(self.servers())
    }
}

/// The registration of a server at present; `None` also for one that is not understood.
///
/// # Errors
/// [`RecordError`].
pub(super) fn registration(
    records: &Records,
    id: &NodeId,
) -> Result<Option<Registration>, RecordError> {
    let record = match records.get::<Record>(System::Members, &key(id)) {
        Err(RecordError::Unintelligible { .. }) => None,
        record => record?,
    };
    let read = record.and_then(|record| record.read().ok());
    Ok(read.map(|(registration, _)| registration))
}

/// The key of the registration of a server.
fn key(id: &NodeId) -> String {
    format!("{id}{KEY_SUFFIX}")
}

async fn follow(registry: Registry) {
    let mut members = registry.records.changes(System::Members);
    let mut probes = registry.records.changes(System::Probes);
    loop {
        if let Err(error) = registry.refresh() {
            // What is known stays so; the next change is tried again.
            error!(%error, "the servers without an agent cannot be read");
        }
        tokio::select! {
            () = members.changed() => {}
            () = probes.changed() => {}
        }
    }
}

/// The registrations among the documents of `agent.members`.
fn registrations(documents: &[(String, Value)]) -> Vec<(NodeId, Registration, JoinMark)> {
    let records = documents
        .iter()
        .filter_map(|(key, document)| Some((key.strip_suffix(KEY_SUFFIX)?, document)));
    let registration = |(id, document): (&str, &Value)| -> Option<_> {
        let id: NodeId = id.parse().ok()?;
        let record = Record::deserialize(document).map_err(|error| error.to_string());
        let read = record.and_then(|record| record.read().map_err(|error| error.to_string()));
        match read {
            Ok((registration, registered)) => Some((id, registration, registered)),
            Err(error) => {
                debug!(node = %id, error, "a registered server is not understood and gets no requests");
                None
            }
        }
    };
    records.filter_map(registration).collect()
}

fn assemble(
    registrations: &[(NodeId, Registration, JoinMark)],
    directives: &Directives,
    verdicts: &[(String, Verdict)],
) -> Vec<Server> {
    let server = |(id, registration, registered): &(NodeId, Registration, JoinMark)| {
        let verdict = verdicts.iter().find(|(key, _)| key == id.as_str());
        Server {
            directive: directives.get(id).copied().unwrap_or_default(),
            last_verdict: verdict.map(|(_, verdict)| verdict.clone()),
            ..Server::new(id.clone(), registration.clone(), *registered)
        }
    };
    registrations.iter().map(server).collect()
}

fn document<'d>(documents: &'d [(String, Value)], key: &str) -> Option<&'d Value> {
    let found = documents.iter().find(|(known, _)| known == key);
    found.map(|(_, document)| document)
}

/// The date of a registration: now, or that of the last one if the server stays where it was. A removal of an earlier
/// bearer of the name, dated by the clock of that one, always comes before it.
fn registered(
    before: Option<&(NodeId, Registration, JoinMark)>,
    registration: &Registration,
    removed: Option<JoinMark>,
) -> JoinMark {
    let stays = |before: &Registration, at: &JoinMark| {
        before.address == registration.address && removed.is_none_or(|removed| removed < *at)
    };
    match before {
        Some((_, before, at)) if stays(before, at) => *at,
        _ => {
            let after = removed.map_or(0, |removed| removed.0.saturating_add(1));
            let now = super::verdict::millis(SystemTime::now());
            JoinMark(now.max(after).min(JoinMark::MAX.0))
        }
    }
}

/// What a removal holds up to.
fn removal_mark(document: &Value) -> Option<JoinMark> {
    document.get("joined")?.as_u64().map(JoinMark)
}

#[cfg(test)]
mod tests;
