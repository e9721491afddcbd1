//! `data watch`: prints changes as they come, and goes on where it was when the connection breaks.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use tokio::time::sleep;

use crate::config::Printable;

use super::CliError;
use super::client::{Change, Client, ClientError, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::output::{Colour, Output};

/// First and longest pause before connecting again.
const RECONNECT_MIN: Duration = Duration::from_millis(200);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

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
        let mut progress = Progress {
            cursor: self.from.clone(),
            changes: 0,
            is_connected: false,
        };
        let mut pause = RECONNECT_MIN;
        loop {
            let changes_before = progress.changes;
            match self.follow(client, output, &mut progress).await {
                Ok(()) if self.is_enough(&progress) => {
                    if let Some(cursor) = &progress.cursor {
                        output.remark(format_args!(
                            "to go on: --from {}",
                            Printable::plain(cursor)
                        ));
                    }
                    return Ok(());
                }
                Ok(()) => output.remark("the agent ended the stream; connecting again"),
                // An agent that was never there is an answer; one that went away is expected back.
                Err(CliError::Client(error)) if progress.is_connected && error.is_passing() => {
                    output.remark(format_args!("{error}; connecting again"));
                }
                Err(error) => return Err(error),
            }
            if progress.changes > changes_before {
                pause = RECONNECT_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// Prints the changes of one connection until it ends or there were enough.
    async fn follow(
        &self,
        client: &Client,
        output: &mut Output,
        progress: &mut Progress,
    ) -> Result<(), CliError> {
        let target = Target::new("/v1/watch")
            .optional("collection", self.collection.as_deref())
            .optional("prefix", self.prefix.as_deref())
            .optional("from", progress.cursor.as_deref());
        // The one to continue after, where there is one; where to begin is for the target to say.
        let last_id = progress.cursor.as_deref().filter(|_| progress.is_connected);
        let mut events = client.events(target, last_id).await?;
        progress.is_connected = true;
        loop {
            let next = events.next().await;
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) | Err(_) => {
                    // An id that came without a change is as good a place to go on from.
                    progress.move_to(events.last_id());
                    return next.map(drop).map_err(CliError::from);
                }
            };
            if self.format.json {
                output.document(event.data.as_bytes())?;
            } else {
                let change =
                    serde_json::from_str(&event.data).map_err(ClientError::Unintelligible)?;
                let line = describe(&change, output);
                output.text(&line)?;
            }
            progress.move_to(event.id.as_deref());
            progress.changes += 1;
            if self.is_enough(progress) {
                return Ok(());
            }
        }
    }

    fn is_enough(&self, progress: &Progress) -> bool {
        self.count
            .is_some_and(|count| progress.changes >= count.get())
    }
}

/// How far a watch has come.
struct Progress {
    cursor: Option<String>,
    changes: u64,
    is_connected: bool,
}

impl Progress {
    fn move_to(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            self.cursor = Some(id.to_owned());
        }
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
