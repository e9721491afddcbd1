//! The proxy: requests in front of backends that cost next to nothing.
//!
//! All contestants stand before the same backends and take turns, round by
//! round, so that whatever else the machine does meets them alike. A round has
//! two loads. At full speed: how many requests a second, and what processor
//! time of the proxy does one cost? At a fixed rate that none has trouble with:
//! how long does a request take? The row `direct` is the load straight at a
//! backend, the floor that no proxy can be below.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use basic_tests::harness::http::Client;
use basic_tests::harness::wait::wait_until;

use crate::agents::{Agents, BODY_BYTES};
use crate::arguments::Arguments;
use crate::backend::Backend;
use crate::load::Load;
use crate::peers::{Program, haproxy, nginx};
use crate::progress;
use crate::service::Contestant;
use crate::table::{Column, Figures, OURS, Summary, Table, Unit, microseconds};
use crate::workspace::Workspace;

const BACKENDS: u16 = 3;
const CONNECTIONS: u32 = 32;
/// Requests a second of the fixed load, and over how many connections.
const FIXED_RATE: u32 = 2000;
const FIXED_CONNECTIONS: u32 = 8;
const READY_MAX: Duration = Duration::from_secs(20);

const COLUMNS: &[Column] = &[
    Column {
        key: "requests_per_second",
        heading: "full speed",
        unit: Unit::PerSecond,
        summary: Summary::Median,
    },
    Column {
        key: "processor_us_per_request",
        heading: "CPU/request",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
    Column {
        key: "full_p99_us",
        heading: "p99 at full speed",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
    Column {
        key: "fixed_p50_us",
        heading: "p50 at 2000/s",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
    Column {
        key: "fixed_p99_us",
        heading: "p99 at 2000/s",
        unit: Unit::Microseconds,
        summary: Summary::Median,
    },
];

/// One proxy, running.
struct Lane<'a> {
    target: SocketAddr,
    processor_time: Box<dyn Fn() -> anyhow::Result<Duration> + Send + Sync + 'a>,
    figures: Figures,
}

/// Runs the bench.
pub(crate) async fn run(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Table> {
    let (full, fixed) = match arguments.quick {
        true => (Duration::from_secs(1), Duration::from_secs(1)),
        false => (Duration::from_secs(4), Duration::from_secs(2)),
    };
    let rounds = arguments.rounds(7, 1);
    // The agents bring the backends with them; without agents nobody would.
    let backends = Backends::start(arguments, workspace).await?;
    let apps = backends.addresses();
    let mut absent = Vec::new();
    let mut peers = Vec::new();
    for program in [Program::Nginx, Program::Haproxy] {
        match program.find() {
            _ if !arguments.wants_peer(program) => {}
            None => absent.push(program),
            Some(_) => {
                let (peer, target) = match program {
                    Program::Nginx => nginx::start(workspace, &apps)?,
                    _ => haproxy::start(workspace, &apps)?,
                };
                // It must listen before the next one looks for a free port.
                wait_ready(program, &peer, target).await?;
                peers.push((program, peer, target));
            }
        }
    }

    let mut lanes = Vec::new();
    if let Backends::BesideAgents(agents) = &backends {
        lanes.push(Lane {
            target: agents.proxy()?,
            processor_time: Box::new(|| agents.first_processor_time()),
            figures: Figures::new(OURS, Agents::version()?),
        });
    }
    for (program, peer, target) in &peers {
        lanes.push(Lane {
            target: *target,
            processor_time: Box::new(|| peer.processor_time()),
            figures: Figures::new(program.name(), program.version()),
        });
    }
    lanes.push(Lane {
        target: *apps.first().context("there are backends")?,
        processor_time: Box::new(|| Ok(Duration::ZERO)),
        figures: Figures::new("direct", "no proxy"),
    });

    for round in 0..=rounds {
        for lane in &mut lanes {
            let name = &lane.figures.name;
            progress(match round {
                0 => format!("proxy: warm-up: {name}"),
                _ => format!("proxy: round {round} of {rounds}: {name}"),
            });
            let figures = lane
                .round(full, fixed)
                .await
                .with_context(|| name.clone())?;
            if round > 0 {
                lane.figures.add_round(COLUMNS, &figures);
            }
        }
    }
    Ok(Table {
        bench: "proxy",
        work: format!(
            "{BODY_BYTES}-byte answers of {BACKENDS} backends on loopback, {CONNECTIONS} kept \
             connections at full speed, then {FIXED_CONNECTIONS} at {FIXED_RATE} requests a second"
        ),
        nodes: BACKENDS,
        columns: COLUMNS,
        contestants: lanes.into_iter().map(|lane| lane.figures).collect(),
        absent,
        notes: vec![
            "CPU/request is the processor time of the proxy alone; load and backends share the \
             machine with it."
                .to_owned(),
        ],
    })
}

impl Lane<'_> {
    /// Both loads; one number for each column.
    async fn round(&self, full: Duration, fixed: Duration) -> anyhow::Result<Vec<f64>> {
        let load = Load {
            target: self.target,
            connections: CONNECTIONS,
            duration: full,
            rate: None,
            body_bytes: BODY_BYTES,
        };
        let before = (self.processor_time)()?;
        let full = load.run().await?;
        let processor = (self.processor_time)()?.saturating_sub(before);
        let fixed = Load {
            connections: FIXED_CONNECTIONS,
            duration: fixed,
            rate: Some(FIXED_RATE),
            ..load
        };
        let fixed = fixed.run().await?;
        Ok(vec![
            full.per_second(),
            microseconds(processor) / full.requests().max(1) as f64,
            microseconds(full.latency(0.99)),
            microseconds(fixed.latency(0.5)),
            microseconds(fixed.latency(0.99)),
        ])
    }
}

/// The backends, with agents beside them or without.
enum Backends {
    BesideAgents(Agents),
    Alone {
        _servers: Vec<Backend>,
        addresses: Vec<SocketAddr>,
    },
}

impl Backends {
    async fn start(arguments: &Arguments, workspace: &Workspace) -> anyhow::Result<Backends> {
        if arguments.wants_ours() {
            let agents = Agents::start(workspace, "agents", BACKENDS).await?;
            return Ok(Backends::BesideAgents(agents));
        }
        let layout = workspace.layout("backends", BACKENDS)?;
        let addresses: Vec<_> = layout.iter().map(|node| node.app()).collect();
        let mut servers = Vec::new();
        for address in &addresses {
            servers.push(Backend::start(*address, BODY_BYTES).await?);
        }
        Ok(Backends::Alone {
            _servers: servers,
            addresses,
        })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Backends::BesideAgents(agents) => agents.apps(),
            Backends::Alone { addresses, .. } => addresses.clone(),
        }
    }
}

async fn wait_ready(program: Program, peer: &Contestant, target: SocketAddr) -> anyhow::Result<()> {
    let client = Client::default();
    let url = format!("http://{target}/");
    wait_until(
        format!("{} to answer", program.name()),
        READY_MAX,
        || async {
            peer.check_alive(program.name())?;
            let answer = client.get(&url).await?;
            anyhow::ensure!(answer.status == 200, "it answers {}", answer.status);
            Ok(())
        },
    )
    .await?;
    Ok(())
}
