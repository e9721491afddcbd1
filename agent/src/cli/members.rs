//! `members`: who is in the cluster, as this agent sees it.

use std::time::SystemTime;

use clap::Args;

use super::CliError;
use super::client::{self, Client, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::output::{Colour, Output};
use super::table::{Cell, Table};

/// Flags of `members`.
#[derive(Debug, Args)]
pub(super) struct Members {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Members {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let answer = client.get(Target::new("/v1/members")).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let table = table(&answer.json()?, SystemTime::now());
        let text = table.render(output);
        output.text(&text)
    }
}

/// The colour that a state of a member has.
pub(super) fn state_colour(state: &str) -> Option<Colour> {
    match state {
        "active" => Some(Colour::Good),
        "failed" => Some(Colour::Bad),
        "left" | "removed" => Some(Colour::Faint),
        _ => Some(Colour::Doubtful),
    }
}

fn table(members: &client::Members, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        "ID",
        "KIND",
        "STATE",
        "FOR",
        "APP",
        "WEIGHT",
        "PEER",
        "API",
        "APP ADDRESS",
        "LABELS",
    ]);
    for member in &members.members {
        let is_own = member.id.is_some() && member.id == members.own_id;
        let id = member.id.as_deref().unwrap_or("-");
        let state = member.state.as_deref().unwrap_or("-");
        // Of an agent that is gone it is known only what it said last of its app.
        let is_gone = member.live == Some(false) && member.agent != Some(false);
        let app_said = member.app.as_ref().filter(|_| !is_gone);
        let (app, app_colour) = match app_said.and_then(|app| app.healthy) {
            Some(true) => ("healthy", Some(Colour::Good)),
            Some(false) => ("unhealthy", Some(Colour::Bad)),
            None => ("-", None),
        };
        let app = match app_said.and_then(|app| app.by.as_ref()) {
            Some(by) => format!("{app}, says {by}"),
            None => app.to_owned(),
        };
        // What the agent that is asked finds itself counts beside what the member's own agent says.
        let (app, app_colour) = match member.reachable.ok {
            Some(false) if !is_gone => (format!("{app}, not reached"), Some(Colour::Bad)),
            _ => (app, app_colour),
        };
        let doubt = match member.phi {
            Some(phi) if state == "suspect" => format!("{state}, phi {phi:.1}"),
            _ => state.to_owned(),
        };
        let addresses = member.addresses.as_ref();
        table.row(vec![
            Cell::new(if is_own {
                format!("{id} *")
            } else {
                id.to_owned()
            }),
            Cell::optional(member.agent.map(kind)),
            Cell::new(doubt).painted(state_colour(state)),
            Cell::optional(member.since.as_ref().map(|since| since.age(now))),
            Cell::new(app).painted(app_colour),
            Cell::optional(member.weight.map(|weight| weight.to_string())),
            Cell::optional(addresses.and_then(|a| a.peer.as_ref())),
            Cell::optional(addresses.and_then(|a| a.api.as_ref())),
            Cell::optional(addresses.and_then(|a| a.app.as_ref())),
            Cell::optional(labels(member)),
        ]);
    }
    table
}

/// Whether a member is a node with an agent, or a server that was registered.
fn kind(agent: bool) -> &'static str {
    if agent { "node" } else { "server" }
}

fn labels(member: &client::Member) -> Option<String> {
    let labels = member.labels.as_ref().filter(|labels| !labels.is_empty())?;
    let texts = labels.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    });
    Some(texts.collect::<Vec<_>>().join(","))
}
