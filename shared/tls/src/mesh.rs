//! Mutual TLS between workloads, as HBONE carries it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use types::Identity;

use crate::certificate::leaf_identity;
use crate::{CertificateDetails, TlsError, TlsStream, WorkloadCertificate, provider};

/// Who is at the other end of a connection; proven.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer's one SPIFFE name.
    pub identity: Identity,
    chain: Arc<[CertificateDer<'static>]>,
    trust: Trust,
    side: Side,
    proven_at: UnixTime,
}

/// What a certificate is measured by.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

/// Which end of a connection somebody is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Peer {
    fn of<S>(stream: &TlsStream<S>, certificate: &WorkloadCertificate, side: Side) -> Result<Self, TlsError> {
        let chain = stream.connection().peer_certificates().unwrap_or_default();
        let chain: Arc<[_]> = chain.iter().map(|der| der.clone().into_owned()).collect();
        let identity = leaf_identity(&chain)?;
        Ok(Self { identity, chain, trust: certificate.trust(), side, proven_at: UnixTime::now() })
    }

    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(crate) fn proven_at(&self) -> UnixTime {
        self.proven_at
    }

    /// The certificates that the peer sent, leaf first.
    #[must_use]
    pub fn chain(&self) -> Vec<CertificateDetails> {
        self.chain.iter().filter_map(|der| CertificateDetails::from_der(der).ok()).collect()
    }
}

/// Answers a mesh client: TLS 1.3, ALPN `h2`, the client's certificate demanded, chained to the own roots and of the
/// own trust domain.
///
/// It waits for the peer without limit: the caller sets the deadline.
///
/// # Errors
/// [`TlsError`]; a client that was turned down is [`TlsError::Peer`].
pub async fn accept<S>(stream: S, certificate: &WorkloadCertificate) -> Result<(TlsStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let stream = TlsAcceptor::from(certificate.server_config()).accept(stream).await.map_err(TlsError::from_io)?;
    established(TlsStream::new(stream), certificate, Side::Client)
}

/// Dials a mesh server that must prove one of the expected identities; an empty list accepts nobody.
///
/// No server name is sent and no session resumed.
/// In TLS 1.3 the server judges the client's certificate after this returns; its refusal then surfaces as an alert on
/// the first read.
///
/// It waits for the peer without limit: the caller sets the deadline.
///
/// # Errors
/// [`TlsError`]; a server that was turned down is [`TlsError::Peer`].
pub async fn connect<S>(
    stream: S,
    certificate: &WorkloadCertificate,
    expected: &[Identity],
) -> Result<(TlsStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // The API wants a name; an address is never sent as SNI, and the verifier does not look at it.
    let nameless = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    let connector = TlsConnector::from(Arc::new(certificate.client_config(expected)));
    let stream = connector.connect(nameless, stream).await.map_err(TlsError::from_io)?;
    established(TlsStream::new(stream), certificate, Side::Server)
}

fn established<S>(
    stream: TlsStream<S>,
    certificate: &WorkloadCertificate,
    peer: Side,
) -> Result<(TlsStream<S>, Peer), TlsError> {
    let alpn = stream.connection().alpn_protocol().unwrap_or_default();
    if alpn != provider::H2 {
        let found = String::from_utf8_lossy(alpn).into_owned();
        return Err(TlsError::Alpn { expected: "h2", found });
    }
    let peer = Peer::of(&stream, certificate, peer)?;
    Ok((stream, peer))
}
