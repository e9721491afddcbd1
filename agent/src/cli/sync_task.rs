//! `sync task put|get|list`: data to be brought to nodes, and what has become of it.
//!
//! They end with 0 if the agent answered, whatever has become of the task: `get --json` has its status.

use std::io;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Args, Subcommand};

use super::CliError;
use super::client::{Client, SyncTask, SyncTaskList, Target};
use super::data::read_document;
use super::flags::{ClientArgs, FormatArgs};
use super::output::{Colour, Output};
use super::table::{Cell, Table};
use crate::sync_tasks::Status;

#[derive(Debug, Subcommand)]
pub(super) enum TaskAction {
    /// Give the agent a task and print its id.
    Put(Put),
    /// Show a task and where each of its targets stands.
    Get(Get),
    /// List the tasks that the agent has accepted, the newest first.
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct Put {
    /// A file with a ClusterSyncTask, such as {"target_nodes":["n2"],"data_type":"user","data":{"id":1}}, or - for
    /// standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The id of the task.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only tasks of this status.
    #[arg(long, value_parser = PossibleValuesParser::new(Status::ALL.map(Status::as_str)))]
    status: Option<String>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl TaskAction {
    /// How to find the agent.
    pub(super) fn client(&self) -> &ClientArgs {
        match self {
            Self::Put(put) => &put.client,
            Self::Get(get) => &get.client,
            Self::List(list) => &list.client,
        }
    }

    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self {
            Self::Put(put) => put.execute(client, output).await,
            Self::Get(get) => get.execute(client, output).await,
            Self::List(list) => list.execute(client, output).await,
        }
    }
}

impl Put {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let task = match self.file.as_str() {
            "-" => read_document("-", io::stdin())?,
            file => read_document(&format!("@{file}"), io::stdin())?,
        };
        let answer = client.post(Target::new("/v1/sync/tasks"), task).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let task: SyncTask = answer.json()?;
        let id = task.task_id.as_deref().unwrap_or("-");
        output.text(&format!("{id}\n"))?;
        output.remark(task.status.as_deref().unwrap_or("-"));
        Ok(())
    }
}

impl Get {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let target = Target::new("/v1/sync/tasks").segment(&self.id);
        let answer = client.get(target).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let task: SyncTask = answer.json()?;
        let mut targets = Table::new(&["TARGET", "STATUS", "AT", "REASON"]);
        for (name, target) in &task.targets {
            targets.row(vec![
                Cell::new(name),
                status(target.status.as_deref()),
                Cell::optional(target.at.as_ref()),
                Cell::optional(target.reason.as_ref()),
            ]);
        }
        let text = [table(&[&task]), targets].map(|table| table.render(output));
        output.text(&text.join("\n"))
    }
}

impl List {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let target = Target::new("/v1/sync/tasks")
            .parameter("limit", &self.limit.to_string())
            .optional("status", self.status.as_deref());
        let answer = client.get(target).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let tasks: SyncTaskList = answer.json()?;
        let text = match tasks.items.is_empty() {
            true => "there are no such tasks on this node\n".to_owned(),
            false => table(&tasks.items.iter().collect::<Vec<_>>()).render(output),
        };
        output.text(&text)
    }
}

fn table(tasks: &[&SyncTask]) -> Table {
    let columns = [
        "TASK", "STATUS", "DOCUMENT", "PRIORITY", "ATTEMPTS", "ACCEPTED", "FINISHED", "NEXT",
        "ERROR",
    ];
    let mut table = Table::new(&columns);
    for task in tasks {
        let document = task.collection.as_ref().zip(task.key.as_ref());
        let document = document.map(|(collection, key)| format!("{collection}/{key}"));
        table.row(vec![
            Cell::optional(task.task_id.as_ref()),
            status(task.status.as_deref()),
            Cell::optional(document),
            Cell::optional(task.priority.map(|priority| priority.to_string())),
            Cell::optional(task.attempts.map(|attempts| attempts.to_string())),
            Cell::optional(task.accepted_at.as_ref()),
            Cell::optional(task.finished_at.as_ref()),
            Cell::optional(task.next_attempt_at.as_ref()),
            Cell::optional(task.error.as_ref()),
        ]);
    }
    table
}

fn status(status: Option<&str>) -> Cell {
    let colour = match status {
        Some("completed" | "confirmed") => Some(Colour::Good),
        Some("retrying") => Some(Colour::Doubtful),
        Some("failed") => Some(Colour::Bad),
        _ => None,
    };
    Cell::optional(status).painted(colour)
}
