//! This node's end of the gossip network: one socket, and a connection path.
//!
//! The endpoint seals and sends, receives and screens, and outlives the chitchat
//! instances that speak through it. Sending never fails towards chitchat: a peer
//! that cannot be reached is its own trouble, and gossip repeats itself. What was
//! dropped is counted. Nothing is queued here; the bounds are the socket's buffer
//! and the channels that the agent lends.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::addresses::Source;
use super::clocks;
use super::datagrams::Datagrams;
use super::keyring::{KeyId, Keyring};
use super::large_frames::{FRAME_LEN_MAX, LargeFrameLink, LargeFrames, ReceivedFrame};
use super::screening::{Accepted, Screen, Sender, Verdict};
use super::sealed::{self, Envelope, FrameKind};
use super::{DATAGRAM_LEN_MAX, DATAGRAM_LEN_MAX_FRAGMENTED};
use crate::diagnostics::RejectReason;
use crate::diagnostics::journal::{Journal, Refused};
use crate::heartbeat::{HeartbeatTable, Moment};
use crate::identity::{Identity, Incarnation};
use crate::name::{ClusterName, NAME_LEN_MAX, NodeId};

/// What the endpoint is made of.
pub(crate) struct EndpointConfig {
    pub(crate) cluster: ClusterName,
    pub(crate) keyring: Keyring,
    pub(crate) identity: Identity,
    pub(crate) advertise: SocketAddr,
    pub(crate) heartbeats: HeartbeatTable,
    pub(crate) link: Option<LargeFrameLink>,
    pub(crate) journal: Arc<Journal>,
}

/// Where a frame goes, by whichever way it takes.
pub(crate) struct Destination {
    address: SocketAddr,
    /// The node meant, or `None` for whoever listens there.
    recipient: Option<NodeId>,
    /// Keys that it opens frames with, the best first.
    keys: Vec<KeyId>,
}

impl Destination {
    /// The way to answer: at the address that the sender advertises under the
    /// seal. Where its frame came from proves nothing, since whoever records a
    /// frame can send it on from anywhere; so a stranger hears no answer, and
    /// turns none on another.
    pub(crate) fn answer_to(sender: &Sender) -> Destination {
        Destination {
            address: sender.address,
            recipient: Some(sender.node.clone()),
            keys: sender.keys.best_first().to_vec(),
        }
    }
}

/// See the module.
pub(crate) struct Endpoint {
    cluster: ClusterName,
    keyring: Keyring,
    node: NodeId,
    advertise: SocketAddr,
    datagrams: Box<dyn Datagrams>,
    outgoing: Option<Arc<dyn LargeFrames>>,
    incoming: tokio::sync::Mutex<Option<mpsc::Receiver<ReceivedFrame>>>,
    journal: Arc<Journal>,
    /// Grows with each frame, through all incarnations.
    sequence: AtomicU64,
    /// Locked for a few microseconds at a time, never while waiting.
    screen: Mutex<Screen>,
}

impl Endpoint {
    pub(crate) fn new(datagrams: impl Datagrams, config: EndpointConfig) -> Endpoint {
        let (outgoing, incoming) = match config.link {
            Some(link) => (Some(link.outgoing), Some(link.incoming)),
            None => (None, None),
        };
        let screen = Screen::new(
            config.cluster.clone(),
            config.keyring.clone(),
            config.identity.id.clone(),
            config.identity.chitchat_id(config.advertise),
            config.heartbeats,
        );
        Endpoint {
            cluster: config.cluster,
            keyring: config.keyring,
            node: config.identity.id,
            advertise: config.advertise,
            datagrams: Box::new(datagrams),
            outgoing,
            incoming: tokio::sync::Mutex::new(incoming),
            journal: config.journal,
            sequence: AtomicU64::new(0),
            screen: Mutex::new(screen),
        }
    }

    /// What is known of the senders.
    pub(crate) fn screen(&self) -> MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever listens at an address. Which keys it has is known if it was heard
    /// lately; otherwise each frame tries another of the installed ones, since an
    /// agent that was away may have any one of them and no other.
    pub(crate) fn anyone_at(&self, address: SocketAddr) -> Destination {
        let known = self.screen().keys_at(address, Instant::now());
        Destination {
            address,
            recipient: None,
            keys: match known {
                Some(keys) => keys.to_vec(),
                None => any_of(&self.keyring.installed()).into_iter().collect(),
            },
        }
    }

    /// Sends a message.
    pub(crate) async fn send(&self, to: &Destination, kind: FrameKind, body: &[u8]) {
        let envelope = Envelope {
            kind,
            sender: self.node.clone(),
            incarnation: Incarnation(self.screen().own().generation_id),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            cluster: self.cluster.clone(),
            recipient: to.recipient.clone(),
            address: self.advertise,
            clock_ms: clocks::clock_ms(SystemTime::now()),
        };
        match sealed::seal(&self.keyring.sealing(&to.keys), &envelope, body) {
            Ok(frame) => self.transmit(to.address, frame).await,
            Err(error) => {
                self.journal.count(|counters| counters.frames_dropped += 1);
                warn!(to = %to.address, %error, "a gossip message was not sent");
            }
        }
    }

