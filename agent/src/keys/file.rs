//! `keys.json` in the data directory: the key ring, as it survives a restart.
//!
//! Mode 0600. The file is replaced whole (temporary file, fsync, rename, fsync of the directory), so that a crash
//! leaves the old or the new one. A checksum covers every byte of the ring: a file that was damaged or edited is an
//! error, because a node that silently began with fewer keys would be shut out, or let in whom it should not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use basic_membership::KeyId;
use basic_membership::transport::keyring::KEYS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::PeerSecret;
use crate::replace::replace;

use super::ring::{Adoption, InstalledKey, KeyRing};

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "keys.json";
/// Largest file, in bytes: far more than any ring.
const FILE_MAX: u64 = 1 << 20;
const FORMAT: u32 = 1;

/// Where the ring is kept.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// Why the ring could not be read or kept. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system does not let it be read.
    #[error("the keys in {} cannot be read; check its permissions", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everyone on the host can read it.
    #[error(
        "the keys in {} can be read by every user of this host (mode {mode:04o}); run `chmod 600 {0}`, and if others may have seen them, give every node a new secret (BASIC_AGENT_PEER_SECRET or [peer] secret_file, or `basic-agent join` with a token): `basic-agent keys rotate` is no help then, because whoever has a key can open the next", .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what was written.
    #[error(
        "the keys in {} are damaged ({reason}); restore the file from a backup. Without one, move it away and run `basic-agent join` with a token from `basic-agent token` on another node", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version wrote it.
    #[error(
        "the keys in {} were written by a newer agent (format {format}, this one knows {FORMAT}); run that version", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format found.
        format: u32,
    },
    /// It cannot be written durably.
    #[error("the keys cannot be kept in {}; check free space and permissions", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u32,
    /// Blake3 of the text of `ring`.
    checksum: String,
    ring: Box<RawValue>,
}

#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredRing {
    in_use: KeyId,
    keys: Vec<StoredKey>,
    retired: BTreeMap<KeyId, u64>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    id: KeyId,
    secret: String,
    created_ms: u64,
}

impl KeyFile {
    /// The file in this data directory.
    pub fn in_directory(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(FILE_NAME),
        }
    }

    /// Reads the ring, or begins one, and takes up the configured secret. What this returns is on disk.
    ///
    /// # Errors
    /// [`KeyFileError`]; a file that is there and cannot be used is never replaced.
    pub fn open(&self, configured: &PeerSecret) -> Result<(KeyRing, Adoption), KeyFileError> {
        let Some(mut ring) = self.read()? else {
            let ring = KeyRing::new(configured.clone());
            self.write(&ring)?;
            return Ok((ring, Adoption::InUse));
        };
        let adoption = ring.adopt(configured);
        if adoption == Adoption::New {
            self.write(&ring)?;
        }
        Ok((ring, adoption))
    }

    /// Reads the ring; none if there is no file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(&self) -> Result<Option<KeyRing>, KeyFileError> {
        let unreadable = |source| KeyFileError::Unreadable {
            path: self.path.clone(),
            source,
        };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(KeyFileError::Exposed {
                path: self.path.clone(),
                mode,
            });
        }
        let mut bytes = Vec::new();
        let mut limited = file.take(FILE_MAX + 1);
        limited.read_to_end(&mut bytes).map_err(unreadable)?;
        self.decode(&bytes).map(Some)
    }

    /// Keeps the ring, durably, in the place of the one before.
    ///
    /// # Errors
    /// [`KeyFileError::Unwritable`]; the one before stays.
    pub fn write(&self, ring: &KeyRing) -> Result<(), KeyFileError> {
        let text = encode(ring);
        replace(&self.path, text.as_bytes()).map_err(|source| KeyFileError::Unwritable {
            path: self.path.clone(),
            source,
        })
    }

    fn decode(&self, bytes: &[u8]) -> Result<KeyRing, KeyFileError> {
        let damaged = |reason| KeyFileError::Damaged {
            path: self.path.clone(),
            reason,
        };
        if bytes.len() as u64 > FILE_MAX {
            return Err(damaged("it is too large"));
        }
        let FormatOnly { format } = serde_json::from_slice(bytes)
            .map_err(|_| damaged("it is not the JSON it should be"))?;
        if format > FORMAT {
            return Err(KeyFileError::Newer {
                path: self.path.clone(),
                format,
            });
        }
        if format < FORMAT {
            return Err(damaged("no version has written this format"));
        }
        let envelope: Envelope =
            serde_json::from_slice(bytes).map_err(|_| damaged("a part of it is missing"))?;
        let text = envelope.ring.get();
        if blake3::hash(text.as_bytes()).to_hex().as_str() != envelope.checksum {
            return Err(damaged("its checksum is wrong"));
        }
        let stored: StoredRing =
            serde_json::from_str(text).map_err(|_| damaged("a part of it is missing"))?;
        restore(stored).ok_or_else(|| damaged("its keys do not go together"))
    }
}

