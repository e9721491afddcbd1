//! `backup`: a consistent copy of all documents, in a file.

use std::path::PathBuf;

use basic_sync::backup::{BackupKey, Reader, Sealer};
use clap::{Args, Subcommand};

use super::super::client::{Client, Download, Target};
use super::super::flags::{ClientArgs, FormatArgs};
use super::super::output::Output;
use super::super::{CliError, block_on};
use super::destination::Destination;
use super::survey::{Survey, moment};
use super::verify::Verify;
use super::{ArchiveError, key};
use crate::config::Environment;

/// Flags of `backup`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Backup {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    take: Take,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read all of a backup, check every sum, and say what is in it. No agent is needed.
    Verify(Verify),
}

#[derive(Debug, Args)]
struct Take {
    /// The file to write, or - for standard output [default: CLUSTER-TIME.backup in the working directory]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Encrypt it: a file with a line of 32 characters or more that nobody can guess, as `openssl rand -hex 32` makes.
    /// Without this file the backup cannot be read.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Only this collection; may be repeated.
    #[arg(long = "collection", value_name = "NAME")]
    collections: Vec<String>,
    /// Put it in the place of a file that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// Where the bytes go.
enum Sink {
    Stdout,
    /// Once it is known which cluster it is of, if that makes the name.
    Unnamed,
    File(Destination),
}

impl Backup {
    pub(in crate::cli) fn execute(
        self,
        environment: &Environment,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.action {
            Some(Action::Verify(verify)) => verify.execute(output),
            None => {
                let client = Client::new(self.take.client.api(environment)?);
                block_on(self.take.execute(&client, output))
            }
        }
    }
}

impl Take {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let key = self.key_file.as_deref().map(key::read).transpose()?;
        // What is wrong with the place is known before the agent begins.
        let mut sink = match &self.output {
            Some(path) if path.as_os_str() == "-" => Sink::Stdout,
            Some(path) => Sink::File(Destination::create(path.clone(), self.force)?),
            None => Sink::Unnamed,
        };
        let collections = self.collections.join(",");
        let collections = Some(collections.as_str()).filter(|names| !names.is_empty());
        let target = Target::new("/v1/backup").optional("collections", collections);
        let stream = client.download(target).await?;
        let copied = self.copy(stream, key, &mut sink, output).await;
        output.end_progress();
        let survey = copied?;
        let name = match sink {
            Sink::File(destination) => {
                let name = destination.path().to_string_lossy().into_owned();
                destination.finish()?;
                name
            }
            Sink::Stdout | Sink::Unnamed => "standard output".to_owned(),
        };
        match (&self.output, self.format.json) {
            (Some(path), _) if path.as_os_str() == "-" => {
                output.remark(survey.line(&name));
                Ok(())
            }
            (_, true) => output.document(survey.json(&name).as_bytes()),
            (_, false) => output.text(&format!("{}\n", survey.line(&name))),
        }
    }

    async fn copy(
        &self,
        mut stream: Download,
        key: Option<BackupKey>,
        sink: &mut Sink,
        output: &mut Output,
    ) -> Result<Survey, CliError> {
        let mut survey = Survey::new(key.is_some(), 0);
        let mut sealer = match &key {
            Some(key) => Sealer::sealed(key).map_err(ArchiveError::Random)?,
            None => Sealer::plain(),
        };
        let mut reader = Reader::new(None);
        while let Some(bytes) = stream.next().await? {
            reader.push(&bytes);
            while let Some(piece) = reader.next_piece().map_err(ArchiveError::Stream)? {
                if survey.frames == 0 {
                    survey.note(&piece);
                    self.name(sink, &survey)?;
                    put(sink, &sealer.header(), &mut survey, output)?;
                } else {
                    survey.note(&piece);
                }
                let frame = sealer.frame(piece.frame.kind, piece.frame.packed());
                let frame = frame.map_err(ArchiveError::Stream)?;
                put(sink, &frame, &mut survey, output)?;
                output.progress("written", survey.file_bytes, None);
            }
        }
        reader.finish().map_err(ArchiveError::Stream)?;
        Ok(survey)
    }

    fn name(&self, sink: &mut Sink, survey: &Survey) -> Result<(), ArchiveError> {
        if matches!(sink, Sink::Unnamed) {
            let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let cluster: String = survey.manifest.cluster.chars().filter(is_plain).collect();
            let time: String = moment(survey.manifest.began_ms)
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .collect();
            let path = PathBuf::from(format!("./{cluster}-{time}.backup"));
            *sink = Sink::File(Destination::create(path, self.force)?);
        }
        Ok(())
    }
}

fn put(
    sink: &mut Sink,
    bytes: &[u8],
    survey: &mut Survey,
    output: &mut Output,
) -> Result<(), CliError> {
    survey.file_bytes += bytes.len() as u64;
    match sink {
        Sink::Stdout => output.bytes(bytes),
        Sink::File(destination) => Ok(destination.write(bytes)?),
        Sink::Unnamed => Ok(()),
    }
}
