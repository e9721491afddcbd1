//! Failure detection: from the moment a node is killed until all others say so.
//!
//! One cluster of each contestant (serf twice: `lan` has its default timings,
//! `local` its fastest); in each round one of its nodes, in turn, is
//! killed (SIGKILL), and started again when all others have noticed. The kill
//! comes after a random pause, so that it falls anywhere in the period in which
//! a detector looks.

use std::time::Duration;

use anyhow::Context;

use crate::agents::Agents;
use crate::arguments::Arguments;
use crate::peers::Program;
use crate::peers::serf::Serf;
use crate::progress;
use crate::table::{Column, Figures, OURS, Table, Unit, milliseconds};
use crate::workspace::Workspace;

/// The longest pause before a kill: a period of the slowest contestant.
const PAUSE_MAX: Duration = Duration::from_secs(1);

const COLUMNS: &[Column] = &[Column {
    key: "noticed_ms",
    heading: "noticed by all",
    unit: Unit::Milliseconds,
}];

/// A cluster whose nodes watch each other.
pub(crate) trait Detector {
    /// Kills a node and returns how long it took until every other node had
    /// noticed; then starts it again and waits until it is a member again.
    async fn detection_time(&mut self, node: usize) -> anyhow::Result<Duration>;
}

/// Runs the bench.
pub(crate) async fn run(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Table> {
    let nodes = arguments.nodes;
    let rounds = arguments.rounds(15, 3);
    let mut contestants = Vec::new();
    let mut absent = Vec::new();
    if arguments.wants_ours() {
        let mut cluster = Agents::start(workspace, "agents", nodes).await?;
        let figures = Figures::new(OURS, Agents::version()?);
        contestants.push(measure(&mut cluster, figures, nodes, rounds).await?);
    }
    match Program::Serf.find() {
        _ if !arguments.wants_peer(Program::Serf) => {}
        None => absent.push(Program::Serf),
        Some(_) => {
            for profile in ["lan", "local"] {
                let mut cluster = Serf::start(workspace, profile, nodes).await?;
                let figures = Figures::new(format!("serf {profile}"), Program::Serf.version());
                contestants.push(measure(&mut cluster, figures, nodes, rounds).await?);
            }
        }
    }
    let notes = contestants.iter().map(range).collect();
    Ok(Table {
        bench: "detection",
        work: format!("{nodes} nodes on loopback, one killed, until all others say that it failed"),
        columns: COLUMNS,
        contestants,
        absent,
        notes,
    })
}

async fn measure(
    cluster: &mut impl Detector,
    mut figures: Figures,
    nodes: u16,
    rounds: u16,
) -> anyhow::Result<Figures> {
    for round in 0..rounds {
        progress(format!(
            "detection: round {} of {rounds}: {}",
            round + 1,
            figures.name
        ));
        tokio::time::sleep(random_pause()?).await;
        let took = cluster.detection_time(usize::from(round % nodes)).await;
        let took = took.with_context(|| figures.name.clone())?;
        figures.rounds.push(vec![milliseconds(took)]);
    }
    Ok(figures)
}

fn random_pause() -> anyhow::Result<Duration> {
    let random = getrandom::u32().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(PAUSE_MAX.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

/// The fastest and the slowest round of a contestant, in words.
fn range(figures: &Figures) -> String {
    let times = || figures.rounds.iter().flatten().copied();
    let fastest = times().fold(f64::INFINITY, f64::min);
    let slowest = times().fold(0.0, f64::max);
    format!("{}: from {fastest:.0} to {slowest:.0} ms", figures.name)
}
