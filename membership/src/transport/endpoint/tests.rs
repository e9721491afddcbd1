//! What the endpoint sends where, on loopback.

use std::net::Ipv4Addr;

use super::*;
use crate::diagnostics::Counters;
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
        self.endpoint
            .send(self.address(), FrameKind::Gossip, None, &vec![0; body_len])
            .await;
    }

    fn counters(&self) -> Counters {
        self.endpoint.journal.snapshot().counters
    }

    /// The next datagram that reached the peer.
    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        let (len, _) = self.peer.recv_from(&mut buffer).await.unwrap();
        buffer.truncate(len);
        buffer
    }
}

fn envelope(cluster: &str) -> Envelope {
    Envelope {
        kind: FrameKind::Gossip,
        sender: "peer".parse().unwrap(),
        incarnation: Incarnation(5),
        sequence: 1,
        cluster: cluster.parse().unwrap(),
        recipient: None,
    }
}

#[tokio::test]
async fn an_agent_of_another_cluster_is_answered_with_our_name_and_nothing_else() {
    let bench = Bench::new(None).await;
    let frame = sealed::seal(&ring(), &envelope("other"), b"").unwrap();
    assert!(
        bench
            .endpoint
            .accept(bench.address(), &frame, Moment::now())
            .await
            .is_none()
    );
    let (notice, body) = sealed::open(&ring(), &bench.answer().await).unwrap();
    assert_eq!(notice.kind, FrameKind::OtherCluster);
    assert_eq!(notice.cluster.as_str(), CLUSTER);
    assert_eq!(notice.recipient, Some("peer".parse().unwrap()));
    assert!(body.is_empty());
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
    let entries: Vec<_> = (0..60)
        .map(|n| Entry::of(forge::member(&format!("node-{n}"), 5, 9400)))
        .collect();
    let syn = forge::syn(CLUSTER, &entries);
    let frame = sealed::seal(&ring(), &envelope(CLUSTER), &syn).unwrap();
    assert!(frame.len() > DATAGRAM_LEN_MAX);
    let from = bench.address();
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
    assert_eq!(accepted.from, from);
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
