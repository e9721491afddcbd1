//! `backup`, `backup verify` and `restore`.
//!
//! Owns the files: where a backup is written, that it is whole before it has its name, the key that it is sealed with,
//! which never leaves this process. In: the agent's stream (`GET /v1/backup`), or a file. Out: a file, or the agent's
//! stream (`POST /v1/restore`), or ordinary writes (`restore --as-new`, see [`rollback`]). The frames' contents go
//! through as they are: only the seal is put on or taken off here. Every byte is checked on its way, in both
//! directions, and a file to be restored is read to its end before anything is sent. What can fail is in [`error`].

mod command;
mod destination;
mod error;
mod key;
mod operation;
mod restore;
mod rollback;
mod sides;
mod source;
mod survey;
mod verify;

pub(super) use command::Backup;
pub use error::ArchiveError;
pub(super) use restore::Restore;
