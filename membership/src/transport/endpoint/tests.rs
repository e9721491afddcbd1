//! What the endpoint sends where, on loopback.

use std::net::Ipv4Addr;

use super::*;
use crate::diagnostics::Counters;
use tokio::net::UdpSocket;

use crate::transport::forge::{self, Entry};
use crate::transport::keyring::GossipKey;
use crate::transport::large_frames::LargeFrameError;

const CLUSTER: &str = "c";

fn ring() -> Keyring {
    Keyring::new(GossipKey::from_bytes([1; 32]))
}

/// Node `here` of cluster `c`, and a socket that plays another.
struct Bench {
    endpoint: Endpoint,
    peer: UdpSocket,
    _data_dir: tempfile::TempDir,
}

impl Bench {
    async fn new(link: Option<LargeFrameLink>) -> Bench {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let second = Duration::from_secs(1);
        let data_dir = tempfile::tempdir().unwrap();
        let id = Some("here".parse().unwrap());
        let now = std::time::SystemTime::now();
        let config = EndpointConfig {
            cluster: CLUSTER.parse().unwrap(),
            keyring: ring(),
            identity: Identity::load_or_create(data_dir.path(), id, now).unwrap(),
            advertise: udp.local_addr().unwrap(),
            heartbeats: HeartbeatTable::new(second, second * 2),
            link,
            journal: Arc::new(Journal::default()),
        };
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Bench {
            endpoint: Endpoint::new(udp, config),
            peer,
            _data_dir: data_dir,
        }
    }

    fn address(&self) -> SocketAddr {
        self.peer.local_addr().unwrap()
    }

    async fn send(&self, body_len: usize) {
        // Random, since what repeats itself is packed.
        let mut body = vec![0; body_len];
        getrandom::fill(&mut body).unwrap();
        let to = self.endpoint.anyone_at(self.address());
        self.endpoint.send(&to, FrameKind::Gossip, &body).await;
    }

    async fn answer_after_send(&self) -> Vec<u8> {
        self.send(10).await;
        self.answer().await
    }

    fn counters(&self) -> Counters {
        self.endpoint.journal.snapshot().counters
    }

    /// What the peer writes on its first frame.
    fn envelope(&self, cluster: &str) -> Envelope {
        forge::envelope("peer", cluster, self.address())
    }

    /// The next datagram that reached the peer.
    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let (len, _) = self.peer.recv_from(&mut buffer).await.unwrap();
        buffer.truncate(len);
        buffer
    }
}

#[tokio::test]
async fn an_agent_of_another_cluster_is_answered_with_our_name_and_nothing_else() {
    let bench = Bench::new(None).await;
    let frame = forge::frame(&ring(), &bench.envelope("other"), b"");
    assert!(
        bench
            .endpoint
            .accept(Source::Datagram(bench.address()), &frame, Moment::now())
            .await
            .is_none()
    );
    let notice = sealed::open(&ring(), &bench.answer().await).unwrap();
    assert!(notice.body.is_empty());
    let notice = notice.envelope;
    assert_eq!(notice.kind, FrameKind::OtherCluster);
    assert_eq!(notice.cluster.as_str(), CLUSTER);
    assert_eq!(notice.recipient, Some("peer".parse().unwrap()));
}

/// Hands large frames to a channel instead of a connection.
struct Tube(mpsc::Sender<(SocketAddr, Bytes)>);

impl LargeFrames for Tube {
    fn send(&self, to: SocketAddr, frame: Bytes) -> Result<(), LargeFrameError> {
        self.0
            .try_send((to, frame))
            .map_err(|_| LargeFrameError::QueueFull)
    }
}

#[tokio::test]
async fn large_frames_take_the_connection_and_a_full_queue_is_counted() {
    let (sent, mut tube) = mpsc::channel(1);
    let (_deliver, incoming) = mpsc::channel(1);
    let link = LargeFrameLink {
        outgoing: Arc::new(Tube(sent)),
        incoming,
    };
    let bench = Bench::new(Some(link)).await;
    for body_len in [100, 1200, 1200] {
        bench.send(body_len).await;
    }
    let (address, frame) = tube.recv().await.unwrap();
    assert_eq!(address, bench.address());
    assert!(frame.len() > DATAGRAM_LEN_MAX);
    let counters = bench.counters();
    assert_eq!(counters.datagrams_sent, 1);
    assert_eq!(counters.large_frames_sent, 1);
    assert_eq!(counters.frames_dropped, 1);
}

