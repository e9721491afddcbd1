//! `data watch`: prints changes as they come, and goes on where it was when the connection breaks.

use std::num::NonZeroU64;
use std::ops::ControlFlow;

use clap::Args;

use crate::config::Printable;

use super::CliError;
use super::client::{Change, Client, ClientError, Event, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::follow::Progress;
use super::output::{Colour, Output};

/// Flags of `data watch`.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Only this collection.
    collection: Option<String>,
    /// Only keys that begin with this.
    #[arg(long)]
    prefix: Option<String>,
    /// Begin after this cursor instead of now; `first` begins with the oldest change that is kept.
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
        let mut progress = Progress::new(self.from.clone());
        let target = |cursor: Option<&str>| {
            Target::new("/v1/watch")
                .optional("collection", self.collection.as_deref())
                .optional("prefix", self.prefix.as_deref())
                .optional("from", cursor)
        };
        let mut changes = 0;
        let print = |event: &Event, output: &mut Output| {
            if self.format.json {
                output.document(event.data.as_bytes())?;
            } else {
                let change =
                    serde_json::from_str(&event.data).map_err(ClientError::Unintelligible)?;
                let line = describe(&change, output);
                output.text(&line)?;
            }
            changes += 1;
            Ok(match self.count {
                Some(count) if changes >= count.get() => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        };
        progress.follow(client, output, target, print).await?;
        if let Some(cursor) = &progress.cursor {
            output.remark(format_args!(
                "to go on: --from {}",
                Printable::plain(cursor)
            ));
        }
        Ok(())
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
    format!(
        "{op} {} {}{}\n",
        Printable::plain(&place),
        Printable::plain(version),
        Printable::plain(&value)
    )
}
