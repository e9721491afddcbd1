//! HAProxy as a reverse proxy: a thread a core, which is its default.
//!
//! Set beyond its defaults: the time limits that it asks for, and round-robin.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;

use crate::peers::Program;
use crate::service::Contestant;
use crate::workspace::Workspace;

/// HAProxy before these backends. Returns where it listens.
pub(crate) fn start(
    workspace: &Workspace,
    backends: &[SocketAddr],
) -> anyhow::Result<(Contestant, SocketAddr)> {
    let program = Program::Haproxy
        .find()
        .context("haproxy is not installed")?;
    let layout = workspace.layout("haproxy", 1)?;
    let node = layout.node(1).context("a layout of one node has a node")?;
    let mut config = format!(
        "global
  maxconn 4096
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 60s
frontend front
  bind {}
  default_backend backends
backend backends
  balance roundrobin
",
        node.proxy()
    );
    for (index, backend) in backends.iter().enumerate() {
        writeln!(config, "  server b{index} {backend}")?;
    }
    let path = layout.directory().join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&path);
    let haproxy = Contestant::start(&mut command, &layout.directory().join("haproxy.log"))?;
    Ok((haproxy, node.proxy()))
}
