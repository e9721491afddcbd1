//! `sync exported`: writes that a node had to keep aside when it had been away for too long, and what becomes of them.
//!
//! Without a decision it lists them, page by page as the agent gives them. A decision is carried out by the agent, and
//! ends with 1 where a collection refused some of it.

use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::json;

use super::CliError;
use super::client::{Client, ExportedDecision, ExportedList, ExportedWrite, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::operate::user;
use super::output::Output;
use super::table::{Cell, Table};
use crate::config::Printable;

/// How long the agent may take for a decision about all of them.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest value that the table shows, in characters; `--json` has all of it.
const VALUE_MAX: usize = 60;

/// Flags of `sync exported`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("decision").args(["write", "drop"]))]
#[command(group = ArgGroup::new("which").args(["documents", "all"]).requires("decision"))]
pub(super) struct Exported {
    /// The documents to decide about, each as COLLECTION/KEY.
    #[arg(value_name = "COLLECTION/KEY")]
    documents: Vec<String>,
    /// Make the writes again, as new ones: over what is there now, as the collection merges.
    #[arg(long, requires = "which")]
    write: bool,
    /// Forget them.
    #[arg(long, requires = "which")]
    drop: bool,
    /// All of them.
    #[arg(long)]
    all: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who decides, for the record [default: $USER or $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Exported {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.write || self.drop {
            true => self.decide(client, output).await,
            false => self.list(client, output).await,
        }
    }

    async fn list(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let mut from = None::<u64>;
        let mut all = Vec::new();
        loop {
            let from_text = from.map(|from| from.to_string());
            let target = Target::new("/v1/sync/exported").optional("from", from_text.as_deref());
            let answer = client.get(target).await?;
            let page: ExportedList = answer.json()?;
            if self.format.json {
                // A document a page, as the agent gives them.
                output.document(&answer.body)?;
            }
            // One that leads back would be asked for for ever.
            let next = page
                .next
                .filter(|next| from.is_none_or(|from| *next > from));
            let total = page.total;
            all.extend(page.items);
            match next {
                Some(next) => from = Some(next),
                None if self.format.json => return Ok(()),
                None if all.is_empty() => {
                    return output.text("no writes were kept aside on this node\n");
                }
                None => {
                    let table = table(&all).render(output);
                    return output.text(&format!(
                        "{table}\n{total} writes; --write COLLECTION/KEY makes them again, --drop forgets them, --all means all\n"
                    ));
                }
            }
        }
    }

    async fn decide(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let order = json!({
            "action": if self.write { "write" } else { "drop" },
            "documents": self.documents,
            "all": self.all,
            "by": self.by.or_else(user),
            "why": self.why,
        });
        let patient = client.with_answer_timeout(PATIENCE);
        let target = Target::new("/v1/sync/exported");
        let answer = patient.post(target, order.to_string().into()).await?;
        let decided: ExportedDecision = answer.json()?;
        if self.format.json {
            output.document(&answer.body)?;
        } else {
            output.text(&format!(
                "{} writes made again, {} forgotten, {} refused; {} are left\n",
                decided.written, decided.dropped, decided.refused, decided.left
            ))?;
            for one in &decided.refusals {
                let name = format!("{}/{}", one.collection, one.key);
                output.remark(format!("{}: {}", shown(&name), shown(&one.reason)));
            }
        }
        match decided.refused {
            0 => Ok(()),
            _ => Err(CliError::Attention),
        }
    }
}

fn table(all: &[ExportedWrite]) -> Table {
    let mut table = Table::new(&["NODE", "DOCUMENT", "DATE", "VALUE"]);
    for one in all {
        let replica: String = one.replica.chars().take(8).collect();
        let value = match (&one.value, one.op.as_str()) {
            (Some(value), _) => shortened(value.get()),
            (None, "delete") => "(deleted)".to_owned(),
            (None, _) => "-".to_owned(),
        };
        table.row(vec![
            Cell::new(one.node.clone().unwrap_or(replica)),
            Cell::new(format!("{}/{}", one.collection, one.key)),
            Cell::new(&one.date),
            Cell::new(value),
        ]);
    }
    table
}

fn shortened(value: &str) -> String {
    match value.char_indices().nth(VALUE_MAX) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

fn shown(text: &str) -> String {
    Printable::plain(text).to_string()
}
