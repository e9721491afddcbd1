//! `doctor`: what keeps an agent from running well here. It needs no agent that runs, and changes nothing.

use std::fmt::Write as _;

use clap::Args;

use crate::config::{Environment, Printable};
use crate::doctor::{self, Report, Verdict};

use super::CliError;
use super::flags::FormatArgs;
use super::output::{Colour, Output};
use super::settings::SettingsArgs;

/// Flags of `doctor`: those of `run`, and how the result is printed.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Doctor {
    /// Ends with an error if a check failed; warnings and what could not be told are none.
    pub(super) fn execute(
        self,
        environment: Environment,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let sources = self.settings.sources(environment);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CliError::Runtime)?;
        let report = runtime.block_on(doctor::examine(&sources));
        // What was given up, such as a name that does not resolve, must not delay the end.
        runtime.shutdown_background();
        if self.format.json {
            // Strings and numbers under names: it cannot fail.
            let json = serde_json::to_vec_pretty(&report).unwrap_or_default();
            output.document(&json)?;
        } else {
            output.text(&describe(&report, output))?;
        }
        match report.verdict {
            Verdict::Failure => Err(CliError::Attention),
            Verdict::Ok | Verdict::Unknown | Verdict::Warning => Ok(()),
        }
    }
}

/// A line for each check, with evidence and next step where something is to be done. Writing to a string cannot fail.
fn describe(report: &Report, output: &Output) -> String {
    let names = report.checks.iter().map(|check| check.name.chars().count());
    let width = names.max().unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let colour = match check.verdict {
            Verdict::Ok => Colour::Good,
            Verdict::Unknown => Colour::Faint,
            Verdict::Warning => Colour::Doubtful,
            Verdict::Failure => Colour::Bad,
        };
        let verdict = format!("{:<7}", check.verdict.as_str());
        let _ = writeln!(
            text,
            "{}  {:<width$}  {}",
            output.paint(Some(colour), &verdict),
            shown(&check.name),
            shown(&check.fact)
        );
        if check.verdict <= Verdict::Unknown {
            continue;
        }
        for line in &check.evidence {
            let _ = writeln!(text, "           evidence  {}", shown(line));
        }
        if let Some(next) = &check.next {
            let _ = writeln!(text, "           next      {}", shown(next));
        }
    }
    let _ = writeln!(text, "\n{}", summary(report, output));
    text
}

fn summary(report: &Report, output: &Output) -> String {
    let counted = [
        (Verdict::Failure, "failure", "failures"),
        (Verdict::Warning, "warning", "warnings"),
        (
            Verdict::Unknown,
            "check without a result",
            "checks without a result",
        ),
    ];
    let parts: Vec<String> = counted
        .into_iter()
        .filter_map(|(verdict, one, several)| match report.count(verdict) {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {several}")),
        })
        .collect();
    let fine = report.count(Verdict::Ok);
    let text = match parts.as_slice() {
        [] => format!("all {fine} checks are fine"),
        parts => format!("{}; {fine} checks are fine", parts.join(", ")),
    };
    let colour = match report.verdict {
        Verdict::Ok | Verdict::Unknown => Colour::Good,
        Verdict::Warning => Colour::Doubtful,
        Verdict::Failure => Colour::Bad,
    };
    output.paint(Some(colour), &text)
}

fn shown(text: &str) -> String {
    Printable::plain(text).to_string()
}
