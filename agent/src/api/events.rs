//! `GET /v1/events`: what happened, as a page or as a stream.
//!
//! The stream reads the journal at the pace of its client: nothing is queued for a client that is slow. One that is so
//! slow that the journal no longer keeps what comes next is told so in a comment, and the stream ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use basic_membership::NodeId;
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Api;
use super::extract::Params;
use super::problem::Problem;
use super::room::{self, Door, Watching};
use crate::config;
use crate::events::{EventId, Filter, Journal, Kind, ReadError, Record};

/// How often a stream without events says that it is alive, and how far it has come.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events of a page, unless asked for otherwise, and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Events that a stream takes out of the journal at once.
const STREAM_PAGE: usize = 100;

/// `?from=&since=&node=&kind=&limit=&follow=`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// A cursor, or `first` for all events that are still kept.
    from: Option<String>,
    /// A duration back from now, or a moment as RFC 3339.
    since: Option<String>,
    node: Option<String>,
    /// Kinds, separated by commas.
    kind: Option<String>,
    limit: Option<String>,
    #[serde(default)]
    follow: bool,
}

/// Answer without `follow`.
#[derive(Serialize)]
struct Page {
    events: Vec<Arc<Record>>,
    /// Everything that comes after these comes after this.
    next: EventId,
}

/// Answers with a page of events, or follows them where the client takes a stream.
pub(super) async fn events(
    State(api): State<Api>,
    Params(query): Params<EventsQuery>,
    headers: HeaderMap,
    door: Door,
) -> Result<Response, Problem> {
    let filter = filter(&query, SystemTime::now())?;
    let limit = limit(query.limit.as_deref())?;
    let journal = api.events.journal();
    let follows = query.follow || takes_stream(&headers);
    let last_event = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let from = last_event
        .filter(|_| follows)
        .or(query.from.as_deref())
        .filter(|from| !from.is_empty());
    let from = match from {
        None => None,
        Some("first") => Some(journal.first()),
        Some(text) => Some(text.parse::<EventId>().map_err(|_| {
            Problem::bad_request(
                "a cursor is the number of an event, as `next` or an event's `id` gives it, or \"first\"",
            )
        })?),
    };
    if follows {
        // Where it begins has to be there, so that a client learns at once that it is not.
        let cursor = from.unwrap_or(*journal.newest().borrow());
        journal.after(cursor, 1).await.map_err(refusal)?;
        let follower = Follower::new(journal.clone(), filter, cursor);
        let events = Sse::new(follower.stream(door.enter()?));
        return Ok(room::last(events.into_response()));
    }
    let (events, next) = match from {
        None => journal.latest(&filter, limit).await.map_err(refusal)?,
        Some(cursor) => page(journal, &filter, cursor, limit).await?,
    };
    Ok(Json(Page { events, next }).into_response())
}

/// The first events after a cursor that pass the filter, and the last one that was looked at.
async fn page(
    journal: &Journal,
    filter: &Filter,
    cursor: EventId,
    limit: usize,
) -> Result<(Vec<Arc<Record>>, EventId), Problem> {
    let mut next = cursor;
    let mut events = Vec::new();
    loop {
        let records = journal.after(next, LIMIT_MAX).await.map_err(refusal)?;
        let exhausted = records.is_empty();
        for record in records {
            if events.len() >= limit {
                return Ok((events, next));
            }
            next = record.id;
            if filter.passes(&record) {
                events.push(record);
            }
        }
        if exhausted || events.len() >= limit {
            return Ok((events, next));
        }
    }
}

fn takes_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|kind| kind.trim().starts_with("text/event-stream"))
}

fn filter(query: &EventsQuery, now: SystemTime) -> Result<Filter, Problem> {
    let node = query.node.as_deref().filter(|node| !node.is_empty());
    let node = node.map(str::parse::<NodeId>).transpose();
    let node = node.map_err(|error| Problem::bad_request(format!("node: {error}")))?;
    let mut kinds = Vec::new();
    let names = query.kind.as_deref().unwrap_or_default().split(',');
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        kinds.push(Kind::named(name).ok_or_else(|| no_such_kind(name))?);
    }
    let since = query.since.as_deref().filter(|since| !since.is_empty());
    let since = since.map(|since| moment(since, now)).transpose()?;
    Ok(Filter { node, kinds, since })
}

fn no_such_kind(name: &str) -> Problem {
    let names = Kind::NAMES.iter().map(|(name, _)| *name);
    let hint = match config::nearest(name, names.clone()) {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
    };
    let name: String = name.chars().take(64).collect();
    Problem::bad_request(format!("\"{name}\" is no kind of event; {hint}"))
}

