//! What a node says about itself through gossip.
//!
//! Small facts only: where it is, what it runs, whether its app is well, how
//! much of the load it wants. Each field travels as one key of its own, so that
//! a change sends only what changed. In goes a [`Metadata`] from this node or
//! text from a peer; out comes the other of the two, checked by the same rules
//! in both directions. A value that a peer got wrong is an error here, and
//! leaves the last good metadata of that peer in force.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::directive::JoinMark;
use crate::error::MetadataError;
use crate::transport::keyring::KeyId;

pub(crate) mod codec;

/// Most labels that a node may carry.
pub const LABELS_MAX: usize = 16;
/// Longest name of a label, in bytes.
pub const LABEL_NAME_LEN_MAX: usize = 63;
/// Longest value of a label, in bytes.
pub const LABEL_VALUE_LEN_MAX: usize = 128;
/// All labels together, in bytes as they travel ([`labels_len`]). Whatever else a
/// node comes to announce, its app's trouble or another key, fits beside them.
pub const LABELS_LEN_MAX: usize = 1024;
/// Longest reason of an unhealthy app, in bytes.
pub const REASON_LEN_MAX: usize = 120;
/// Longest replica name, in bytes.
pub const REPLICA_LEN_MAX: usize = 128;
/// All fields together, encoded, in bytes.
pub const METADATA_LEN_MAX: usize = 2048;

/// The length of labels as they travel, in bytes: a JSON object of strings.
pub fn labels_len(labels: &BTreeMap<String, String>) -> usize {
    codec::encode_labels(labels).len()
}

/// What a node announces of its own course. Only the node itself changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnouncedState {
    /// It has started and is not ready.
    Joining,
    /// It fetches what it missed and takes no traffic yet.
    CatchingUp,
    /// It takes traffic.
    Active,
    /// It finishes what it has and wants nothing new.
    Draining,
    /// It is about to stop.
    Leaving,
    /// It has stopped in order.
    Left,
}

impl AnnouncedState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Joining,
        Self::CatchingUp,
        Self::Active,
        Self::Draining,
        Self::Leaving,
        Self::Left,
    ];

    /// The name used in gossip and in the API, in kebab case.
    pub fn as_str(self) -> &'static str {
        match self {
            AnnouncedState::Joining => "joining",
            AnnouncedState::CatchingUp => "catching-up",
            AnnouncedState::Active => "active",
            AnnouncedState::Draining => "draining",
            AnnouncedState::Leaving => "leaving",
            AnnouncedState::Left => "left",
        }
    }
}

/// The app beside a node, as the node's own probe sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppInfo {
    /// Where other nodes reach it, `host:port`; `None` if they go through the
    /// node's peer port.
    pub address: Option<String>,
    /// Whether it passed its last health checks.
    pub healthy: bool,
    /// Since when, in milliseconds of the node's clock since the Unix epoch.
    pub since_ms: u64,
    /// Why it is unhealthy, for people; at most [`REASON_LEN_MAX`] bytes.
    pub reason: Option<String>,
}

impl AppInfo {
    /// Sets the verdict of the health probe. The reason, which may quote the
    /// app, is stripped of control characters and cut to its limit.
    pub fn set_health(&mut self, healthy: bool, since_ms: u64, reason: Option<&str>) {
        self.healthy = healthy;
        self.since_ms = since_ms;
        self.reason = reason.map(shorten).filter(|reason| !reason.is_empty());
    }
}

/// What a node announces: see the fields. The address of its peer port is not
/// among them, since every gossip message carries it
/// ([`Member::peer`](crate::Member::peer)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Where the node is in its own course.
    pub announced: AnnouncedState,
    /// The newest protocol between agents that the node speaks.
    pub protocol: u16,
    /// Its API, where other hosts can reach it.
    pub api: Option<SocketAddr>,
    /// The app beside it.
    pub app: AppInfo,
    /// Its share of the load, relative to the weights of the others.
    pub weight: u32,
    /// Free facts for people and for rules, such as `zone = "a"`; at most
    /// [`LABELS_MAX`].
    pub labels: BTreeMap<String, String>,
    /// Names the node's copy of the data to the replication protocol; opaque here.
    pub replica: Option<String>,
    /// It finds its clock ahead of those of most others.
    pub clock_ahead: bool,
    /// When the node was last joined to the cluster on purpose; set by
    /// [`Cluster::join`](crate::Cluster::join) from the identity.
    pub joined: JoinMark,
    /// The gossip keys it has installed, the one in use first; at most
    /// [`KEYS_MAX`](crate::transport::keyring::KEYS_MAX).
    pub keys: Vec<KeyId>,
}

impl Metadata {
    /// A node that is joining, with weight 100, no label and an app of which
    /// nothing is known yet.
    pub fn new(protocol: u16) -> Metadata {
        Metadata {
            announced: AnnouncedState::Joining,
            protocol,
            api: None,
            app: AppInfo {
                address: None,
                healthy: false,
                since_ms: 0,
                reason: None,
            },
            weight: 100,
            labels: BTreeMap::new(),
            replica: None,
            clock_ahead: false,
            joined: JoinMark::default(),
            keys: Vec::new(),
        }
    }

    /// Checks every field and the size of the whole, as `set_metadata` does.
    ///
    /// # Errors
    /// The first field that is not valid, or [`MetadataError::TooLarge`].
    pub fn check(&self) -> Result<(), MetadataError> {
        codec::encode(self).map(drop)
    }
}

fn shorten(reason: &str) -> String {
    let mut text = String::new();
    for c in reason.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if text.len() + c.len_utf8() > REASON_LEN_MAX {
            break;
        }
        text.push(c);
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does not compile until a new state has a place in the list.
    #[test]
    fn every_state_is_in_the_list() {
        let place = |state| match state {
            AnnouncedState::Joining => 0,
            AnnouncedState::CatchingUp => 1,
            AnnouncedState::Active => 2,
            AnnouncedState::Draining => 3,
            AnnouncedState::Leaving => 4,
            AnnouncedState::Left => 5,
        };
        for (index, state) in AnnouncedState::ALL.into_iter().enumerate() {
            assert_eq!(place(state), index);
        }
    }

    #[test]
    fn a_long_reason_with_line_breaks_is_made_fit_to_announce() {
        let mut metadata = Metadata::new(1);
        metadata
            .app
            .set_health(false, 7, Some(&format!("line\n{}", "é".repeat(200))));
        let reason = metadata.app.reason.clone().unwrap();
        assert!(reason.starts_with("line é") && reason.len() <= REASON_LEN_MAX);
        metadata.check().unwrap();
        metadata.app.set_health(true, 8, Some("\n"));
        assert_eq!(metadata.app.reason, None);
    }
}
