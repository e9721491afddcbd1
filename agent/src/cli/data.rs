//! `data get|put|patch|delete|list|watch|batch|history`: the documents that are replicated to every node.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bytes::Bytes;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde::de::IgnoredAny;

use super::CliError;
use super::batch::Batch;
use super::client::{Answer, Client, DataPage, Target, WriteReceipt};
use super::flags::{ClientArgs, FormatArgs};
use super::history::History;
use super::output::Output;
use super::table::{Cell, Table};
use super::watch::Watch;

/// Largest document that is read from a file or a pipe, in bytes. The agent's own limit is lower and is told by the
/// agent; this one keeps a wrong file from filling the memory.
const DOCUMENT_MAX: u64 = 16 * 1024 * 1024;
/// Documents of a page: with each of the largest size, a page is still one that the client takes.
const PAGE_SIZE: usize = 200;
/// Characters of a document that the list shows.
const EXCERPT_CHARS: usize = 100;

/// Flags of `data`.
#[derive(Debug, Args)]
pub(super) struct Data {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a document.
    Get(Get),
    /// Write a document and print its version.
    Put(Put),
    /// Change a part of a document and print its version.
    ///
    /// In most collections the change is a JSON merge patch (RFC 7396): an object whose members replace those of the
    /// document, where null removes one. To a counter it is {"add": 5}, to a set {"add": ["a"], "remove": ["b"]}.
    Patch(Put),
    /// Delete a document.
    Delete(Delete),
    /// Do several writes together or none of them, and print the versions.
    Batch(Batch),
    /// List documents in the order of their keys.
    List(List),
    /// Print changes as they come.
    Watch(Watch),
    /// List the versions of a document that a node has kept, the newest first, or print one of them.
    ///
    /// Collections ask for it by `history = N`; each node keeps the versions that it went through itself.
    History(History),
}

/// A document's place.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The collection, such as users.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    collection: String,
    /// The key within the collection.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: String,
}

#[derive(Debug, Args)]
struct Get {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    client: ClientArgs,
    // A document is JSON already; the flag is taken because every command that prints data has it.
    #[command(flatten)]
    _format: FormatArgs,
}

/// How a write is to be made.
#[derive(Debug, Args)]
pub(super) struct WriteArgs {
    /// Wait until so many other nodes have it on disk, or all.
    #[arg(long, value_name = "N|all")]
    acks: Option<String>,
    /// How long to wait for them, such as 500ms; 5s unless given.
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
}

impl WriteArgs {
    pub(super) fn apply(&self, target: Target) -> Target {
        target
            .optional("acks", self.acks.as_deref())
            .optional("timeout", self.timeout.as_deref())
    }
}

#[derive(Debug, Args)]
struct Put {
    #[command(flatten)]
    place: Place,
    /// The document or the change: JSON, or @FILE, or - for standard input.
    #[arg(value_name = "JSON", default_value = "-", allow_hyphen_values = true)]
    document: String,
    /// Let the document live so long from now on, such as 30m or 7d.
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
struct Delete {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Debug, Args)]
struct List {
    /// The collection, such as users.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    collection: String,
    /// Only keys that begin with this.
    #[arg(long)]
    prefix: Option<String>,
    /// Only keys after this one.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// At most so many documents.
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroUsize>,
    /// Print the keys only, one a line.
    #[arg(long, conflicts_with = "json")]
    keys: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Why a document to write cannot be used. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The file or pipe cannot be read.
    #[error("{place} cannot be read")]
    Unreadable {
        /// The file, or standard input.
        place: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// Larger than any document may be.
    #[error("{place} is larger than {} MiB; split the document into several", DOCUMENT_MAX >> 20)]
    TooLarge {
        /// The file, or standard input.
        place: String,
    },
    /// Not JSON.
    #[error("{place}:{line}:{column}: not a JSON document, so nothing was written: {reason}")]
    NotJson {
        /// The file, standard input, or the argument.
        place: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1 if there is anything at all, in bytes.
        column: usize,
        /// What was expected there.
        reason: String,
    },
}

impl Data {
    /// How to find the agent.
    pub(super) fn client(&self) -> &ClientArgs {
        match &self.action {
            Action::Get(get) => &get.client,
            Action::Put(put) | Action::Patch(put) => &put.client,
            Action::Delete(delete) => &delete.client,
            Action::Batch(batch) => &batch.client,
            Action::List(list) => &list.client,
            Action::Watch(watch) => &watch.client,
            Action::History(history) => &history.client,
        }
    }

    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.action {
            Action::Get(get) => {
                let answer = client.get(get.place.target()).await?;
                output.document(&answer.body)
            }
            Action::Put(put) => {
                let (target, document) = put.request(io::stdin())?;
                print_written(client.put(target, document).await?, put.format.json, output)
            }
            Action::Patch(patch) => {
                let (target, change) = patch.request(io::stdin())?;
                let answer = client.patch(target, change).await?;
                print_written(answer, patch.format.json, output)
            }
            Action::Delete(delete) => {
                let target = delete.write.apply(delete.place.target());
                let answer = client.delete(target).await?;
                print_written(answer, delete.format.json, output)
            }
            Action::Batch(batch) => batch.execute(client, output).await,
            Action::List(list) => list.execute(client, output).await,
            Action::Watch(watch) => watch.execute(client, output).await,
            Action::History(history) => history.execute(client, output).await,
        }
    }
}

impl Place {
    pub(super) fn target(&self) -> Target {
        Target::new("/v1/data")
            .segment(&self.collection)
            .segment(&self.key)
    }
}

