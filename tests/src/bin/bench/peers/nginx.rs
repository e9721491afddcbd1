//! nginx as a reverse proxy: a worker a core, upstream connections kept.
//!
//! Set beyond its defaults: workers and kept connections as any guide for a
//! proxy does, no access log, and no limit to the requests of a connection.

use std::fmt::Write;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;

use crate::peers::Program;
use crate::service::Contestant;
use crate::workspace::Workspace;

/// nginx before these backends. Returns where it listens.
pub(crate) fn start(
    workspace: &Workspace,
    backends: &[SocketAddr],
) -> anyhow::Result<(Contestant, SocketAddr)> {
    let program = Program::Nginx.find().context("nginx is not installed")?;
    let layout = workspace.layout("nginx", 1)?;
    let node = layout.node(1).context("a layout of one node has a node")?;
    let mut servers = String::new();
    for backend in backends {
        write!(servers, " server {backend};")?;
    }
    let directory = layout.directory();
    let config = format!(
        "daemon off; worker_processes auto; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
  keepalive_requests 1000000000;
  upstream backends {{ keepalive 128; keepalive_requests 1000000000;{servers} }}
  server {{
    listen {listen};
    location / {{ proxy_pass http://backends; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
  }}
}}
",
        listen = node.proxy(),
    );
    let path = directory.join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(directory)
        .arg("-c")
        .arg(&path)
        .args(["-e", "stderr"]);
    let nginx = Contestant::start(&mut command, &directory.join("nginx.log"))?;
    Ok((nginx, node.proxy()))
}
