//! Where a command writes: data to standard output, remarks to standard error, colours only for people.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use bytesize::ByteSize;

use super::CliError;

/// The two streams of a command.
pub(super) struct Output {
    data: Box<dyn Write>,
    remarks: Box<dyn Write>,
    colour: bool,
    progress: Option<Progress>,
}

/// A line about how far a long command is, written over again and again.
struct Progress {
    shown: Option<Instant>,
}

/// How often it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Wrong.
    Bad,
    /// Of less interest than the rest.
    Faint,
}

impl Output {
    /// Standard output and standard error. There is colour only if the output is a terminal that can show it and
    /// `NO_COLOR` (<https://no-color.org>) is unset or empty.
    pub(super) fn stdio() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        let colour = wanted && able && io::stdout().is_terminal();
        Self {
            data: Box::new(io::stdout()),
            remarks: Box::new(io::stderr()),
            colour,
            progress: io::stderr()
                .is_terminal()
                .then_some(Progress { shown: None }),
        }
    }

    /// Streams of a test's own.
    #[cfg(test)]
    pub(super) fn to(
        data: impl Write + 'static,
        remarks: impl Write + 'static,
        colour: bool,
    ) -> Self {
        Self {
            data: Box::new(data),
            remarks: Box::new(remarks),
            colour,
            progress: None,
        }
    }

    /// Writes data as it is and passes it on at once.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.data
            .write_all(bytes)
            .and_then(|()| self.data.flush())
            .map_err(CliError::Output)
    }

    /// Writes a text as it is.
    pub(super) fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.bytes(text.as_bytes())
    }

    /// Writes data, and a line break if it does not end with one.
    pub(super) fn document(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        let line_break: &[u8] = if bytes.ends_with(b"\n") { b"" } else { b"\n" };
        self.bytes(&[bytes, line_break].concat())
    }

    /// Writes a line about what is going on. That nobody can read it does not keep a command from being done.
    pub(super) fn remark(&mut self, remark: impl Display) {
        let _ = writeln!(self.remarks, "{remark}");
    }

    /// Shows how many bytes of how many are done, to a person who waits.
    pub(super) fn progress(&mut self, verb: &str, bytes: u64, of: Option<u64>) {
        self.show(|| match of {
            Some(of) => format!("{verb} {} of {}", ByteSize(bytes), ByteSize(of)),
            None => format!("{verb} {}", ByteSize(bytes)),
        });
    }

    /// The same for documents of a collection.
    pub(super) fn count(&mut self, verb: &str, collection: &str, documents: u64) {
        self.show(|| format!("{verb} {documents} documents, now of {collection}"));
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        let Some(progress) = &mut self.progress else {
            return;
        };
        let recent = |shown: Instant| shown.elapsed() < PROGRESS_INTERVAL;
        if !progress.shown.is_some_and(recent) {
            progress.shown = Some(Instant::now());
            let _ = write!(self.remarks, "\r\u{1b}[K{}", text());
            let _ = self.remarks.flush();
        }
    }

    /// Takes the line about progress away.
    pub(super) fn end_progress(&mut self) {
        let shown = self
            .progress
            .as_mut()
            .and_then(|progress| progress.shown.take());
        if shown.is_some() {
            let _ = write!(self.remarks, "\r\u{1b}[K");
        }
    }

    /// A text in a colour, if there are colours.
    pub(super) fn paint(&self, colour: Option<Colour>, text: &str) -> String {
        let code = match colour {
            Some(Colour::Good) => "32",
            Some(Colour::Doubtful) => "33",
            Some(Colour::Bad) => "31",
            Some(Colour::Faint) => "2",
            None => return text.to_owned(),
        };
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
