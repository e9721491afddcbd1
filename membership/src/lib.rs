//! Cluster membership: who is there, in which state, and where to reach it.
//!
//! This crate is the only one that knows chitchat. It runs the gossip protocol
//! on a thread of its own, over sealed datagrams, and gives the rest of the
//! agent three things: a snapshot of the members, a stream of events, and an
//! orderly way to leave. Streams and TLS belong to the agent's peer port,
//! documents to the sync crate, targets of requests to the balancer; none of
//! them is known here.
//!
//! | module | what lives there |
//! |---|---|
//! | [`cluster`] | the front door: [`Cluster`], its start, its handle |
//! | [`config`] | what a cluster is started with, and the measured defaults |
//! | [`name`] | [`NodeId`] and [`ClusterName`], checked on the way in |
//! | [`identity`] | [`Identity`]: the persisted id and the [`Incarnation`] that only grows |
//! | [`metadata`] | [`Metadata`]: what a node says about itself, and its encoding in gossip |
//! | [`member`] | [`Member`], [`Members`] and the [`MemberState`] machine |
//! | [`directive`] | [`Directive`]: what operators decided about a node, and the [`JoinMark`] |
//! | [`roster`] | [`RosterEntry`]: every member ever seen, kept on disk, used as seeds |
//! | [`clock`] | [`ClockOffset`]: how far another node's clock is from ours |
//! | [`event`] | [`Event`] and the bounded [`EventStream`] |
//! | [`leave`] | how long a leave asks for confirmation, and its report |
//! | [`diagnostics`] | counters, refused datagrams, the node's own delays |
//! | [`transport`] | keys, sealed frames, replay windows, the checks before chitchat reads a byte |
//! | `gossip` | the driver: one task owns the state, restarts chitchat if it panics |
//! | `view` | the pure state machine from observations and decisions to members and events |
//! | `heartbeat`, `stall`, `seeds` | evidence of life, the node's own stalls, seeds given by name |
//!
//! A message on its way in: `transport` opens, authenticates and inspects it,
//! chitchat merges it, `gossip` observes chitchat's state, `view` turns the
//! difference into events.

#![forbid(unsafe_code)]

pub mod clock;
pub mod cluster;
pub mod config;
pub mod diagnostics;
pub mod directive;
pub mod error;
pub mod event;
mod gossip;
mod heartbeat;
pub mod identity;
pub mod leave;
pub mod member;
pub mod metadata;
pub mod name;
mod replace;
pub mod roster;
mod seeds;
mod stall;
#[cfg(test)]
mod testing;
pub mod transport;
mod view;

pub use clock::ClockOffset;
pub use cluster::Cluster;
pub use config::Config;
pub use diagnostics::{
    Claimant, ContestedId, Diagnostics, IdentityConflict, RejectReason, Rejection,
};
pub use directive::{Directive, Directives, JoinMark};
pub use error::{IdentityError, JoinError, LeaveError, MetadataError, NameError};
pub use event::{Cause, Event, EventKind, EventStream, Lagged};
pub use identity::{Identity, Incarnation};
pub use leave::LeaveReport;
pub use member::{Member, MemberState, Members};
pub use metadata::{AnnouncedState, AppInfo, Metadata};
pub use name::{ClusterName, NodeId};
pub use roster::RosterEntry;
pub use transport::keyring::{GossipKey, KeyId, KeyIdError, Keyring, KeyringError};
pub use transport::large_frames::{
    FRAME_LEN_MAX, LargeFrameError, LargeFrameLink, LargeFrames, ReceivedFrame,
};
