//! `GET /v1/watch`: changes as server-sent events, one event a change.
//!
//! With `from=snapshot` the documents that there are come first, as events without an id: who
//! breaks off among them begins again. Then an event named [`SNAPSHOT_END`] gives the id to go
//! on from, and the changes follow.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use basic_sync::model::document::Revision;
use basic_sync::model::{self, Collection};
use basic_sync::net::{Cursor, Seen, Snapshot, Watch, WatchError};
use basic_sync::storage::state::FeedItem;
use bytes::BytesMut;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;
use tokio::time::timeout;

use super::Api;
use super::data;
use super::extract::Params;
use super::problem::Problem;
use super::room::{self, Door, Watching};

/// About how many bytes an event takes besides its key and its document.
const HEAD_BYTES: usize = 192;
/// What stands before the document in an event.
const VALUE: &[u8] = b",\"value\":";
/// How often a watch without changes says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// What the event between the documents and the changes is named.
const SNAPSHOT_END: &str = "snapshot-end";

/// `?collection=&prefix=&from=` of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    collection: Option<String>,
    #[serde(default)]
    prefix: String,
    /// A cursor, `first` for all changes that are still kept, or `snapshot` for all documents.
    from: Option<String>,
}

#[derive(Serialize)]
struct Change<'a> {
    collection: &'a str,
    key: &'a str,
    #[serde(serialize_with = "shown")]
    version: Revision,
    #[serde(flatten)]
    told: Told,
}

fn shown<S: Serializer>(text: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(text)
}

/// What became of a document.
#[derive(Serialize)]
pub(super) struct Told {
    op: &'static str,
    /// `expired`: it has ended by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl Told {
    /// It is there.
    const PUT: Self = Self {
        op: "put",
        reason: None,
    };

    pub(super) fn of(item: &FeedItem) -> Self {
        let gone = item.change.entry.is_tombstone();
        Self {
            op: if gone { "delete" } else { "put" },
            reason: (gone && item.expired).then_some("expired"),
        }
    }
}

/// Answers with the changes after `from` (or `Last-Event-ID`), or from now on.
pub(super) async fn watch(
    State(api): State<Api>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
    door: Door,
) -> Result<Response, Problem> {
    let collection = query.collection.as_deref().filter(|name| !name.is_empty());
    collection.map_or(Ok(()), data::readable)?;
    let collection = collection.map(Collection::new).transpose();
    let collection = collection.map_err(|error| Problem::bad_request(error.to_string()))?;
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last_event
        .or(query.from.as_deref())
        .filter(|from| !from.is_empty());
    let begun = match from {
        Some("snapshot") => {
            let begun = api.replica.snapshot(collection, &query.prefix);
            begun.map(|(snapshot, watch)| (Some(snapshot), watch))
        }
        from => {
            let watch = api
                .replica
                .watch(collection, &query.prefix, place(&api, from)?);
            watch.map(|watch| (None, watch))
        }
    };
    let (snapshot, watch) = begun.map_err(refusal)?;
    let watching = door.enter()?;
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let body = Body::from_stream(Sending::stream(snapshot, watch, watching));
    Ok(room::last((headers, body).into_response()))
}

/// Where a watch of changes begins; `None` is now.
fn place(api: &Api, from: Option<&str>) -> Result<Option<Cursor>, Problem> {
    let cursor = match from {
        None => return Ok(None),
        Some("first") => {
            let first = api.replica.first_cursor();
            first.map_err(|error| Problem::internal(&error))?
        }
        Some(text) => {
            let cursor = text.parse::<Cursor>();
            cursor.map_err(|error| Problem::bad_request(error.to_string()))?
        }
    };
    Ok(Some(cursor))
}

fn refusal(error: WatchError) -> Problem {
    match error {
        WatchError::Gone => Problem::new(StatusCode::GONE, error.to_string())
            .with_next("watch again from a snapshot (from=snapshot, --from snapshot), and forget what does not come with it"),
        WatchError::Stopped => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        WatchError::Store(_) => Problem::internal(&error),
    }
}

/// What a watcher is being sent.
struct Sending {
    /// The documents that come first, and how many have come.
    snapshot: Option<(Snapshot, u64)>,
    watch: Watch,
    _watching: Watching,
}

