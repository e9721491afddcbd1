//! `data batch`: several writes that are done together or not at all.

use std::io::{self, Read};

use bytes::Bytes;
use clap::Args;

use super::CliError;
use super::client::{Answer, BatchReceipt, Client, Target};
use super::data::{DocumentError, WriteArgs, print_acks, read_document};
use super::flags::{ClientArgs, FormatArgs};
use super::output::Output;

/// Flags of `data batch`.
#[derive(Debug, Args)]
pub(super) struct Batch {
    /// A file with {"operations":[{"op":"put","collection":"users","key":"u1","value":{}},…]}, or - for standard input.
    #[arg(value_name = "FILE", default_value = "-")]
    file: String,
    #[command(flatten)]
    write: WriteArgs,
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Batch {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let target = self.write.apply(Target::new("/v1/data:batch"));
        let answer = client.post(target, self.read(io::stdin())?).await?;
        print(&answer, self.format.json, output)
    }

    fn read(&self, input: impl Read) -> Result<Bytes, DocumentError> {
        match self.file.as_str() {
            "-" => read_document("-", input),
            file => read_document(&format!("@{file}"), input),
        }
    }
}

/// The versions, one a line, in the order of the operations.
fn print(answer: &Answer, json: bool, output: &mut Output) -> Result<(), CliError> {
    if json {
        return output.document(&answer.body);
    }
    let receipt: BatchReceipt = answer.json()?;
    let versions = receipt.results.iter();
    let versions = versions.map(|one| one.version.as_deref().unwrap_or("-"));
    let lines: String = versions.map(|version| format!("{version}\n")).collect();
    output.text(&lines)?;
    print_acks(receipt.acks, output);
    Ok(())
}
