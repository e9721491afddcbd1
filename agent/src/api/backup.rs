//! `GET /v1/backup`: a consistent copy of all documents as it is read, and `POST /v1/restore`: one that is merged.
//!
//! Owns what of a backup goes into a cluster and what is said of it. A backup goes out as the store is read, no quicker
//! than the client takes it, and holds nothing open while the client takes its time. It comes in frame by frame: each
//! is checked before any of it is merged, so that what is damaged has changed nothing, and what came before it has been
//! merged as from a peer. That is safe to leave, and to repeat from the beginning; the answer says how far it came.
//!
//! Not restored is what the agents keep about the nodes and secrets of one cluster ([`System::is_bound`]): "n2 is
//! removed" would end a new n2, and a key would be one that nobody here can open. Of these writes nothing is claimed
//! either, so that a node of the old cluster that comes back brings them itself.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use basic_sync::backup::{About, Backup, BackupError, BackupFailed, Item, Manifest, Reader};
use basic_sync::model::{Collection, Delta, VersionVector};
use basic_sync::net::Handle;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::{error, info};

use super::Api;
use super::data;
use super::extract::Params;
use super::members::rfc3339;
use super::problem::Problem;
use crate::records::System;

/// The media type of a backup. A page of another site cannot send it without asking, as with JSON.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.basic-agent.backup";

/// Backups and restores under way at once, each with some megabytes of memory.
pub(super) const TRANSFERS_MAX: usize = 2;
/// How long the next bytes of an upload may take.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Writes that are left out, of which it is remembered which.
const LEFT_OUT_MAX: u64 = 65_536;

/// `?collections=users,orders` of a backup.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupQuery {
    collections: Option<String>,
}

/// What became of a restore.
#[derive(Default, Serialize)]
struct Restored {
    /// Of which cluster and node the backup is.
    cluster: String,
    node: String,
    /// As of when it is.
    taken: String,
    /// Writes in it.
    writes: u64,
    /// Of them: new here, with a say.
    taken_in: u64,
    /// New here, while what is here is newer.
    superseded: u64,
    /// Here before, they or their successors.
    known: u64,
    /// Of those, writes of documents that were deleted since. They stay deleted, whether the deletion is still
    /// remembered or not.
    deleted: u64,
    /// Of a node that was given up, and so old that nobody can tell whether they were deleted since: kept aside
    /// (`/v1/sync/exported`).
    exported: u64,
    /// About nodes and secrets, and not restored.
    left_out: u64,
}

/// `GET /v1/backup`.
pub(super) async fn backup(
    State(api): State<Api>,
    Params(query): Params<BackupQuery>,
) -> Result<Response, Problem> {
    let permit = transfer(&api.transfers)?;
    let about = About {
        cluster: api.config.node.cluster.to_string(),
        node: api.cluster.identity().id.to_string(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        collections: query.collections.as_deref().map(collections).transpose()?,
    };
    let begun = api.replica.backup(about);
    let backup = begun.map_err(|failed| match failed {
        BackupFailed::Filling => Problem::new(StatusCode::SERVICE_UNAVAILABLE, failed.to_string()),
        other => Problem::internal(&other),
    })?;
    info!("a backup has begun");
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"basic-agent.backup\"",
        ),
    ];
    Ok((headers, Body::from_stream(pieces(backup, permit))).into_response())
}

fn collections(text: &str) -> Result<BTreeSet<Collection>, Problem> {
    let names = text.split(',').map(|name| {
        data::readable(name)?;
        Collection::new(name).map_err(|error| Problem::bad_request(error.to_string()))
    });
    names.collect()
}

/// One of the places there are.
fn transfer(transfers: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    transfers.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{TRANSFERS_MAX} backups or restores are under way on this node");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with_next("wait until one has ended, or ask another node")
    })
}

