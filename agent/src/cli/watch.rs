//! `data watch`: prints changes as they come, and goes on where it was when the connection breaks.

use std::num::NonZeroU64;

use clap::Args;

use crate::config::Printable;

use super::CliError;
use super::client::{Change, Client, ClientError, Event, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::follow::follow;
use super::output::{Colour, Output};

/// Flags of `data watch`.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Only this collection.
    collection: Option<String>,
    /// Only keys that begin with this.
    #[arg(long)]
    prefix: Option<String>,
    /// Begin after this cursor instead of now; `first` begins with the oldest change that is kept, `snapshot` with
    /// all documents as they are.
    #[arg(long, value_name = "CURSOR")]
    from: Option<String>,
    /// End after so many changes.
    #[arg(long, value_name = "N")]
    count: Option<NonZeroU64>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Watch {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let target = |cursor: Option<&str>| {
            Target::new("/v1/watch")
                .optional("collection", self.collection.as_deref())
                .optional("prefix", self.prefix.as_deref())
                .optional("from", cursor)
        };
        let print = |event: &Event, output: &mut Output| {
            if self.format.json {
                return output.document(event.data.as_bytes());
            }
            if event.ends_snapshot() {
                output.remark("that is all there is; changes follow");
                return Ok(());
            }
            let change = serde_json::from_str(&event.data).map_err(ClientError::Unintelligible)?;
            let line = describe(&change, output);
            output.text(&line)
        };
        let cursor = self.from.clone();
        follow(client, output, cursor, self.count, target, print).await
    }
}

fn describe(change: &Change, output: &Output) -> String {
    let colour = if change.op == "delete" {
        Colour::Doubtful
    } else {
        Colour::Good
    };
    let op = output.paint(Some(colour), &Printable::plain(&change.op).to_string());
    let place = format!("{}/{}", change.collection, change.key);
    let version = change.version.as_deref().unwrap_or("-");
    let value = change
        .value
        .as_ref()
        .map(|value| format!(" {value}"))
        .unwrap_or_default();
    let reason = change.reason.as_ref();
    let reason = reason.map(|reason| format!(" ({reason})"));
    format!(
        "{op} {} {}{}{}\n",
        Printable::plain(&place),
        Printable::plain(version),
        Printable::plain(&value),
        Printable::plain(&reason.unwrap_or_default())
    )
}
