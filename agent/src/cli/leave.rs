//! `leave`: asks the agent to take its node out of the cluster, and waits until it is gone.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::CliError;
use super::client::{Client, ClientError, Members, Status, Target};
use super::flags::ClientArgs;
use super::output::Output;

/// Time between two looks at whether the agent is gone.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `leave`.
#[derive(Debug, Args)]
pub(super) struct Leave {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    /// How long to wait for requests in flight and for the agent to stop.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::durations::parse_duration)]
    pub(super) timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Leave {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let members: Members = client.get(Target::new("/v1/members")).await?.json()?;
        let node = members
            .own_id
            .ok_or(ClientError::Incomplete { field: "self" })?;
        match client
            .delete(Target::new("/v1/members").segment(&node))
            .await
        {
            // An agent may be gone before its answer is complete; whether it is, shows next.
            Ok(_) | Err(ClientError::Broken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        output.remark(format_args!("{node} was asked to leave"));
        self.wait_until_gone(client, &node, output).await?;
        if self.json {
            output.document(json!({ "id": node, "left": true }).to_string().as_bytes())
        } else {
            output.text(&format!(
                "{node} has left the cluster; its agent has stopped\n"
            ))
        }
    }

    async fn wait_until_gone(
        &self,
        client: &Client,
        node: &str,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let started = Instant::now();
        let mut last_state = None;
        while started.elapsed() < self.timeout {
            match client.get(Target::new("/v1/status")).await {
                Err(ClientError::Unreachable { .. }) => return Ok(()),
                Ok(answer) => {
                    let state = answer.json::<Status>().unwrap_or_default().state;
                    // Its last state is what the result says.
                    let is_news = state != last_state && state.as_deref() != Some("left");
                    if state.is_some() && is_news {
                        let shown = state.as_deref().unwrap_or_default();
                        output.remark(format_args!(
                            "{node} is {}",
                            crate::config::Printable::plain(shown)
                        ));
                        last_state = state;
                    }
                }
                // It is busy stopping, or in the midst of it.
                Err(_) => {}
            }
            sleep(POLL_INTERVAL).await;
        }
        Err(CliError::StillThere {
            node: node.to_owned(),
            waited: self.timeout,
        })
    }
}
