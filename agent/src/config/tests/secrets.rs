//! Where the peer secret comes from, and which ones are refused.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::super::*;
use super::Given;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

impl Given {
    /// Sets `[node] data_dir` to a directory that does not exist yet.
    fn data_dir(self) -> (Self, PathBuf) {
        let dir = self.dir.path().join("deep/data");
        let text = dir.display().to_string();
        (self.flag("--data-dir", &text), dir)
    }

    /// Sets `[peer] secret_file` to a file with these contents and this mode.
    fn secret_file(self, contents: impl AsRef<[u8]>, mode: u32) -> (Self, String) {
        let path = self.dir.path().join("secret");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let path = path.display().to_string();
        (self.flag("--secret-file", &path), path)
    }

    fn secret(&self) -> Result<PeerSecret, SecretError> {
        self.load().unwrap().peer_secret.read_or_create()
    }
}

#[test]
fn the_first_start_makes_a_private_secret_that_later_starts_read() {
    let (given, dir) = Given::nothing().data_dir();
    let source = given.load().unwrap().peer_secret;
    assert!(!source.is_given());
    assert_eq!(source.read().unwrap(), None);
    assert!(!dir.exists(), "reading makes nothing");

    let secret = given.secret().unwrap();
    assert_eq!(secret.expose().len(), 64);
    let file = dir.join("peer.secret");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::read_dir(&dir).unwrap().count(),
        1,
        "nothing else is left behind"
    );
    assert_eq!(given.secret().unwrap(), secret);
}

#[test]
fn a_node_that_is_to_join_others_makes_no_secret_of_its_own() {
    let (given, dir) = Given::nothing().data_dir();
    let given = given.flag("--seed", "127.0.0.1:9410");
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!(
            "[peer] seeds names other agents, whose secret this node does not have: there is no {}/peer.secret. Run `basic-agent token` on one of them and `basic-agent join` with it here, or give every node the same by BASIC_AGENT_PEER_SECRET or [peer] secret_file",
            dir.display()
        )
    );
    assert!(!dir.exists());
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("peer.secret"), SECRET).unwrap();
    fs::set_permissions(dir.join("peer.secret"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(given.secret().unwrap().expose(), SECRET);
}

#[test]
fn two_data_directories_have_different_secrets() {
    let (one, _) = Given::nothing().data_dir();
    let (other, _) = Given::nothing().data_dir();
    assert_ne!(one.secret().unwrap(), other.secret().unwrap());
}

#[test]
fn processes_that_start_at_once_agree_on_one_secret() {
    let (given, _) = Given::nothing().data_dir();
    let source = given.load().unwrap().peer_secret;
    let secrets: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| source.read_or_create()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let kept = source.read().unwrap();
    for secret in secrets {
        assert_eq!(Some(secret.unwrap()), kept);
    }
}

#[test]
fn the_variable_goes_before_the_file() {
    let (given, _) = Given::nothing().secret_file("another secret of 32 characters or more", 0o600);
    let given = given.environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
    assert_eq!(given.secret().unwrap().expose(), SECRET);
    let source = given.load().unwrap().peer_secret;
    assert_eq!(source.to_string(), "environment BASIC_AGENT_PEER_SECRET");
    assert!(source.overridden().is_some(), "and the file is named");
    let (given, _) = Given::nothing().secret_file(SECRET, 0o600);
    assert_eq!(given.load().unwrap().peer_secret.overridden(), None);
    let given = given.environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
    let source = given.load().unwrap().peer_secret;
    assert_eq!(source.overridden(), None, "they agree");
}

#[test]
fn white_space_around_a_secret_does_not_count() {
    let (given, _) = Given::nothing().secret_file(format!("\n {SECRET}\r\n"), 0o440);
    assert_eq!(given.secret().unwrap().expose(), SECRET);
}

#[test]
fn characters_are_counted_and_not_bytes() {
    let (given, _) = Given::nothing().secret_file("梁".repeat(32), 0o600);
    assert!(given.secret().is_ok());
    let (given, path) = Given::nothing().secret_file("梁".repeat(31), 0o600);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!(
            "the peer secret in {path} has 31 characters; it needs 32 or more (`openssl rand -hex 32` makes one)"
        )
    );
}

