//! Who this node is: a persisted id, and an incarnation that only grows.
//!
//! Owns one file, `identity.json`, in the data directory (mode 0600). In goes
//! the directory, an id from the configuration if there is one, and the time;
//! out comes an [`Identity`] whose incarnation is already on disk. The file is
//! replaced atomically (temporary file, fsync, rename, fsync of the directory),
//! so that a crash leaves the old or the new one. A file that is there but
//! cannot be understood is an error: a node that forgot its id would come back
//! as a stranger, and its old self would look failed for ever.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use chitchat::ChitchatId;
use serde::{Deserialize, Serialize};

use crate::directive::JoinMark;
use crate::error::IdentityError;
use crate::name::NodeId;
use crate::replace::replace;

/// One life of a node: larger than every incarnation the node had before.
///
/// It is the time of its start in milliseconds since the Unix epoch, or one
/// more than the last incarnation where the clock has gone back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Larger values are refused, from disk and from peers: 48 bits of
    /// milliseconds last until the year 10889.
    pub const MAX: Incarnation = Incarnation((1 << 48) - 1);

    fn next(last: Option<Incarnation>, now: SystemTime) -> Incarnation {
        let now_ms = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis());
        let now_ms = u64::try_from(now_ms).unwrap_or(u64::MAX).min(Self::MAX.0);
        Incarnation(last.map_or(now_ms, |last| now_ms.max(last.0 + 1)))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The id of this node and its current incarnation, both persisted.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Stays the same for as long as the data directory lives.
    pub id: NodeId,
    /// Grows with every start.
    pub incarnation: Incarnation,
    /// When it was last joined to its cluster on purpose.
    pub joined: JoinMark,
    file: PathBuf,
}

impl Identity {
    /// Reads the identity of this data directory, or makes one, and starts a
    /// new incarnation that is on disk before this returns.
    ///
    /// A new id is the `configured` one, or `n-` and eight random characters.
    /// The making of an identity is a join; reading it is none.
    ///
    /// # Errors
    /// See [`IdentityError`]; in particular a damaged file, and a configured id
    /// that differs from the persisted one, are refused.
    pub fn load_or_create(
        data_dir: &Path,
        configured: Option<NodeId>,
        now: SystemTime,
    ) -> Result<Identity, IdentityError> {
        Identity::start(data_dir, configured, now, |last| {
            last.unwrap_or_else(|| JoinMark::next(None, now))
        })
    }

    /// The id that this data directory keeps; none if it keeps none yet. Nothing
    /// is changed.
    ///
    /// # Errors
    /// [`IdentityError`]: the file is damaged or cannot be read.
    pub fn persisted(data_dir: &Path) -> Result<Option<NodeId>, IdentityError> {
        let record = read(&data_dir.join(FILE_NAME))?;
        Ok(record.map(|record| record.node_id))
    }

    /// As [`Identity::load_or_create`], and an explicit join: a node that was
    /// removed is a member again when it starts next. Not to be called while an
    /// agent runs on this directory.
    ///
    /// # Errors
    /// As for [`Identity::load_or_create`].
    pub fn rejoin(
        data_dir: &Path,
        configured: Option<NodeId>,
        now: SystemTime,
    ) -> Result<Identity, IdentityError> {
        Identity::start(data_dir, configured, now, |last| JoinMark::next(last, now))
    }

    fn start(
        data_dir: &Path,
        configured: Option<NodeId>,
        now: SystemTime,
        join: impl FnOnce(Option<JoinMark>) -> JoinMark,
    ) -> Result<Identity, IdentityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|source| IdentityError::Directory {
                path: data_dir.to_owned(),
                source,
            })?;
        let file = data_dir.join(FILE_NAME);
        let persisted = read(&file)?;
        let (id, last) = match (persisted, configured) {
            (Some(record), Some(configured)) if record.node_id != configured => {
                return Err(IdentityError::OtherNode {
                    configured,
                    persisted: record.node_id,
                    path: file,
                });
            }
            (Some(record), _) => (record.node_id, Some((record.incarnation, record.joined))),
            (None, Some(configured)) => (configured, None),
            (None, None) => (random_id()?, None),
        };
        let identity = Identity {
            id,
            incarnation: Incarnation::next(last.map(|(incarnation, _)| incarnation), now),
            joined: join(last.map(|(_, joined)| joined)),
            file,
        };
        write(&identity)?;
        Ok(identity)
    }

    /// How this node is called by chitchat.
    pub(crate) fn chitchat_id(&self, advertise: SocketAddr) -> ChitchatId {
        ChitchatId::new(self.id.as_str(), self.incarnation.0, advertise)
    }

    /// Starts a further incarnation within this process: gossip needs one when
    /// it starts again from nothing, since peers ignore what counts from zero. It
    /// is later than `former`, a life of this node that others remember.
    ///
    /// # Errors
    /// [`IdentityError::Write`]; the incarnation is then unchanged.
    pub(crate) fn advance(
        &mut self,
        former: Option<Incarnation>,
        now: SystemTime,
    ) -> Result<(), IdentityError> {
        // Others' word must not use up what numbers there are.
        let former = former.filter(|former| former.0 < Incarnation::MAX.0 / 2);
        let last = former.max(Some(self.incarnation));
        let next = Identity {
            incarnation: Incarnation::next(last, now),
            ..self.clone()
        };
        write(&next)?;
        *self = next;
        Ok(())
    }
}

