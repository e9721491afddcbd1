//! `events`: what happened to the nodes, why, and by which evidence; on demand as it happens.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use clap::Args;
use serde_json::Value;

use crate::config::Printable;

use super::CliError;
use super::client::{Client, ClientError, Event, EventPage, NodeEvent, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::follow::follow;
use super::output::{Colour, Output};

/// Events shown first when they are followed and nothing else is asked for.
const LEAD: u16 = 10;

/// Flags of `events`.
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Print new events as they come.
    #[arg(long, short)]
    follow: bool,
    /// Only events of this long, such as 10m, or since a moment such as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only events of this node.
    #[arg(long)]
    node: Option<String>,
    /// Only events of these kinds, such as failed,returned.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<String>,
    /// At most so many of the latest events [default: 100, or 10 with --follow]
    #[arg(long, value_name = "N")]
    limit: Option<u16>,
    /// Begin after this event; `first` begins with the oldest that is kept.
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// With --follow, end after so many new events.
    #[arg(long, value_name = "N", requires = "follow")]
    count: Option<NonZeroU64>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Events {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        if !self.follow {
            let limit = self.limit.map(|limit| limit.to_string());
            let target = self
                .target(self.from.as_deref())
                .optional("limit", limit.as_deref());
            let answer = client.get(target).await?;
            if self.format.json {
                return output.document(&answer.body);
            }
            let page: EventPage = answer.json()?;
            for event in &page.events {
                self.print(event.get(), output)?;
            }
            return Ok(());
        }
        let cursor = match &self.from {
            // The stream itself begins there.
            Some(from) => from.clone(),
            None => self.lead(client, output).await?,
        };
        self.follow(client, output, cursor).await
    }

    /// Prints the latest events; returns the place after them.
    async fn lead(&self, client: &Client, output: &mut Output) -> Result<String, CliError> {
        let limit = match (self.limit, &self.since) {
            (Some(limit), _) => Some(limit),
            // All of that time, as far as one page goes.
            (None, Some(_)) => None,
            (None, None) => Some(LEAD),
        };
        let limit = limit.map(|limit| limit.to_string());
        let target = self.target(None).optional("limit", limit.as_deref());
        let page: EventPage = client.get(target).await?.json()?;
        for event in &page.events {
            self.print(event.get(), output)?;
        }
        let next = page.next.ok_or(ClientError::Incomplete { field: "next" })?;
        Ok(next.to_string())
    }

    async fn follow(
        &self,
        client: &Client,
        output: &mut Output,
        cursor: String,
    ) -> Result<(), CliError> {
        let target = |cursor: Option<&str>| self.target(cursor).parameter("follow", "true");
        let print = |event: &Event, output: &mut Output| self.print(&event.data, output);
        follow(client, output, Some(cursor), self.count, target, print).await
    }

    fn target(&self, from: Option<&str>) -> Target {
        let kinds = self.kind.join(",");
        Target::new("/v1/events")
            .optional("from", from)
            .optional("since", self.since.as_deref())
            .optional("node", self.node.as_deref())
            .optional(
                "kind",
                Some(kinds.as_str()).filter(|kinds| !kinds.is_empty()),
            )
    }

    fn print(&self, json: &str, output: &mut Output) -> Result<(), CliError> {
        if self.format.json {
            return output.document(json.as_bytes());
        }
        let event = serde_json::from_str(json).map_err(ClientError::Unintelligible)?;
        let line = describe(&event, output);
        output.text(&line)
    }
}

/// Such as `2026-01-31T12:00:00.250Z n3 failed (active → failed): its heartbeats stopped; heartbeat_age_ms=1312 phi=9.1`.
fn describe(event: &NodeEvent, output: &Output) -> String {
    let plain = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or("-");
        Printable::plain(text).to_string()
    };
    let change = match (&event.from, &event.to) {
        (Some(_), Some(_)) => format!(" ({} → {})", plain(&event.from), plain(&event.to)),
        (None, Some(_)) => format!(" ({})", plain(&event.to)),
        _ => String::new(),
    };
    let mut evidence = String::new();
    facts(&mut evidence, &event.evidence);
    let separator = if evidence.is_empty() { "" } else { ";" };
    let kind = plain(&event.kind);
    format!(
        "{at} {node} {kind}{change}: {cause}{separator}{evidence}\n",
        at = output.paint(Some(Colour::Faint), &plain(&event.at)),
        node = plain(&event.node),
        kind = output.paint(kind_colour(&kind), &kind),
        cause = plain(&event.cause.text),
    )
}

/// Appends ` name=value` for each fact, those within others too.
fn facts(text: &mut String, evidence: &BTreeMap<String, Value>) {
    for (name, value) in evidence {
        let value = match value {
            Value::Object(inner) => {
                let inner = inner
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone()));
                facts(text, &inner.collect());
                continue;
            }
            Value::String(value) if !value.contains(' ') => value.clone(),
            value => value.to_string(),
        };
        let fact = format!(" {name}={value}");
        text.push_str(&Printable::plain(&fact).to_string());
    }
}

fn kind_colour(kind: &str) -> Option<Colour> {
    match kind {
        "failed" | "identity-conflict" | "gossip-restarted" | "app-unhealthy" => Some(Colour::Bad),
        "suspected" | "removed" | "missed" | "operator" => Some(Colour::Doubtful),
        "joined" | "returned" | "restarted" | "app-healthy" => Some(Colour::Good),
        "updated" | "forgotten" => Some(Colour::Faint),
        _ => None,
    }
}
