//! Connections to a pod through the mesh: port 15008, mutual TLS, and in it any number of tunnels.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use discovery::{InboundError, InboundTarget, Resident, Workload, inbound_target};
use hbone::server::{Incoming, Request, Server};
use telemetry::Direction;
use telemetry::traffic::{ConnectionLabels, Reporter, Security};
use tls::MeshStream;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};
use types::Identity;

use crate::authorise::{Attempt, authorise};
use crate::connect::{self, ToApplication};
use crate::end::{Description, Record, end};
use crate::error::ConnectionError;
use crate::labels::{Named, baggage, inbound_service, service_labels};
use crate::lane::{Held, Lane};
use crate::live::{Carriage, Handshake, Live, Path, Registered};
use crate::proxy_header::Header;
use crate::revocation::Tied;
use crate::shared::CONNECT_DEADLINE;

/// How long a client may take for TLS and the beginning of HTTP/2; waiting for our own certificate comes on top.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection lives that was made to a pod on its way out of the mesh: its client has not heard yet.
const COURTESY: Duration = Duration::from_secs(1);

/// How long it may take to tell a client that its connection is over.
const FAREWELL: Duration = Duration::from_millis(100);

/// One client connection: who is at its ends.
struct Tunnel {
    peer: SocketAddr,
    local: SocketAddr,
    identity: Identity,
    handshake: Arc<Handshake>,
}

/// Carries one client connection from accept to end; each stream has its own task.
pub(crate) async fn serve(lane: Arc<Lane>, stream: TcpStream, peer: SocketAddr, _held: Held) {
    let Ok(local) = stream.local_addr() else { return };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    // What a connection needs before its handshake is through, it must not keep afterwards.
    let handshake = Box::pin(handshake(&lane, stream));
    let outcome = tokio::select! {
        biased;
        outcome = handshake => outcome,
        () = lane.drain.deadline_passed() => Err(ConnectionError::Drained),
    };
    match outcome {
        Ok((server, identity, handshake)) => {
            let tunnel = Arc::new(Tunnel { peer, local, identity, handshake: Arc::new(handshake) });
            serve_streams(&lane, server, &tunnel).await;
        }
        Err(error) => lane.shared.access.failed_early(Direction::Inbound, peer, local, error.to_string()),
    }
}

async fn handshake(
    lane: &Lane,
    stream: TcpStream,
) -> Result<(Server<Tied<MeshStream<TcpStream>>>, Identity, Handshake), ConnectionError> {
    let workload = lane.local_workload().await?;
    let certificate = lane.shared.certificates.certificate(&workload.identity()).await?;
    let accepted = timeout(HANDSHAKE_DEADLINE, tls::accept(stream, &certificate)).await;
    let (stream, peer) = accepted.map_err(|_elapsed| ConnectionError::Timeout("the TLS handshake"))??;
    let identity = peer.identity.clone();
    let agreed = stream.negotiated();
    lane.shared.handshakes.succeeded(Reporter::Destination, agreed.is_resumed);
    let (key_exchange, is_resumed) = (agreed.key_exchange.clone(), agreed.is_resumed);
    let handshake = Handshake { at: SystemTime::now(), key_exchange, is_resumed };
    let stream = lane.shared.revocations.admit(stream, peer, Reporter::Destination)?;
    let server = hbone::server::handshake(stream, &lane.shared.settings.hbone).await?;
    Ok((server, identity, handshake))
}

/// Moves the frames of the connection and starts a task for each stream, until the connection is over.
async fn serve_streams(lane: &Arc<Lane>, mut server: Server<Tied<MeshStream<TcpStream>>>, tunnel: &Arc<Tunnel>) {
    let (mut is_draining, mut has_begun) = (false, false);
    let mut farewell = pin!(farewell(lane));
    loop {
        let next = tokio::select! {
            biased;
            () = lane.drain.deadline_passed(), if is_draining => {
                // The streams have the same order, and each says why it ends; only then the rest is cut.
                let _ = timeout(FAREWELL, async { while server.next().await.is_some() {} }).await;
                server.abort();
                let _ = timeout(FAREWELL, async { while server.next().await.is_some() {} }).await;
                return;
            }
            () = &mut farewell, if !is_draining => {
                is_draining = true;
                server.drain();
                continue;
            }
            next = server.next() => next,
        };
        match next {
            Some(Ok(Incoming::Request(request))) => {
                drop(tokio::spawn(serve_stream(Arc::clone(lane), Arc::clone(tunnel), Box::new(request))));
                if !std::mem::replace(&mut has_begun, true) {
                    // An application of this pod takes a connection at once: the answer leaves with our greeting.
                    yield_now().await;
                }
            }
            Some(Ok(Incoming::Refused(refusal))) => {
                let access = &lane.shared.access;
                access.failed_early(Direction::Inbound, tunnel.peer, tunnel.local, refusal.to_string());
            }
            Some(Err(error)) => {
                tracing::debug!(peer = %tunnel.peer, %error, "an HBONE connection broke");
                return;
            }
            None => return,
        }
    }
}

/// Waits until a connection has to be told that it will end; one that came after that was decided gets time to be of
/// use.
async fn farewell(lane: &Lane) {
    if lane.drain.is_draining() {
        tokio::select! {
            () = lane.node.draining() => {}
            () = sleep(COURTESY) => {}
        }
    }
    lane.drain.draining().await;
}

