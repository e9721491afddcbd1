//! `audit`: who decided what, when, from where and why.

use clap::Args;
use serde_json::Value;

use super::CliError;
use super::client::{AuditRecord, AuditRecords, Client, Target};
use super::flags::{ClientArgs, FormatArgs};
use super::output::Output;
use super::table::{Cell, Table};

/// Flags of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Only decisions about this node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
}

impl Audit {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let target = Target::new("/v1/audit")
            .parameter("limit", &self.limit.to_string())
            .optional("node", self.node.as_deref());
        let answer = client.get(target).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let records: AuditRecords = answer.json()?;
        if records.items.is_empty() {
            return output.text("no decision is recorded\n");
        }
        let text = table(&records.items).render(output);
        output.text(&text)
    }
}

fn table(records: &[AuditRecord]) -> Table {
    let mut table = Table::new(&["AT", "NODE", "ACTION", "CHANGED", "BY", "FROM", "ON", "WHY"]);
    for record in records {
        table.row(vec![
            Cell::optional(record.at.as_ref()),
            Cell::optional(record.node.as_ref()),
            Cell::optional(record.action.as_ref()),
            Cell::optional(changed(&record.before, &record.after)),
            Cell::optional(record.by.as_ref()),
            Cell::optional(record.from.as_ref()),
            Cell::optional(record.on.as_ref()),
            Cell::optional(record.why.as_ref()),
        ]);
    }
    table
}

/// The fields that differ, such as `weight 100 -> 300`.
fn changed(before: &Value, after: &Value) -> Option<String> {
    let fields = after.as_object()?.iter();
    // When a server was registered is the record's own date.
    let fields = fields.filter(|(name, _)| *name != "registered");
    let fields = fields.filter_map(|(name, now)| {
        let was = before.get(name).unwrap_or(&Value::Null);
        (was != now).then(|| format!("{name} {} -> {}", plain(was), plain(now)))
    });
    let fields: Vec<String> = fields.collect();
    (!fields.is_empty()).then(|| fields.join(", "))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
