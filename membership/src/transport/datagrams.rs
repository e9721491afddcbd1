//! The seam between the endpoint and the network.
//!
//! In production this is one UDP socket. The other implementation is the network
//! of the tests, in memory and on a paused clock, which loses and delays. A socket
//! that is bound to every IPv6 address speaks IPv4 too; inside, an IPv4 address is
//! always written as one, so that one agent has one address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::net::UdpSocket;

/// Sends and receives datagrams. Any of them may be lost, doubled or overtaken.
#[async_trait]
pub(crate) trait Datagrams: Send + Sync + 'static {
    /// Sends one datagram, or says why the local side would not take it.
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()>;

    /// Receives the next one; what does not fit the buffer is cut off. Safe to
    /// cancel. No error is final.
    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
}

/// The one way to write an address: an IPv4 address within IPv6 as what it is.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // Keeps its scope.
        IpAddr::V6(_) => address,
    }
}

#[async_trait]
impl Datagrams for UdpSocket {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match (self.local_addr()?, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        };
        UdpSocket::send_to(self, datagram, to).await.map(drop)
    }

    async fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (len, from) = UdpSocket::recv_from(self, buffer).await?;
        Ok((len, canonical(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_for_every_address_speaks_to_ipv4_and_calls_it_so() {
        let every = UdpSocket::bind("[::]:0").await.unwrap();
        let four = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = four.local_addr().unwrap();
        Datagrams::send_to(&every, b"ask", address).await.unwrap();
        let mut buffer = [0; 16];
        let (len, from) = Datagrams::recv_from(&four, &mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from.ip()), (&b"ask"[..], address.ip()));
        Datagrams::send_to(&four, b"answer", from).await.unwrap();
        let (len, from) = Datagrams::recv_from(&every, &mut buffer).await.unwrap();
        assert_eq!((&buffer[..len], from), (&b"answer"[..], address));
    }
}
