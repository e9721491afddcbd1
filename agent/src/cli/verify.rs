//! `sync verify` and `sync repair`: whether all nodes hold the same, and what makes them.
//!
//! The agent that is asked does the work; this waits for its report, prints it, and ends with 1 unless all is known to
//! be well: a node that was not compared may be the one that differs. etcd's `endpoint hashkv` ends the same way.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::sleep;

use super::CliError;
use super::client::{
    Answer, Client, ClientError, DifferingKey, Hold, KeyName, Target, Verification,
    VerificationProgress,
};
use super::flags::{ClientArgs, FormatArgs};
use super::operate::user;
use super::output::{Colour, Output};
use super::sync::span;
use super::table::{Cell, Table};
use crate::config::Printable;

/// The agent ends at the time limit, and may have to wait for a node before it does.
const SLACK: Duration = Duration::from_secs(60);
/// Time between two remarks about how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Longest value that a table shows, in characters; `--json` has more of it.
const VALUE_MAX: usize = 60;

/// Flags of `sync verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Check each node's own indexes and digest too.
    #[arg(long)]
    deep: bool,
    /// How long it may take; what was not compared by then is said.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::durations::parse_duration)]
    timeout: Duration,
}

/// Flags of `sync repair`.
#[derive(Debug, Args)]
pub(super) struct Mending {
    #[command(flatten)]
    pub(super) client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
    /// Only say what would be done, which is the default.
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Do it. The plan is made anew, from what the nodes hold then.
    #[arg(long)]
    apply: bool,
    /// Even if not all nodes take part. What a missing node holds may have decided otherwise.
    #[arg(long, requires = "apply")]
    partial: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Who decides, for the record [default: $USER or $LOGNAME]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// How long it may take; what was not mended by then is said.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = crate::durations::parse_duration)]
    timeout: Duration,
}

impl Verify {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let target = Target::new("/v1/sync/verify")
            .parameter("timeout", &limit(self.timeout))
            .optional("deep", self.deep.then_some("true"));
        let answer = ask(client, target, "{}".to_owned(), self.timeout, output).await?;
        show(&answer, self.format, false, output)
    }
}

impl Mending {
    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        let target = Target::new("/v1/sync/repair")
            .parameter("timeout", &limit(self.timeout))
            .optional("dry_run", self.apply.then_some("false"))
            .optional("partial", self.partial.then_some("true"));
        let words = json!({ "by": self.by.or_else(user), "why": self.why });
        let answer = ask(client, target, words.to_string(), self.timeout, output).await?;
        show(&answer, self.format, true, output)
    }
}

fn limit(timeout: Duration) -> String {
    format!("{}ms", timeout.as_millis())
}

/// Asks, and says on a terminal how far it is.
async fn ask(
    client: &Client,
    target: Target,
    body: String,
    limit: Duration,
    output: &mut Output,
) -> Result<Answer, CliError> {
    let patient = client.with_answer_timeout(limit.saturating_add(SLACK));
    let answer = patient.post(target, body.into());
    tokio::pin!(answer);
    let watched = io::stderr().is_terminal();
    loop {
        tokio::select! {
            answer = &mut answer => return Ok(answer?),
            () = sleep(PROGRESS_INTERVAL), if watched => {
                if let Ok(VerificationProgress { documents: Some(documents), differing }) = progress(client).await {
                    let differing = differing.unwrap_or(0);
                    output.remark(format!("{documents} documents compared, {differing} differ"));
                }
            }
        }
    }
}

async fn progress(client: &Client) -> Result<VerificationProgress, ClientError> {
    client.get(Target::new("/v1/sync/verify")).await?.json()
}

fn show(
    answer: &Answer,
    format: FormatArgs,
    repair: bool,
    output: &mut Output,
) -> Result<(), CliError> {
    let report: Verification = answer.json()?;
    if format.json {
        output.document(&answer.body)?;
    } else {
        let mut text = nodes(&report).render(output);
        if !report.differences.is_empty() {
            let table = differences(&report).render(output);
            let _ = write!(text, "\n{table}");
        }
        if repair && !report.differences.is_empty() {
            let table = remedies(&report).render(output);
            let _ = write!(text, "\n{table}");
        }
        let _ = write!(text, "\n{}", words(&report, repair));
        output.text(&text)?;
    }
    match report.equal {
        true => Ok(()),
        false => Err(CliError::Attention),
    }
}

fn nodes(report: &Verification) -> Table {
    let mut table = Table::new(&["NODE", "COMPARED", "DOCUMENTS", "TABLES"]);
    for node in &report.nodes {
        let (compared, colour) = match node.compared {
            true => ("yes", Colour::Good),
            false => ("no", Colour::Bad),
        };
        let (tables, tables_colour) = match (node.faulty, node.digest_right) {
            (0, _) if node.rows == 0 => ("-".to_owned(), None),
            (0, Some(true)) => (format!("{} rows, right", node.rows), Some(Colour::Good)),
            (0, _) => (format!("{} rows, digest not checked", node.rows), None),
            (faulty, _) => (format!("{faulty} faults"), Some(Colour::Bad)),
        };
        table.row(vec![
            Cell::new(&node.id),
            Cell::new(compared).painted(Some(colour)),
            Cell::new(node.documents.to_string()),
            Cell::new(tables).painted(tables_colour),
        ]);
    }
    table
}

