//! `restore`: brings back what a backup holds, into a cluster that runs.
//!
//! By default the agent merges the backup as if a peer had sent it: what was lost comes back under its old versions,
//! and nothing newer is written over, deletions included. With `--as-new` what the backup holds is written anew, over
//! what is there now ([`super::rollback`]). In both, the whole file is read and checked before anything is sent.

use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use basic_sync::backup::{BackupKey, Sealer};
use bytes::Bytes;
use clap::Args;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::CliError;
use super::super::client::{Answer, Client, ClientError, Target};
use super::super::flags::{ClientArgs, FormatArgs};
use super::super::output::Output;
use super::source::Source;
use super::survey::Survey;
use super::{key, rollback};
use crate::api::BACKUP_TYPE;
use crate::config::Printable;

/// How long the agent may take for one frame, and for its answer after the last.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Flags of `restore`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// The file of the key that it was encrypted with.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Merge: bring back what was lost, and write over nothing that is newer. This is what is done unless told otherwise.
    #[arg(long, conflicts_with = "as_new")]
    merge: bool,
    /// Go back: write every document as the backup has it, over what is there now. What was deleted since comes back;
    /// what was made since stays.
    #[arg(long)]
    as_new: bool,
    /// With --as-new: delete what was made since, in the collections that the backup has.
    // What conflicts with --as-new would make clap forget that it is needed.
    #[arg(long, requires = "as_new", conflicts_with = "merge")]
    delete_newer: bool,
    #[command(flatten)]
    pub(in crate::cli) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Answer of `POST /v1/restore`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Restored {
    writes: u64,
    taken_in: u64,
    superseded: u64,
    known: u64,
    deleted: u64,
    exported: u64,
    left_out: u64,
}

impl Restore {
    pub(in crate::cli) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let key = self.key_file.as_deref().map(key::read).transpose()?;
        let source = Source::open(&self.file, key.as_ref())?;
        if self.as_new {
            let json = self.format.json;
            return rollback::execute(source, self.delete_newer, client, json, output).await;
        }
        let checked = source.survey(key.is_some(), |_, source| {
            output.progress("checked", source.position(), Some(source.length()));
            Ok(())
        });
        output.end_progress();
        let survey = checked?;
        let sent = self.send(key.as_ref(), client, output).await;
        output.end_progress();
        self.print(&sent?, &survey, output)
    }

    /// Sends the file without its seal.
    async fn send(
        &self,
        key: Option<&BackupKey>,
        client: &Client,
        output: &mut Output,
    ) -> Result<Answer, CliError> {
        let mut source = Source::open(&self.file, key)?;
        let mut sealer = Sealer::plain();
        let (bytes, taken) = mpsc::channel(2);
        let mut answer = pin!(client.upload(Target::new("/v1/restore"), BACKUP_TYPE, taken));
        let mut next = Some(Bytes::copy_from_slice(&sealer.header()));
        while let Some(piece) = next {
            tokio::select! {
                // The agent has said all it has to say.
                answer = &mut answer => return Ok(answer?),
                sent = timeout(PAUSE_MAX, bytes.send(piece)) => match sent {
                    Ok(Ok(())) => {}
                    // The connection has ended; the answer says how.
                    Ok(Err(_)) => break,
                    Err(_) => return Err(client.gave_up(PAUSE_MAX).into()),
                },
            }
            output.progress("sent", source.position(), Some(source.length()));
            next = match source.next_piece()? {
                Some(piece) => {
                    let frame = sealer.frame(piece.frame.kind, piece.frame.packed());
                    Some(frame.map_err(super::ArchiveError::Stream)?)
                }
                None => None,
            };
        }
        drop(bytes);
        let waited = timeout(PAUSE_MAX, answer).await;
        let silent = |_| Err::<Answer, ClientError>(client.gave_up(PAUSE_MAX));
        Ok(waited.unwrap_or_else(silent)?)
    }

    fn print(&self, answer: &Answer, survey: &Survey, output: &mut Output) -> Result<(), CliError> {
        if self.format.json {
            return output.document(&answer.body);
        }
        let Restored {
            writes,
            taken_in,
            superseded,
            known,
            deleted,
            exported,
            left_out,
        } = answer.json()?;
        output.text(&format!(
            "{}: of {writes} writes {taken_in} were missing here and are back, {known} were here, {superseded} are older than what is here\n",
            Printable::plain(&self.file.to_string_lossy())
        ))?;
        if deleted > 0 {
            output.remark(format!(
                "{deleted} of those that were here are of documents that were deleted since and stay so; --as-new brings them back"
            ));
        }
        if exported > 0 {
            output.remark(format!(
                "{exported} writes are of a node that was given up, and may have been deleted since: they are kept aside, `basic-agent sync exported` lists them"
            ));
        }
        if left_out > 0 {
            output.remark(format!(
                "{left_out} records about the nodes and keys of cluster {} were left out",
                Printable::plain(&survey.manifest.cluster)
            ));
        }
        if taken_in == 0 && superseded == 0 {
            output.remark("nothing was changed; --as-new writes the backup over what is there now");
        }
        Ok(())
    }
}
