//! `drain`, `undrain`, `fail`, `revive`, `weight` and `remove`: decides about a node, and waits until the decision
//! shows.
//!
//! The agent that is asked stores the decision; every node applies it. What is waited for is what can be seen from
//! here: that the decision shows in this agent's list of members, and for `drain` that its proxy has no request in
//! flight to the node. Other agents follow within the time of replication.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::CliError;
use super::client::{Client, ClientError, Decided, Member, Members, Status, Target};
use super::flags::ClientArgs;
use super::output::Output;
use crate::config::Printable;

/// Time between two looks at whether the decision shows.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Flags of `drain`, `undrain`, `fail` and `revive`.
#[derive(Debug, Args)]
pub(super) struct Decide {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// The node's id, as `basic-agent members` shows it.
    #[arg(value_name = "NODE")]
    node: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who decides, for the record [default: $USER or $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Even if no other node takes requests.
    #[arg(long)]
    force: bool,
    /// How long to wait until the decision shows.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::durations::parse_duration)]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Flags of `weight`.
#[derive(Debug, Args)]
pub(super) struct Weight {
    #[command(flatten)]
    pub(super) decide: Decide,
    /// Its share of the load relative to the others, 0 to 65535; or `default` for what its own agent is configured to.
    #[arg(value_name = "N", value_parser = parse_share)]
    share: Share,
}

/// Flags of `remove`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    pub(super) decide: Decide,
    /// Do not ask, even if the node is running.
    #[arg(long)]
    yes: bool,
}

/// A share of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    Own,
    Fixed(u16),
}

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Drain,
    Undrain,
    Fail,
    Revive,
    Weight,
    Remove,
    /// To remove a server, which has no agent to stop and no way back by joining.
    Unregister,
}

fn parse_share(text: &str) -> Result<Share, std::num::ParseIntError> {
    match text {
        "default" => Ok(Share::Own),
        number => number.parse().map(Share::Fixed),
    }
}

impl Verb {
    fn path(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::Fail => "fail",
            Self::Revive => "revive",
            Self::Weight => "weight",
            Self::Remove | Self::Unregister => "remove",
        }
    }

    /// What is true of a node about which this was decided.
    fn effect(self, decision: &Value) -> String {
        let effect = match self {
            Self::Drain => "gets no new requests",
            Self::Undrain => "is open to requests",
            Self::Fail => "counts as failed",
            Self::Revive => "does not count as failed by an operator's word",
            Self::Remove => "is removed; it comes back by `basic-agent join TOKEN` only",
            Self::Unregister => "is removed; `basic-agent register` brings it back",
            Self::Weight => match decision["weight"].as_u64() {
                Some(weight) => return format!("has the weight {weight}"),
                None => "has the weight that it announces",
            },
        };
        effect.to_owned()
    }
}

impl Weight {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let share = match self.share {
            Share::Own => Value::Null,
            Share::Fixed(share) => json!(share),
        };
        self.decide
            .carry_out(Verb::Weight, Some(share), client, output)
            .await
    }
}

impl Remove {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let node = &self.decide.node;
        let members: Members = client.get(Target::new("/v1/members")).await?.json()?;
        if members.own_id.as_ref() == Some(node) {
            return Err(CliError::RemovesItself { node: node.clone() });
        }
        let known = members
            .members
            .iter()
            .find(|member| member.id.as_ref() == Some(node));
        let verb = match known.and_then(|member| member.agent) {
            Some(false) => Verb::Unregister,
            _ => Verb::Remove,
        };
        if let Some(state) = known.and_then(running_state)
            && verb == Verb::Remove
            && !self.yes
        {
            confirm(node, state)?;
        }
        self.decide.carry_out(verb, None, client, output).await
    }
}

/// The state of a member that runs, as far as the agent knows.
fn running_state(member: &Member) -> Option<&str> {
    let state = member.state.as_deref()?;
    (!matches!(state, "left" | "failed" | "removed" | "maintenance")).then_some(state)
}

/// Asks at a terminal. Where nobody can be asked, the answer is no.
fn confirm(node: &str, state: &str) -> Result<(), CliError> {
    let refused = || CliError::Unconfirmed {
        node: node.to_owned(),
        state: state.to_owned(),
    };
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(refused());
    }
    let question = format!(
        "{} is {}; remove it, and stop its agent? [y/N] ",
        Printable::plain(node),
        Printable::plain(state)
    );
    let mut stderr = io::stderr();
    let mut answer = String::new();
    let asked = stderr
        .write_all(question.as_bytes())
        .and_then(|()| stderr.flush());
    // Without an answer it is no.
    if asked
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .is_err()
    {
        return Err(refused());
    }
    let answer = answer.trim();
    if answer.eq_ignore_ascii_case("y") || answer.eq_ignore_ascii_case("yes") {
        Ok(())
    } else {
        Err(refused())
    }
}

impl Decide {
    pub(super) async fn execute(
        self,
        verb: Verb,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        self.carry_out(verb, None, client, output).await
    }

