//! Membership: a node that dies, one that leaves, all that start, and all at rest.
//!
//! Each contestant has a cluster (serf two: `lan` has its default timings, `local`
//! its fastest). *Cold start*: all processes are started at once; until every one
//! knows all others. *Idle*: what each process uses while nothing happens. *Crash*:
//! one node, in turn, is killed (SIGKILL) after a random pause, so that this falls
//! anywhere in the period in which a detector looks; until each other node says
//! that it failed; then it is started again. *Leave*: one node is asked to leave in
//! order, ours under a load of requests through the proxies of all others; until
//! each other node says that it left. Every node's view counts by itself.

use std::time::Duration;

use anyhow::Context;

use crate::agents::Agents;
use crate::arguments::Arguments;
use crate::peers::Program;
use crate::peers::serf::Serf;
use crate::progress;
use crate::service::Contestant;
use crate::table::{Column, Figures, OURS, Summary, Table, Unit, milliseconds};
use crate::workspace::Workspace;

/// The longest pause before a crash: a period of the slowest contestant.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// What comes with a start has settled by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Clusters beyond this size get fewer rounds: all their nodes share one machine.
const LARGE: u16 = 10;

const NOTICED: &str = "noticed_ms";
const LEFT: &str = "left_ms";
const LEFT_SPREAD: &str = "left_spread_ms";
const LOST: &str = "requests_lost";
const COLD_START: &str = "cold_start_ms";
const IDLE_PROCESSOR: &str = "idle_processor_percent";
const IDLE_RESIDENT: &str = "idle_resident_mib";

const COLUMNS: &[Column] = &[
    Column {
        key: "noticed_median_ms",
        heading: "crash p50",
        unit: Unit::Milliseconds,
        summary: Summary::MedianOf(NOTICED),
    },
    Column {
        key: "noticed_worst_ms",
        heading: "worst",
        unit: Unit::Milliseconds,
        summary: Summary::WorstOf(NOTICED),
    },
    Column {
        key: "left_median_ms",
        heading: "leave",
        unit: Unit::Milliseconds,
        summary: Summary::MedianOf(LEFT),
    },
    Column {
        key: "left_spread_worst_ms",
        heading: "spread",
        unit: Unit::Milliseconds,
        summary: Summary::WorstOf(LEFT_SPREAD),
    },
    Column {
        key: LOST,
        heading: "lost",
        unit: Unit::Count,
        summary: Summary::Sum,
    },
    Column {
        key: "cold_start_median_ms",
        heading: "cold start",
        unit: Unit::Milliseconds,
        summary: Summary::MedianOf(COLD_START),
    },
    Column {
        key: "idle_processor_median_percent",
        heading: "idle CPU",
        unit: Unit::Percent,
        summary: Summary::MedianOf(IDLE_PROCESSOR),
    },
    Column {
        key: "idle_resident_worst_mib",
        heading: "memory",
        unit: Unit::Mebibytes,
        summary: Summary::WorstOf(IDLE_RESIDENT),
    },
];

/// A cluster whose nodes watch each other.
pub(crate) trait Group {
    /// From the start of the first process until every node knew all others.
    fn cold_start(&self) -> Duration;
    /// The processes of all nodes.
    fn processes(&self) -> &[Contestant];
    /// Kills a node and returns how long it took each other node to say that it
    /// failed; then starts it again and waits until all is as before.
    async fn crash(&mut self, node: usize) -> anyhow::Result<Vec<Duration>>;
    /// Lets a node leave in order; then starts it again, and waits likewise.
    async fn leave(&mut self, node: usize) -> anyhow::Result<Leave>;
}

/// How a leave went.
pub(crate) struct Leave {
    /// From the moment the node was asked until each other said that it left.
    pub(crate) seen: Vec<Duration>,
    /// What became of the requests meanwhile; `None` if there were none.
    pub(crate) requests: Option<Requests>,
}

/// Requests of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
}

/// How often, and for how long.
#[derive(Clone, Copy)]
struct Effort {
    crashes: u16,
    leaves: u16,
    starts: u16,
    idle: Duration,
}

