//! Binding the peer port: one UDP socket and one TCP listener on one number.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Socket, Type};
use thiserror::Error;

/// What the kernel may queue between two looks at the UDP socket: a burst of
/// gossip from a whole cluster. The kernel grants less if it is set so.
const DATAGRAM_BUFFER_BYTES: usize = 4 << 20;
const BACKLOG: i32 = 1024;
/// With port 0 the kernel picks a TCP port whose UDP twin may be taken.
const FREE_PORT_ATTEMPTS: usize = 16;

/// The bound port. Nothing is read from it before its parts are put to use.
#[derive(Debug)]
pub struct PeerPort {
    address: SocketAddr,
    datagrams: UdpSocket,
    listener: TcpListener,
}

impl PeerPort {
    /// Binds UDP and TCP on `listen`; with port 0, on one free number.
    ///
    /// # Errors
    /// When either cannot be bound: in use, not an address of this host, not
    /// permitted. The error names the address, the protocol and the setting.
    pub fn bind(listen: SocketAddr) -> Result<PeerPort, BindError> {
        let attempts = if listen.port() == 0 {
            FREE_PORT_ATTEMPTS
        } else {
            1
        };
        let mut attempt = 1;
        loop {
            match PeerPort::bind_once(listen) {
                Err(BindError::InUse { .. }) if attempt < attempts => attempt += 1,
                result => return result,
            }
        }
    }

    /// The address that is bound, with the port that was picked for 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the port apart: the non-blocking UDP socket for gossip, and the
    /// listener for everything else.
    pub fn into_parts(self) -> (UdpSocket, Listener) {
        (
            self.datagrams,
            Listener {
                address: self.address,
                listener: self.listener,
            },
        )
    }

    fn bind_once(listen: SocketAddr) -> Result<PeerPort, BindError> {
        let listener = bind_tcp(listen).map_err(|e| BindError::of(e, listen, Transport::Tcp))?;
        let address = listener
            .local_addr()
            .map_err(|e| BindError::of(e, listen, Transport::Tcp))?;
        let datagrams = bind_udp(address).map_err(|e| BindError::of(e, address, Transport::Udp))?;
        Ok(PeerPort {
            address,
            datagrams,
            listener,
        })
    }
}

/// The TCP side of the port, bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    pub(super) address: SocketAddr,
    pub(super) listener: TcpListener,
}

impl Listener {
    /// The address that is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Which half of the peer port an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Replication, large gossip frames and forwarded requests.
    Tcp,
    /// Gossip datagrams.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// Why the peer port could not be bound. Nothing stays bound after it.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another process (or another agent) has the port.
    #[error(
        "{transport} {address} is in use by another process: stop that process, \
         or set [peer] listen to a free address"
    )]
    InUse {
        /// What was to be bound.
        address: SocketAddr,
        /// Which half of it.
        transport: Transport,
    },
    /// The address belongs to no interface of this host.
    #[error(
        "cannot listen on {transport} {address}: this host has no such address; set [peer] listen \
         to one of its own (`ip addr` lists them) and [peer] advertise to what others connect to"
    )]
    NotLocal {
        /// What was to be bound.
        address: SocketAddr,
        /// Which half of it.
        transport: Transport,
    },
    /// Low ports need a privilege.
    #[error(
        "not permitted to listen on {transport} {address}: set [peer] listen to a port \
         of 1024 or above"
    )]
    NotPermitted {
        /// What was to be bound.
        address: SocketAddr,
        /// Which half of it.
        transport: Transport,
    },
    /// Anything else that the kernel said.
    #[error("cannot listen on {transport} {address} ([peer] listen)")]
    Other {
        /// What was to be bound.
        address: SocketAddr,
        /// Which half of it.
        transport: Transport,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl BindError {
    fn of(source: io::Error, address: SocketAddr, transport: Transport) -> BindError {
        match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, transport },
            io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address, transport },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { address, transport },
            _ => BindError::Other {
                address,
                transport,
                source,
            },
        }
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Otherwise a restart would wait until the last connections' TIME_WAIT is over.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(DATAGRAM_BUFFER_BYTES)?;
    socket.set_send_buffer_size(DATAGRAM_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn both_halves_are_bound_on_one_number() {
        let port = PeerPort::bind(loopback(0)).expect("a free port");
        let address = port.address();
        assert_ne!(address.port(), 0);
        let (datagrams, listener) = port.into_parts();
        assert_eq!(datagrams.local_addr().expect("bound"), address);
        assert_eq!(listener.address(), address);
        assert_eq!(listener.listener.local_addr().expect("bound"), address);
        let error = datagrams.recv(&mut [0; 1]).expect_err("nothing was sent");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_taken_port_is_named_with_its_half_and_its_setting() {
        let udp = UdpSocket::bind(loopback(0)).expect("a free port");
        let address = udp.local_addr().expect("bound");
        let message = PeerPort::bind(address).expect_err("in use").to_string();
        assert_eq!(
            message,
            format!(
                "UDP {address} is in use by another process: stop that process, \
                 or set [peer] listen to a free address"
            )
        );

        let port = PeerPort::bind(loopback(0)).expect("a free port");
        let message = PeerPort::bind(port.address())
            .expect_err("in use")
            .to_string();
        assert!(message.starts_with("TCP 127.0.0.1:"), "{message}");
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_advice() {
        // 192.0.2.0/24 is set aside for documentation (RFC 5737).
        let error = PeerPort::bind(SocketAddr::from(([192, 0, 2, 1], 0))).expect_err("not ours");
        assert!(matches!(error, BindError::NotLocal { .. }), "{error:?}");
        assert!(error.to_string().contains("[peer] advertise"), "{error}");
    }
}