const FILE_NAME: &str = "identity.json";
/// Format 1, of release 0.1.0, had no `joined`; such a node counts as joined
/// when it last started.
const FORMAT: u32 = 2;
const FORMAT_WITHOUT_JOIN: u32 = 1;
const FILE_LEN_MAX: u64 = 4096;

/// The file's content: a promise to later releases, hence apart from [`Identity`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    node_id: NodeId,
    incarnation: Incarnation,
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<JoinMark>,
    checksum: String,
}

impl Record {
    fn checksum(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.format, self.node_id, self.incarnation);
        if let Some(joined) = self.joined {
            text.push_str(&format!("{joined}\n"));
        }
        let digest = blake3::hash(text.as_bytes()).to_hex();
        digest.chars().take(16).collect()
    }
}

/// What a sound file says.
struct Persisted {
    node_id: NodeId,
    incarnation: Incarnation,
    joined: JoinMark,
}

fn read(path: &Path) -> Result<Option<Persisted>, IdentityError> {
    let damaged = |what: String| IdentityError::Damaged {
        path: path.to_owned(),
        what,
    };
    let failed = |source| IdentityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(damaged(format!("longer than {FILE_LEN_MAX} bytes")));
    }
    let record: Record =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let joined = match (record.format, record.joined) {
        (FORMAT_WITHOUT_JOIN, None) => JoinMark(record.incarnation.0),
        (FORMAT, Some(joined)) => joined,
        (FORMAT | FORMAT_WITHOUT_JOIN, _) => {
            return Err(damaged("the join does not fit the format".to_owned()));
        }
        (format, _) => {
            return Err(damaged(format!("format {format}, expected {FORMAT}")));
        }
    };
    if record.incarnation >= Incarnation::MAX {
        return Err(damaged("the incarnation is out of range".to_owned()));
    }
    if joined >= JoinMark::MAX {
        return Err(damaged("the time of the join is out of range".to_owned()));
    }
    if record.checksum != record.checksum() {
        return Err(damaged("the checksum does not match".to_owned()));
    }
    Ok(Some(Persisted {
        node_id: record.node_id,
        incarnation: record.incarnation,
        joined,
    }))
}

