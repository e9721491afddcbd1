//! Certificates that were given as files: good ones, and each way to be bad.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

use super::super::{Connector, Protocol, Routes};
use super::*;

/// An authority of an operator's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Authority { issuer, pem }
    }

    /// Certificate and private key for this URI, changed as wanted.
    fn issue(&self, uri: &str, change: impl Fn(&mut CertificateParams)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// The three files in a directory of their own.
struct Given {
    _directory: tempfile::TempDir,
    files: CertificateFiles,
}

impl Given {
    fn new(certificate: &str, key: &str, authorities: &str) -> Given {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permitted");
            path
        };
        let files = CertificateFiles {
            certificate: write("n1.pem", certificate),
            key: write("n1.key", key),
            authorities: write("ca.pem", authorities),
        };
        Given {
            _directory: directory,
            files,
        }
    }

    fn load(&self) -> Result<GivenCertificate, CertificateFileError> {
        let identity = AgentUri::new("c1", "n1").expect("valid names");
        self.files.load(&identity)
    }

    fn assert_refused(&self, variant: &str, words: &[&str]) {
        let error = self.load().err().expect("it is refused");
        assert!(format!("{error:?}").starts_with(variant), "{error:?}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} in: {error}");
        }
    }
}

#[test]
fn a_pair_of_the_authority_that_names_this_node_is_taken() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("basic-agent://c1/n1", |_| {});
    Given::new(&certificate, &key, &authority.pem)
        .load()
        .expect("good files");
    let (certificate, key) = authority.issue("spiffe://x/y", |params| {
        params.subject_alt_names = vec![SanType::DnsName("n1".try_into().expect("ASCII"))];
    });
    Given::new(&certificate, &key, &authority.pem)
        .load()
        .expect("good files");
}

#[test]
fn what_is_wrong_with_the_files_is_named_with_the_file() {
    let authority = Authority::new();
    let ca = &authority.pem;
    let (certificate, key) = &authority.issue("basic-agent://c1/n1", |_| {});
    let (_, other_key) = &authority.issue("basic-agent://c1/n1", |_| {});
    Given::new(certificate, other_key, ca).assert_refused("NotAPair", &["n1.key", "n1.pem"]);
    Given::new("", key, ca).assert_refused("Empty", &["[peer] tls_cert", "n1.pem"]);
    Given::new(certificate, certificate, ca).assert_refused("Empty", &["tls_key", "private key"]);
    Given::new(certificate, key, "hello").assert_refused("Empty", &["tls_ca", "ca.pem"]);
    let cut = &certificate[..certificate.len() / 2];
    Given::new(cut, key, ca).assert_refused("Damaged", &["n1.pem"]);
    let stranger = &Authority::new().pem;
    Given::new(certificate, key, stranger).assert_refused("NotTrusted", &["n1.pem", "ca.pem"]);

    let missing = Given::new(certificate, key, ca);
    fs::remove_file(&missing.files.key).expect("it was there");
    missing.assert_refused("Unreadable", &["[peer] tls_key", "n1.key"]);
    let exposed = Given::new(certificate, key, ca);
    let everybody = fs::Permissions::from_mode(0o644);
    fs::set_permissions(&exposed.files.key, everybody).expect("permitted");
    exposed.assert_refused("KeyExposed", &["chmod 600", "0644"]);
}

#[test]
fn a_certificate_out_of_time_of_another_node_or_for_one_side_only_is_refused() {
    let authority = Authority::new();
    let check = |uri: &str, change: &dyn Fn(&mut CertificateParams), variant: &str, word: &str| {
        let (certificate, key) = authority.issue(uri, change);
        Given::new(&certificate, &key, &authority.pem).assert_refused(variant, &["n1.pem", word]);
    };
    let own = "basic-agent://c1/n1";
    check(
        own,
        &|p| p.not_after = date_time_ymd(2001, 1, 1),
        "Expired",
        "renew",
    );
    check(
        own,
        &|p| p.not_before = date_time_ymd(2300, 1, 1),
        "Expired",
        "clock",
    );
    check("basic-agent://c1/n2", &|_| {}, "OtherNode", "\"n2\"");
    check("basic-agent://c2/n1", &|_| {}, "OtherCluster", "\"c2\"");
    check("https://example.org", &|_| {}, "NoName", own);
    let server_only = |p: &mut CertificateParams| p.extended_key_usages.truncate(1);
    check(own, &server_only, "NotTrusted", "both server and client");
}

#[tokio::test(start_paused = true)]
async fn a_new_certificate_is_put_to_use_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("basic-agent://c1/n1", |_| {});
    let given = Given::new(&certificate, &key, &authority.pem);
    let credentials = Credentials::from_files(&given.files, "c1", "n1").expect("good files");
    let watching = tokio::spawn(watch_files(credentials.clone(), given.files.clone()));
    sleep(LOOK_INTERVAL / 2).await;
    let first = credentials.current();

    fs::write(&given.files.certificate, "no certificate").expect("written");
    sleep(LOOK_INTERVAL).await;
    assert!(Arc::ptr_eq(&first, &credentials.current()));

    let (certificate, key) = authority.issue("basic-agent://c1/n1", |_| {});
    fs::write(&given.files.certificate, certificate).expect("written");
    fs::write(&given.files.key, key).expect("written");
    sleep(LOOK_INTERVAL).await;
    assert!(!Arc::ptr_eq(&first, &credentials.current()));
    watching.abort();
}

#[tokio::test]
async fn agents_with_given_certificates_meet_and_refuse_those_of_the_secret() {
    let authority = Authority::new();
    let given = |node: &str| {
        let (certificate, key) = authority.issue(&format!("basic-agent://c1/{node}"), |_| {});
        let given = Given::new(&certificate, &key, &authority.pem);
        Credentials::from_files(&given.files, "c1", node).expect("good files")
    };
    let mut routes = Routes::new();
    let mut queue = routes.serve(Protocol::Sync, 4);
    let server = given("n2");
    let (_, listener) = super::super::PeerPort::bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port")
        .into_parts();
    let address = listener.address();
    let serving = tokio::spawn(async move {
        let (limits, statistics) = Default::default();
        let never = std::future::pending();
        listener
            .serve(&server, routes, limits, statistics, never)
            .await
    });

    let limit = Duration::from_secs(20);
    let connector = Connector::new(&given("n1"), limit);
    let connected = connector.connect(address, Protocol::Sync).await;
    let (_stream, name) = connected.expect("the same authority");
    assert_eq!(name.as_str(), "n2");
    let incoming = queue.recv().await.expect("a connection");
    assert_eq!(incoming.peer.as_str(), "n1");

    let keys = [super::super::PeerKeys::derive(b"a secret")];
    let derived = Credentials::from_keys(&keys, "c1", "n1").expect("valid names");
    let connector = Connector::new(&derived, limit);
    let refused = connector.connect(address, Protocol::Sync).await;
    let error = refused.expect_err("another authority");
    assert!(
        matches!(error, super::super::ConnectError::OtherSecret { .. }),
        "{error:?}"
    );
    serving.abort();
}
