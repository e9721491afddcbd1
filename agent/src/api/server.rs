//! Serves the API's connections, within bounds: so many at once (`room.rs`), so long for a
//! request head, so long without taking an answer (`patience.rs`), so long to end when the
//! agent stops.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::patience::{Impatient, PATIENCE};
use super::room::{Place, Places};

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How large a request's head may be, and how much of an answer, besides the piece that is
/// under way, may wait for a client that is slow to take it: what ten thousand of them cost
/// is this many times that.
const BUFFER_MAX: usize = 64 * 1024;
/// How long answers under way may take when the agent stops; watches are cut off then.
const CLOSE_MAX: Duration = Duration::from_millis(500);
/// Pause after accepting has failed, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request came from; an extension of every request.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientAddress(pub(super) SocketAddr);

/// Serves `routes` until `closed` says so.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    mut closed: watch::Receiver<bool>,
) {
    let places = Places::new();
    let mut connections = JoinSet::new();
    loop {
        let accepting = async {
            let place = places.next().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            (accepted, place) = accepting => match accepted {
                Ok((stream, client)) => {
                    let client = ClientAddress(client);
                    let routes = routes.clone();
                    connections.spawn(serve_one(stream, client, place, routes, closed.clone()));
                }
                Err(error) => {
                    warn!(%error, "the API could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told_to_close(&mut closed) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(CLOSE_MAX, all).await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve_one(
    stream: TcpStream,
    client: ClientAddress,
    place: Place,
    routes: Router,
    mut closed: watch::Receiver<bool>,
) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(place.clone());
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream, PATIENCE)), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = told_to_close(&mut closed) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection to the API ended early");
    }
}

async fn told_to_close(closed: &mut watch::Receiver<bool>) {
    // Whoever could say so being gone means the same.
    let _ = closed.wait_for(|closed| *closed).await;
}
