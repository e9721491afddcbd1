//! The server beside the agent: whether it answers, and whether it is the one that is meant.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::fetch::{self, Answer, GetError};
use super::holder::{Half, Holder};
use super::report::Check;
use super::running;
use super::{Subject, blocking};
use crate::config::HostPort;
use crate::wiring::settings;

const NAME: &str = "app";
const ADVERTISED: &str = "app as advertised";
/// Time to answer a check.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The field by which the agents' proxies tell which node answered.
const BASIC_NODE: &str = "basic-node";

/// The server at `[app] url`, and at the address that other nodes are told if that is another one.
pub(super) async fn examine(subject: &Subject) -> Vec<Check> {
    let app = &subject.config.app;
    let own = match settings::app_address(&subject.config).await {
        Ok(address) => examine_at(NAME, address, app.url.host_port(), app.health.as_str()).await,
        Err(error) => Check::failure(
            NAME,
            error.to_string(),
            "correct [app] url, or the name server",
        )
        .seen_if(std::error::Error::source(&error).map(ToString::to_string)),
    };
    let told = subject
        .own_agent()
        .filter(|running| running.app.healthy == Some(false))
        .and_then(|running| running.app.reason.clone());
    let mut checks =
        vec![own.seen_if(told.map(|reason| format!("the running agent says: {reason}")))];
    let advertised = app.advertised();
    if advertised != app.url.host_port()
        && let Some(address) = advertised.socket_address()
    {
        checks.push(examine_at(ADVERTISED, address, advertised, app.health.as_str()).await);
    }
    checks
}

async fn examine_at(name: &str, address: SocketAddr, host: &HostPort, path: &str) -> Check {
    let began = Instant::now();
    let asked = fetch::get(address, &host.to_string(), path, ANSWER_MAX).await;
    let took = began.elapsed();
    let is_agent = match &asked {
        // Its health path may be none of ours, so it is asked for something that only agents have.
        Ok(answer) if !answer.status.is_success() => {
            let status = fetch::get(address, &host.to_string(), "/v1/status", ANSWER_MAX).await;
            status.ok().and_then(|answer| running::understood(&answer))
        }
        _ => None,
    };
    let url = format!("http://{host}{path}");
    let check = match (asked, is_agent) {
        (_, Some(agent)) => Check::failure(
            name,
            format!(
                "{url} is the API of agent {} of cluster {}, not a server beside it",
                agent.id, agent.cluster
            ),
            "set [app] url to the server that this agent stands beside",
        ),
        (Ok(answer), None) => judge(name, &url, &answer, took),
        (Err(error), None) => unanswered(name, &url, &error),
    };
    let holder = blocking(move || Holder::of_port(address, Half::Tcp)).await;
    check.seen_if(holder.map(|holder| format!("{address} is held by {holder}")))
}

fn unanswered(name: &str, url: &str, error: &GetError) -> Check {
    let (fact, next) = match error {
        GetError::Refused { .. } => (
            format!("the server does not run: nothing answers at {url}"),
            "start it, or correct [app] url",
        ),
        GetError::NotHttp(_) | GetError::TooLarge => (
            format!("what answers at {url} is no HTTP server, or not the one that is meant"),
            "correct [app] url, or stop what has taken the server's port",
        ),
        GetError::TimedOut(_) => (
            format!("the server at {url} accepts connections and does not answer"),
            "look at its log; it may be stopped or overloaded",
        ),
        GetError::Connect { .. } | GetError::Request(_) => (
            format!("the server at {url} cannot be reached"),
            "correct [app] url",
        ),
    };
    Check::failure(name, fact, next).seen(error.to_string())
}

fn judge(name: &str, url: &str, answer: &Answer, took: Duration) -> Check {
    let status = answer.status;
    let kind = answer.header("content-type").unwrap_or("no content type");
    let is_page = kind.starts_with("text/html");
    let check = if let Some(node) = answer.header(BASIC_NODE) {
        Check::failure(
            name,
            format!(
                "{url} is an agent's proxy (node {node} answered): requests would go round in circles"
            ),
            "set [app] url to the server itself",
        )
    } else if status.is_success() && is_page {
        Check::warning(
            name,
            format!("{url} answers with a web page; is it the server that is meant?"),
            "set [app] health to a path that tells the server's health, and [app] url to the right server",
        )
    } else if status.is_success() {
        Check::ok(name, format!("{url} answers {status} in {took:.1?}"))
    } else if status.is_redirection() {
        Check::warning(
            name,
            format!(
                "{url} answers {status}, which leads elsewhere and tells nothing of the server's health"
            ),
            "set [app] health to a path that answers 200 itself",
        )
    } else if status.is_server_error() {
        Check::failure(
            name,
            format!("the server says that it is not well: {status}"),
            format!("`curl -i {url}` shows its words; its log says more"),
        )
    } else {
        Check::failure(
            name,
            format!(
                "{url} answers {status}: another server than the one that is meant, or another path"
            ),
            match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    "set [app] health to a path that needs no login, or correct [app] url"
                }
                _ => "correct [app] health or [app] url, or stop what has taken the server's port",
            },
        )
    };
    let server = answer
        .header("server")
        .map(|server| format!(", server {server}"));
    check.seen(format!(
        "GET {url}: {status}, {kind}{}",
        server.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::super::report::Verdict;
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &'static str)]) -> Check {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_static(value));
        }
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: bytes::Bytes::new(),
        };
        judge(
            NAME,
            "http://127.0.0.1:8080/health",
            &answer,
            Duration::ZERO,
        )
    }

    #[test]
    fn a_server_is_judged_by_what_it_answers_to_its_health_path() {
        let json = ("content-type", "application/json");
        let page = ("content-type", "text/html; charset=utf-8");
        for (status, headers, verdict) in [
            (200, vec![json], Verdict::Ok),
            (204, vec![], Verdict::Ok),
            (200, vec![page], Verdict::Warning),
            (302, vec![], Verdict::Warning),
            (404, vec![page], Verdict::Failure),
            (401, vec![json], Verdict::Failure),
            (503, vec![json], Verdict::Failure),
            (200, vec![json, ("basic-node", "n2")], Verdict::Failure),
        ] {
            let check = judged(status, &headers);
            assert_eq!(check.verdict, verdict, "{check:?}");
            assert_eq!(
                check.next.is_some(),
                verdict > Verdict::Unknown,
                "{check:?}"
            );
        }
    }

    #[test]
    fn an_agents_proxy_is_no_server() {
        let check = judged(404, &[("basic-node", "n2"), ("server", "x")]);
        assert!(check.fact.contains("node n2"), "{check:?}");
        assert!(check.evidence[0].contains("server x"), "{check:?}");
    }

    #[tokio::test]
    async fn nothing_that_listens_and_something_that_is_silent_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(50);
        let silent = fetch::get(address, "h", "/", limit).await.unwrap_err();
        assert!(matches!(silent, GetError::TimedOut(_)), "{silent}");
        drop(listener);
        let refused = fetch::get(address, "h", "/", limit).await.unwrap_err();
        assert!(matches!(refused, GetError::Refused { .. }), "{refused}");
        let check = unanswered(NAME, "u", &refused);
        assert!(check.fact.contains("does not run"), "{check:?}");
    }
}
