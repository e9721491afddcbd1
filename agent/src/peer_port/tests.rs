//! Agents that meet over the peer port, and strangers that try to.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;

pub(super) const SECRET: &str = "a peer secret of thirty-two characters";

/// Longer than any machine needs, so that a test fails rather than hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may choose about an agent.
pub(super) struct Setup<'a> {
    pub(super) node: &'a str,
    pub(super) cluster: &'a str,
    pub(super) secret: &'a str,
    pub(super) routes: Routes,
    pub(super) limits: Limits,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup {
            node: "n1",
            cluster: "c1",
            secret: SECRET,
            routes: Routes::new(),
            limits: Limits {
                handshake_timeout: PATIENCE,
                ..Limits::default()
            },
        }
    }
}

/// A listener on loopback and a connector with the same credentials.
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    pub(super) connector: Connector,
    credentials: Credentials,
    pub(super) statistics: Arc<Statistics>,
    server: JoinHandle<()>,
}

impl Setup<'_> {
    pub(super) fn start(self) -> Agent {
        self.start_until(pending())
    }

    fn start_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Agent {
        let Setup {
            node,
            cluster,
            secret,
            routes,
            limits,
        } = self;
        let (_, listener) = PeerPort::bind(loopback(0))
            .expect("a free port")
            .into_parts();
        let address = listener.address();
        let credentials = credentials(secret, cluster, node);
        let connector = Connector::new(&credentials, PATIENCE);
        let statistics = Arc::new(Statistics::default());
        let counters = statistics.clone();
        let served_with = credentials.clone();
        let server = tokio::spawn(async move {
            let served = listener
                .serve(&served_with, routes, limits, counters, shutdown)
                .await;
            served.expect("a listener for the runtime");
        });
        Agent {
            address,
            connector,
            credentials,
            statistics,
            server,
        }
    }
}

impl Agent {
    pub(super) fn refused(&self) -> StatisticsSnapshot {
        self.statistics.snapshot()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it happens in time")
}

pub(super) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "not in time: {what}");
}

/// An address on which nothing listens.
pub(super) fn unused_address() -> SocketAddr {
    PeerPort::bind(loopback(0)).expect("a free port").address()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn credentials(secret: &str, cluster: &str, node: &str) -> Credentials {
    Credentials::from_keys(&[PeerKeys::derive(secret.as_bytes())], cluster, node)
        .expect("valid names")
}

/// The server name of an agent with the usual secret.
fn server_name() -> rustls_pki_types::ServerName<'static> {
    credentials(SECRET, "c1", "stranger")
        .current()
        .server_name()
}

/// An agent that serves one protocol, with its queue.
fn serving(protocol: Protocol) -> (Agent, mpsc::Receiver<Incoming>) {
    let mut routes = Routes::new();
    let queue = routes.serve(protocol, 4);
    (
        Setup {
            node: "n2",
            routes,
            ..Setup::default()
        }
        .start(),
        queue,
    )
}