/// Runs the bench.
pub(crate) async fn run(
    arguments: &Arguments,
    nodes: u16,
    workspace: &Workspace,
) -> anyhow::Result<Table> {
    let effort = Effort::of(arguments, nodes);
    let mut contestants = Vec::new();
    let mut absent = Vec::new();
    let mut notes = vec![
        "Crash and leave are until each other node says so, over all nodes and rounds; spread is \
         from the first node that says `left` to the last, at worst. The leave of an agent \
         includes that it drains first."
            .to_owned(),
    ];
    if arguments.wants_ours() {
        let mut figures = Figures::new(OURS, Agents::version()?);
        let start = async |name: String| Agents::start(workspace, &name, nodes).await;
        let sent = effort.spend(&mut figures, nodes, start).await?;
        notes.push(format!(
            "{OURS}: {sent} requests went through the proxies while nodes left."
        ));
        contestants.push(figures);
    }
    match Program::Serf.find() {
        _ if !arguments.wants_peer(Program::Serf) => {}
        None => absent.push(Program::Serf),
        Some(_) => {
            for profile in ["lan", "local"] {
                let mut figures = Figures::new(format!("serf {profile}"), Program::Serf.version());
                let start =
                    async |name: String| Serf::start(workspace, &name, profile, nodes).await;
                // A peer that cannot keep up with a large cluster takes nothing from ours,
                // and what it did until then counts.
                if let Err(error) = effort.spend(&mut figures, nodes, start).await {
                    notes.push(format!("Not all was measured: {error:#}."));
                }
                contestants.push(figures);
            }
        }
    }
    Ok(Table {
        bench: "detection",
        work: format!("{nodes} nodes on loopback that watch each other"),
        nodes,
        columns: COLUMNS,
        contestants,
        absent,
        notes,
    })
}

impl Effort {
    fn of(arguments: &Arguments, nodes: u16) -> Effort {
        let crashes = arguments.rounds(if nodes > LARGE { 6 } else { 15 }, 3);
        match arguments.quick {
            true => Effort {
                crashes,
                leaves: crashes.min(1),
                starts: crashes.min(1),
                idle: Duration::from_secs(5),
            },
            false => Effort {
                crashes,
                leaves: crashes.min(5),
                starts: crashes.min(3),
                idle: Duration::from_secs(20),
            },
        }
    }

    /// Measures a contestant; returns how many requests were sent to it. What was
    /// measured before an error stays.
    async fn spend<G: Group>(
        self,
        figures: &mut Figures,
        nodes: u16,
        start: impl AsyncFn(String) -> anyhow::Result<G>,
    ) -> anyhow::Result<usize> {
        let name = figures.name.clone();
        let say = |what: &str, round: u16, rounds: u16| {
            progress(format!(
                "detection, n={nodes}: {what} {round} of {rounds}: {name}"
            ));
        };
        let mut group = None;
        for round in 1..=self.starts {
            say("cold start", round, self.starts);
            // The one before is to be gone by then.
            drop(group.take());
            let directory = format!("{}-{round}", name.replace(' ', "-"));
            let started = start(directory).await.with_context(|| name.clone())?;
            figures.add(COLD_START, milliseconds(started.cold_start()));
            group = Some(started);
        }
        let mut group = group.context("no cluster was started")?;

        progress(format!("detection, n={nodes}: idle: {name}"));
        self.idle(&group, figures).await?;
        for round in 1..=self.crashes {
            say("crash", round, self.crashes);
            tokio::time::sleep(random_pause()?).await;
            let node = usize::from(round % nodes);
            let noticed = group.crash(node).await.with_context(|| name.clone())?;
            for after in noticed {
                figures.add(NOTICED, milliseconds(after));
            }
            figures.rounds = round;
        }

        let mut sent = 0;
        for round in 1..=self.leaves {
            say("leave", round, self.leaves);
            let node = usize::from(round % nodes);
            let leave = group.leave(node).await.with_context(|| name.clone())?;
            for after in &leave.seen {
                figures.add(LEFT, milliseconds(*after));
            }
            let first = leave.seen.iter().min().copied().unwrap_or_default();
            let last = leave.seen.iter().max().copied().unwrap_or_default();
            figures.add(LEFT_SPREAD, milliseconds(last - first));
            if let Some(requests) = leave.requests {
                sent += requests.sent;
                figures.add(LOST, requests.lost as f64);
            }
        }
        Ok(sent)
    }

    /// What each process uses while nothing happens.
    async fn idle(self, group: &impl Group, figures: &mut Figures) -> anyhow::Result<()> {
        tokio::time::sleep(SETTLE).await;
        let times = || {
            let processes = group.processes().iter();
            processes
                .map(Contestant::processor_time)
                .collect::<anyhow::Result<Vec<_>>>()
        };
        let before = times()?;
        tokio::time::sleep(self.idle).await;
        for (before, now) in before.into_iter().zip(times()?) {
            let busy = (now - before).as_secs_f64() / self.idle.as_secs_f64();
            figures.add(IDLE_PROCESSOR, busy * 100.0);
        }
        for process in group.processes() {
            let mebibyte = f64::from(1 << 20);
            figures.add(IDLE_RESIDENT, process.resident()? as f64 / mebibyte);
        }
        Ok(())
    }
}

fn random_pause() -> anyhow::Result<Duration> {
    let random = getrandom::u32().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(PAUSE_MAX.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}
