//! `backup verify`: reads all of a backup and says what is in it.

use std::path::PathBuf;

use clap::Args;

use super::super::CliError;
use super::super::flags::FormatArgs;
use super::super::output::Output;
use super::key;
use super::source::Source;

/// Flags of `backup verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The file of the key that it was encrypted with.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

impl Verify {
    pub(super) fn execute(&self, output: &mut Output) -> Result<(), CliError> {
        let key = self.key_file.as_deref().map(key::read).transpose()?;
        let source = Source::open(&self.file, key.as_ref())?;
        let survey = source.survey(key.is_some(), |_, source| {
            output.progress("checked", source.position(), Some(source.length()));
            Ok(())
        });
        output.end_progress();
        let survey = survey?;
        let name = self.file.to_string_lossy();
        if self.format.json {
            return output.document(survey.json(&name).as_bytes());
        }
        output.text(&format!("{}\n", survey.line(&name)))?;
        survey.print_collections(output)
    }
}
