//! `register`: adds a server without an agent to the cluster.
//!
//! The agent that is asked checks and stores it; then some agent probes it, and all send requests to it once it is
//! well. Nothing is waited for: what its probe finds shows in `members`. It is taken out again by `remove`.

use clap::Args;
use serde_json::json;

use super::CliError;
use super::client::{Client, Member, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::operate::user;
use super::output::Output;
use crate::config::Printable;
use crate::servers::Request;

/// Flags of `register`.
#[derive(Debug, Args)]
pub(super) struct Register {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// A name for the server, unlike that of any node.
    #[arg(value_name = "ID")]
    id: String,
    /// Where every agent reaches it.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// The path that is asked for health [default: /health]
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// Its share of the load relative to the others, 0 to 65535 [default: 100]
    #[arg(long, value_name = "N")]
    weight: Option<u16>,
    /// A label of the server. May be repeated.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Even if the id is registered at another address: the server has moved.
    #[arg(long)]
    replace: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who registers it, for the record [default: $USER or $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    format: FormatArgs,
}

/// A label is written without its equals sign.
#[derive(Debug, thiserror::Error)]
#[error("expected a label such as zone=a")]
struct LabelError;

fn parse_label(text: &str) -> Result<(String, String), LabelError> {
    let (name, value) = text.split_once('=').ok_or(LabelError)?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Register {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let labels = self.labels.into_iter();
        let request = Request {
            id: Some(self.id.clone()),
            address: Some(self.address.clone()),
            health: self.health,
            weight: self.weight.map(i64::from),
            labels: Some(labels.map(|(name, value)| (name, value.into())).collect()),
            why: self.why,
            by: self.by.or_else(user),
            ..Request::default()
        };
        let target = Target::new("/v1/members");
        let target = match self.replace {
            true => target.parameter("replace", "true"),
            false => target,
        };
        let answer = client
            .post(target, json!(request).to_string().into())
            .await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let server: Member = answer.json()?;
        let state = server.state.as_deref().unwrap_or("unknown");
        let next = match state {
            "joining" => "; an agent probes it now, and it gets requests once it is well",
            _ => "",
        };
        output.text(&format!(
            "{} is registered at {}; its state is {}{next}\n",
            self.id,
            self.address,
            Printable::plain(state)
        ))
    }
}