fn moment(text: &str, now: SystemTime) -> Result<SystemTime, Problem> {
    if let Ok(back) = crate::durations::parse_duration(text) {
        return Ok(now.checked_sub(back).unwrap_or(SystemTime::UNIX_EPOCH));
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        Problem::bad_request(
            "since takes a duration such as 10m, or a moment such as 2026-01-31T12:00:00Z",
        )
    })
}

fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(LIMIT_DEFAULT);
    };
    let limit = text.parse().ok().filter(|limit| *limit <= LIMIT_MAX);
    limit.ok_or_else(|| {
        Problem::bad_request(format!(
            "limit takes a number from 0 to {LIMIT_MAX}; page on with from={{next}}"
        ))
    })
}

fn refusal(error: ReadError) -> Problem {
    match error {
        ReadError::Gone { .. } | ReadError::Unknown { .. } => {
            Problem::new(StatusCode::GONE, error.to_string())
                .with_next("ask again with from=first, which begins with the oldest that is kept")
        }
        ReadError::Unreadable { .. } => Problem::internal(&error),
    }
}

/// A client's place in the journal.
struct Follower {
    journal: Journal,
    newest: watch::Receiver<EventId>,
    filter: Filter,
    cursor: EventId,
    /// Taken out of the journal and not sent yet.
    page: std::vec::IntoIter<Arc<Record>>,
    ended: bool,
}

impl Follower {
    fn new(journal: Journal, filter: Filter, cursor: EventId) -> Self {
        Self {
            newest: journal.newest(),
            journal,
            filter,
            cursor,
            page: Vec::new().into_iter(),
            ended: false,
        }
    }

    /// The first event carries only the cursor, so that a client that sees no event can resume all the same.
    fn stream(self, watching: Watching) -> impl Stream<Item = Result<Event, Infallible>> {
        let first = progress(self.cursor, "following");
        let events = stream::unfold((self, watching), |(mut follower, watching)| async move {
            let event = follower.next().await?;
            Some((Ok(event), (follower, watching)))
        });
        futures_util::StreamExt::chain(stream::iter([Ok(first)]), events)
    }

    async fn next(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        match timeout(KEEP_ALIVE, self.next_record()).await {
            Err(_) => Some(progress(self.cursor, "alive")),
            Ok(Ok(record)) => Some(event(&record)),
            Ok(Err(error)) => {
                self.ended = true;
                // A comment is one line.
                let reason = error.to_string().replace(['\r', '\n'], " ");
                Some(Event::default().comment(format!("cut off: {reason}")))
            }
        }
    }

    /// The next record that passes the filter. Safe to cancel.
    async fn next_record(&mut self) -> Result<Arc<Record>, ReadError> {
        loop {
            for record in self.page.by_ref() {
                self.cursor = record.id;
                if self.filter.passes(&record) {
                    return Ok(record);
                }
            }
            self.newest.borrow_and_update();
            let records = self.journal.after(self.cursor, STREAM_PAGE).await?;
            if records.is_empty() {
                // It lives as long as the journal, of which there is a handle here.
                let _ = self.newest.changed().await;
            }
            self.page = records.into_iter();
        }
    }
}

fn progress(cursor: EventId, comment: &str) -> Event {
    Event::default().id(cursor.to_string()).comment(comment)
}

fn event(record: &Record) -> Event {
    // A record was written as JSON before, or has a time that only a faulty clock gives.
    let data = serde_json::to_string(record).unwrap_or_default();
    Event::default()
        .id(record.id.to_string())
        .event(record.fact.kind.as_str())
        .data(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> EventsQuery {
        let uri: axum::http::Uri = format!("/v1/events?{text}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    fn status(problem: Problem) -> u16 {
        problem.into_response().status().as_u16()
    }

    #[test]
    fn a_filter_is_made_of_node_kinds_and_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let filter = filter(&query("node=n1&kind=failed,left&since=10m"), now).unwrap();
        assert_eq!(filter.node.unwrap().as_str(), "n1");
        assert_eq!(filter.kinds, [Kind::Failed, Kind::Left]);
        assert_eq!(filter.since, now.checked_sub(Duration::from_secs(600)));
    }

    #[test]
    fn what_cannot_be_meant_is_a_bad_request() {
        for text in ["node=a%20b", "kind=faild", "since=yesterday"] {
            let refused = filter(&query(text), SystemTime::now());
            assert_eq!(status(refused.unwrap_err()), 400, "{text}");
        }
        for text in ["-1", "1001", "many"] {
            assert_eq!(status(limit(Some(text)).unwrap_err()), 400, "{text}");
        }
        assert_eq!(limit(None).unwrap(), LIMIT_DEFAULT);
    }

    #[test]
    fn a_client_that_takes_a_stream_gets_one() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, value.parse().unwrap());
            headers
        };
        assert!(takes_stream(&headers("text/event-stream")));
        assert!(takes_stream(&headers(
            "application/json, text/event-stream;q=0.5"
        )));
        assert!(!takes_stream(&headers("application/json")));
    }
}
