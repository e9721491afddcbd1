//! `keys list|rotate|retire`: the secrets of the cluster, by their ids.
//!
//! `rotate` starts a rotation and watches it until every live member uses the new key. The cluster needs nobody to
//! watch: a rotation that outlasts the command goes on by itself. Where another rotation was ordered at the same time,
//! all nodes end at the later of the two keys, and the command for the other one says so.

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
    ///
    /// This does not shut anybody out: who has a key of the cluster can open the next one. If a key got into the wrong
    /// hands, give every node a new secret instead, by `[peer] secret_file` or BASIC_AGENT_PEER_SECRET and a restart, or
    /// by `join` with the token of a node that has it; then retire the old keys.
    Rotate {
        #[command(flatten)]
        order: Order,
        /// How long to watch.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::durations::parse_duration)]
        timeout: Duration,
    },
    /// Accept an old key no longer, on every node. Agents connect to each other anew, once.
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
    newest: Option<String>,
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

/// How far a rotation is, by the live members.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// All use this key, the one that was made or a later one of another rotation.
    Done(String),
    /// These use neither.
    Missing(Vec<String>),
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
    let id = rotation.id.clone();
    let id = id.ok_or(ClientError::Incomplete { field: "id" })?;
    output.remark(format_args!(
        "key {} is made and recorded",
        Printable::plain(&id)
    ));
    let began = Instant::now();
    let mut shown = BTreeMap::new();
    loop {
        let view: View = client.get(Target::new("/v1/keys")).await?.json()?;
        for member in view.live() {
            let state = member.progress(&id);
            if shown.insert(member.id.clone(), state) != Some(state) && state != LACKING {
                output.remark(format_args!("{}: {state}", Printable::plain(&member.id)));
            }
        }
        match view.progress(&id) {
            Progress::Done(used) => return report(&order, &rotation, &id, &used, &view, output),
            Progress::Missing(missing) if began.elapsed() >= limit => {
                return Err(CliError::RotationUnderWay {
                    id,
                    missing: missing.join(", "),
                    waited: limit,
                });
            }
            Progress::Missing(_) => {}
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Says which key all use at the end of a rotation to `id`.
fn report(
    order: &Order,
    rotation: &Rotation,
    id: &str,
    used: &str,
    view: &View,
    output: &mut Output,
) -> Result<(), CliError> {
    let users: Vec<&str> = view.live().map(|member| member.id.as_str()).collect();
    let superseded_by = (used != id).then_some(used);
    if order.format.json {
        let mut done = json!({ "id": id, "previous": rotation.previous, "in_use_on": users });
        if let Some(used) = superseded_by {
            done["superseded_by"] = used.into();
        }
        return output.document(done.to_string().as_bytes());
    }
    let (id, used) = (Printable::plain(id), Printable::plain(used));
    if superseded_by.is_some() {
        output.text(&format!(
            "key {id} was superseded by key {used}, of another rotation at the same time\n"
        ))?;
    }
    output.text(&format!(
        "key {used} is in use on {}\nthe old one is still accepted; once nobody is away any more: basic-agent keys retire {}\n",
        Printable::plain(&users.join(", ")),
        Printable::plain(rotation.previous.as_deref().unwrap_or_default()),
    ))
}

impl View {
    fn live(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.live)
    }

    /// How far the rotation to this key is.
    fn progress(&self, id: &str) -> Progress {
        let users_of = |key: &str| self.live().all(|member| member.progress(key) == IN_USE);
        let is_known = self.keys.iter().any(|key| key.id == id);
        // Another key is later only if the node that is asked has both and says so.
        let later = self.newest.as_deref().filter(|_| is_known);
        let candidates = [Some(id), later].into_iter().flatten();
        let used = candidates
            .filter(|_| self.live().next().is_some())
            .find(|key| users_of(key));
        if let Some(used) = used {
            return Progress::Done(used.to_owned());
        }
        let missing = self.live().filter(|member| member.progress(id) != IN_USE);
        Progress::Missing(missing.map(|member| member.id.clone()).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a node answers that has these keys, the last of which is the newest, and sees these members.
    fn view(keys: &[&str], in_use: &[&str]) -> View {
        let keys_of = |id: &&str| Key {
            id: (*id).to_owned(),
            created: None,
        };
        let member = |(n, key): (usize, &&str)| Member {
            id: format!("n{n}"),
            live: true,
            in_use: Some((*key).to_owned()),
            ..Member::default()
        };
        View {
            newest: keys.last().map(|id| (*id).to_owned()),
            keys: keys.iter().map(keys_of).collect(),
            members: in_use.iter().enumerate().map(member).collect(),
            ..View::default()
        }
    }

    fn done(key: &str) -> Progress {
        Progress::Done(key.to_owned())
    }

    #[test]
    fn a_rotation_is_done_when_all_use_its_key_or_a_later_one() {
        let both = ["old", "ours", "later"];
        assert_eq!(
            view(&both, &["ours", "ours"]).progress("ours"),
            done("ours")
        );
        assert_eq!(
            view(&both, &["later", "later"]).progress("ours"),
            done("later")
        );
        let missing = Progress::Missing(vec!["n0".to_owned()]);
        assert_eq!(view(&both, &["later", "ours"]).progress("ours"), missing);
    }

    #[test]
    fn a_key_that_all_use_before_ours_is_known_or_that_ours_follows_does_not_end_it() {
        let missing = Progress::Missing(vec!["n0".to_owned()]);
        assert_eq!(view(&["old"], &["old"]).progress("ours"), missing);
        let other_first = view(&["old", "other", "ours"], &["other"]);
        assert_eq!(other_first.progress("ours"), missing);
        assert_eq!(
            view(&["old", "ours"], &[]).progress("ours"),
            Progress::Missing(Vec::new())
        );
    }
}