/// A TLS client of our making that need not be an agent.
fn stranger(
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
    with_certificate: bool,
) -> TlsConnector {
    let credentials = credentials(SECRET, "c1", "stranger");
    let template = credentials.current().client_config(Protocol::Sync);
    let mut roots = rustls::RootCertStore::empty();
    let keys = PeerKeys::derive(SECRET.as_bytes());
    let derived = certificates::Derived::of(&keys, credentials.identity()).expect("a certificate");
    roots.add(derived.authority).expect("an authority");
    let builder = rustls::ClientConfig::builder_with_provider(template.crypto_provider().clone())
        .with_protocol_versions(versions)
        .expect("versions of the provider")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(selection::AuthorityVerifier {
            roots: Arc::new(roots),
            provider: template.crypto_provider().clone(),
        }));
    let mut config = if with_certificate {
        builder.with_client_cert_resolver(template.client_auth_cert_resolver.clone())
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn two_agents_exchange_bytes_over_each_protocol_and_know_each_others_names() {
    let a = Setup {
        node: "n1",
        ..Setup::default()
    }
    .start();
    for protocol in Protocol::ALL {
        let (b, mut queue) = serving(protocol);
        let connection = a.connector.connect(b.address, protocol).await;
        let (mut at_a, name) = connection.expect("a connection");
        assert_eq!(name.as_str(), "n2");
        let mut incoming = soon(queue.recv()).await.expect("a connection");
        assert_eq!(incoming.peer.as_str(), "n1");
        assert_eq!(incoming.address.ip(), Ipv4Addr::LOCALHOST);

        let sent: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let writer = tokio::spawn(async move {
            at_a.write_all(&sent).await.expect("the peer reads");
            at_a.shutdown().await.expect("the peer reads");
            let mut answer = String::new();
            at_a.read_to_string(&mut answer).await.expect("an answer");
            (sent, answer)
        });
        let mut received = Vec::new();
        soon(incoming.stream.read_to_end(&mut received))
            .await
            .expect("the peer writes");
        incoming
            .stream
            .write_all(b"thanks")
            .await
            .expect("the peer reads");
        incoming.stream.shutdown().await.expect("the peer reads");
        let (sent, answer) = soon(writer).await.expect("no panic");
        assert!(received == sent, "{protocol}: the bytes differ");
        assert_eq!(answer, "thanks");
        assert_eq!(
            b.refused(),
            StatisticsSnapshot {
                accepted: 1,
                admitted: 1,
                ..b.refused()
            }
        );
    }
}

#[tokio::test]
async fn another_secret_is_refused_and_said_by_both_sides() {
    let a = Setup {
        secret: "another secret of thirty-two characters",
        ..Setup::default()
    }
    .start();
    let (b, mut queue) = serving(Protocol::Sync);
    let error = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect_err("two secrets");
    assert!(
        matches!(error, ConnectError::OtherSecret { .. }),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        format!(
            "the agent at {} does not share our peer secret: give both agents the same \
             BASIC_AGENT_PEER_SECRET or [peer] secret_file. Where the key was rotated, a fresh \
             token (`basic-agent token` on a node of the cluster, `basic-agent join` here) brings \
             the new one",
            b.address
        )
    );
    eventually("the listener counts it", || b.refused().other_secret == 1).await;
    assert_eq!(b.refused().admitted, 0);
    assert!(queue.try_recv().is_err());
}

/// Whether an agent with these secrets, the first in use, can open a connection
/// to one with those, and that one would open one to the first.
async fn assert_meet(ours: &[&str], theirs: &[&str], expected: bool) {
    for (ours, theirs) in [(ours, theirs), (theirs, ours)] {
        let (b, mut queue) = serving(Protocol::Sync);
        let keys = |secrets: &[&str]| -> Vec<PeerKeys> {
            let secrets = secrets.iter();
            secrets.map(|s| PeerKeys::derive(s.as_bytes())).collect()
        };
        b.credentials.replace_keys(&keys(theirs)).expect("keys");
        let own = Credentials::from_keys(&keys(ours), "c1", "n1").expect("valid names");
        let connected = Connector::new(&own, PATIENCE)
            .connect(b.address, Protocol::Sync)
            .await;
        match connected {
            Ok(_) if expected => drop(soon(queue.recv()).await.expect("a connection")),
            Err(ConnectError::OtherSecret { .. }) if !expected => {
                eventually("the listener counts it", || b.refused().other_secret == 1).await;
            }
            other => panic!("{ours:?} to {theirs:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn agents_with_any_secret_in_common_meet_whichever_each_has_in_use() {
    let (a, b, c, d) = ("secret a", "secret b", "secret c", "secret d");
    assert_meet(&[a], &[a], true).await;
    assert_meet(&[a], &[b, a], true).await;
    assert_meet(&[a, b], &[b, a], true).await;
    assert_meet(&[a, b], &[c, b], true).await;
    assert_meet(&[a, b, c], &[d, c], true).await;
    assert_meet(&[a], &[b], false).await;
    assert_meet(&[a, b], &[c, d], false).await;
}

#[tokio::test]
async fn a_rotation_cuts_no_open_connection_until_the_old_key_is_retired() {
    let (b, mut queue) = serving(Protocol::Sync);
    let a = Setup::default().start();
    let connection = a.connector.connect(b.address, Protocol::Sync).await;
    let (mut at_a, _) = connection.expect("a connection");
    let mut incoming = soon(queue.recv()).await.expect("a connection");

    let (old, new) = (
        PeerKeys::derive(SECRET.as_bytes()),
        PeerKeys::derive(b"the next secret"),
    );
    let both = [new, old];
    b.credentials.replace_keys(&both).expect("two keys");
    at_a.write_all(b"!").await.expect("still open");
    at_a.flush().await.expect("still open");
    let byte = soon(incoming.stream.read_u8()).await;
    assert_eq!(byte.expect("still open"), b'!');

    let reading = tokio::spawn(async move { incoming.stream.read_u8().await });
    let [new, _] = both;
    b.credentials
        .replace_keys(std::slice::from_ref(&new))
        .expect("a key");
    let error = soon(reading).await.expect("no panic");
    let error = error.expect_err("ended by the retirement");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    soon(at_a.read_u8()).await.expect_err("cut off");
    let error = a.connector.connect(b.address, Protocol::Sync).await;
    let error = error.expect_err("its only key is retired there");
    assert!(
        matches!(error, ConnectError::OtherSecret { .. }),
        "{error:?}"
    );

    a.credentials.replace_keys(&[new]).expect("a key");
    let connected = a.connector.connect(b.address, Protocol::Sync).await;
    let (mut at_a, _) = connected.expect("the same key again");
    let mut incoming = soon(queue.recv()).await.expect("a connection");
    at_a.write_all(b"?").await.expect("open");
    at_a.flush().await.expect("open");
    assert_eq!(soon(incoming.stream.read_u8()).await.expect("open"), b'?');
}

#[tokio::test]
async fn another_cluster_with_the_same_secret_is_refused_by_both_sides() {
    let a = Setup {
        cluster: "c9",
        ..Setup::default()
    }
    .start();
    let (b, mut queue) = serving(Protocol::Sync);
    let error = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect_err("two clusters");
    let ConnectError::OtherCluster { theirs, ours, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((theirs.as_str(), ours.as_str()), ("c1", "c9"));
    eventually("the listener counts it", || b.refused().other_cluster == 1).await;
    assert!(queue.try_recv().is_err());
}

#[tokio::test]
async fn a_protocol_without_a_route_is_refused_in_the_handshake() {
    let a = Setup::default().start();
    let (b, _queue) = serving(Protocol::Sync);
    let error = a
        .connector
        .connect(b.address, Protocol::Gossip)
        .await
        .expect_err("not served");
    assert!(
        matches!(
            error,
            ConnectError::NotServed {
                protocol: Protocol::Gossip,
                ..
            }
        ),
        "{error:?}"
    );
    eventually("the listener counts it", || {
        b.refused().no_common_protocol == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_that_asks_for_no_protocol_is_refused() {
    let (b, _queue) = serving(Protocol::Sync);
    let tcp = TcpStream::connect(b.address).await.expect("it listens");
    let tls = stranger(&[&rustls::version::TLS13], &[], true);
    let _stream = tls.connect(server_name(), tcp).await;
    eventually("the listener counts it", || {
        b.refused().no_common_protocol == 1
    })
    .await;
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let (b, mut queue) = serving(Protocol::Sync);
    let tcp = TcpStream::connect(b.address).await.expect("it listens");
    let tls = stranger(&[&rustls::version::TLS13], &["basic-sync/1"], false);
    // In TLS 1.3 a client is done before its certificate has been looked at.
    let stream = tls.connect(server_name(), tcp).await;
    stream
        .expect("done, as far as it knows")
        .read_u8()
        .await
        .expect_err("closed by the agent");
    eventually("the listener counts it", || b.refused().not_an_agent == 1).await;
    assert!(queue.try_recv().is_err());
}

#[tokio::test]
async fn a_tls_1_2_client_is_refused() {
    let (b, _queue) = serving(Protocol::Sync);
    let tcp = TcpStream::connect(b.address).await.expect("it listens");
    let tls = stranger(&[&rustls::version::TLS12], &["basic-sync/1"], true);
    tls.connect(server_name(), tcp).await.expect_err("too old");
    eventually("the listener counts it", || b.refused().not_an_agent == 1).await;
}

#[tokio::test]
async fn plain_bytes_are_refused_and_the_listener_goes_on() {
    let (b, mut queue) = serving(Protocol::Sync);
    let oversized = [&[0x16, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat();
    for (index, garbage) in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0; 64],
        &oversized,
    ]
    .into_iter()
    .enumerate()
    {
        let mut tcp = TcpStream::connect(b.address).await.expect("it listens");
        // The agent may close before it has read all of it.
        let _ = tcp.write_all(garbage).await;
        let _ = soon(tcp.read_to_end(&mut Vec::new())).await;
        let expected = index as u64 + 1;
        eventually("the listener counts it", || {
            b.refused().not_an_agent == expected
        })
        .await;
    }
    let a = Setup::default().start();
    a.connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("a connection");
    soon(queue.recv()).await.expect("a connection");
}

#[tokio::test]
async fn hanging_up_in_the_handshake_is_counted_and_nothing_else() {
    let (b, _queue) = serving(Protocol::Sync);
    drop(TcpStream::connect(b.address).await.expect("it listens"));
    eventually("the listener counts it", || b.refused().broken == 1).await;
}

#[tokio::test]
async fn a_handshake_that_does_not_begin_is_given_up() {
    let mut routes = Routes::new();
    let _queue = routes.serve(Protocol::Sync, 1);
    let limits = Limits {
        handshake_timeout: Duration::from_millis(20),
        ..Limits::default()
    };
    let b = Setup {
        routes,
        limits,
        ..Setup::default()
    }
    .start();
    let mut tcp = TcpStream::connect(b.address).await.expect("it listens");
    let read = soon(tcp.read(&mut [0; 1])).await;
    assert_eq!(read.expect("closed in order"), 0);
    assert_eq!(b.refused().timed_out, 1);
}

#[tokio::test]
async fn handshakes_under_way_are_bounded_and_the_rest_waits_its_turn() {
    let mut routes = Routes::new();
    let mut queue = routes.serve(Protocol::Sync, 1);
    let limits = Limits {
        handshakes_max: 2,
        handshake_timeout: PATIENCE,
        ..Limits::default()
    };
    let b = Setup {
        routes,
        limits,
        ..Setup::default()
    }
    .start();
    let idle = [
        TcpStream::connect(b.address).await.expect("it listens"),
        TcpStream::connect(b.address).await.expect("it listens"),
    ];
    eventually("both are taken", || b.refused().accepted == 2).await;

    let a = Setup::default().start();
    let address = b.address;
    let connector = a.connector.clone();
    let waiting =
        tokio::spawn(async move { connector.connect(address, Protocol::Sync).await.map(|_| ()) });
    // The third has been connected by the kernel; it must not be accepted.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(b.refused().accepted, 2);
    drop(idle);
    soon(waiting)
        .await
        .expect("no panic")
        .expect("its turn has come");
    soon(queue.recv()).await.expect("a connection");
}

#[tokio::test]
async fn connections_in_use_are_bounded_and_closing_one_makes_room() {
    let mut routes = Routes::new();
    let mut queue = routes.serve(Protocol::Sync, 4);
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let b = Setup {
        routes,
        limits,
        ..Setup::default()
    }
    .start();
    let a = Setup::default().start();

    let first = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("a connection");
    let accepted = soon(queue.recv()).await.expect("a connection");
    let (mut second, _) = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("accepted");
    soon(second.read_u8()).await.expect_err("one too many");
    assert_eq!(b.refused().turned_away, 1);

    drop((first, accepted));
    let (_third, _) = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("accepted");
    soon(queue.recv()).await.expect("there is room again");
}

#[tokio::test]
async fn a_protocol_that_is_behind_or_gone_turns_connections_away() {
    let mut routes = Routes::new();
    let queue = routes.serve(Protocol::Sync, 1);
    let b = Setup {
        routes,
        ..Setup::default()
    }
    .start();
    let a = Setup::default().start();
    let waits = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("it may wait");
    eventually("it waits", || b.refused().admitted == 1).await;
    let (mut full, _) = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("accepted");
    soon(full.read_u8()).await.expect_err("the queue is full");
    assert_eq!(b.refused().turned_away, 1);

    drop((queue, waits));
    let (mut gone, _) = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("accepted");
    soon(gone.read_u8()).await.expect_err("nobody serves it");
    assert_eq!(b.refused().turned_away, 2);
}

#[tokio::test]
async fn shutting_down_frees_the_port_and_leaves_handed_on_connections_open() {
    let (shut_down, signal) = oneshot::channel::<()>();
    let mut routes = Routes::new();
    let mut queue = routes.serve(Protocol::Sync, 1);
    let setup = Setup {
        routes,
        ..Setup::default()
    };
    let b = setup.start_until(async { signal.await.unwrap_or(()) });
    let a = Setup::default().start();
    let (mut at_a, _) = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("a connection");
    let mut incoming = soon(queue.recv()).await.expect("a connection");
    let mut idle = TcpStream::connect(b.address).await.expect("it listens");
    eventually("the idle one is taken", || b.refused().accepted == 2).await;

    shut_down.send(()).expect("it still runs");
    assert!(
        soon(queue.recv()).await.is_none(),
        "no more connections will come"
    );
    assert_eq!(
        soon(idle.read(&mut [0; 1])).await.expect("closed in order"),
        0
    );
    let error = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect_err("nobody listens");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");

    at_a.write_all(b"!").await.expect("still open");
    at_a.flush().await.expect("still open");
    assert_eq!(
        soon(incoming.stream.read_u8()).await.expect("still open"),
        b'!'
    );
}

#[tokio::test]
async fn connecting_to_nobody_or_to_another_service_says_which() {
    let a = Setup::default().start();
    let error = a
        .connector
        .connect(unused_address(), Protocol::Sync)
        .await
        .expect_err("nobody");
    assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");

    for (answer, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "NotAnAgent"),
        (b"", "Closed"),
    ] {
        let service = tokio::net::TcpListener::bind(loopback(0))
            .await
            .expect("a free port");
        let address = service.local_addr().expect("bound");
        let served = tokio::spawn(async move {
            let (mut tcp, _) = service.accept().await.expect("a connection");
            // All of the hello must be read, or closing would reset the connection.
            tcp.read_buf(&mut Vec::with_capacity(16 << 10))
                .await
                .expect("a hello");
            tcp.write_all(answer).await.expect("it reads");
        });
        let error = a
            .connector
            .connect(address, Protocol::Sync)
            .await
            .expect_err("no agent");
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        soon(served).await.expect("no panic");
    }
}

#[tokio::test]
async fn a_host_that_never_answers_ends_in_a_timeout() {
    let credentials = credentials(SECRET, "c1", "n1");
    let limit = Duration::from_millis(20);
    let connector = Connector::new(&credentials, limit);
    let silent = tokio::net::TcpListener::bind(loopback(0))
        .await
        .expect("a free port");
    let address = silent.local_addr().expect("bound");
    let error = connector
        .connect(address, Protocol::Sync)
        .await
        .expect_err("silence");
    assert!(
        matches!(error, ConnectError::Timeout { after, .. } if after == limit),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_second_route_for_a_protocol_takes_the_place_of_the_first() {
    let mut routes = Routes::new();
    let mut first = routes.serve(Protocol::Sync, 1);
    let mut second = routes.serve(Protocol::Sync, 1);
    assert!(first.recv().await.is_none());
    let b = Setup {
        routes,
        ..Setup::default()
    }
    .start();
    let a = Setup::default().start();
    let _stream = a
        .connector
        .connect(b.address, Protocol::Sync)
        .await
        .expect("a connection");
    soon(second.recv()).await.expect("a connection");
}
