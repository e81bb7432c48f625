//! Mutual TLS between workloads, as HBONE carries it.

mod handshake;
mod incoming;
mod outgoing;
mod record;
mod stream;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use types::{Identity, TrustDomain};

use self::handshake::Handshake;
pub use self::stream::MeshStream;
use crate::session;
use crate::verify::{is_expected, is_of};
use crate::x509::{self, Leaf};
use crate::{CertificateDetails, Negotiated, Place, Refusal, TlsError, WorkloadCertificate, provider};

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

/// Who may be at the other end.
#[derive(Debug, Clone, Copy)]
enum Wanted<'a> {
    Server(&'a [Identity]),
    Client(&'a TrustDomain),
}

impl Peer {
    /// The peer of a handshake that is over, measured once more: a session may be older than what counts now.
    fn of(connection: &CommonState, certificate: &WorkloadCertificate, wanted: Wanted<'_>) -> Result<Self, Refusal> {
        let chain = connection.peer_certificates().unwrap_or_default();
        let (now, leaf) = (UnixTime::now(), Leaf::parse(chain.first().ok_or(Refusal::NoCertificate)?)?);
        x509::check_time(leaf.validity, now)?;
        for intermediate in chain.iter().skip(1) {
            x509::check_time(x509::validity_of(intermediate)?, now)?;
        }
        let side = match wanted {
            Wanted::Server(expected) => is_expected(&leaf.identity, expected).map(|()| Side::Server)?,
            Wanted::Client(trust_domain) => is_of(&leaf.identity, trust_domain).map(|()| Side::Client)?,
        };
        let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
        Ok(Self { identity: leaf.identity, chain, trust: certificate.trust(), side, proven_at: now })
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
pub async fn accept<S>(stream: S, certificate: &WorkloadCertificate) -> Result<(MeshStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let connection = UnbufferedServerConnection::new(certificate.server_config());
    let connection = connection.map_err(|error| TlsError::from_rustls(&error))?;
    let wanted = Wanted::Client(&certificate.identity().trust_domain);
    establish(stream, Box::new(Handshake::new(connection, None)), certificate, wanted).await
}

/// Dials a mesh server that must prove one of the expected identities; an empty list accepts nobody.
///
/// No server name is sent, and no session resumed.
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
) -> Result<(MeshStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut stream, peer) = connect_to_write(stream, certificate, expected, None).await?;
    stream.flush().await.map_err(TlsError::Io)?;
    Ok((stream, peer))
}

/// As [`connect`], for callers that write first: the last message of the handshake, with which the client proves who it
/// is, leaves with the first flush.
///
/// One packet, one system call and one wake-up less for each side. The server waits until then.
///
/// At a place the client may come back with an earlier session, which this certificate agreed on there while the same
/// identities were expected: then neither side shows its certificate again. The session counts no longer than the
/// certificates of both, and an hour at most; whether the peer is expected is checked in any case.
///
/// # Errors
/// As [`connect`].
pub async fn connect_to_write<S>(
    stream: S,
    certificate: &WorkloadCertificate,
    expected: &[Identity],
    place: Option<Place>,
) -> Result<(MeshStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    // The API wants a name; an address is never sent as SNI, and the verifier does not look at it.
    let nameless = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
    let (config, mut proof) = (certificate.client_config(expected, place), None);
    let connection = session::with(&mut proof, || UnbufferedClientConnection::new(config, nameless));
    let connection = connection.map_err(|error| TlsError::from_rustls(&error))?;
    let handshake = Box::new(Handshake::new(connection, proof));
    let (mut stream, peer) = establish(stream, handshake, certificate, Wanted::Server(expected)).await?;
    if place.is_none() {
        stream.forget_sessions();
    }
    Ok((stream, peer))
}

async fn establish<S, C>(
    mut stream: S,
    // Large, and in the futures of all callers otherwise.
    mut handshake: Box<Handshake<C>>,
    certificate: &WorkloadCertificate,
    wanted: Wanted<'_>,
) -> Result<(MeshStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    C: handshake::Side,
{
    handshake.run(&mut stream).await?;
    let agreed = handshake.common();
    let alpn = agreed.alpn_protocol().unwrap_or_default();
    if alpn != provider::H2 {
        let found = String::from_utf8_lossy(alpn).into_owned();
        return Err(TlsError::Alpn { expected: "h2", found });
    }
    let (peer, negotiated) = (Peer::of(agreed, certificate, wanted), Negotiated::of(agreed));
    let established = handshake.finish().map_err(|error| TlsError::from_rustls(&error))?;
    let mut stream = MeshStream::new(stream, established, negotiated);
    match peer {
        Ok(peer) => Ok((stream, peer)),
        Err(refusal) => {
            stream.refuse().await;
            Err(refusal.into())
        }
    }
}
