//! Tunnels to other proxies: on connections that a pod's tunnels share, and one inside another into other networks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use discovery::{Crossing, Service};
use hbone::client::{Connect, handshake};
use hbone::{Baggage, DialError, Forwarded, HboneError, TraceParent};
use io::CopyError;
use telemetry::traffic::Reporter;
use tls::{MeshStream, Peer, WorkloadCertificate};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use types::{Authority, Identity};

use crate::connect;
use crate::error::ConnectionError;
use crate::hand_over::Client;
use crate::labels::baggage;
use crate::lane::{Lane, PoolKey};
use crate::revocation::Tied;

/// How long the end of a tunnel inside another may take to be said.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where a tunnel's server is, and who it may be.
pub(crate) struct Server<'a> {
    pub(crate) destination: SocketAddr,
    pub(crate) expected: &'a [Identity],
}

/// A tunnel inside a tunnel: its bytes, and the connection that it has for itself.
pub(crate) struct Crossed {
    stream: Option<hbone::Stream>,
    /// Whoever answered, as it describes itself.
    pub(crate) destination: Baggage,
    /// Whoever answered; proven.
    pub(crate) identity: Identity,
    /// Moves the frames of the inner connection; cut when this is dropped.
    driver: JoinSet<Result<(), HboneError>>,
}

impl Crossed {
    /// Carries a connection until both of its directions have ended; what is on its way then is still sent.
    pub(crate) async fn carry(&mut self, downstream: &mut TcpStream, counters: &io::Counters) -> Result<(), CopyError> {
        if let Some(mut stream) = self.stream.take() {
            io::copy_bidirectional(downstream, &mut stream, counters).await?;
        }
        let _ = timeout(FAREWELL, self.driver.join_next()).await;
        Ok(())
    }
}

/// What to ask a tunnel's server for on behalf of a client.
pub(crate) fn request(client: &Client<'_>, authority: &Authority, service: Option<&Service>) -> Connect {
    Connect {
        authority: authority.clone(),
        baggage: Some(baggage(client.workload)),
        forwarded: Some(Forwarded {
            client: Some(client.live.source),
            host: service.map(|service| service.hostname.clone()),
        }),
        traceparent: Some(TraceParent::random(&mut rand::rng())),
        network: None,
    }
}

/// Opens a tunnel on a connection that it shares with others of the same pod.
pub(crate) async fn shared(
    lane: &Arc<Lane>,
    client: &Client<'_>,
    server: Server<'_>,
    request: &Connect,
    deadline: Instant,
) -> Result<hbone::Stream, ConnectionError> {
    let key = PoolKey {
        source: client.workload.identity(),
        expected: server.expected.to_vec(),
        destination: server.destination,
        source_ip: client.live.source.ip(),
    };
    let dial = || {
        let (lane, key) = (Arc::downgrade(lane), key.clone());
        // The pool outlives none of its lanes, but its dials must not keep one alive.
        async move {
            let lane = lane
                .upgrade()
                .ok_or_else(|| DialError::connect(std::io::Error::from(std::io::ErrorKind::NotConnected)))?;
            dial(&lane, &key).await
        }
    };
    let connected = lane.pool.open(&key, request, deadline, dial).await.map_err(ConnectionError::from_tunnel)?;
    Ok(connected.stream)
}

/// Makes the connection that tunnels share: from inside the pod, proven by the pod's certificate.
async fn dial(lane: &Lane, key: &PoolKey) -> Result<Tied<MeshStream<TcpStream>>, DialError> {
    let deadline = Instant::now() + lane.shared.settings.hbone.dial_timeout;
    let certificate = lane.shared.certificates.certificate(&key.source).await.map_err(DialError::tls)?;
    let stream = connect::tunnel(lane, key.destination, deadline).await.map_err(DialError::connect)?;
    let (stream, peer) = secure(lane, stream, &certificate, (key.destination, &key.expected)).await?;
    let is_resumed = stream.negotiated().is_resumed;
    tracing::debug!(destination = %key.destination, identity = %peer.identity, is_resumed, "HBONE connection established");
    lane.shared.revocations.admit(stream, peer, Reporter::Source).map_err(DialError::tls)
}

/// Proves both sides of a connection to each other, with the session of an earlier one if there is any.
async fn secure<S: AsyncRead + AsyncWrite + Unpin + Send>(
    lane: &Lane,
    stream: S,
    certificate: &WorkloadCertificate,
    (address, expected): (SocketAddr, &[Identity]),
) -> Result<(MeshStream<S>, Peer), DialError> {
    let place = lane.shared.revocations.place(address);
    let (stream, peer) =
        tls::connect_to_write(stream, certificate, expected, Some(place)).await.map_err(DialError::tls)?;
    lane.shared.handshakes.succeeded(Reporter::Source, stream.negotiated().is_resumed);
    Ok((stream, peer))
}

/// Opens a tunnel to the gateway of another network, and in it one to whomever the gateway leads to.
///
/// The gateway sees the outer request alone; who is behind it proves itself to us, and we to it.
pub(crate) async fn crossing(
    lane: &Arc<Lane>,
    client: &Client<'_>,
    crossing: &Crossing,
    deadline: Instant,
) -> Result<Crossed, ConnectionError> {
    let mut request = request(client, &crossing.authority, Some(&crossing.remote.service));
    let server = Server { destination: crossing.destination, expected: &crossing.expected };
    let outer = shared(lane, client, server, &request, deadline).await?;
    request.network = Some(lane.shared.view.network().to_string());
    // The future of a handshake is large, and the connections that need none shall not carry it.
    let inner = Box::pin(inner(lane, client, (crossing.destination, crossing.remote.expected()), (outer, &request)));
    let inner = timeout_at(deadline, inner).await;
    let inner = inner.unwrap_or(Err(HboneError::Timeout("the tunnel behind the network gateway")));
    inner.map_err(|error| ConnectionError::BehindGateway(Box::new(ConnectionError::from_tunnel(error))))
}

/// The caller sets the deadline.
async fn inner(
    lane: &Lane,
    client: &Client<'_>,
    server: (SocketAddr, &[Identity]),
    (outer, request): (hbone::Stream, &Connect),
) -> Result<Crossed, HboneError> {
    let certificate = lane.shared.certificates.certificate(&client.workload.identity()).await;
    let certificate = certificate.map_err(DialError::tls)?;
    let (stream, peer) = secure(lane, outer, &certificate, server).await?;
    let identity = peer.identity.clone();
    let stream = lane.shared.revocations.admit(stream, peer, Reporter::Source).map_err(DialError::tls)?;
    let (connection, inside) = handshake(stream, &lane.shared.settings.hbone).await?;
    let mut driver = JoinSet::new();
    driver.spawn(inside);
    // The deadline of the whole goes for this too.
    let forever = Instant::now() + lane.shared.settings.hbone.dial_timeout;
    let connected = connection.connect(request, forever).await?;
    let destination = connected.baggage();
    Ok(Crossed { stream: Some(connected.stream), destination, identity, driver })
}