impl Put {
    fn request(&self, input: impl Read) -> Result<(Target, Bytes), DocumentError> {
        let target = self.write.apply(self.place.target());
        let target = target.optional("ttl", self.ttl.as_deref());
        Ok((target, read_document(&self.document, input)?))
    }
}

impl List {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let mut after = self.after.clone();
        let mut left = self.limit.map(NonZeroUsize::get);
        let mut table = Table::new(&["KEY", "VERSION", "DOCUMENT"]);
        loop {
            let page_size = left.map_or(PAGE_SIZE, |left| left.min(PAGE_SIZE));
            let target = Target::new("/v1/data")
                .segment(&self.collection)
                .optional("prefix", self.prefix.as_deref())
                .optional("after", after.as_deref())
                .parameter("limit", &page_size.to_string());
            let answer = client.get(target).await?;
            let page: DataPage = answer.json()?;
            if self.format.json {
                output.document(&answer.body)?;
            } else if self.keys {
                let keys: String = page
                    .items
                    .iter()
                    .map(|item| format!("{}\n", item.key))
                    .collect();
                output.text(&keys)?;
            } else {
                for item in &page.items {
                    table.row(vec![
                        Cell::new(&item.key),
                        Cell::optional(item.version.as_ref()),
                        Cell::new(excerpt(&item.value.to_string())),
                    ]);
                }
            }
            left = left.map(|left| left.saturating_sub(page.items.len()));
            // A page that is empty, or that does not lead on, would be asked for over and over.
            let leads_on = !page.items.is_empty() && page.next.is_some() && page.next != after;
            if !leads_on || left == Some(0) {
                break;
            }
            after = page.next;
        }
        if self.format.json || self.keys {
            return Ok(());
        }
        let text = table.render(output);
        output.text(&text)
    }
}

/// The version alone on standard output, for scripts; how many peers have it on standard error.
fn print_written(answer: Answer, json: bool, output: &mut Output) -> Result<(), CliError> {
    if json {
        return output.document(&answer.body);
    }
    let receipt: WriteReceipt = answer.json()?;
    let version = receipt
        .version
        .or(answer.version)
        .unwrap_or_else(|| "-".to_owned());
    output.text(&format!("{version}\n"))?;
    print_acks(receipt.acks, output);
    Ok(())
}

/// How many peers have a write, where any do.
pub(super) fn print_acks(acks: Option<u64>, output: &mut Output) {
    if let Some(acks) = acks.filter(|acks| *acks > 0) {
        output.remark(format_args!("on the disks of {acks} peers too"));
    }
}

/// The document that an argument stands for, known to be JSON.
pub(super) fn read_document(argument: &str, input: impl Read) -> Result<Bytes, DocumentError> {
    let (place, bytes) = match argument.strip_prefix('@') {
        Some(path) => {
            let place = PathBuf::from(path).display().to_string();
            let file = File::open(path).map_err(|source| DocumentError::Unreadable {
                place: place.clone(),
                source,
            })?;
            (place.clone(), read_capped(file, place)?)
        }
        None if argument == "-" => {
            let place = "standard input".to_owned();
            (place.clone(), read_capped(input, place)?)
        }
        None => ("argument".to_owned(), argument.as_bytes().to_vec()),
    };
    match serde_json::from_slice::<IgnoredAny>(&bytes) {
        Ok(_) => Ok(bytes.into()),
        Err(error) => {
            // The position is told in front, so it is taken off the end.
            let text = error.to_string();
            let end = format!(" at line {} column {}", error.line(), error.column());
            let reason = text.strip_suffix(&end).unwrap_or(&text).to_owned();
            let (line, column) = (error.line(), error.column());
            Err(DocumentError::NotJson {
                place,
                line,
                column,
                reason,
            })
        }
    }
}

fn read_capped(source: impl Read, place: String) -> Result<Vec<u8>, DocumentError> {
    let mut bytes = Vec::new();
    let read = source.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes);
    match read {
        Err(source) => Err(DocumentError::Unreadable { place, source }),
        Ok(_) if bytes.len() as u64 > DOCUMENT_MAX => Err(DocumentError::TooLarge { place }),
        Ok(_) => Ok(bytes),
    }
}

pub(super) fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let mut excerpt: String = chars.by_ref().take(EXCERPT_CHARS).collect();
    if chars.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_is_not_json_is_refused_with_its_position() {
        let error = read_document("-", &b"{\"name\":\n  oops}"[..]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "standard input:2:3: not a JSON document, so nothing was written: expected value"
        );
        let error = read_document("{\"a\":1", io::empty()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "argument:1:6: not a JSON document, so nothing was written: EOF while parsing an object"
        );
        assert!(read_document("-", io::empty()).is_err());
        assert!(read_document("{} {}", io::empty()).is_err());
    }

    #[test]
    fn a_document_is_an_argument_a_file_or_standard_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[1]").unwrap();
        let from_file = format!("@{}", file.path().display());
        assert_eq!(read_document(&from_file, io::empty()).unwrap(), "[1]");
        assert_eq!(read_document("-", &b"[2]"[..]).unwrap(), "[2]");
        assert_eq!(read_document("-3", io::empty()).unwrap(), "-3");
    }

    #[test]
    fn a_file_that_is_missing_or_too_large_is_refused() {
        let error = read_document("@missing.json", io::empty()).unwrap_err();
        assert_eq!(error.to_string(), "missing.json cannot be read");
        let error = read_document("-", io::repeat(b' ')).unwrap_err();
        assert_eq!(
            error.to_string(),
            "standard input is larger than 16 MiB; split the document into several"
        );
    }
}