fn write(identity: &Identity) -> Result<(), IdentityError> {
    let path = identity.file.as_path();
    let mut record = Record {
        format: FORMAT,
        node_id: identity.id.clone(),
        incarnation: identity.incarnation,
        joined: Some(identity.joined),
        checksum: String::new(),
    };
    record.checksum = record.checksum();
    let bytes = serde_json::to_vec_pretty(&record).map_err(io::Error::from);
    let replaced = bytes.and_then(|mut bytes| {
        bytes.push(b'\n');
        replace(path, &bytes)
    });
    replaced.map_err(|source| IdentityError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Forty random bits in Crockford's base 32, which leaves out letters that are
/// mistaken for digits.
fn random_id() -> Result<NodeId, IdentityError> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|source| IdentityError::Random { source })?;
    let mut text = String::from("n-");
    text.extend(
        random
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte & 31)])),
    );
    Ok(text
        .parse()
        .expect("the alphabet is made of allowed characters"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_start_makes_a_readable_id_that_later_starts_keep() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Identity::load_or_create(&data, None, at(1_000)).unwrap();
        assert!(first.id.as_str().starts_with("n-") && first.id.as_str().len() == 10);
        let second = Identity::load_or_create(&data, None, at(2_000)).unwrap();
        assert_eq!(second.id, first.id);
        assert_eq!(second.incarnation, Incarnation(2_000));
        let mode = fs::metadata(data.join(FILE_NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn another_configured_id_is_refused_with_both_named() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_create(dir.path(), Some(id("n1")), at(1)).unwrap();
        let error = Identity::load_or_create(dir.path(), Some(id("n2")), at(2)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("n1") && text.contains("n2"), "{text}");
        assert_eq!(
            Identity::load_or_create(dir.path(), None, at(3))
                .unwrap()
                .id,
            id("n1")
        );
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_create(dir.path(), Some(id("n1")), at(1_000)).unwrap();
        let path = dir.path().join(FILE_NAME);
        let good = fs::read_to_string(&path).unwrap();
        let damages = [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace("n1", "n2"),
            good.replace("\"incarnation\": 1000", "\"incarnation\": 1001"),
            good.replace("\"joined\": 1000", "\"joined\": 1001"),
            good.replace("\"joined\": 1000,", ""),
            good.replace("\"format\": 2", "\"format\": 1"),
            good.replace("\"format\": 2", "\"format\": 3"),
            "x".repeat(10_000),
        ];
        for damage in damages {
            assert_ne!(damage, good);
            fs::write(&path, &damage).unwrap();
            let error = Identity::load_or_create(dir.path(), None, at(2_000)).unwrap_err();
            assert!(
                matches!(error, IdentityError::Damaged { .. }),
                "{damage}: {error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), damage);
        }
    }

    #[test]
    fn a_file_of_the_first_release_is_read_and_its_node_joined_at_its_last_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let first = r#"{
  "format": 1,
  "node_id": "n1",
  "incarnation": 1000,
  "checksum": "CHECKSUM"
}"#;
        let digest = blake3::hash(b"1\nn1\n1000\n").to_hex();
        fs::write(&path, first.replace("CHECKSUM", &digest[..16])).unwrap();
        for start in [2_000, 3_000] {
            let identity = Identity::load_or_create(dir.path(), None, at(start)).unwrap();
            assert_eq!((identity.id, identity.joined), (id("n1"), JoinMark(1_000)));
            assert_eq!(identity.incarnation, Incarnation(start));
        }
    }

    #[test]
    fn the_mark_of_a_join_outlives_restarts_and_only_a_further_join_raises_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(dir.path(), None, at(5_000)).unwrap();
        assert_eq!(first.joined, JoinMark(5_000));
        let mut second = Identity::load_or_create(dir.path(), None, at(6_000)).unwrap();
        second.advance(None, at(7_000)).unwrap();
        assert_eq!(second.joined, JoinMark(5_000));
        let third = Identity::rejoin(dir.path(), None, at(10)).unwrap();
        assert_eq!((third.id, third.joined), (first.id, JoinMark(5_001)));
        let fourth = Identity::load_or_create(dir.path(), None, at(8_000)).unwrap();
        assert_eq!(fourth.joined, JoinMark(5_001));
    }

    #[test]
    fn a_crash_between_write_and_rename_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(dir.path(), None, at(1_000)).unwrap();
        fs::write(dir.path().join("identity.json.tmp"), b"{\"form").unwrap();
        let second = Identity::load_or_create(dir.path(), None, at(2_000)).unwrap();
        assert_eq!(second.id, first.id);
    }

    #[test]
    fn advancing_persists_before_it_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::load_or_create(dir.path(), None, at(5_000)).unwrap();
        identity.advance(None, at(10)).unwrap();
        assert_eq!(identity.incarnation, Incarnation(5_001));
        identity.advance(Some(Incarnation(6_000)), at(10)).unwrap();
        let next = Identity::load_or_create(dir.path(), None, at(10)).unwrap();
        assert_eq!(next.incarnation, Incarnation(6_002));
        identity.advance(Some(Incarnation::MAX), at(10)).unwrap();
        assert_eq!(identity.incarnation, Incarnation(6_002), "not believed");
    }

    proptest! {
        #[test]
        fn the_incarnation_grows_whatever_the_clock_does(
            clock in prop::collection::vec(0u64..1 << 50, 1..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut last = None;
            // A clock beyond the representable range would exhaust the counter; stop short of it.
            for ms in clock.into_iter().map(|ms| ms.min(Incarnation::MAX.0 - 100)) {
                let identity = Identity::load_or_create(dir.path(), None, at(ms)).unwrap();
                prop_assert!(last < Some(identity.incarnation));
                last = Some(identity.incarnation);
            }
        }

        #[test]
        fn no_content_of_the_file_panics(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(FILE_NAME), bytes).unwrap();
            prop_assert!(Identity::load_or_create(dir.path(), None, at(1)).is_err());
        }
    }
}
