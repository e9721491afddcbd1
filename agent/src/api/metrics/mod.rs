//! `GET /metrics`: the numbers of this agent for Prometheus and whoever reads its formats.
//!
//! Everything is read at the moment of the scrape from what the agent knows anyway; nothing is
//! counted for it, and nothing runs between two scrapes. Each file has the families of one
//! subject: a struct of facts, and a collector that writes them down on a [`sheet::Sheet`]. Their
//! names begin with `basic_agent_`, but for those that everybody knows ([`process`]) and those of
//! Basic Server's author ([`author`]).
//!
//! A number that is not known is left out: none is better than a zero that looks like one. Labels
//! hold names of nodes, origins and fixed words, never text from an error; and where there may be
//! many series, there is a bound, and a family that tells how many there would be.

mod accept;
mod author;
mod events;
mod gossip;
mod node;
mod origins;
mod peers;
mod process;
mod proxy;
mod replica;
mod sheet;
mod store;
mod tasks;

#[cfg(test)]
mod tests;

use std::fmt;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use super::Api;
use super::problem::Problem;
use accept::Format;

/// Begins the names of all families that are ours.
const PREFIX: &str = "basic_agent";

/// `GET /metrics`.
pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    let format = Format::wanted(&headers);
    match format.write(&gathered(&api)) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => Problem::internal(&error).into_response(),
    }
}

/// What there is to tell now.
fn gathered(api: &Api) -> Registry {
    let mut all = Registry::default();
    all.register_collector(Box::new(process::Process::now()));
    all.register_collector(Box::new(author::Author::of(api)));
    let own = all.sub_registry_with_prefix(PREFIX);
    own.register_collector(Box::new(node::Node::of(api)));
    own.register_collector(Box::new(gossip::Gossip::of(api)));
    own.register_collector(Box::new(peers::Peers::of(api)));
    own.register_collector(Box::new(origins::Origins::of(api)));
    own.register_collector(Box::new(replica::Replica::of(api)));
    own.register_collector(Box::new(store::Store::of(api)));
    own.register_collector(Box::new(tasks::Tasks::of(api)));
    own.register_collector(Box::new(proxy::Proxy::of(api)));
    own.register_collector(Box::new(events::Events::of(api)));
    all
}

impl Format {
    fn write(self, all: &Registry) -> Result<String, fmt::Error> {
        let mut written = String::new();
        match self {
            Format::OpenMetrics => text::encode(&mut written, all)?,
            Format::Prometheus => prometheus_text::encode(&mut written, all)?,
        }
        Ok(written)
    }
}
