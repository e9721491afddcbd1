//! What operators decide about nodes, on every node, with a record of who did it.
//!
//! A decision (drain, fail, weight, removal) is a document in `agent.members`, so it reaches every node by replication,
//! outlives restarts, and holds for nodes that are away. Each node applies the same documents to its own view; none
//! acts for another. In go what an operator asks for ([`Action`], [`Actor`]) and the documents as they change; out come
//! the directives for membership ([`apply`]) and one audit record a decision ([`AuditLog`]).
//!
//! - [`Operations`]: the front door: checks that a decision makes sense, stores it with its audit record.
//! - [`decision`]: the documents, and what they mean taken together; pure.
//! - [`apply`]: keeps membership in step with them; notices that this node itself was removed.
//! - [`conflict`]: two nodes with one id: this one takes no writes until an operator decides.
//!
//! What is asked for in vain says why, and changes nothing. A document that is not understood has no effect.

pub mod apply;
mod audit;
pub mod conflict;
pub mod decision;
mod front;
mod subject;

pub use apply::Removed;
pub use audit::{Actor, ActorError, AuditEntry, AuditLog};
pub use conflict::{ConflictLatch, TwoNodes};
pub use decision::DecisionView;
pub use front::{Action, OperationError, Operations, Outcome};

#[cfg(test)]
mod tests;