impl Sending {
    /// When the watch cannot go on, the stream ends; the client comes back with its cursor
    /// and learns why.
    fn stream(
        snapshot: Option<Snapshot>,
        watch: Watch,
        watching: Watching,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> {
        // The first event carries only the cursor, so that a client that sees no change can
        // resume all the same.
        let first = match &snapshot {
            Some(_) => ": documents, then changes\n\n".to_owned(),
            None => format!(": watching\nid: {}\n\n", watch.cursor()),
        };
        let sending = Self {
            snapshot: snapshot.map(|snapshot| (snapshot, 0)),
            watch,
            _watching: watching,
        };
        let rest = stream::unfold(sending, |mut sending| async move {
            let sent = sending.next().await?;
            Some((Ok(sent), sending))
        });
        stream::iter([Ok(Bytes::from(first))]).chain(rest)
    }

    async fn next(&mut self) -> Option<Bytes> {
        while let Some((snapshot, count)) = &mut self.snapshot {
            let Some(found) = snapshot.next_documents().ok()? else {
                let end = json!({ "op": SNAPSHOT_END, "documents": count });
                let id = self.watch.cursor();
                self.snapshot = None;
                let event = format!("event: {SNAPSHOT_END}\nid: {id}\ndata: {end}\n\n");
                return Some(event.into());
            };
            let mut text = Vec::new();
            for document in found.iter().filter(|found| is_shown(found)) {
                *count += 1;
                push_event(&mut text, None, &data_of(document, Told::PUT));
            }
            if !text.is_empty() {
                return Some(text.into());
            }
            // A long stretch of documents that do not fit must not hold up others.
            tokio::task::yield_now().await;
        }
        Some(match timeout(KEEP_ALIVE, self.watch.next_ready()).await {
            // What came meanwhile leaves in one piece.
            Ok(seen) => events_of(&seen.ok()?, self.watch.cursor()),
            // A client that comes back need not go through what did not concern it.
            Err(_) => Bytes::from(format!(":\nid: {}\n\n", self.watch.cursor())),
        })
    }
}

/// A watch of all collections passes over those that are not shown.
fn is_shown(change: &model::Change) -> bool {
    data::readable(change.key.collection().as_str()).is_ok()
}

fn events_of(seen: &[Arc<Seen>], cursor: Cursor) -> Bytes {
    let shown = seen.iter().filter(|seen| is_shown(&seen.item.change));
    let mut texts = shown.map(|seen| seen.text(|item| event(item, cursor)));
    let first = texts.next().cloned().unwrap_or_default();
    let mut all = BytesMut::new();
    for text in texts {
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(text);
    }
    if all.is_empty() { first } else { all.freeze() }
}

fn event(item: &FeedItem, cursor: Cursor) -> Bytes {
    let id = Cursor {
        position: item.position,
        ..cursor
    };
    let data = data_of(&item.change, Told::of(item));
    let mut text = Vec::with_capacity(data.len() + HEAD_BYTES);
    push_event(&mut text, Some(&id), &data);
    text.into()
}

fn data_of(change: &model::Change, told: Told) -> Vec<u8> {
    let model::Change { key, entry } = change;
    let told = Change {
        collection: key.collection().as_str(),
        key: key.name(),
        version: entry.revision,
        told,
    };
    let mut data = Vec::with_capacity(HEAD_BYTES + change.weight());
    // Text only, and to memory: it can always be written.
    let _ = serde_json::to_writer(&mut data, &told);
    if let Some(document) = &entry.value {
        // It was checked to be JSON before it was stored, and becomes the last member as it is.
        data.pop();
        data.extend_from_slice(VALUE);
        data.extend_from_slice(document);
        data.push(b'}');
    }
    data
}

/// An event as the HTML standard draws it (9.2.6). A line of data ends where a document
/// was written over several lines; whoever reads it joins them again.
fn push_event(text: &mut Vec<u8>, id: Option<&Cursor>, data: &[u8]) {
    if let Some(id) = id {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "id: {id}");
    }
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_several_lines_is_one_event() {
        let replica = basic_sync::model::ReplicaId([1; 16]);
        let id = Cursor {
            replica,
            position: 7,
        };
        let mut text = Vec::new();
        push_event(&mut text, Some(&id), b"{\n\"a\":\r\n1}");
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["data: {", "data: \"a\":", "data: ", "data: 1}", ""]);
    }
}
