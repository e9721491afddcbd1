//! `GET /v1/watch`: changes as server-sent events, one event a change.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use basic_sync::model::Collection;
use basic_sync::net::{Cursor, Watch, WatchError};
use basic_sync::storage::state::FeedItem;
use futures_util::{Stream, StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Api;
use super::data;
use super::extract::Params;
use super::problem::Problem;

/// How often a watch without changes says that it is alive.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `?collection=&prefix=&from=` of a watch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    collection: Option<String>,
    #[serde(default)]
    prefix: String,
    /// A cursor, or `first` for all changes that are still kept.
    from: Option<String>,
}

#[derive(Serialize)]
struct Change<'a> {
    collection: &'a str,
    key: &'a str,
    version: String,
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

/// Answers with the changes after `from` (or `Last-Event-ID`), or from now on.
pub(super) async fn watch(
    State(api): State<Api>,
    Params(query): Params<WatchQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let collection = query.collection.as_deref().filter(|name| !name.is_empty());
    collection.map_or(Ok(()), data::readable)?;
    let collection = collection.map(Collection::new).transpose();
    let collection = collection.map_err(|error| Problem::bad_request(error.to_string()))?;
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = match last_event
        .or(query.from.as_deref())
        .filter(|from| !from.is_empty())
    {
        None => None,
        Some("first") => Some(
            api.replica
                .first_cursor()
                .map_err(|error| Problem::internal(&error))?,
        ),
        Some(text) => Some(
            text.parse::<Cursor>()
                .map_err(|error| Problem::bad_request(error.to_string()))?,
        ),
    };
    let watch =
        api.replica
            .watch(collection, &query.prefix, from)
            .map_err(|error| match error {
                WatchError::Gone => Problem::new(StatusCode::GONE, error.to_string()),
                WatchError::Stopped => {
                    Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
                }
                WatchError::Store(_) => Problem::internal(&error),
            })?;
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events(watch))
        .keep_alive(keep_alive)
        .into_response())
}

/// The first event carries only the cursor, so that a client that sees no change can
/// resume all the same. When the watch cannot go on, the stream ends; the client comes
/// back with its cursor and learns why.
fn events(watch: Watch) -> impl Stream<Item = Result<Event, Infallible>> {
    let first = Event::default()
        .id(watch.cursor().to_string())
        .comment("watching");
    let changes = stream::unfold(watch, |mut watch| async move {
        let item = loop {
            let item = watch.next().await.ok()?;
            // A watch of all collections passes over those that are not shown.
            if data::readable(item.change.key.collection().as_str()).is_ok() {
                break item;
            }
        };
        let id = Cursor {
            position: item.position,
            ..watch.cursor()
        }
        .to_string();
        Some((Ok(event(&item).id(id)), watch))
    });
    stream::iter([Ok(first)]).chain(changes)
}

fn event(item: &FeedItem) -> Event {
    let basic_sync::model::Change { key, entry } = &item.change;
    let change = Change {
        collection: key.collection().as_str(),
        key: key.name(),
        version: entry.revision.to_string(),
        op: if entry.is_tombstone() {
            "delete"
        } else {
            "put"
        },
        value: entry.value.as_deref().and_then(data::raw),
    };
    // Text and a document that was checked before: it can always be written.
    Event::default().data(serde_json::to_string(&change).unwrap_or_default())
}
