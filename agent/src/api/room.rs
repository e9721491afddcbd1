//! Room for connections: so many for requests, and so many more for watches.
//!
//! A watch holds its connection for hours, a request for moments. If both shared one bound,
//! watchers would sooner or later be all that an agent serves. So a connection takes a
//! place among those for requests when it is accepted, and when it becomes a watch it takes
//! one of the [`Watches`] and gives the other back; a watch that finds none free is
//! refused, and the client told to come back. The connection ends with the watch, since it
//! has no place any more.
//!
//! In: connections as they come ([`Places`]), requests that want to become watches
//! ([`Door`]). Out: permits. Nothing waits here but the acceptor.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Api;
use super::problem::Problem;

/// Connections for requests at once; newcomers wait in the kernel's queue.
const REQUESTS_MAX: usize = 4096;

/// The places for connections that are not watches.
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(REQUESTS_MAX)))
    }

    /// Waits for a place.
    pub(super) async fn next(&self) -> Place {
        // Never closed.
        let permit = self.0.clone().acquire_owned().await.ok();
        Place(Arc::new(Mutex::new(permit)))
    }
}

/// The place of a connection; an extension of each of its requests.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    /// Gives it to another connection.
    fn give_up(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The places for watches.
#[derive(Clone, Debug)]
pub(super) struct Watches {
    room: Arc<Semaphore>,
    max: usize,
}

impl Watches {
    pub(super) fn new(max: usize) -> Self {
        let room = Arc::new(Semaphore::new(max));
        Self { room, max }
    }

    /// How many there are now.
    pub(super) fn count(&self) -> usize {
        self.max - self.room.available_permits()
    }
}

/// Where a request may become a watch.
pub(super) struct Door {
    watches: Watches,
    place: Option<Place>,
}

impl FromRequestParts<Api> for Door {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        Ok(Self {
            watches: api.watches().clone(),
            place: parts.extensions.get().cloned(),
        })
    }
}

/// A place among the watches, for as long as it is held.
#[derive(Debug)]
pub(super) struct Watching(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl Door {
    /// Makes the connection that of a watch; where no more are taken, says so.
    pub(super) fn enter(self) -> Result<Watching, Problem> {
        let Watches { room, max } = self.watches;
        let permit = room.try_acquire_owned().map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{max} watches are open on this node, which is as many as [api] watches_max allows"),
            )
            .with_next("watch on another node, or raise [api] watches_max")
        })?;
        if let Some(place) = self.place {
            place.give_up();
        }
        Ok(Watching(permit))
    }
}

/// The answer that begins a watch: nothing comes after it on its connection.
pub(super) fn last(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_watch_gives_its_place_back_and_takes_one_of_its_own() {
        let places = Places::new();
        let watches = Watches::new(1);
        let place = places.next().await;
        assert_eq!(places.0.available_permits(), REQUESTS_MAX - 1);
        let door = |place: &Place| Door {
            watches: watches.clone(),
            place: Some(place.clone()),
        };
        let watching = door(&place).enter().unwrap();
        assert_eq!(places.0.available_permits(), REQUESTS_MAX);
        assert_eq!(watches.count(), 1);
        // Who is refused stays what it was.
        let other = places.next().await;
        assert!(door(&other).enter().is_err());
        assert_eq!(places.0.available_permits(), REQUESTS_MAX - 1);
        drop(watching);
        assert_eq!(watches.count(), 0);
        door(&other).enter().unwrap();
    }
}