#[tokio::test]
async fn large_frames_that_arrive_are_screened_like_datagrams() {
    let (sent, _tube) = mpsc::channel(1);
    let (deliver, incoming) = mpsc::channel(2);
    let link = LargeFrameLink {
        outgoing: Arc::new(Tube(sent)),
        incoming,
    };
    let bench = Bench::new(Some(link)).await;
    let entry = |n: u64| Entry {
        heartbeat: n.wrapping_mul(0x9E37_79B9) % (1 << 30),
        ..Entry::of(forge::member(&format!("node-{n}"), n << 20, 9400))
    };
    let entries: Vec<_> = (1..240).map(entry).collect();
    let syn = forge::syn(CLUSTER, &entries);
    let frame = forge::frame(&ring(), &bench.envelope(CLUSTER), &syn);
    assert!(frame.len() > DATAGRAM_LEN_MAX, "{}", frame.len());
    // Whoever connects may call itself anything.
    let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    deliver
        .send(ReceivedFrame {
            from,
            frame: vec![0; 2000].into(),
        })
        .await
        .unwrap();
    deliver
        .send(ReceivedFrame {
            from,
            frame: frame.into(),
        })
        .await
        .unwrap();
    let accepted = bench.endpoint.receive(&mut [0; 2048]).await;
    assert_eq!(accepted.sender.source, Source::Connection(from));
    assert_eq!(accepted.sender.address, bench.address());
    let counters = bench.counters();
    assert_eq!(counters.large_frames_received, 2);
    assert_eq!(counters.rejected.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn without_a_connection_large_frames_go_as_datagrams_up_to_a_bound() {
    let bench = Bench::new(None).await;
    bench.send(59_000).await;
    bench.send(61_000).await;
    assert!(bench.answer().await.len() > 59_000);
    let counters = bench.counters();
    assert_eq!((counters.datagrams_sent, counters.frames_dropped), (1, 1));
}

#[tokio::test]
async fn answers_go_where_the_seal_says_whichever_way_the_question_came() {
    let (sent, mut tube) = mpsc::channel(4);
    let (_deliver, incoming) = mpsc::channel(1);
    let link = LargeFrameLink {
        outgoing: Arc::new(Tube(sent)),
        incoming,
    };
    let bench = Bench::new(Some(link)).await;
    let syn = forge::syn(CLUSTER, &[]);
    let elsewhere = SocketAddr::from(([10, 0, 0, 66], 9400));
    for (sequence, source) in [
        (1, Source::Datagram(elsewhere)),
        (2, Source::Connection(elsewhere)),
    ] {
        let envelope = Envelope {
            sequence,
            ..bench.envelope(CLUSTER)
        };
        let frame = forge::frame(&ring(), &envelope, &syn);
        let now = Moment::now();
        let accepted = bench.endpoint.accept(source, &frame, now).await.unwrap();
        let to = Destination::answer_to(&accepted.sender);
        let mut body = [0; 2000];
        getrandom::fill(&mut body).unwrap();
        bench.endpoint.send(&to, FrameKind::Gossip, &body).await;
        assert_eq!(tube.recv().await.unwrap().0, bench.address());
        bench.endpoint.send(&to, FrameKind::Gossip, b"small").await;
        let answer = sealed::open(&ring(), &bench.answer().await).unwrap();
        assert_eq!(answer.envelope.recipient, Some("peer".parse().unwrap()));
        assert_eq!(answer.envelope.address, bench.endpoint.advertise);
    }
}

#[tokio::test]
async fn an_address_that_was_not_heard_is_tried_with_every_installed_key() {
    let bench = Bench::new(None).await;
    let other = GossipKey::from_bytes([2; 32]);
    bench.endpoint.keyring.install(other.clone()).unwrap();
    let theirs = Keyring::new(other.clone());
    let mut opened = 0;
    while opened == 0 {
        bench.send(10).await;
        opened += usize::from(sealed::open(&theirs, &bench.answer().await).is_ok());
    }
    let mine = ring();
    while sealed::open(&mine, &bench.answer_after_send().await).is_err() {}

    // Heard once, it is spoken to with the key that it has.
    let syn = forge::syn(CLUSTER, &[]);
    let frame = forge::frame(&theirs, &bench.envelope(CLUSTER), &syn);
    let source = Source::Datagram(bench.address());
    let accepted = bench.endpoint.accept(source, &frame, Moment::now()).await;
    assert!(accepted.is_some());
    for _ in 0..32 {
        let answer = bench.answer_after_send().await;
        assert_eq!(
            sealed::open(&theirs, &answer).unwrap().keys.sealed_with,
            other.id()
        );
    }

    // And once it is retired, with the one in use.
    bench.endpoint.keyring.retire(other.id()).unwrap();
    sealed::open(&mine, &bench.answer_after_send().await).unwrap();
}
