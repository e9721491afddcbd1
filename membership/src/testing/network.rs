//! A network in memory: datagrams that are lost and delayed, and connections.
//!
//! It runs on tokio's paused clock, in the thread of the test. What is drawn by
//! lot comes from one seed; chitchat's own choices do not, so that two runs
//! differ. A datagram above [`FRAGMENT_LEN`] is cut into fragments, each of which
//! may be lost. A frame on a connection is never lost; where a datagram would be,
//! it arrives later by the time of a retransmission. Every way in is a bounded
//! queue that drops what does not fit, like a socket's buffer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::transport::datagrams::Datagrams;
use crate::transport::large_frames::{LargeFrameError, LargeFrameLink, LargeFrames, ReceivedFrame};

/// Payload of a datagram that an Ethernet carries in one piece.
const FRAGMENT_LEN: usize = 1472;
/// Datagrams that wait for one node: about what a socket's buffer holds.
const QUEUE_LEN: usize = 256;
const LATENCY_MIN: Duration = Duration::from_micros(200);
const LATENCY_SPREAD: Duration = Duration::from_millis(3);
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// The network; all clones are the same.
#[derive(Clone)]
pub(crate) struct Network {
    state: Arc<Mutex<State>>,
}

struct State {
    lots: Lots,
    /// The share of packets that is lost.
    loss: f64,
    ports: HashMap<SocketAddr, Port>,
    traffic: Traffic,
}

struct Port {
    datagrams: mpsc::Sender<(SocketAddr, Vec<u8>)>,
    frames: mpsc::Sender<ReceivedFrame>,
}

/// What all nodes together have sent.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) datagrams: u64,
    pub(crate) datagram_bytes: u64,
    pub(crate) frames: u64,
    pub(crate) frame_bytes: u64,
    /// Packets that were lost, or did not fit a queue.
    pub(crate) lost: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, loss: f64) -> Network {
        let state = State {
            lots: Lots(seed),
            loss,
            ports: HashMap::new(),
            traffic: Traffic::default(),
        };
        Network {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Plugs a node in: its datagrams, and its connections.
    pub(crate) fn plug(&self, address: SocketAddr) -> (Plug, LargeFrameLink) {
        let (datagrams, received) = mpsc::channel(QUEUE_LEN);
        let (frames, incoming) = mpsc::channel(QUEUE_LEN);
        let port = Port { datagrams, frames };
        self.lock().ports.insert(address, port);
        let plug = Plug {
            network: self.clone(),
            address,
            received: tokio::sync::Mutex::new(received),
        };
        let connections = Connections {
            network: self.clone(),
            address,
        };
        let link = LargeFrameLink {
            outgoing: Arc::new(connections),
            incoming,
        };
        (plug, link)
    }

    /// Pulls the plug of a node: from now on nothing comes or goes.
    pub(crate) fn unplug(&self, address: SocketAddr) {
        self.lock().ports.remove(&address);
    }

    /// A lot from the seed: at least 0 and less than 1.
    pub(crate) fn lot(&self) -> f64 {
        self.lock().lots.draw()
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Carries a datagram, or loses it.
    fn carry(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let mut state = self.lock();
        if !state.ports.contains_key(&from) {
            return;
        }
        state.traffic.datagrams += 1;
        state.traffic.datagram_bytes += datagram.len() as u64;
        let fragments = datagram.len().div_ceil(FRAGMENT_LEN).max(1);
        if (0..fragments).any(|_| state.is_lost()) {
            state.traffic.lost += 1;
            return;
        }
        let latency = state.latency();
        drop(state);
        let (network, datagram) = (self.clone(), datagram.to_vec());
        tokio::spawn(async move {
            sleep(latency).await;
            let mut state = network.lock();
            let port = state.ports.get(&to);
            if port.is_some_and(|port| port.datagrams.try_send((from, datagram)).is_err()) {
                state.traffic.lost += 1;
            }
        });
    }

    /// Carries a frame over a connection.
    fn convey(&self, from: SocketAddr, to: SocketAddr, frame: Bytes) {
        let mut state = self.lock();
        if !state.ports.contains_key(&from) {
            return;
        }
        state.traffic.frames += 1;
        state.traffic.frame_bytes += frame.len() as u64;
        let mut latency = state.latency();
        while state.is_lost() {
            latency += RETRANSMISSION;
        }
        drop(state);
        let network = self.clone();
        tokio::spawn(async move {
            sleep(latency).await;
            let mut state = network.lock();
            let port = state.ports.get(&to);
            let received = ReceivedFrame { from, frame };
            if port.is_some_and(|port| port.frames.try_send(received).is_err()) {
                state.traffic.lost += 1;
            }
        });
    }
}

impl State {
    fn is_lost(&mut self) -> bool {
        self.lots.draw() < self.loss
    }

    fn latency(&mut self) -> Duration {
        LATENCY_MIN + LATENCY_SPREAD.mul_f64(self.lots.draw())
    }
}

/// A node's end of the network.
pub(crate) struct Plug {
    network: Network,
    address: SocketAddr,
    received: tokio::sync::Mutex<mpsc::Receiver<(SocketAddr, Vec<u8>)>>,
}

#[async_trait]
impl Datagrams for Plug {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.network.carry(self.address, to, datagram);
        Ok(())
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let Some((from, datagram)) = self.received.lock().await.recv().await else {
            return std::future::pending().await;
        };
        let len = datagram.len().min(buffer.len());
        buffer[..len].copy_from_slice(&datagram[..len]);
        Ok((len, from))
    }
}

struct Connections {
    network: Network,
    address: SocketAddr,
}

impl LargeFrames for Connections {
    fn send(&self, to: SocketAddr, frame: Bytes) -> Result<(), LargeFrameError> {
        self.network.convey(self.address, to, frame);
        Ok(())
    }
}

/// Lots from a seed, by splitmix64 (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014).
struct Lots(u64);

impl Lots {
    /// At least 0 and less than 1.
    fn draw(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        let high = u32::try_from(bits >> 32).expect("32 bits are left");
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}
