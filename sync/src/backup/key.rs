//! The key of a backup: derived from a text that cannot be guessed.

use std::fmt;

/// What the sealing key is derived for.
const SEAL_CONTEXT: &str = "basic-agent backup v1: sealing key";
/// What the key is derived for by which a wrong key is told.
const CHECK_CONTEXT: &str = "basic-agent backup v1: key check";

/// Bytes of a key check.
pub(super) const CHECK_BYTES: usize = 16;

/// Key of a backup. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct BackupKey {
    seal: [u8; 32],
    check: [u8; 32],
}

impl BackupKey {
    /// The key of a text, which must be as hard to guess as a key is: the derivation is quick,
    /// so that it adds nothing to a short word.
    pub fn derive(secret: &str) -> Self {
        Self {
            seal: blake3::derive_key(SEAL_CONTEXT, secret.as_bytes()),
            check: blake3::derive_key(CHECK_CONTEXT, secret.as_bytes()),
        }
    }

    pub(super) fn seal(&self) -> &[u8; 32] {
        &self.seal
    }

    /// What a header with these first bytes has as its key check. The cipher does not commit
    /// to its key; this does.
    pub(super) fn check(&self, head: &[u8]) -> [u8; CHECK_BYTES] {
        let hash = blake3::keyed_hash(&self.check, head);
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
        check
    }
}

impl fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupKey(redacted)")
    }
}