/// Carries one stream from its request to its end.
///
/// The request is boxed: it is gone once it is answered, and its place in the task would not be. No async function: its
/// future would keep each argument twice.
fn serve_stream(lane: Arc<Lane>, tunnel: Arc<Tunnel>, request: Box<Request>) -> impl Future<Output = ()> + Send {
    let guard = lane.drain.guard();
    let live = lane.register(Direction::Inbound, tunnel.peer);
    let mut record = Record::begin(Direction::Inbound, tunnel.local);
    record.hbone_address = Some(request.authority().clone());
    async move {
        let outcome = live.unless_closed(pin!(carry(&lane, &live, &mut record, &tunnel, request))).await;
        end(&lane.shared, record, &live, outcome.as_ref().err());
        drop(guard);
    }
}

async fn carry(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    tunnel: &Tunnel,
    request: Box<Request>,
) -> Result<(), ConnectionError> {
    let (mut downstream, upstream, header) = Box::pin(open(lane, live, record, tunnel, request)).await?;
    let mut upstream = ToApplication::new(upstream);
    if let Some(header) = header {
        header.write(&mut upstream.stream).await?;
    }
    io::copy_bidirectional(&mut downstream, &mut upstream.stream, live.counters()).await?;
    upstream.complete();
    Ok(())
}

/// Validates, authorises, connects and answers, in the order that the statuses of the wire prescribe.
async fn open(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    tunnel: &Tunnel,
    request: Box<Request>,
) -> Result<(hbone::Stream, TcpStream, Option<Header>), ConnectionError> {
    let Admitted { upstream, workload, header } = match admit(lane, live, record, tunnel, &request).await {
        Ok(admitted) => admitted,
        Err(error) => {
            request.refuse(error.status());
            return Err(error);
        }
    };
    let own = lane.shared.settings.response_baggage.then(|| baggage(&workload));
    let downstream = request.accept(own.as_ref())?;
    Ok((downstream, upstream, header))
}

/// What a request leads to.
struct Admitted {
    upstream: TcpStream,
    workload: Arc<Workload>,
    /// What the application is told before the first byte.
    header: Option<Header>,
}

async fn admit(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    tunnel: &Tunnel,
    request: &Request,
) -> Result<Admitted, ConnectionError> {
    let view = &lane.shared.view;
    let unknown = || InboundError::UnknownWorkload { address: tunnel.local };
    let workload = view.find_local(&lane.pod.name).ok_or_else(unknown)?;
    lane.shared.knowledge.wanted(&workload, tunnel.local.ip(), request.authority()).await?;
    let target = inbound_target(view, &workload, request.authority(), tunnel.local)?;
    let destination = target.destination;
    if lane.shared.settings.is_own_port(destination.port()) {
        return Err(InboundError::IllegalPort(destination.port()).into());
    }
    describe(lane, live.live(), record, tunnel, (&workload, &target, request));
    let identity = Some(&tunnel.identity);
    authorise(&lane.shared, live, Attempt { workload: &workload, source: tunnel.peer, identity, destination })?;
    let deadline = Instant::now() + CONNECT_DEADLINE;
    let upstream = connect::application(&lane.shared, &lane.pod, tunnel.peer, &target, deadline).await?;
    let header = target.announced.map(|announced| Header::new(tunnel.peer, announced, identity));
    let original = request.forwarded().host.map(|host| host.to_string());
    let handshake = Some(Arc::clone(&tunnel.handshake));
    let _ = live.path.set(Path { original, actual: destination, carriage: Carriage::Hbone, handshake });
    Ok(Admitted { upstream, workload, header })
}

/// Tells log and metrics who talks to whom: discovery's word goes before the client's own.
fn describe(
    lane: &Lane,
    live: &Arc<Live>,
    record: &mut Record,
    tunnel: &Tunnel,
    (workload, target, request): (&Arc<Workload>, &InboundTarget, &Request),
) {
    let (view, labels) = (&lane.shared.view, &lane.shared.labels);
    // A client of another network may have the address of somebody here.
    let is_near = request.network().is_none_or(|network| network.eq_ignore_ascii_case(view.network()));
    let resident = is_near.then(|| view.resident(&workload.network, tunnel.peer.ip(), None)).flatten();
    let client = match resident {
        Some(Resident::Workload(client)) => Some(client),
        _ => None,
    };
    let (peer, own) = (Some(&tunnel.identity), workload.identity());
    let host = request.forwarded().host;
    let service =
        target.service.clone().or_else(|| inbound_service(view, workload, host.as_ref(), target.destination.port()));
    let labels = ConnectionLabels {
        reporter: Reporter::Destination,
        source: match &client {
            Some(client) => labels.workload(client, peer),
            None => labels.described(&request.baggage(), peer),
        },
        destination: labels.workload(workload, Some(&own)),
        service: service.as_deref().map(service_labels).unwrap_or_default(),
        security: Security::MutualTls,
    };
    let description = Description {
        source: match &client {
            Some(client) => Named::workload(client, peer),
            None => Named::identity(tunnel.identity.clone()),
        },
        destination: Named::workload(workload, Some(&own)),
        service: service.map(|service| service.hostname.clone()),
        labels,
    };
    record.describe(&lane.shared, live, description);
}

#[cfg(test)]
pub(crate) fn size_of_stream_task() -> usize {
    fn size<A, B, C, F: Future>(_serve: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }
    size(serve_stream)
}