#[test]
fn an_empty_variable_is_no_secret() {
    let given = Given::nothing().environment(&[("BASIC_AGENT_PEER_SECRET", "")]);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        "the peer secret in BASIC_AGENT_PEER_SECRET has 0 characters; it needs 32 or more (`openssl rand -hex 32` makes one)"
    );
}

#[test]
fn a_secret_that_is_not_text_is_refused() {
    let (given, path) = Given::nothing().secret_file([0xff; 40], 0o600);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!(
            "the peer secret in {path} is not UTF-8 (`openssl rand -hex 32` makes one that is)"
        )
    );
    let mut given = Given::nothing();
    let variable = (
        "BASIC_AGENT_PEER_SECRET".into(),
        OsStr::from_bytes(&[0xff; 40]).to_owned(),
    );
    given.sources.environment = [variable].into_iter().collect();
    assert!(matches!(
        given.secret(),
        Err(SecretError::NotUnicode { .. })
    ));
}

#[test]
fn a_file_that_everyone_can_read_is_refused() {
    let (given, path) = Given::nothing().secret_file(SECRET, 0o644);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!(
            "the peer secret's file {path} can be read by every user of this host (mode 0644); run `chmod 600 {path}`, and make a new secret if others may have seen it"
        )
    );
}

#[test]
fn a_file_that_is_missing_is_refused_and_not_made() {
    let given = Given::nothing();
    let path = given.dir.path().join("missing").display().to_string();
    let given = given.flag("--secret-file", &path);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!(
            "the peer secret's file {path} does not exist; where there is a cluster, `basic-agent token` on a node of it and `basic-agent join` here bring the secret that it uses now. For a first node make one: `(umask 077; openssl rand -hex 32 > {path})`"
        )
    );
    assert!(!PathBuf::from(path).exists());
}

#[test]
fn a_file_that_is_too_large_or_no_file_is_refused() {
    let (given, path) = Given::nothing().secret_file("x".repeat(4097), 0o600);
    assert_eq!(
        given.secret().unwrap_err().to_string(),
        format!("{path} holds more than 4096 bytes, so it is hardly a secret; name another file")
    );
    let given = Given::nothing();
    let dir = given.dir.path().display().to_string();
    fs::set_permissions(given.dir.path(), Permissions::from_mode(0o700)).unwrap();
    assert!(matches!(
        given.flag("--secret-file", &dir).secret(),
        Err(SecretError::FileUnreadable { .. })
    ));
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused_by_its_setting() {
    let given = Given::nothing().file("");
    let inside_a_file = given
        .sources
        .file
        .as_ref()
        .unwrap()
        .join("data")
        .display()
        .to_string();
    let error = given
        .flag("--data-dir", &inside_a_file)
        .secret()
        .unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(
            error,
            SecretError::FileUnreadable { .. } | SecretError::FileUnwritable { .. }
        ),
        "{text}"
    );
    assert!(text.contains(&inside_a_file), "{text}");
}

#[test]
fn debug_output_shows_nothing_of_a_secret() {
    let given = Given::nothing().environment(&[("BASIC_AGENT_PEER_SECRET", SECRET)]);
    let loaded = given.load().unwrap();
    let shown = format!("{loaded:?} {:?} {:?}", given.sources, given.secret());
    assert!(!shown.contains("0123456789"), "{shown}");
}

#[test]
fn a_node_that_has_keys_makes_no_new_secret_when_its_file_is_gone() {
    let (given, dir) = Given::nothing().data_dir();
    given.secret().unwrap();
    fs::write(dir.join("keys.json"), "{}").unwrap();
    fs::remove_file(dir.join("peer.secret")).unwrap();
    let error = given.secret().unwrap_err();
    assert!(matches!(error, SecretError::FileLost { .. }), "{error:?}");
    assert!(error.to_string().contains("basic-agent join"), "{error}");
    assert!(!dir.join("peer.secret").exists());
}

#[test]
fn a_secret_that_is_written_takes_the_place_of_the_one_before() {
    let (given, dir) = Given::nothing().data_dir();
    let file = dir.join("peer.secret");
    for text in [SECRET, "another secret of 32 characters or more"] {
        let secret = PeerSecret::parse(text, "a test").unwrap();
        crate::config::write_secret(&file, &secret).unwrap();
        assert_eq!(given.secret().unwrap(), secret);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "no draft is left");
}
