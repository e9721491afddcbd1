//! The secrets of the cluster: which are known here, which is in use, and how all nodes come to use another.
//!
//! Owns the file `keys.json` of the data directory and the records of `agent.keys` in the replicated store. In go the
//! secret from the configuration, what operators ask for (rotate, retire), and which keys every member announces; out
//! come the keys of gossip and TLS, put to use while everything runs, and the token by which a further node joins.
//!
//! A rotation has no coordinator. The node that is asked makes a secret and stores it sealed under the one in use, so
//! that neither the store nor a backup of it gives anything away. Every node that has the old secret opens the new
//! one, writes it down, accepts it in gossip and TLS, and announces so. A node that sees it announced by every live
//! member begins to use it, on its own; of two rotations at once the later one is used by all. A node that was away
//! gets in with the old key for as long as that is installed, and does the same. Retiring the old key ends that, and
//! with it every connection of the peer port, once: who has another key connects anew, who has not stays out.
//!
//! A rotation is hygiene and no eviction. Whoever has a secret of the cluster and reads its records can open the next
//! one too. If somebody has got a secret who should not have it, every node needs one that was not handed on by the
//! cluster: by its configuration, or by `join` with the token of a node that has it; then the old ones are retired.
//!
//! | module | what lives there |
//! |---|---|
//! | [`ring`] | [`KeyRing`]: the installed secrets and the rules of their order, pure |
//! | [`file`](self) | `keys.json`: durable, checked, never silently made anew |
//! | [`sealed`](self) | a secret sealed under another |
//! | [`record`] | what is replicated, and what follows from it for a ring |
//! | `opening` | from the configuration to keys that are ready for use |
//! | [`rotation`] | the task that follows the records, and what operators ask of it |
//! | [`token`] | the join token |
//!
//! What can fail: the file ([`KeyFileError`]), a rotation or a retirement ([`RotateError`], [`RetireError`]), a token
//! ([`TokenError`]). None of them takes a key away that is in use.

mod file;
mod opening;
pub mod record;
pub mod ring;
pub mod rotation;
mod sealed;
pub mod token;

pub use file::{FILE_NAME, KeyFile, KeyFileError};
pub use opening::{OpenKeysError, OpenedKeys};
pub use ring::{Adoption, KeyRing};
pub use rotation::{Keys, RetireError, RotateError, Rotation, Way};
pub use sealed::SealedSecret;
pub use token::{JoinToken, TokenError};
