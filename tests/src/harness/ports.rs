//! Ports: is one taken, and which range of them is free?

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use crate::harness::layout::{Hosts, Layout, LayoutError};

/// Where free ranges are sought: above what is well known, below 32768, from
/// where Linux takes the ports of outgoing connections.
const BASES: std::ops::Range<u16> = 12_000..31_000;
/// The distance between two ranges, enough for nine nodes.
const STEP: u16 = 100;

/// A port that somebody listens on already.
#[derive(Debug, thiserror::Error)]
#[error("port {} is taken: the {purpose} of node {node} ({setting}) needs it", address.port())]
pub struct PortTaken {
    /// The address that could not be had.
    pub address: SocketAddr,
    /// What it is for.
    pub purpose: &'static str,
    /// The setting that names it.
    pub setting: &'static str,
    /// The node that needs it.
    pub node: u16,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

/// No free range was found, or none of this size can be.
#[derive(Debug, thiserror::Error)]
pub enum NoFreePorts {
    /// All ranges have a port that is taken.
    #[error("no free range of ports; the last one tried")]
    AllTaken(#[source] PortTaken),
    /// There can be no such cluster.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// Checks that every port of a cluster can be bound.
///
/// # Errors
/// Names the first that cannot.
pub fn check(layout: &Layout) -> Result<(), PortTaken> {
    for node in layout.iter() {
        for (address, purpose, setting) in node.ports() {
            let gossip = address == node.peer();
            bind(address, gossip).map_err(|source| PortTaken {
                address,
                purpose,
                setting,
                node: node.number(),
                source,
            })?;
        }
    }
    Ok(())
}

/// A layout in `directory` whose ports are free now.
///
/// The search begins at a place given by the process id, so that suites that
/// run side by side seldom look at the same range.
///
/// # Errors
/// When there is none.
pub fn free_layout(directory: PathBuf, nodes: u16) -> Result<Layout, NoFreePorts> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    free_layout_on(Hosts::Shared(loopback), directory, nodes)
}

/// The same on addresses of this machine that need not be 127.0.0.1.
///
/// # Errors
/// When there is none.
pub fn free_layout_on(hosts: Hosts, directory: PathBuf, nodes: u16) -> Result<Layout, NoFreePorts> {
    let ranges = u32::from((BASES.end - BASES.start) / STEP);
    let mut taken = None;
    for attempt in 0..ranges {
        let range = std::process::id().wrapping_mul(7).wrapping_add(attempt) % ranges;
        let base_port = BASES.start + STEP * u16::try_from(range).unwrap_or(0);
        let layout = Layout::new(directory.clone(), base_port, nodes)?.on(hosts);
        match check(&layout) {
            Ok(()) => return Ok(layout),
            Err(error) => taken = Some(error),
        }
    }
    match taken {
        Some(taken) => Err(NoFreePorts::AllTaken(taken)),
        None => Err(LayoutError::Nodes(nodes).into()),
    }
}

fn bind(address: SocketAddr, with_datagrams: bool) -> io::Result<()> {
    TcpListener::bind(address)?;
    if with_datagrams {
        UdpSocket::bind(address)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_node_and_setting() {
        let layout = free_layout(PathBuf::new(), 2).unwrap();
        let proxy = layout.node(2).unwrap().proxy();
        let _taken = TcpListener::bind(proxy).unwrap();
        let error = check(&layout).unwrap_err().to_string();
        let expected = format!(
            "port {} is taken: the proxy of node 2 ([proxy] listen) needs it",
            proxy.port()
        );
        assert_eq!(error, expected);
    }

    #[test]
    fn a_datagram_socket_on_the_peer_port_is_noticed() {
        let layout = free_layout(PathBuf::new(), 1).unwrap();
        let _taken = UdpSocket::bind(layout.node(1).unwrap().peer()).unwrap();
        assert_eq!(check(&layout).unwrap_err().purpose, "peer port");
    }
}
