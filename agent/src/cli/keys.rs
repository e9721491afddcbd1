//! `keys list|rotate|retire`: the secrets of the cluster, by their ids.
//!
//! `rotate` starts a rotation and watches it until every live member uses the new key. The cluster needs nobody to
//! watch: a rotation that outlasts the command goes on by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::CliError;
use super::client::{Client, ClientError, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::operate::user;
use super::output::{Colour, Output};
use super::table::{Cell, Table};
use crate::config::Printable;

/// Time between two looks at how far a rotation is.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `keys`.
#[derive(Debug, Args)]
pub(super) struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the keys and who has which.
    List {
        #[command(flatten)]
        client: ClientArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Make a new key, hand it to every node, and wait until all use it. Nothing is interrupted.
    Rotate {
        #[command(flatten)]
        order: Order,
        /// How long to watch.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
    },
    /// Accept an old key no longer, on every node.
    Retire {
        /// The key's id, as `basic-agent keys list` shows it.
        #[arg(value_name = "ID")]
        id: String,
        /// Even if members that are away could not come back by themselves.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        order: Order,
    },
}

/// Flags of everything that changes the keys.
#[derive(Debug, Args)]
struct Order {
    #[command(flatten)]
    client: ClientArgs,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who decides, for the record [default: $USER or $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// Answer of `GET /v1/keys`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct View {
    in_use: Option<String>,
    keys: Vec<Key>,
    retired: Vec<Retired>,
    members: Vec<Member>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Key {
    id: String,
    created: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Retired {
    id: String,
    at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Member {
    id: String,
    state: Option<String>,
    live: bool,
    in_use: Option<String>,
    installed: Vec<String>,
}

/// Answer of `POST /v1/keys/rotate`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rotation {
    id: Option<String>,
    previous: Option<String>,
}

impl Keys {
    /// How the agent is found.
    pub(super) fn client(&self) -> &ClientArgs {
        match &self.action {
            Action::List { client, .. } => client,
            Action::Rotate { order, .. } | Action::Retire { order, .. } => &order.client,
        }
    }

    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.action {
            Action::List { format, .. } => list(client, format, output).await,
            Action::Rotate { order, timeout } => rotate(client, order, timeout, output).await,
            Action::Retire { id, force, order } => {
                let force = force.then_some("true");
                let target = Target::new("/v1/keys").segment(&id).segment("retire");
                let target = target.optional("force", force);
                let answer = client.post(target, order.document()).await?;
                if order.format.json {
                    return output.document(&answer.body);
                }
                let id = Printable::plain(&id);
                output.text(&format!(
                    "key {id} is retired; who has no other is refused from now on\n"
                ))
            }
        }
    }
}

impl Order {
    fn document(&self) -> bytes::Bytes {
        let by = self.by.clone().or_else(user);
        json!({ "why": self.why, "by": by }).to_string().into()
    }
}

async fn list(client: &Client, format: FormatArgs, output: &mut Output) -> Result<(), CliError> {
    let answer = client.get(Target::new("/v1/keys")).await?;
    if format.json {
        return output.document(&answer.body);
    }
    let view: View = answer.json()?;
    let mut keys = Table::new(&["KEY", "STATE", "SINCE"]);
    for key in &view.keys {
        let (state, colour) = if Some(&key.id) == view.in_use.as_ref() {
            ("in use", Some(Colour::Good))
        } else {
            ("installed", None)
        };
        let created = key.created.as_deref().unwrap_or("the beginning");
        let cells = [
            Cell::new(&key.id),
            Cell::new(state).painted(colour),
            Cell::new(created),
        ];
        keys.row(cells.into());
    }
    for key in &view.retired {
        let state = Cell::new("retired").painted(Some(Colour::Faint));
        keys.row(vec![
            Cell::new(&key.id),
            state,
            Cell::optional(key.at.as_ref()),
        ]);
    }
    let mut members = Table::new(&["MEMBER", "STATE", "USES", "HAS"]);
    for member in &view.members {
        members.row(vec![
            Cell::new(&member.id),
            Cell::optional(member.state.as_ref()),
            Cell::optional(member.in_use.as_ref()),
            Cell::new(member.installed.join(",")),
        ]);
    }
    let text = format!("{}\n{}", keys.render(output), members.render(output));
    output.text(&text)
}

async fn rotate(
    client: &Client,
    order: Order,
    limit: Duration,
    output: &mut Output,
) -> Result<(), CliError> {
    let answer = client
        .post(Target::new("/v1/keys/rotate"), order.document())
        .await?;
    let rotation: Rotation = answer.json()?;
    let id = rotation.id.ok_or(ClientError::Incomplete { field: "id" })?;
    output.remark(format_args!(
        "key {} is made and recorded",
        Printable::plain(&id)
    ));
    let began = Instant::now();
    let mut shown = BTreeMap::new();
    loop {
        let view: View = client.get(Target::new("/v1/keys")).await?.json()?;
        let live: Vec<&Member> = view.members.iter().filter(|member| member.live).collect();
        for member in &live {
            let state = member.progress(&id);
            if shown.insert(member.id.clone(), state) != Some(state) && state != LACKING {
                output.remark(format_args!("{}: {state}", Printable::plain(&member.id)));
            }
        }
        let missing: Vec<&str> = live
            .iter()
            .filter(|member| member.progress(&id) != IN_USE)
            .map(|member| member.id.as_str())
            .collect();
        if missing.is_empty() && !live.is_empty() {
            let users: Vec<&str> = live.iter().map(|member| member.id.as_str()).collect();
            if order.format.json {
                let done = json!({ "id": id, "previous": rotation.previous, "in_use_on": users });
                return output.document(done.to_string().as_bytes());
            }
            let previous = rotation.previous.unwrap_or_default();
            return output.text(&format!(
                "key {} is in use on {}\nthe old one is still accepted; once nobody is away any more: basic-agent keys retire {}\n",
                Printable::plain(&id),
                Printable::plain(&users.join(", ")),
                Printable::plain(&previous),
            ));
        }
        if began.elapsed() >= limit {
            return Err(CliError::RotationUnderWay {
                id,
                missing: missing.join(", "),
                waited: limit,
            });
        }
        sleep(POLL_INTERVAL).await;
    }
}

const LACKING: &str = "does not have it yet";
const INSTALLED: &str = "has installed it";
const IN_USE: &str = "uses it";

impl Member {
    fn progress(&self, key: &str) -> &'static str {
        if self.in_use.as_deref() == Some(key) {
            IN_USE
        } else if self.installed.iter().any(|installed| installed == key) {
            INSTALLED
        } else {
            LACKING
        }
    }
}
