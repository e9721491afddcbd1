//! `sync`: how far the copies of the data are apart. `verify` and `repair` are in `verify.rs`, `task` in `sync_task.rs`,
//! and `exported` in `exported.rs`.
//!
//! `status` ends with 0 whatever it finds: copies are always a little apart while there are writes. The command `status`, and
//! `sync verify`, judge.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use crate::config::Printable;
use crate::host::bytes;

use super::CliError;
use super::client::{Client, PeerProgress, ReplicaLine, SyncPeers, Target, age};
use super::exported::Exported;
use super::flags::{ClientArgs, FormatArgs};
use super::output::{Colour, Output};
use super::sync_task::TaskAction;
use super::table::{Cell, Table};
use super::verify::{Mending, Verify};

/// A write that has been on its way for so long is late: it is pushed at once, and what was lost on the way is asked for
/// within two seconds.
const LATE_MS: u64 = 3_000;
/// A peer says every second what it has; one that has not for so long does not do well.
const SILENT_MS: u64 = 3_000;
/// Characters of a replica's identity that are shown: enough to tell those of one cluster apart.
const REPLICA_CHARS: usize = 8;

/// Flags of `sync`.
#[derive(Debug, Args)]
pub(super) struct Sync {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show for each peer what has not arrived yet, there and here, and since when.
    Status(Status),
    /// Give the agent tasks to bring data to nodes, and see what has become of them.
    #[command(subcommand)]
    Task(TaskAction),
    /// List the writes that this node had to keep aside when it had been away for too long, and decide about them.
    Exported(Exported),
    /// Compare what all nodes hold, document by document, and name what differs. Changes nothing.
    ///
    /// Exit code 0: all nodes took part and hold the same; 1: something differs or is wrong, or not all could be
    /// compared.
    Verify(Verify),
    /// Say what would make all nodes hold the same; with --apply do it.
    ///
    /// Exit code 0: nothing is wrong, or all of it was mended; 1: something is to be mended, could not be, or not all
    /// nodes took part.
    Repair(Mending),
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    format: FormatArgs,
}

impl Sync {
    /// How to find the agent.
    pub(super) fn client(&self) -> &ClientArgs {
        match &self.action {
            Action::Status(status) => &status.client,
            Action::Task(task) => task.client(),
            Action::Exported(exported) => &exported.client,
            Action::Verify(verify) => &verify.client,
            Action::Repair(repair) => &repair.client,
        }
    }

    pub(super) async fn execute(
        self,
        client: &Client,
        output: &mut Output,
    ) -> Result<(), CliError> {
        match self.action {
            Action::Status(status) => status.execute(client, output).await,
            Action::Task(task) => task.execute(client, output).await,
            Action::Exported(exported) => exported.execute(client, output).await,
            Action::Verify(verify) => verify.execute(client, output).await,
            Action::Repair(repair) => repair.execute(client, output).await,
        }
    }
}

impl Status {
    async fn execute(self, client: &Client, output: &mut Output) -> Result<(), CliError> {
        let answer = client.get(Target::new("/v1/sync/peers")).await?;
        if self.format.json {
            return output.document(&answer.body);
        }
        let sync: SyncPeers = answer.json()?;
        let now = SystemTime::now();
        let mut text = String::new();
        if !sync.peers.is_empty() {
            text = table(&sync, now).render(output) + "\n";
        }
        if !sync.replicas.is_empty() {
            text.push_str(&(replicas(&sync.replicas).render(output) + "\n"));
        }
        text.push_str(&totals(&sync));
        for peer in &sync.peers {
            text.push_str(&words(peer, now));
            text.extend(trust(peer));
        }
        text.push_str(&own_words(&sync));
        output.text(&text)
    }
}

fn table(sync: &SyncPeers, now: SystemTime) -> Table {
    let mut table = Table::new(&[
        "PEER",
        "LINK",
        "FOR",
        "HEARD",
        "NOT THERE",
        "OLDEST",
        "NOT HERE",
        "FOR",
        "QUEUED",
        "LOST",
    ]);
    for peer in &sync.peers {
        let (link, colour) = match peer.linked {
            true => ("up", Some(Colour::Good)),
            false if is_far(peer) => ("none", None),
            false => ("down", Some(Colour::Bad)),
        };
        let late = |ms: Option<u64>| ms.is_some_and(is_late).then_some(Colour::Doubtful);
        let ago = peer.silent_ms.map(|ms| format!("{} ago", span(ms)));
        table.row(vec![
            Cell::optional(peer.id.as_ref()),
            Cell::new(link).painted(colour),
            Cell::optional(peer.since.as_ref().map(|since| since.age(now))),
            Cell::optional(ago),
            Cell::new(peer.unacknowledged.to_string()).painted(late(peer.unacknowledged_ms)),
            Cell::optional(peer.unacknowledged_ms.map(span)),
            Cell::new(peer.behind.to_string()).painted(late(peer.behind_ms)),
            Cell::optional(peer.behind_ms.map(span)),
            Cell::new(queued(peer)),
            Cell::new(peer.frames_lost.to_string()),
        ]);
    }
    table
}

/// The stores that are, or were, copies of the data: a node that was given up has more than one.
fn replicas(lines: &[ReplicaLine]) -> Table {
    let mut table = Table::new(&["NODE", "REPLICA", "COUNTS", "ABSENT"]);
    for line in lines {
        let (counts, colour) = match line.fenced {
            false => ("yes", Colour::Good),
            true => ("given up", Colour::Doubtful),
        };
        let short: String = line.replica.chars().take(REPLICA_CHARS).collect();
        let absent = (line.absent_ms > 0).then(|| span(line.absent_ms));
        table.row(vec![
            Cell::new(&line.node),
            Cell::new(short + if line.own { " (this one)" } else { "" }),
            Cell::new(counts).painted(Some(colour)),
            Cell::optional(absent),
        ]);
    }
    table
}