    /// The next message that passes; safe to cancel.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> Accepted {
        let mut incoming = self.incoming.lock().await;
        loop {
            let accepted = tokio::select! {
                received = self.datagrams.recv_from(buffer) => match received {
                    Ok((len, from)) => {
                        self.journal.count(|counters| {
                            counters.datagrams_received += 1;
                            counters.bytes_received += len as u64;
                        });
                        let frame = buffer.get(..len).unwrap_or_default();
                        self.accept(Source::Datagram(from), frame, Moment::now()).await
                    }
                    Err(error) => {
                        pause_after(&error).await;
                        None
                    }
                },
                received = next_large_frame(&mut incoming) => {
                    self.journal.count(|counters| counters.large_frames_received += 1);
                    let source = Source::Connection(received.from);
                    self.accept(source, &received.frame, Moment::now()).await
                }
            };
            if let Some(accepted) = accepted {
                return accepted;
            }
        }
    }

    async fn accept(&self, source: Source, frame: &[u8], now: Moment) -> Option<Accepted> {
        let verdict = self.screen().examine(source, frame, now);
        match verdict {
            Verdict::Accepted(accepted) => {
                if accepted.begins_exchange {
                    self.journal
                        .count(|counters| counters.exchanges_received += 1);
                }
                self.note_left_out(&accepted, now.instant);
                return Some(accepted);
            }
            Verdict::Ignored => {}
            Verdict::Refused(refused) => self.refuse(refused, now.instant),
            Verdict::OtherCluster { refused, tell } => {
                self.refuse(refused, now.instant);
                if let Some(sender) = tell {
                    let to = Destination::answer_to(&sender);
                    self.send(&to, FrameKind::OtherCluster, &[]).await;
                }
            }
        }
        None
    }

    fn note_left_out(&self, accepted: &Accepted, now: Instant) {
        if accepted.implausible > 0 {
            let Sender { source, node, .. } = &accepted.sender;
            let refused = Refused::by(source.address(), RejectReason::Faulty);
            let refused = refused.sent_by(node);
            self.journal.count(|counters| {
                counters.heartbeats_refused += accepted.implausible as u64;
            });
            self.refuse(
                refused.because("it passes on a heartbeat that cannot be true"),
                now,
            );
        }
        if accepted.crowded_out > 0 && self.journal.crowd_out(accepted.crowded_out, now) {
            warn!(
                members = accepted.crowded_out,
                "there is no room for so many members; newcomers are left out until others are \
                 forgotten"
            );
        }
    }

    fn refuse(&self, refused: Refused, now: Instant) {
        if let Some(rejection) = self.journal.reject(refused, now) {
            warn!(source = %rejection.source, reason = ?rejection.reason, "{rejection}");
        }
    }

    async fn transmit(&self, to: SocketAddr, frame: Vec<u8>) {
        let len = frame.len();
        match &self.outgoing {
            Some(outgoing) if (DATAGRAM_LEN_MAX + 1..=FRAME_LEN_MAX).contains(&len) => {
                match outgoing.send(to, Bytes::from(frame)) {
                    Ok(()) => self
                        .journal
                        .count(|counters| counters.large_frames_sent += 1),
                    Err(error) => self.drop_frame(to, len, &error.to_string()),
                }
            }
            _ if len <= DATAGRAM_LEN_MAX_FRAGMENTED => {
                match self.datagrams.send_to(&frame, to).await {
                    Ok(()) => self.journal.count(|counters| {
                        counters.datagrams_sent += 1;
                        counters.bytes_sent += len as u64;
                    }),
                    Err(error) => self.drop_frame(to, len, &error.to_string()),
                }
            }
            _ => self.drop_frame(to, len, "it is too long for every path"),
        }
    }

    fn drop_frame(&self, to: SocketAddr, len: usize, reason: &str) {
        self.journal.count(|counters| counters.frames_dropped += 1);
        debug!(%to, len, reason, "a gossip frame was dropped");
    }
}

const _: () = assert!(sealed::BODY_LEN_MAX + sealed::OVERHEAD + 3 * NAME_LEN_MAX <= FRAME_LEN_MAX);

/// One of the installed keys, drawn by lot.
fn any_of(installed: &[KeyId]) -> Option<KeyId> {
    let mut lot = [0];
    if installed.len() > 1 {
        // Without random numbers the frame is not sealed either.
        getrandom::fill(&mut lot).ok()?;
    }
    let place = usize::from(lot[0]) % installed.len().max(1);
    installed.get(place).copied()
}

/// Waits for ever once the agent has closed the path.
async fn next_large_frame(incoming: &mut Option<mpsc::Receiver<ReceivedFrame>>) -> ReceivedFrame {
    if let Some(frames) = incoming {
        if let Some(frame) = frames.recv().await {
            return frame;
        }
        *incoming = None;
    }
    std::future::pending().await
}

/// No error of a datagram socket is final, but some come back at once.
async fn pause_after(error: &io::Error) {
    debug!(%error, "receiving a datagram failed");
    sleep(Duration::from_millis(10)).await;
}

#[cfg(test)]
mod tests;