    async fn carry_out(
        self,
        verb: Verb,
        weight: Option<Value>,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let mut order = json!({ "why": self.why, "by": self.by.clone().or_else(user) });
        if let Some(weight) = weight {
            order["weight"] = weight;
        }
        let body = order.to_string().into();
        let node = Target::new("/v1/members").segment(&self.node);
        let target = match verb {
            Verb::Remove | Verb::Unregister => node,
            verb => node.segment(verb.path()),
        };
        let target = match self.force {
            true => target.parameter("force", "true"),
            false => target,
        };
        let answer = match verb {
            Verb::Weight => client.put(target, body).await?,
            Verb::Remove | Verb::Unregister => client.delete_with(target, body).await?,
            _ => client.post(target, body).await?,
        };
        let decided: Decided = answer.json()?;
        let state = self.wait(verb, &decided, client, output).await?;
        if self.json {
            return output.document(&answer.body);
        }
        let unchanged = decided.result.as_deref() == Some("unchanged");
        let effect = match decided.ended_conflict {
            true => "is the one with its id that goes on, and takes writes again".to_owned(),
            false => verb.effect(&decided.decision),
        };
        let already = if unchanged {
            "nothing was changed: "
        } else {
            ""
        };
        let mut text = format!("{already}{} {effect}", self.node);
        if let Some(state) = state {
            // Writing to a string cannot fail.
            let _ = write!(text, "; its state is {}", Printable::plain(&state));
        }
        text.push('\n');
        output.text(&text)?;
        if let Some(hint) = self.hint(verb, &decided, unchanged) {
            output.remark(hint);
        }
        Ok(())
    }

    /// What was perhaps meant where the decision does not do it.
    fn hint(&self, verb: Verb, decided: &Decided, unchanged: bool) -> Option<String> {
        let node = &self.node;
        match verb {
            Verb::Revive if unchanged => Some(format!(
                "if two nodes have the id {node}, ask the agent of the one that is to go on, by --api"
            )),
            Verb::Undrain if decided.decision["failed"] == true => Some(format!(
                "an operator called {node} failed, too; `basic-agent revive {node}` takes that back"
            )),
            _ => None,
        }
    }

    /// Waits until the decision shows here, and a node that is drained has nothing in flight here. Returns the node's
    /// state.
    async fn wait(
        &self,
        verb: Verb,
        decided: &Decided,
        client: &Client,
        output: &mut Output,
    ) -> Result<Option<String>, CliError> {
        let started = Instant::now();
        let mut said = String::new();
        loop {
            let members: Members = client.get(Target::new("/v1/members")).await?.json()?;
            let member = members
                .members
                .into_iter()
                .find(|one| one.id.as_ref() == Some(&self.node));
            let awaited = match &member {
                Some(member) if member.decision != decided.decision => {
                    Some("the decision to show in this agent's list of members".to_owned())
                }
                Some(_) if verb == Verb::Drain => in_flight(client, &self.node).await?,
                _ => None,
            };
            let Some(awaited) = awaited else {
                return Ok(member
                    .and_then(|member| member.state)
                    .or_else(|| decided.state.clone()));
            };
            if started.elapsed() >= self.timeout {
                return Err(CliError::StillAwaited {
                    node: self.node.clone(),
                    awaited,
                    waited: self.timeout,
                });
            }
            if awaited != said {
                output.remark(format_args!("waiting for {awaited}"));
                said = awaited;
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// What is to be waited for if the agent's own proxy still has requests at this node.
async fn in_flight(client: &Client, node: &str) -> Result<Option<String>, ClientError> {
    let status: Status = client.get(Target::new("/v1/status")).await?.json()?;
    let endpoints = status
        .proxy
        .map(|proxy| proxy.endpoints)
        .unwrap_or_default();
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint.id.as_deref() == Some(node));
    Ok(match endpoint.and_then(|endpoint| endpoint.in_flight) {
        None | Some(0) => None,
        Some(1) => Some("the last request to it through this agent's proxy to end".to_owned()),
        Some(count) => Some(format!(
            "{count} requests to it through this agent's proxy to end"
        )),
    })
}

/// Who is logged in; where the shell does not say it, as in a job of cron, the name of the process's user.
pub(super) fn user() -> Option<String> {
    let names = ["USER", "LOGNAME"].into_iter();
    let mut named = names.filter_map(|name| std::env::var(name).ok());
    named.find(|name| !name.is_empty()).or_else(|| {
        let uid = rustix::process::getuid().as_raw().to_string();
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(name_of(&uid, &users).unwrap_or(format!("uid {uid}")))
    })
}

/// The name of a user in the text of `passwd(5)`.
fn name_of(uid: &str, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1) == Some(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number_and_a_damaged_line_is_passed_over() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n\n:x:7\nann:x:1000:1000::/home/ann:/bin/sh\nbob\n";
        assert_eq!(name_of("1000", users).as_deref(), Some("ann"));
        assert_eq!(name_of("0", users).as_deref(), Some("root"));
        assert_eq!(name_of("7", users), None);
        assert_eq!(name_of("100", users), None);
    }
}