/// Why nothing is taken from a peer, and what to do; nothing where all is well.
fn trust(peer: &PeerProgress) -> Option<String> {
    let id = shown(peer.id.as_deref().unwrap_or("-"));
    let words = match peer.trust.as_deref()? {
        "fenced" => {
            "its copy is not whole, because it was away for too long or takes over a snapshot; it puts that right by itself"
        }
        "stale" => {
            "it, or this node, has an old copy of its disk and lacks deletions that others no longer remember; wait a minute, then see `basic-agent status`"
        }
        "foreign" => {
            "its data is that of another cluster with a history of its own; `basic-agent status` says what to do"
        }
        _ => return None,
    };
    Some(format!("nothing is taken from {id}: {words}\n"))
}

/// What is to be said of this node itself.
fn own_words(sync: &SyncPeers) -> String {
    let mut text = String::new();
    if let Some(filling) = &sync.filling {
        let name = filling.collection.as_ref().zip(filling.key.as_ref());
        let upto = match name {
            Some((collection, key)) => {
                format!("up to {} so far", shown(&format!("{collection}/{key}")))
            }
            None => "nothing of it has come yet".to_owned(),
        };
        let _ = writeln!(
            text,
            "this node takes over a snapshot, in the order of the keys: {upto}"
        );
    }
    if sync.exported > 0 {
        let _ = writeln!(
            text,
            "{} writes were kept aside here and wait for a decision: `basic-agent sync exported` lists them",
            sync.exported
        );
    }
    text
}

fn queued(peer: &PeerProgress) -> String {
    let queue = &peer.queue;
    match (queue.messages, queue.ring_bytes) {
        (0, 0) => "-".to_owned(),
        (0, waiting) => bytes(waiting),
        (messages, 0) => format!("{messages} messages"),
        (messages, waiting) => format!("{}, {messages} messages", bytes(waiting)),
    }
}

fn totals(sync: &SyncPeers) -> String {
    let node = shown(sync.own_id.as_deref().unwrap_or("this node"));
    let peers = &sync.peers;
    let linked = peers.iter().filter(|peer| peer.linked).count();
    // Several peers may lack, or have, the same write.
    let most = |of: fn(&PeerProgress) -> u64| peers.iter().map(of).max().unwrap_or(0);
    let there = most(|peer| peer.unacknowledged);
    let here = most(|peer| peer.behind);
    let distance = match (there, here) {
        _ if peers.is_empty() => "there is nobody to replicate with".to_owned(),
        (0, 0) => "every copy has all that is known of".to_owned(),
        (there, here) => format!(
            "{there} of its writes are not on every peer yet, {here} of theirs not here yet"
        ),
    };
    let far = match peers.iter().filter(|peer| is_far(peer)).count() {
        0 => String::new(),
        far => format!(", {far} reached through others"),
    };
    let count = match peers.len() {
        1 => "1 peer".to_owned(),
        count => format!("{count} peers"),
    };
    format!("{node}: {count}, {linked} linked{far}; {distance}\n")
}

/// What is wrong with a peer, in sentences; nothing where all is well or on its way.
fn words(peer: &PeerProgress, now: SystemTime) -> String {
    let id = shown(peer.id.as_deref().unwrap_or("-"));
    let mut text = String::new();
    if is_far(peer) {
        // Nobody links to it from here, and that is as it should be.
    } else if !peer.linked {
        let since = peer.since.as_ref().map(|since| since.age(now));
        let since = since.map(|age| format!(" for {}", shown(&age)));
        let error = peer.last_error.as_ref();
        let error = error.map(|error| format!(" ({})", shown(error)));
        let _ = writeln!(
            text,
            "{id} cannot be reached{}{}; what it lacks goes to it when it can be",
            since.unwrap_or_default(),
            error.unwrap_or_default()
        );
    } else if let Some(silent) = peer.silent_ms.filter(|ms| *ms >= SILENT_MS) {
        let _ = writeln!(
            text,
            "{id} is linked but was last heard {} ago: its agent is stopped, overloaded, or cannot send",
            span(silent)
        );
    } else if let Some(error) = &peer.last_error {
        let _ = writeln!(
            text,
            "something that {id} sent was refused: {}",
            shown(error)
        );
    }
    if let Some(age) = peer.unacknowledged_ms.filter(|ms| is_late(*ms)) {
        let count = peer.unacknowledged;
        let _ = writeln!(
            text,
            "{id} lacks {count} writes of this node, the oldest of them made {} ago",
            span(age)
        );
    }
    if let Some(age) = peer.behind_ms.filter(|ms| is_late(*ms)) {
        let count = peer.behind;
        let _ = writeln!(
            text,
            "this node lacks {count} writes that {id} has, and has known so for {}",
            span(age)
        );
    }
    text
}

fn is_far(peer: &PeerProgress) -> bool {
    !peer.linked && peer.near == Some(false)
}

fn is_late(ms: u64) -> bool {
    ms >= LATE_MS
}

/// Such as `350ms`, `4.2s` or `3m 12s`.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => age(Duration::from_millis(ms)),
    }
}

fn shown(text: &str) -> String {
    Printable::plain(text).to_string()
}