fn encode(ring: &KeyRing) -> String {
    let stored = StoredRing {
        in_use: ring.in_use().id,
        keys: ring
            .installed()
            .map(|key| StoredKey {
                id: key.id,
                secret: key.secret.expose().to_owned(),
                created_ms: key.created_ms,
            })
            .collect(),
        retired: ring.retired().clone(),
    };
    let ring = serde_json::value::to_raw_value(&stored).expect("texts and numbers are JSON");
    let envelope = Envelope {
        format: FORMAT,
        checksum: blake3::hash(ring.get().as_bytes()).to_hex().to_string(),
        ring,
    };
    serde_json::to_string(&envelope).expect("texts and numbers are JSON")
}

fn restore(stored: StoredRing) -> Option<KeyRing> {
    if stored.keys.len() > KEYS_MAX {
        return None;
    }
    let mut in_use = None;
    let mut others = Vec::new();
    for key in stored.keys {
        let secret = PeerSecret::parse(&key.secret, FILE_NAME).ok()?;
        let installed = InstalledKey::new(secret, key.created_ms);
        if installed.id != key.id {
            return None;
        }
        if key.id == stored.in_use {
            in_use = Some(installed);
        } else {
            others.push(installed);
        }
    }
    Some(KeyRing::restore(in_use?, others, stored.retired))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::super::ring::tests::{key, secret};
    use super::*;

    fn file() -> (tempfile::TempDir, KeyFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::in_directory(directory.path());
        (directory, file)
    }

    #[test]
    fn a_ring_is_read_as_it_was_written_by_its_owner_only() {
        let (_directory, file) = file();
        assert_eq!(file.read().unwrap(), None);
        let (mut ring, adoption) = file.open(&secret("old")).unwrap();
        assert_eq!(adoption, Adoption::InUse);
        ring.install(key("new", 5));
        ring.advance(|_| true);
        ring.retire(key("gone", 0).id, 3);
        file.write(&ring).unwrap();
        assert_eq!(file.read().unwrap(), Some(ring.clone()));
        let mode = fs::metadata(&file.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert_eq!(
            file.open(&secret("old")).unwrap(),
            (ring, Adoption::Installed)
        );
        let (ring, adoption) = file.open(&secret("operator's")).unwrap();
        assert_eq!(adoption, Adoption::New);
        assert_eq!(
            file.read().unwrap(),
            Some(ring),
            "on disk before it is used"
        );
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let (_directory, file) = file();
        file.open(&secret("old")).unwrap();
        let good = fs::read(&file.path).unwrap();
        for place in 0..good.len() {
            let mut bad = good.clone();
            bad[place] ^= 1;
            fs::write(&file.path, &bad).unwrap();
            let error = file.open(&secret("old")).unwrap_err();
            let refused = matches!(
                error,
                KeyFileError::Damaged { .. } | KeyFileError::Newer { .. }
            );
            assert!(refused, "byte {place}: {error:?}");
            assert_eq!(fs::read(&file.path).unwrap(), bad);
        }
        fs::write(&file.path, &good[..good.len() / 2]).unwrap();
        let error = file.open(&secret("old")).unwrap_err().to_string();
        assert!(
            error.contains("damaged") && error.contains("keys.json"),
            "{error}"
        );
        assert!(error.contains("basic-agent join"), "{error}");
    }

    #[test]
    fn a_file_of_a_newer_agent_or_with_loose_permissions_is_named_as_such() {
        let (_directory, file) = file();
        file.open(&secret("old")).unwrap();
        let text = fs::read_to_string(&file.path).unwrap();
        fs::write(&file.path, text.replace("\"format\":1", "\"format\":2")).unwrap();
        let error = file.read().unwrap_err();
        assert!(
            matches!(error, KeyFileError::Newer { format: 2, .. }),
            "{error:?}"
        );
        fs::set_permissions(&file.path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = file.read().unwrap_err();
        assert!(
            matches!(error, KeyFileError::Exposed { mode: 0o644, .. }),
            "{error:?}"
        );
        let advice = error.to_string();
        assert!(advice.contains("give every node a new secret"), "{advice}");
    }

    proptest! {
        #[test]
        fn no_content_of_the_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let (_directory, file) = file();
            prop_assert!(file.decode(&bytes).is_err());
        }
    }
}