/// The backup as it is asked for. One that fails is cut off, which its reader cannot take for its end.
fn pieces(
    backup: Backup,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Bytes, io::Error>> {
    stream::unfold(Some((backup, permit)), |state| async {
        let (mut backup, permit) = state?;
        let read = tokio::task::spawn_blocking(move || {
            let bytes = backup.next_bytes(now_ms());
            (bytes, backup)
        });
        let (bytes, backup) = match read.await {
            Ok(read) => read,
            Err(panicked) => return Some((Err(io::Error::other(panicked)), None)),
        };
        match bytes {
            Ok(Some(bytes)) => Some((Ok(bytes), Some((backup, permit)))),
            Ok(None) => {
                info!(writes = backup.totals().writes, "a backup was taken");
                None
            }
            Err(failed) => Some((Err(broken_off(failed)), None)),
        }
    })
}

fn broken_off(failed: BackupFailed) -> io::Error {
    error!(reason = %failed, source = ?std::error::Error::source(&failed), "a backup was broken off");
    io::Error::other(failed)
}

/// `POST /v1/restore`.
pub(super) async fn restore(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != MEDIA_TYPE) {
        let detail = format!("a backup is sent with `content-type: {MEDIA_TYPE}`");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let _permit = transfer(&api.transfers)?;
    let mut restore = Restore::new(api.replica.clone());
    restore.run(body).await?;
    let restored = restore.restored;
    info!(cluster = %restored.cluster, node = %restored.node, taken = %restored.taken, taken_in = restored.taken_in, known = restored.known, deleted = restored.deleted, exported = restored.exported, superseded = restored.superseded, left_out = restored.left_out, "a backup was restored");
    Ok(Json(restored).into_response())
}

/// A restore under way.
struct Restore {
    replica: Handle,
    reader: Reader,
    restored: Restored,
    left_out: VersionVector,
}

impl Restore {
    fn new(replica: Handle) -> Self {
        Self {
            replica,
            reader: Reader::new(None),
            restored: Restored::default(),
            left_out: VersionVector::default(),
        }
    }

    async fn run(&mut self, body: Body) -> Result<(), Problem> {
        let mut body = body.into_data_stream();
        loop {
            let Ok(next) = timeout(PAUSE_MAX, body.next()).await else {
                let detail = self.so_far("the backup did not arrive in time");
                return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
            };
            match next {
                None => return self.reader.finish().map_err(|error| self.unsound(&error)),
                Some(Err(_)) => {
                    let detail = self.so_far("the backup ended before it was complete");
                    return Err(Problem::bad_request(detail));
                }
                Some(Ok(bytes)) => self.reader.push(&bytes),
            }
            while let Some(piece) = self.next_piece()? {
                self.take(piece).await?;
            }
        }
    }

    fn next_piece(&mut self) -> Result<Option<Item>, Problem> {
        let piece = self.reader.next_piece();
        let piece = piece.map_err(|error| self.unsound(&error))?;
        Ok(piece.map(|piece| piece.item))
    }

    async fn take(&mut self, item: Item) -> Result<(), Problem> {
        match item {
            Item::Manifest(Manifest { cluster, node, .. }) => {
                info!(%cluster, %node, "a restore has begun");
                self.restored.cluster = cluster;
                self.restored.node = node;
                Ok(())
            }
            Item::Writes(writes) => {
                self.restored.writes += writes.len() as u64;
                let (bound, restorable) = writes.into_iter().partition(is_bound);
                self.leave_out(bound)?;
                self.take_in(restorable, None).await
            }
            Item::Claim(claim) => {
                let mut rest = VersionVector::default();
                for (origin, range) in self.left_out.missing_from(&claim) {
                    rest.insert_range(origin, range);
                }
                self.take_in(Vec::new(), Some(rest)).await
            }
            Item::End(totals) => {
                let taken = UNIX_EPOCH.checked_add(Duration::from_millis(totals.ended_ms));
                self.restored.taken = taken.map_or_else(String::new, rfc3339);
                Ok(())
            }
        }
    }

    fn leave_out(&mut self, writes: Vec<Delta>) -> Result<(), Problem> {
        self.restored.left_out += writes.len() as u64;
        if self.restored.left_out > LEFT_OUT_MAX {
            let what = format!("more than {LEFT_OUT_MAX} records about nodes are in the backup");
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                self.so_far(&what),
            ));
        }
        for delta in writes {
            self.left_out.insert(delta.dot());
        }
        Ok(())
    }

    async fn take_in(
        &mut self,
        writes: Vec<Delta>,
        claim: Option<VersionVector>,
    ) -> Result<(), Problem> {
        let taken = self.replica.take_in(writes, claim).await;
        let taken = taken.map_err(|error| {
            let next = "repeat the restore when this node can write again; what is here already is passed over";
            data::write_failed(error).with_next(next)
        })?;
        self.restored.taken_in += taken.taken_in;
        self.restored.superseded += taken.superseded;
        self.restored.known += taken.repeated;
        self.restored.deleted += taken.deleted;
        self.restored.exported += taken.exported;
        Ok(())
    }

    fn unsound(&self, error: &BackupError) -> Problem {
        Problem::bad_request(self.so_far(&error.to_string()))
    }

    /// What has been done by now.
    fn so_far(&self, what: &str) -> String {
        match self.restored.taken_in {
            0 => format!("{what}; nothing was changed"),
            taken => format!(
                "{what}; {taken} writes before it were merged, nothing newer was written over, and a restore may be repeated"
            ),
        }
    }
}

fn is_bound(delta: &Delta) -> bool {
    System::named(delta.key.collection().as_str()).is_some_and(System::is_bound)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
