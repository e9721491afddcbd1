//! The replica as a state machine, without IO.
//!
//! [`Replica::handle`] takes one [`Input`] (a client's write, a peer's message, the
//! passing of time) and a transaction of the store; [`Replica::drain`] gives the
//! [`Output`]s. The driver handles everything that has arrived in **one**
//! transaction ([`stage`]), gives the pushes to the peers, makes it durable ([`finish`]),
//! and only then releases the other outputs: first the replies, then the messages. So
//! "persist before reply before transmit" is not a rule that each input must obey but a
//! property of the loop, and group commit comes for free: what arrives during one fsync
//! shares the next. Why pushes may go first is said at [`Replica::take_early`].
//!
//! This differs from a list of `Persist` outputs in one point: the core reads and
//! writes the store through [`crate::storage::Writer`] while it handles an input.
//! It therefore sees its own uncommitted writes without keeping a second copy of
//! them, and still knows neither files nor threads.
//!
//! How data moves:
//! - **Push.** A replica sends its own writes to all peers while it makes them
//!   durable. In a full mesh it does not pass on the writes of others.
//! - **Pull.** Every second peers tell each other their version vectors; a gap in
//!   the pushed sequence is seen at once. Who lacks something asks for it
//!   (`pull.rs`); writes reach nodes that their writer cannot reach this way.
//! - **Dates.** A write is taken in whatever its date, but a date far ahead of this
//!   replica's clock moves nothing beyond the document that bears it (`ahead.rs`).
//! - **Expiry.** When a document's time is over, this replica's watchers are told
//!   (`expiry.rs`); peers need not be, since they find the same.
//! - **Size.** Beyond [`Mesh::peers_max`] peers a replica links to few of them
//!   (`overlay.rs`), and writes are passed on along a tree (`tree/`).
//! - **Acknowledgement.** A replica tells the writer of a push up to where it has
//!   the writes on disk; `acks=N` waits for that.

mod ahead;
mod client_writes;
mod commit;
mod config;
mod counters;
mod epoch;
mod exchange;
mod expiry;
mod exported;
mod fill;
mod indexing;
mod input;
mod marks;
mod mending;
mod message;
mod overlay;
mod peers;
mod pieces;
mod pull;
mod random;
mod replica;
mod sessions;
mod settle;
mod standing;
mod tree;
mod waiting;

pub use commit::{commit, finish, serve, stage, write_requests};
pub use config::{Config, Policies, Policy};
pub use counters::Counters;
pub use fill::SnapshotChunk;
pub use input::{
    AckTarget, Condition, Decide, Input, Now, Operation, Output, RequestId, TakeIn, TakenIn,
    WriteReceipt, WriteRefused, WriteRequest,
};
pub use mending::mend_requests;
pub use message::{Message, PullChunk};
pub use overlay::Mesh;
pub use peers::{PeerStatus, Progress, Status};
pub use replica::Replica;
pub use standing::{Standing, Trust};
pub use tree::{Census, Counted, Have, TreeMessage};
