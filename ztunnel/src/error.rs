//! Why a connection ends badly, and why the proxy does.

use std::io;
use std::net::SocketAddr;

use discovery::{InboundError, ResolveError};
use hbone::{DialError, HboneError, Status};
use identity::CertificateError;
use policy::Denial;
use telemetry::ResponseFlag;

use crate::revocation::{REVOKED, Revoked};

/// Why the proxy cannot start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZtunnelError {
    /// The process lacks a capability or a resource.
    #[error("{what}")]
    Environment {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The certificate authority inside the process cannot be made.
    #[error("cannot make a certificate authority")]
    Authority(#[from] tls::TlsError),
    /// One of the proxy's own ports cannot be used.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node agent no longer speaks the protocol that the proxy speaks; starting anew is the only way out.
    #[error("the node agent broke the protocol")]
    Agent(#[from] zds::ZdsError),
    /// The node agent repeated what may only be said once.
    #[error("the node agent broke the protocol: {0}")]
    Snapshot(&'static str),
}

/// Why a connection did not come about, or ended other than by its peers.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The connection was made to this proxy, not through it.
    #[error("attempted recursive call to ourselves")]
    Loop,
    /// Discovery knows nothing about the pod.
    #[error("failed to fetch information about local workload")]
    UnknownLocalWorkload,
    /// A client of SOCKS was not understood, or was refused.
    #[error("SOCKS: {0}")]
    Socks(#[from] crate::socks::SocksError),
    /// Too many clients have not said yet what they want.
    #[error("too many connections wait to say where they go")]
    Busy,
    /// Discovery has not said what it knows.
    #[error("discovery is of no help: {0}")]
    Undiscovered(#[from] xds::demand::Unanswered),
    /// Nothing is known about where a redirected connection wanted to go.
    #[error("cannot tell the original destination: {0}")]
    OriginalDestination(#[source] io::Error),
    /// There is nowhere to go.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The name of an endpoint does not resolve.
    #[error("cannot resolve {hostname}: {reason}")]
    Name {
        /// The name.
        hostname: types::Hostname,
        /// What the resolver said.
        reason: String,
    },
    /// A CONNECT request goes nowhere.
    #[error(transparent)]
    Inbound(#[from] InboundError),
    /// The application does not take the header that it wants.
    #[error("writing the PROXY header failed: {0}")]
    ProxyHeader(#[source] io::Error),
    /// A TCP connection could not be made.
    #[error("connecting to {destination} failed: {source}")]
    Connect {
        /// Where to.
        destination: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A tunnel could not be opened.
    #[error(transparent)]
    Tunnel(#[from] HboneError),
    /// The tunnel through the gateway of another network stands, the one inside it could not be opened.
    #[error("behind the network gateway: {0}")]
    BehindGateway(#[source] Box<Self>),
    /// Connecting to the tunnel's port timed out, which is what a network policy looks like.
    #[error("connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: {0}")]
    Blocked(#[source] HboneError),
    /// The peer's certificate is revoked.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// There is no certificate for the local workload.
    #[error("identity error: {0}")]
    Identity(#[from] CertificateError),
    /// The TLS handshake with a client failed.
    #[error("TLS handshake failed: {0}")]
    Tls(#[from] tls::TlsError),
    /// Something took too long.
    #[error("timed out while waiting for {0}")]
    Timeout(&'static str),
    /// Discovery took the endpoint away while it was being connected to.
    #[error("the endpoint was withdrawn before it answered")]
    Withdrawn,
    /// A policy denies the connection.
    #[error("connection closed due to policy rejection: {0}")]
    Denied(Denial),
    /// A policy denies the connection since it changed.
    #[error("connection closed due to policy change")]
    PolicyChange,
    /// The proxy or the pod is going away.
    #[error("connection closed due to connection drain")]
    Drained,
    /// The connection broke.
    #[error("{0}: {source}", source = .0.source)]
    Copy(#[from] io_copy::CopyError),
}

/// The crate `io`, whose name is taken by the standard library's module here.
mod io_copy {
    pub(super) use ::io::CopyError;
}

impl ConnectionError {
    /// Sorts a tunnel's failure: some causes of failed dials are our own.
    pub(crate) fn from_tunnel(error: HboneError) -> Self {
        if let HboneError::Dial(DialError::Connect(cause) | DialError::Tls(cause)) = &error {
            if let Some(own) = cause.downcast_ref::<CertificateError>() {
                return Self::Identity(own.clone());
            }
            if let Some(revoked) = cause.downcast_ref::<Revoked>() {
                return Self::Revoked(revoked.clone());
            }
            if cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut) {
                return Self::Blocked(error);
            }
        }
        Self::Tunnel(error)
    }

    /// Whether another endpoint of the same service may be tried: nothing was sent, and nobody has given a verdict.
    pub(crate) fn permits_another_endpoint(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Blocked(_) | Self::Revoked(_) | Self::Name { .. } | Self::Withdrawn => true,
            Self::Tunnel(error) => error.permits_another_endpoint(),
            Self::BehindGateway(error) => error.permits_another_endpoint(),
            // As the status would have been, had there been a tunnel.
            Self::Inbound(error) => error.status() == 503,
            _ => false,
        }
    }

    /// Whether the other side went away in the middle of a handshake, as one does that hands its listeners to a
    /// successor: asking again is worth while.
    pub(crate) fn is_interrupted(&self) -> bool {
        let went_away = |error: &io::Error| {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
        };
        match self {
            Self::Tunnel(HboneError::Dial(DialError::Connect(cause))) => {
                cause.downcast_ref::<io::Error>().is_some_and(went_away)
            }
            Self::Tunnel(HboneError::Dial(DialError::Tls(cause))) => {
                matches!(cause.downcast_ref::<tls::TlsError>(), Some(tls::TlsError::Io(error)) if went_away(error))
            }
            Self::Tunnel(HboneError::Handshake(_)) => true,
            Self::Tunnel(error) => error.was_closing(),
            Self::BehindGateway(error) => error.is_interrupted(),
            _ => false,
        }
    }

    /// The answer to a CONNECT request that ends so.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::Inbound(error) if error.status() == 400 => Status::BadRequest,
            Self::Denied(_) | Self::PolicyChange => Status::Denied,
            _ => Status::Unavailable,
        }
    }

    /// How metrics call it.
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self {
            Self::Drained => ResponseFlag::None,
            Self::Denied(_) | Self::PolicyChange => ResponseFlag::Deny,
            Self::BehindGateway(error) => error.flag(),
            Self::Revoked(_) => ResponseFlag::CertRevoked,
            // What a stream knows of the end of its connection is a text.
            Self::Copy(error) if error.source.to_string().contains(REVOKED) => ResponseFlag::CertRevoked,
            Self::Identity(_) => ResponseFlag::IdentityError,
            Self::Blocked(_) => ResponseFlag::NetworkPolicy,
            Self::Tls(_) | Self::Tunnel(HboneError::Dial(DialError::Tls(_))) => ResponseFlag::TlsFailure,
            Self::Tunnel(HboneError::Handshake(_) | HboneError::Stream(_)) => ResponseFlag::H2HandshakeFailure,
            _ => ResponseFlag::Connect,
        }
    }

    /// Whether metrics count the connection as failed; one that a drain ended did nothing wrong.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self, Self::Drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_final_and_an_outage_is_not() {
        let tunnel = |status| ConnectionError::from_tunnel(HboneError::Status(status));
        assert!(tunnel(503).permits_another_endpoint());
        assert!(!tunnel(401).permits_another_endpoint());
        assert!(!tunnel(400).permits_another_endpoint());
        let destination = "10.0.0.1:80".parse().unwrap();
        let refused = ConnectionError::Connect { destination, source: io::ErrorKind::ConnectionRefused.into() };
        assert!(refused.permits_another_endpoint());
    }

    #[test]
    fn causes_of_failed_dials_are_told_apart() {
        let timed_out = DialError::connect(io::Error::from(io::ErrorKind::TimedOut));
        let blocked = ConnectionError::from_tunnel(timed_out.into());
        assert_eq!(blocked.flag(), ResponseFlag::NetworkPolicy);
        assert!(blocked.to_string().contains("NetworkPolicy"));
        let identity = "spiffe://cluster.local/ns/a/sa/b".parse().unwrap();
        let own = ConnectionError::from_tunnel(DialError::tls(CertificateError::Timeout(identity)).into());
        assert_eq!(own.flag(), ResponseFlag::IdentityError);
        let refused = DialError::connect(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(ConnectionError::from_tunnel(refused.into()).flag(), ResponseFlag::Connect);
    }

    #[test]
    fn what_a_drain_ended_has_not_failed() {
        assert!(!ConnectionError::Drained.is_failure());
        assert_eq!(ConnectionError::Drained.flag(), ResponseFlag::None);
        assert_eq!(ConnectionError::PolicyChange.flag(), ResponseFlag::Deny);
    }
}
