//! Mutual TLS between workloads, as HBONE carries it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
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
}

impl Peer {
    fn of<S>(stream: &TlsStream<S>) -> Result<Self, TlsError> {
        let chain = stream.connection().peer_certificates().unwrap_or_default();
        let chain: Arc<[_]> = chain.iter().map(|der| der.clone().into_owned()).collect();
        Ok(Self { identity: leaf_identity(&chain)?, chain })
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
    established(TlsStream::new(stream))
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
    established(TlsStream::new(stream))
}

fn established<S>(stream: TlsStream<S>) -> Result<(TlsStream<S>, Peer), TlsError> {
    let alpn = stream.connection().alpn_protocol().unwrap_or_default();
    if alpn != provider::H2 {
        let found = String::from_utf8_lossy(alpn).into_owned();
        return Err(TlsError::Alpn { expected: "h2", found });
    }
    let peer = Peer::of(&stream)?;
    Ok((stream, peer))
}
