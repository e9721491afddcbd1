//! `Basic-Session`: a request that carries a token is done once this node has what its client has written and read
//! elsewhere; its answer carries the token for the next one.
//!
//! `Basic-Session: new` begins a session. What a token holds stands in [`crate::sessions`]. A request waits before it
//! does anything, so that a write too follows all that its client has seen.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use basic_sync::model::document::Revision;
use basic_sync::model::{Dot, Frontier};
use basic_sync::net::{Handle, Lacking, WaitError};
use basic_sync::protocol::Status;

use super::Api;
use super::problem::Problem;
use crate::sessions::{self, TokenError};

const HEADER: &str = "basic-session";
/// What begins a session.
const NEW: &str = "new";
/// Origins that a refusal names.
const NAMED_MAX: usize = 3;

/// The session of one request.
#[derive(Debug)]
pub(super) struct Session {
    /// Whether the client wants to hear of it.
    wanted: bool,
    /// What the client rests on: by its token, and by what this answer tells it.
    rests_on: Frontier,
}

impl Session {
    /// The session that a request is part of, once this node has all that it rests on. Returns what is left of `limit`
    /// too.
    pub(super) async fn enter(
        api: &Api,
        headers: &HeaderMap,
        limit: Duration,
    ) -> Result<(Self, Duration), Problem> {
        let began = Instant::now();
        let session = Self::read(headers, api.config.node.cluster.as_str())?;
        let waited = api.replica.wait_for(&session.rests_on, limit).await;
        waited.map_err(|error| not_here(&error, limit, &api.replica.status().borrow()))?;
        Ok((session, limit.saturating_sub(began.elapsed())))
    }

    fn read(headers: &HeaderMap, cluster: &str) -> Result<Self, Problem> {
        let mut tokens = headers.get_all(HEADER).into_iter();
        let mut session = Self {
            wanted: false,
            rests_on: Frontier::default(),
        };
        let Some(token) = tokens.next() else {
            return Ok(session);
        };
        if tokens.next().is_some() {
            return Err(Problem::bad_request(
                "the request has several headers Basic-Session; send the one of the last answer",
            ));
        }
        session.wanted = true;
        if token != NEW {
            let text = token.to_str().map_err(|_| TokenError::Garbled);
            let decoded = text.and_then(|text| sessions::decode(text.trim(), cluster));
            session.rests_on = decoded.map_err(refused)?;
        }
        Ok(session)
    }

    /// What the answer rests on is added here.
    pub(super) fn seen(&mut self) -> &mut Frontier {
        &mut self.rests_on
    }

    /// The answer tells of this state of a document: the request has written it, or was refused because of it.
    pub(super) fn told(&mut self, revision: &Revision) {
        self.rests_on.note(revision.version.dot);
    }

    /// The answer, be it a refusal, with the token for the next request.
    pub(super) fn leave(mut self, api: &Api, answer: Result<Response, Problem>) -> Response {
        let mut response = answer.into_response();
        if self.wanted {
            sessions::trim(&mut self.rests_on, everywhere(&api.replica));
            let token = sessions::encode(&self.rests_on, api.config.node.cluster.as_str());
            // base64url is fit for a header.
            if let Ok(token) = HeaderValue::try_from(token) {
                response.headers_mut().insert(HEADER, token);
            }
        }
        response
    }
}

/// Whether every peer has said that it has a write, and all before it.
fn everywhere(replica: &Handle) -> impl Fn(Dot) -> bool {
    let status = replica.status().borrow().clone();
    move |dot| {
        status.peers.iter().all(|peer| {
            let vector = peer.progress.vector.as_deref();
            let has = vector.and_then(|vector| vector.of(dot.origin));
            has.is_some_and(|has| has.contiguous() >= dot.seq)
        })
    }
}

fn refused(error: TokenError) -> Problem {
    let next = match error {
        TokenError::Garbled => {
            "send the header Basic-Session exactly as the last answer gave it, or `Basic-Session: new` to begin a session"
        }
        TokenError::TooNew => {
            "send it to an agent of the version that gave it, or begin a new session by `Basic-Session: new`"
        }
        TokenError::OtherCluster => "begin a session in this cluster by `Basic-Session: new`",
    };
    Problem::bad_request(format!("the header Basic-Session {error}")).with_next(next)
}

fn not_here(error: &WaitError, limit: Duration, status: &Status) -> Problem {
    let WaitError::Lacking(lacking) = error else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .with_next("ask another node");
    };
    let mut named: Vec<String> = lacking
        .iter()
        .take(NAMED_MAX)
        .map(|lacking| name(lacking, status))
        .collect();
    if lacking.len() > NAMED_MAX {
        named.push(format!("those of {} others", lacking.len() - NAMED_MAX));
    }
    let detail = format!(
        "this node did not get within {} what this session has written or read on others: it lacks {}",
        humantime::format_duration(limit),
        named.join(", ")
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with_next(
        "try again, or ask the node that had it; `basic-agent sync status` shows what does not arrive. If a node has lost \
         its disk or was restored from a backup meanwhile, its last writes may never come: then begin a new session by \
         `Basic-Session: new`",
    )
}

/// Such as `writes of n2 (10 of 12 are here)`.
fn name(lacking: &Lacking, status: &Status) -> String {
    let Lacking { wanted, here } = lacking;
    let origin = wanted.origin;
    let peer = status.peers.iter().find(|peer| {
        let theirs = peer.progress.origin;
        theirs.is_some_and(|theirs| theirs.replica == origin.replica)
    });
    let whose = match peer {
        Some(peer) if peer.progress.origin == Some(origin) => peer.peer.to_string(),
        Some(peer) => format!("{} from before it was restarted", peer.peer),
        None if status.origin.replica == origin.replica => {
            "this node itself that it no longer has".to_owned()
        }
        None => "a node that is not heard here".to_owned(),
    };
    format!("writes of {whose} ({here} of {} are here)", wanted.seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Result<Session, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_static(value));
        }
        Session::read(&headers, "c1")
    }

    #[test]
    fn a_session_is_begun_or_gone_on_with_and_else_nobody_hears_of_it() {
        assert!(!read(&[]).unwrap().wanted);
        let begun = read(&["new"]).unwrap();
        assert!(begun.wanted && begun.rests_on.is_empty());
        let token = sessions::encode(&begun.rests_on, "c1");
        assert!(read(&[token.leak()]).unwrap().wanted);
    }

    #[test]
    fn what_is_no_token_of_this_cluster_is_refused_with_advice() {
        let strange = sessions::encode(&Frontier::default(), "c2").leak();
        for (values, words) in [
            (&["new", "new"][..], "several headers"),
            (&[""], "as an answer gave it"),
            (&["New"], "as an answer gave it"),
            (&[strange], "of another cluster"),
        ] {
            let problem = serde_json::to_value(read(values).unwrap_err()).unwrap();
            assert_eq!(problem["status"], 400, "{values:?}");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(words), "{detail}");
        }
    }
}
