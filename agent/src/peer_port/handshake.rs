//! What a TLS handshake can end in, seen from either side.
//!
//! rustls says what was wrong in the terms of TLS; this module says it in the
//! terms of a cluster: another secret, another cluster, not an agent at all.
//! Both sides come to the same answer, because the side that finds a fault
//! sends an alert and the other reads its own fault out of that alert.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, Error as TlsError};
use thiserror::Error;

use super::protocol::Protocol;

/// Why a connection to the peer port was closed without being used. Nothing
/// else changed: a refused connection has no effect on this agent's state.
#[derive(Debug, Error)]
pub enum Refusal {
    /// Its certificate is not of our authority, or ours is not of its.
    #[error(
        "the other side does not share our peer secret, or has only a key that was retired: give \
         both agents the same BASIC_AGENT_PEER_SECRET or [peer] secret_file (or [peer] tls_ca, \
         where certificates are given), or let it `basic-agent join` with a fresh token"
    )]
    OtherSecret,
    /// A certificate that was given as a file is out of date, its or ours.
    #[error(
        "a certificate has expired or is not valid yet, ours or that of the other side: look at \
         the clocks of both, and renew what [peer] tls_cert names"
    )]
    Expired,
    /// It spoke TLS and showed no certificate: not an agent.
    #[error("the other side showed no certificate, so it is not an agent of this cluster")]
    NoCertificate,
    /// Same secret, another cluster.
    #[error("the other side belongs to cluster {cluster:?}, not to ours: check [node] cluster")]
    OtherCluster {
        /// The cluster in its certificate.
        cluster: String,
    },
    /// A certificate of our authority that names no agent.
    #[error("the other side's certificate names no agent of a cluster")]
    NoName,
    /// It asked for a protocol that this agent does not serve, or for none.
    #[error("the other side asked for no protocol that this agent serves")]
    NoCommonProtocol,
    /// The bytes are no TLS, or no TLS 1.3.
    #[error("the other side does not speak TLS 1.3, so it is not an agent")]
    NotTls(#[source] TlsError),
    /// It did not finish the handshake in time.
    #[error("no finished handshake after {} ms", .0.as_millis())]
    Timeout(Duration),
    /// It hung up during the handshake.
    #[error("the other side hung up during the handshake")]
    Closed,
    /// As many authenticated connections as this agent allows are open.
    #[error("{0} connections are open, which is the most this agent allows")]
    Full(usize),
    /// The part of the agent that serves the protocol is behind.
    #[error("{0} has as many new connections waiting as it allows")]
    Busy(Protocol),
    /// The part of the agent that serves the protocol has stopped.
    #[error("{0} is not served any more")]
    Stopped(Protocol),
    /// Any other fault that TLS found.
    #[error("the TLS handshake failed")]
    Tls(#[source] TlsError),
    /// Any other fault that the kernel found.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

/// Why verified certificates do not make a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NameRefusal {
    /// No URI of the form that agents write.
    NoName,
    /// An agent of another cluster with the same secret.
    OtherCluster { cluster: String },
}

impl From<NameRefusal> for Refusal {
    fn from(refusal: NameRefusal) -> Refusal {
        match refusal {
            NameRefusal::NoName => Refusal::NoName,
            NameRefusal::OtherCluster { cluster } => Refusal::OtherCluster { cluster },
        }
    }
}

impl Refusal {
    /// Reads the reason out of what a handshake's IO returned.
    pub(super) fn of(error: io::Error) -> Refusal {
        match error.downcast::<TlsError>() {
            Ok(tls) => Refusal::of_tls(tls),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Refusal::Closed,
                _ => Refusal::Io(error),
            },
        }
    }

    fn of_tls(error: TlsError) -> Refusal {
        match error {
            TlsError::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )
            | TlsError::AlertReceived(AlertDescription::CertificateExpired) => Refusal::Expired,
            TlsError::InvalidCertificate(_)
            | TlsError::DecryptError
            | TlsError::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::DecryptError,
            ) => Refusal::OtherSecret,
            TlsError::NoCertificatesPresented
            | TlsError::AlertReceived(AlertDescription::CertificateRequired) => {
                Refusal::NoCertificate
            }
            TlsError::NoApplicationProtocol
            | TlsError::AlertReceived(AlertDescription::NoApplicationProtocol) => {
                Refusal::NoCommonProtocol
            }
            TlsError::InvalidMessage(_)
            | TlsError::InappropriateMessage { .. }
            | TlsError::InappropriateHandshakeMessage { .. }
            | TlsError::PeerIncompatible(_)
            | TlsError::PeerSentOversizedRecord
            | TlsError::AlertReceived(AlertDescription::ProtocolVersion) => Refusal::NotTls(error),
            error => Refusal::Tls(error),
        }
    }
}
