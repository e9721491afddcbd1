//! What a hook has done, counted.

use std::time::SystemTime;

/// One hook and what it has done since the agent started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookStatus {
    /// `command` or `webhook`.
    pub hook: &'static str,
    /// The program, or the host and port; never a path or a query, which may hold a token.
    pub target: String,
    /// Events that it was told of.
    pub delivered: u64,
    /// Events that it could not be told of.
    pub failed: u64,
    /// Tries beyond the first of an event.
    pub retried: u64,
    /// Events dropped because too many were waiting.
    pub dropped: u64,
    /// Events that wait now, without the one on its way.
    pub waiting: usize,
    /// Why the last failure was one.
    pub last_error: Option<String>,
    /// When it was last told of an event.
    pub last_delivered: Option<SystemTime>,
    /// When it last could not be told of one.
    pub last_failed: Option<SystemTime>,
    /// When an event was last dropped.
    pub last_dropped: Option<SystemTime>,
}

/// The counters behind a [`HookStatus`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
    pub(super) dropped: u64,
    pub(super) last_error: Option<String>,
    pub(super) last_delivered: Option<SystemTime>,
    pub(super) last_failed: Option<SystemTime>,
    pub(super) last_dropped: Option<SystemTime>,
}
