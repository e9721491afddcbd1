//! Following a stream of events: read it, and go on where it was when the connection breaks.

use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::sleep;

use crate::config::Printable;

use super::CliError;
use super::client::{Client, Event, Target};
use super::output::Output;

/// First and longest pause before connecting again.
const RECONNECT_MIN: Duration = Duration::from_millis(200);
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// Hands each event after `cursor` to `take`, once and in order, until there were `count`; then says where to go on.
/// `target` says what to ask for, given the cursor.
///
/// # Errors
/// What `take` fails with, and what another connection would not change. An agent that was never there is an answer;
/// one that went away is expected back.
pub(super) async fn follow(
    client: &Client,
    output: &mut Output,
    cursor: Option<String>,
    count: Option<NonZeroU64>,
    target: impl Fn(Option<&str>) -> Target,
    take: impl FnMut(&Event, &mut Output) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut progress = Progress {
        cursor,
        count,
        is_connected: false,
        events: 0,
    };
    progress.follow(client, output, target, take).await?;
    if let Some(cursor) = &progress.cursor {
        let cursor = Printable::plain(cursor);
        output.remark(format_args!("to go on: --from {cursor}"));
    }
    Ok(())
}

/// How far a stream was followed.
struct Progress {
    /// The event to go on after, or where to begin.
    cursor: Option<String>,
    /// How many events are enough.
    count: Option<NonZeroU64>,
    is_connected: bool,
    events: u64,
}

impl Progress {
    async fn follow(
        &mut self,
        client: &Client,
        output: &mut Output,
        target: impl Fn(Option<&str>) -> Target,
        mut take: impl FnMut(&Event, &mut Output) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut pause = RECONNECT_MIN;
        loop {
            let before = self.events;
            let target = target(self.cursor.as_deref());
            match self.connection(client, output, target, &mut take).await {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) => {
                    output.remark("the agent ended the stream; connecting again");
                }
                Err(CliError::Client(error)) if self.is_connected && error.is_passing() => {
                    output.remark(format_args!("{error}; connecting again"));
                }
                Err(error) => return Err(error),
            }
            if self.events > before {
                pause = RECONNECT_MIN;
            }
            sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_MAX);
        }
    }

    /// Takes the events of one connection until it ends or there were enough.
    async fn connection(
        &mut self,
        client: &Client,
        output: &mut Output,
        target: Target,
        take: &mut impl FnMut(&Event, &mut Output) -> Result<(), CliError>,
    ) -> Result<ControlFlow<()>, CliError> {
        // The one to continue after, where there is one; where to begin is for the target to say.
        let last_id = self.cursor.as_deref().filter(|_| self.is_connected);
        let mut events = client.events(target, last_id).await?;
        self.is_connected = true;
        loop {
            let next = events.next().await;
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) | Err(_) => {
                    // An id that came without an event is as good a place to go on from.
                    self.move_to(events.last_id());
                    return next
                        .map(|_| ControlFlow::Continue(()))
                        .map_err(CliError::from);
                }
            };
            take(&event, output)?;
            self.move_to(event.id.as_deref());
            self.events += u64::from(!event.ends_snapshot());
            if self.count.is_some_and(|count| self.events >= count.get()) {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn move_to(&mut self, id: Option<&str>) {
        if let Some(id) = id {
            self.cursor = Some(id.to_owned());
        }
    }
}
