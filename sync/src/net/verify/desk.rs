//! Answers from this node's store, to peers and to this node itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::super::Stream;
use super::super::driver::{Command, chain};
use super::super::incoming::{invalid, read_body, read_length, silent};
use crate::codec::{self, FRAME_BYTES_MAX};
use crate::model::Timestamp;
use crate::storage::mending::Mend;
use crate::storage::state;
use crate::storage::{self, Storage, StoreError};
use crate::verify::indexes::{FAULTS_MAX, Place};
use crate::verify::message::{RANGES_MAX, RangeDigest};
use crate::verify::{Answer, Request, indexes, survey};

/// Comparisons of others that this node takes part in at a time.
const SERVED_MAX: usize = 2;
/// Stretches of tables that are checked for one question.
const CHECKS: usize = 16;
/// A connection on which nothing is asked for so long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A peer that takes no bytes for so long is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Where questions are answered. Clones share it.
#[derive(Clone)]
pub(in crate::net) struct Desk {
    storage: Arc<dyn Storage>,
    commands: mpsc::Sender<Command>,
    served: Arc<Semaphore>,
}

impl Desk {
    pub(in crate::net) fn new(storage: Arc<dyn Storage>, commands: mpsc::Sender<Command>) -> Self {
        Self {
            storage,
            commands,
            served: Arc::new(Semaphore::new(SERVED_MAX)),
        }
    }

    /// Up to which date this node's store may have let go of deletions; the error says why that
    /// cannot be read.
    pub(super) fn floor(&self) -> Result<Timestamp, String> {
        let settlement = storage::read(&*self.storage, storage::settlement);
        Ok(settlement.map_err(|error| chain(&error))?.floor)
    }

    /// Answers a peer's questions until it hangs up.
    pub(in crate::net) async fn serve(&self, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        let place = self.served.try_acquire();
        loop {
            let asked = timeout(SILENCE_MAX, async {
                let Some(length) = read_length(stream, FRAME_BYTES_MAX).await? else {
                    return Ok(None);
                };
                read_body(stream, length).await.map(Some)
            });
            let Some(frame) = asked.await.map_err(|_| silent())?? else {
                return Ok(());
            };
            let request = codec::decode_request(&frame).map_err(invalid)?;
            drop(frame);
            let answer = match &place {
                Ok(_) => self.answer(request).await,
                Err(_) => Answer::Busy,
            };
            let frame = codec::encode_answer(&answer);
            let send = async {
                stream.write_all(&frame).await?;
                stream.flush().await
            };
            timeout(SEND_TIMEOUT, send).await.map_err(|_| silent())??;
            if place.is_err() {
                return Ok(());
            }
        }
    }

    /// Answers a question. Reads are done away from the caller's thread, and in stretches
    /// that hold up no commit for long.
    pub(super) async fn answer(&self, request: Request) -> Answer {
        if let Request::Mend { work } = request {
            return self.mend(work).await;
        }
        let storage = self.storage.clone();
        let read = tokio::task::spawn_blocking(move || read(&*storage, request));
        match read.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Answer::Failed(chain(&error)),
            Err(_) => Answer::Failed("the reading ended early".to_owned()),
        }
    }

    async fn mend(&self, work: Vec<Mend>) -> Answer {
        let (reply, replied) = oneshot::channel();
        let stopping = || Answer::Failed("the node is stopping".to_owned());
        let command = Command::Mend { work, reply };
        if self.commands.send(command).await.is_err() {
            return stopping();
        }
        match replied.await {
            Ok(Ok(outcomes)) => Answer::Mended(outcomes),
            Ok(Err(reason)) => Answer::Failed(reason),
            Err(_) => stopping(),
        }
    }

    /// Cuts the keys from `from` on into ranges of a stretch each: where each ends, what it
    /// comes to, and whether the last one reaches the end.
    pub(super) async fn cut(&self, from: Bytes) -> Result<Cut, Answer> {
        let storage = self.storage.clone();
        let cut = tokio::task::spawn_blocking(move || cut(&*storage, from));
        match cut.await {
            Ok(Ok(cut)) => Ok(cut),
            Ok(Err(error)) => Err(Answer::Failed(chain(&error))),
            Err(_) => Err(Answer::Failed("the reading ended early".to_owned())),
        }
    }
}

/// Consecutive ranges of this node's keys.
#[derive(Default)]
pub(super) struct Cut {
    pub(super) bounds: Vec<Bytes>,
    pub(super) digests: Vec<RangeDigest>,
    pub(super) to_end: bool,
}

fn cut(storage: &dyn Storage, mut from: Bytes) -> Result<Cut, StoreError> {
    let mut cut = Cut::default();
    while cut.digests.len() < RANGES_MAX {
        let stretch = storage::read(storage, |reader| survey::stretch(reader, &from, None))?;
        cut.digests.push(stretch.digest);
        let Some(next) = stretch.next else {
            cut.to_end = true;
            break;
        };
        cut.bounds.push(next.clone());
        from = next;
    }
    Ok(cut)
}

fn read(storage: &dyn Storage, request: Request) -> Result<Answer, StoreError> {
    Ok(match request {
        Request::Digests {
            from,
            bounds,
            to_end,
        } => {
            let ends = bounds.iter().map(|end| Some(&**end));
            let ends = ends.chain(to_end.then_some(None));
            let mut digests = Vec::new();
            let mut begin: &[u8] = &from;
            for end in ends {
                digests.push(range(storage, begin, end)?);
                begin = end.unwrap_or_default();
            }
            Answer::Digests(digests)
        }
        Request::Items { from, to } => {
            let (items, more) = storage::read(storage, |reader| {
                survey::items(reader, &from, to.as_deref())
            })?;
            Answer::Items { items, more }
        }
        Request::Documents { keys } => storage::read(storage, |reader| {
            Ok(Answer::Documents {
                vector: state::vector(reader)?,
                held: survey::documents(reader, &keys)?,
            })
        })?,
        Request::Check { from } => check(storage, from)?,
        Request::Mend { .. } => Answer::Failed("this is not read".to_owned()),
    })
}

/// Checks some stretches, each in a snapshot of its own.
fn check(storage: &dyn Storage, from: Place) -> Result<Answer, StoreError> {
    let (mut rows, mut faults, mut next) = (0, Vec::new(), Some(from));
    for _ in 0..CHECKS {
        let Some(from) = next.take() else { break };
        let checked = storage::read(storage, |reader| indexes::check(reader, &from))?;
        rows += checked.rows;
        faults.extend(checked.faults);
        next = checked.next;
        if faults.len() >= FAULTS_MAX {
            break;
        }
    }
    Ok(Answer::Checked { rows, faults, next })
}

/// The digest of a range, however long, in a snapshot a stretch.
fn range(storage: &dyn Storage, from: &[u8], to: Option<&[u8]>) -> Result<RangeDigest, StoreError> {
    let mut digest = RangeDigest::default();
    let mut from = Bytes::copy_from_slice(from);
    loop {
        let stretch = storage::read(storage, |reader| survey::stretch(reader, &from, to))?;
        digest.sum.add(stretch.digest.sum);
        digest.count += stretch.digest.count;
        match stretch.next {
            Some(next) => from = next,
            None => return Ok(digest),
        }
    }
}