fn differences(report: &Verification) -> Table {
    let mut table = Table::new(&["KEY", "PART", "NODE", "HOLDS"]);
    for one in &report.differences {
        for part in &one.parts {
            let name = part.name.as_ref().map(|name| format!(" {name}"));
            let name = format!("{}{}", part.part, name.unwrap_or_default());
            for hold in &part.holds {
                table.row(vec![
                    Cell::new(full_name(&one.key)),
                    Cell::new(&name),
                    Cell::new(&hold.node),
                    Cell::new(held(hold)),
                ]);
            }
        }
    }
    table
}

fn held(hold: &Hold) -> String {
    let version = hold.version.as_ref();
    let at = version.map_or_else(String::new, |version| format!(" at {version}"));
    match &hold.value {
        Some(value) if value.chars().count() > VALUE_MAX => {
            let begin: String = value.chars().take(VALUE_MAX).collect();
            format!("{begin}…{at}")
        }
        Some(value) => format!("{value}{at}"),
        None => format!("({}){at}", hold.state),
    }
}

fn remedies(report: &Verification) -> Table {
    let mut table = Table::new(&["KEY", "CHANGED ON", "BECAUSE", "OUTCOME"]);
    for one in &report.differences {
        let Some(remedy) = &one.remedy else { continue };
        let colour = match remedy.outcome.as_str() {
            "mended" => Some(Colour::Good),
            "planned" => None,
            _ => Some(Colour::Bad),
        };
        table.row(vec![
            Cell::new(full_name(&one.key)),
            Cell::new(remedy.nodes.join(", ")),
            Cell::new(reason(one)),
            Cell::new(&remedy.outcome).painted(colour),
        ]);
    }
    table
}

fn reason(one: &DifferingKey) -> &'static str {
    let reason = one
        .remedy
        .as_ref()
        .and_then(|remedy| remedy.reason.as_deref());
    match reason {
        Some("merged") => "it lacks what others have",
        Some("sound") => "its copy is damaged",
        Some("majority") => "most nodes hold another copy of the same write",
        Some("forgotten") => {
            "it was deleted, or most nodes have lost it: delete it (`data delete`) or write it again (`data put`)"
        }
        Some("hash") => "two copies of one write, and no majority: the choice is arbitrary",
        _ => "no node has a copy that can be read",
    }
}

/// What came out, in sentences.
fn words(report: &Verification, repair: bool) -> String {
    let mut text = String::new();
    for node in report.nodes.iter().filter(|node| !node.compared) {
        let reason = node.error.as_deref().unwrap_or("it could not be asked");
        let _ = writeln!(
            text,
            "{} was not compared: {}",
            shown(&node.id),
            shown(reason)
        );
    }
    for node in report.nodes.iter().filter(|node| node.faulty > 0) {
        let faults = node.faults.iter().take(3).map(|fault| {
            let key = (!fault.key.key.is_empty()).then(|| format!(" {}", full_name(&fault.key)));
            let write = fault.write.as_ref().map(|write| format!(" write {write}"));
            let position = fault
                .position
                .map(|position| format!(" position {position}"));
            let about = [key, write, position].into_iter().flatten();
            shown(&format!("{}{}", fault.kind, about.collect::<String>()))
        });
        let faults: Vec<String> = faults.collect();
        let _ = writeln!(
            text,
            "{} has {} faults in its own tables: {}{}",
            shown(&node.id),
            node.faulty,
            faults.join("; "),
            if node.faulty > 3 { "; …" } else { "" }
        );
    }
    for node in report.nodes.iter().filter(|node| node.mended > 0) {
        let _ = writeln!(
            text,
            "{}: {} faults of its tables were worked on",
            shown(&node.id),
            node.mended
        );
    }
    if report.undecided > 0 {
        let keys = report.undecided_keys.iter().take(3).map(full_name);
        let keys: Vec<String> = keys.map(|key| shown(&key)).collect();
        let _ = writeln!(
            text,
            "{} keys cannot be judged yet, because a node has not caught up: {}; `basic-agent sync status` says which, try again then",
            report.undecided,
            keys.join(", ")
        );
    }
    if report.in_flight > 0 {
        let _ = writeln!(
            text,
            "{} keys had writes on their way to some node, which is no difference",
            report.in_flight
        );
    }
    if !report.complete {
        text.push_str(
            "the time was up before everything was looked at; give it more by --timeout\n",
        );
    }
    let listed = u64::try_from(report.differences.len()).unwrap_or(u64::MAX);
    if report.differing > listed {
        let _ = writeln!(
            text,
            "{} more keys differ than are listed",
            report.differing - listed
        );
    }
    let compared = report.nodes.iter().filter(|node| node.compared).count();
    let documents = report.nodes.first().map_or(0, |node| node.documents);
    let outcome = match (report.differing, report.mended) {
        (0, _) => "no key differs".to_owned(),
        (differing, 0) => format!("{differing} keys differ"),
        (differing, mended) => format!("{differing} keys differed, {mended} of them were mended"),
    };
    let _ = writeln!(
        text,
        "{documents} documents on {compared} of {} nodes compared in {}: {outcome}",
        report.nodes.len(),
        span(report.took_ms)
    );
    let planned = report.mended == 0
        && (report.differing > 0 || report.nodes.iter().any(|node| node.faulty > 0));
    match (repair, planned) {
        (false, true) => text.push_str("`basic-agent sync repair` says what would mend it\n"),
        (true, true) => {
            text.push_str("nothing was changed; `basic-agent sync repair --apply` does it\n");
        }
        _ => {}
    }
    text
}

fn full_name(key: &KeyName) -> String {
    format!("{}/{}", key.collection, key.key)
}

fn shown(text: &str) -> String {
    Printable::plain(text).to_string()
}
