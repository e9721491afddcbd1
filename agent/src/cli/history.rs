//! `data history`: the versions of a document that a node has kept, or one of them.

use std::num::NonZeroUsize;

use clap::Args;

use super::CliError;
use super::client::{Client, HistoryPage, HistoryVersion};
use super::data::{Place, excerpt};
use super::flags::{ClientArgs, FormatArgs};
use super::output::Output;
use super::table::{Cell, Table};

/// Versions of a page.
const PAGE_SIZE: usize = 200;

/// Flags of `data history`.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    place: Place,
    /// Print the document as it was in this version.
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// At most so many versions, the newest.
    #[arg(long, value_name = "N", conflicts_with = "version")]
    limit: Option<NonZeroUsize>,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl History {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        if let Some(version) = &self.version {
            let target = self.place.target().parameter("version", version);
            return output.document(&client.get(target).await?.body);
        }
        let mut left = self.limit.map(NonZeroUsize::get);
        let mut before: Option<String> = None;
        let mut table = Table::new(&["TIME", "VERSION", "OP", "DOCUMENT"]);
        loop {
            let page_size = left.map_or(PAGE_SIZE, |left| left.min(PAGE_SIZE));
            let target = self.place.target().segment("history");
            let target = target
                .parameter("limit", &page_size.to_string())
                .optional("before", before.as_deref());
            let answer = client.get(target).await?;
            let page: HistoryPage = answer.json()?;
            if self.format.json {
                output.document(&answer.body)?;
            }
            page.versions
                .iter()
                .for_each(|version| table.row(row(version)));
            left = left.map(|left| left.saturating_sub(page.versions.len()));
            // A page that is empty, or that does not lead on, would be asked for over and over.
            let leads_on = !page.versions.is_empty() && page.next.is_some() && page.next != before;
            if !leads_on || left == Some(0) {
                break;
            }
            before = page.next;
        }
        if self.format.json {
            return Ok(());
        }
        let text = table.render(output);
        output.text(&text)
    }
}

fn row(version: &HistoryVersion) -> Vec<Cell> {
    let op = match &version.reason {
        Some(reason) => format!("{} ({reason})", version.op),
        None => version.op.clone(),
    };
    let document = version.value.as_ref();
    let document = document.map(|value| excerpt(&value.to_string()));
    vec![
        Cell::new(&version.time),
        Cell::new(&version.version),
        Cell::new(&op),
        Cell::optional(document.as_ref()),
    ]
}
