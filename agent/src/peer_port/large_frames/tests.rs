//! Large frames between two agents over real connections on loopback.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::super::tests::{self, Agent, SECRET};
use super::super::{Protocol, Routes};
use super::*;

/// An agent that serves large frames.
struct Gossiper {
    agent: Agent,
    frames: LargeFrames,
    received: mpsc::Receiver<(SocketAddr, Bytes)>,
    driver: JoinHandle<()>,
}

impl Gossiper {
    fn start(node: &str, secret: &str) -> Gossiper {
        let mut routes = Routes::new();
        let incoming = routes.serve(Protocol::Gossip, 4);
        let agent = tests::Setup {
            node,
            secret,
            routes,
            ..tests::Setup::default()
        }
        .start();
        let (frames, driver) = LargeFrames::new(agent.connector.clone(), agent.address);
        let (sender, received) = mpsc::channel(4);
        let driver = tokio::spawn(driver.run(incoming, sender));
        Gossiper {
            agent,
            frames,
            received,
            driver,
        }
    }
}

impl Drop for Gossiper {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

#[tokio::test]
async fn frames_arrive_in_order_with_the_senders_advertised_address() {
    let a = Gossiper::start("n1", SECRET);
    let mut b = Gossiper::start("n2", SECRET);
    for size in [1, 1_201, FRAME_BYTES_MAX] {
        a.frames
            .send(b.agent.address, vec![7; size].into())
            .expect("it is taken");
        let (from, frame) = tests::soon(b.received.recv()).await.expect("a frame");
        assert_eq!(from, a.agent.address);
        assert_eq!(frame, vec![7; size]);
    }
    assert_eq!(
        b.agent.statistics.snapshot().admitted,
        1,
        "one connection carries all"
    );
    assert_eq!(
        a.frames.statistics(),
        Statistics {
            sent: 3,
            ..Statistics::default()
        }
    );
    assert_eq!(
        b.frames.statistics(),
        Statistics {
            received: 3,
            ..Statistics::default()
        }
    );
}

#[tokio::test]
async fn two_agents_send_to_each_other_at_once() {
    let mut a = Gossiper::start("n1", SECRET);
    let mut b = Gossiper::start("n2", SECRET);
    a.frames
        .send(b.agent.address, "to b".into())
        .expect("it is taken");
    b.frames
        .send(a.agent.address, "to a".into())
        .expect("it is taken");
    let at_b = tests::soon(b.received.recv()).await.expect("a frame");
    let at_a = tests::soon(a.received.recv()).await.expect("a frame");
    assert_eq!(at_b, (a.agent.address, Bytes::from("to b")));
    assert_eq!(at_a, (b.agent.address, Bytes::from("to a")));
}

#[tokio::test]
async fn a_frame_that_no_agent_would_accept_is_dropped_before_it_is_sent() {
    let a = Gossiper::start("n1", SECRET);
    for frame in [Bytes::new(), vec![0; FRAME_BYTES_MAX + 1].into()] {
        let sent = a.frames.send(a.agent.address, frame);
        assert_eq!(sent, Err(LargeFrameError::Length));
    }
    assert_eq!(a.frames.statistics().dropped, 2);
    assert!(a.frames.shared.lock_queues().is_empty());
}

#[tokio::test]
async fn frames_for_an_unreachable_peer_are_dropped_and_the_link_is_forgotten() {
    let a = Gossiper::start("n1", SECRET);
    let nobody = tests::unused_address();
    for _ in 0..3 {
        a.frames.send(nobody, "lost".into()).expect("it is taken");
    }
    tests::eventually("the frames are counted as dropped", || {
        a.frames.statistics().dropped == 3
    })
    .await;
    tests::eventually("the link is gone", || {
        a.frames.shared.lock_queues().is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_peer_with_another_secret_receives_nothing() {
    let a = Gossiper::start("n1", SECRET);
    let mut b = Gossiper::start("n2", "another secret of thirty-two characters");
    a.frames
        .send(b.agent.address, "for friends".into())
        .expect("it is taken");
    tests::eventually("the frame is counted as dropped", || {
        a.frames.statistics().dropped == 1
    })
    .await;
    tests::eventually("the other side counts it", || {
        b.agent.refused().other_secret >= 1
    })
    .await;
    assert!(b.received.try_recv().is_err());
}

#[tokio::test]
async fn a_peer_too_many_is_dropped_and_counted() {
    let a = Gossiper::start("n1", SECRET);
    let queue = Arc::new(FrameQueue::new(1));
    let mut queues = a.frames.shared.lock_queues();
    for port in 1..=LINKS_MAX {
        let port = u16::try_from(port).expect("a port");
        queues.insert(SocketAddr::from(([127, 0, 0, 2], port)), queue.clone());
    }
    drop(queues);
    let sent = a.frames.send(a.agent.address, "one too many".into());
    assert_eq!(sent, Err(LargeFrameError::TooManyPeers));
    assert_eq!(a.frames.statistics().dropped, 1);
}

#[tokio::test]
async fn a_stream_that_breaks_the_format_is_closed_and_later_frames_still_arrive() {
    let a = Gossiper::start("n1", SECRET);
    let mut b = Gossiper::start("n2", SECRET);
    for nonsense in [
        &b"\0\0\0\x03abc"[..],
        b"\xff\xff\xff\xff",
        b"\0\0\0\x0b127.0.0.1:1\0\0\0\0",
    ] {
        let refused = b.frames.statistics().refused;
        let connection = a
            .agent
            .connector
            .connect(b.agent.address, Protocol::Gossip)
            .await;
        let (mut stream, _) = connection.expect("a connection");
        stream.write_all(nonsense).await.expect("the peer reads");
        stream.flush().await.expect("the peer reads");
        tests::eventually("it is refused", || {
            b.frames.statistics().refused == refused + 1
        })
        .await;
    }
    a.frames
        .send(b.agent.address, "sense".into())
        .expect("it is taken");
    let (_, frame) = tests::soon(b.received.recv()).await.expect("a frame");
    assert_eq!(frame, "sense");
}

#[tokio::test]
async fn a_slow_receiver_costs_a_bounded_number_of_frames() {
    let a = Gossiper::start("n1", SECRET);
    let b = Gossiper::start("n2", SECRET);
    // Nobody takes the frames at b: its queue, the sockets' buffers and a's
    // queue fill up, and from then on the oldest are dropped.
    let frame = Bytes::from(vec![1; FRAME_BYTES_MAX]);
    let mut sent = 0;
    let filled = async {
        while a.frames.statistics().dropped < 100 {
            a.frames
                .send(b.agent.address, frame.clone())
                .expect("it is taken");
            sent += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), filled)
        .await
        .expect("frames are dropped");
    let waiting = a
        .frames
        .shared
        .lock_queues()
        .get(&b.agent.address)
        .map(|queue| queue.len());
    assert!(
        waiting.is_some_and(|frames| frames <= WAITING_MAX),
        "{waiting:?} of {sent}"
    );
}
