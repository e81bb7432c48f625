//! Connections that a pod makes: port 15001.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use discovery::{ResolveError, Route, Service, Unresolved, Upstream, Workload, is_loop, resolve};
use drain::Guard;
use hbone::client::Connect;
use hbone::{DialError, Forwarded, TraceParent};
use telemetry::traffic::{ConnectionLabels, Reporter, Security};
use telemetry::{Direction, Party};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use types::{Authority, Identity, WorkloadUid};

use crate::connect::{self, ToApplication};
use crate::end::{Description, Record, end};
use crate::error::ConnectionError;
use crate::hand_over::{Client, Handover};
use crate::labels::{baggage, log_party, service_labels};
use crate::lane::{Lane, PoolKey};
use crate::live::{Carriage, Live, Path, Registered};
use crate::shared::CONNECT_DEADLINE;

/// The least time that one endpoint of several gets.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

/// How long an attempt goes on whose endpoint was withdrawn meanwhile.
const WITHDRAWN: Duration = Duration::from_millis(500);

/// What the connection continues through.
enum Onward {
    Tcp(TcpStream),
    Hbone(hbone::Stream),
    /// To an application on this node.
    Local(ToApplication),
}

impl Onward {
    fn carriage(&self) -> Carriage {
        match self {
            Self::Tcp(_) => Carriage::Tcp,
            Self::Hbone(_) => Carriage::Hbone,
            Self::Local(_) => Carriage::SameNode,
        }
    }
}

/// Carries one connection from accept to end.
pub(crate) async fn serve(lane: Arc<Lane>, mut stream: TcpStream, peer: SocketAddr, _guard: Guard) {
    let Ok(local) = stream.local_addr() else { return };
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    let live = lane.register(Direction::Outbound, peer);
    let mut record = Record::begin(Direction::Outbound, peer, local);
    let outcome = live.unless_closed(pin!(carry(&lane, &live, &mut record, &mut stream))).await;
    if outcome.is_err() {
        connect::cut(&stream);
    }
    end(&lane.shared, record, &live, outcome.as_ref().err());
}

async fn carry(
    lane: &Arc<Lane>,
    live: &Registered,
    record: &mut Record,
    stream: &mut TcpStream,
) -> Result<(), ConnectionError> {
    let destination = original_destination(record, stream)?;
    // Boxed: what connecting needs, a connection that idles for hours must not keep.
    let mut onward = Box::pin(connect(lane, live, record, destination)).await?;
    // By reference: a future keeps its arguments beside what it makes of them.
    match &mut onward {
        Onward::Tcp(onward) => io::copy_bidirectional(stream, onward, live.counters()).await?,
        Onward::Hbone(onward) => io::copy_bidirectional(stream, onward, live.counters()).await?,
        Onward::Local(onward) => {
            io::copy_bidirectional(stream, &mut onward.stream, live.counters()).await?;
            onward.complete();
        }
    }
    Ok(())
}

/// Where the pod wanted to connect to; a connection to this very listener was not redirected, and leads nowhere.
fn original_destination(record: &mut Record, stream: &TcpStream) -> Result<SocketAddr, ConnectionError> {
    let local = record.destination_address;
    let destination = linux::socket::original_destination(stream).map_err(ConnectionError::OriginalDestination)?;
    record.destination_address = destination;
    if is_loop(destination) || destination == local {
        return Err(ConnectionError::Loop);
    }
    Ok(destination)
}

/// Resolves and connects; endpoints that fail before a byte was sent are passed over.
async fn connect(
    lane: &Arc<Lane>,
    live: &Registered,
    record: &mut Record,
    destination: SocketAddr,
) -> Result<Onward, ConnectionError> {
    let source = lane.local_workload().await?;
    let client = Client { live, workload: &source, deadline: Instant::now() + CONNECT_DEADLINE };
    let mut failed: Vec<WorkloadUid> = Vec::new();
    let mut last: Option<(Route, ConnectionError)> = None;
    let mut may_ask_again = true;
    loop {
        let mut route = match resolve(&lane.shared.view, &source, destination, &failed, &mut rand::rng()) {
            Ok(route) => route,
            Err(error) => return Err(give_up(lane, live, record, &source, last, error)),
        };
        let withdrawn = withdrawn(lane, route.upstream().map(|upstream| Arc::clone(&upstream.workload)));
        let outcome = tokio::select! {
            biased;
            outcome = attempt(lane, &client, record, &mut route, &failed) => outcome,
            () = withdrawn => Err(ConnectionError::Withdrawn),
        };
        let error = match outcome {
            Ok(onward) => {
                describe(lane, live.live(), record, &source, &route);
                let (actual, carriage) = (record.destination_address, onward.carriage());
                let _ = live.path.set(Path { original: Some(destination.to_string()), actual, carriage });
                return Ok(onward);
            }
            Err(error) => error,
        };
        record.end_arrival(&lane.shared, &error);
        let is_late = Instant::now() >= client.deadline;
        // Its endpoint left the mesh or joined it while this waited: what failed is no longer the way there.
        if !is_late && error.permits_another_endpoint() && is_outdated(lane, &route) {
            tracing::debug!(%destination, %error, "discovery has changed its mind meanwhile");
            continue;
        }
        if may_ask_again && error.is_interrupted() {
            tracing::debug!(%destination, %error, "asking again");
            may_ask_again = false;
            continue;
        }
        match route.upstream().map(|upstream| upstream.workload.uid.clone()) {
            Some(uid) if error.permits_another_endpoint() && !is_late => {
                tracing::debug!(%destination, endpoint = %uid, %error, "trying another endpoint");
                failed.push(uid);
                last = Some((route, error));
            }
            _ => {
                describe(lane, live.live(), record, &source, &route);
                return Err(error);
            }
        }
    }
}

/// Whether the endpoint is no longer reached as it was when the route was made.
///
/// Each yes takes an update of discovery, so that asking again on its account comes to an end.
fn is_outdated(lane: &Lane, route: &Route) -> bool {
    route.upstream().is_some_and(|upstream| has_changed(lane, &upstream.workload))
}

fn has_changed(lane: &Lane, used: &Workload) -> bool {
    let now = lane.shared.view.workload(&used.uid);
    now.is_none_or(|now| (now.protocol, now.health, &now.addresses) != (used.protocol, used.health, &used.addresses))
}

/// Waits until discovery has changed its mind about an endpoint, and a moment longer: a pod that was deleted may answer
/// yet, and one whose network is gone never will.
async fn withdrawn(lane: &Lane, used: Option<Arc<Workload>>) {
    let mut changes = lane.shared.view.changes();
    let Some(used) = used else { return std::future::pending().await };
    while !has_changed(lane, &used) {
        if changes.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
    sleep(WITHDRAWN).await;
}

/// Nobody is left to try: what went wrong last says more than that nothing is left.
fn give_up(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    source: &Arc<Workload>,
    last: Option<(Route, ConnectionError)>,
    error: ResolveError,
) -> ConnectionError {
    match last {
        Some((route, cause)) => {
            describe(lane, live.live(), record, source, &route);
            cause
        }
        None => error.into(),
    }
}

/// Connects along one route; a name in it is replaced by what it resolves to.
async fn attempt(
    lane: &Arc<Lane>,
    client: &Client<'_>,
    record: &mut Record,
    route: &mut Route,
    failed: &[WorkloadUid],
) -> Result<Onward, ConnectionError> {
    if let Route::Unresolved(unresolved) = route {
        let answers = lane.shared.names.resolve(unresolved.hostname()).await?;
        *route = unresolved.clone().resolved(&answers, &mut rand::rng())?;
    }
    let handover = Handover::find(&lane.shared, client, route);
    if let Some(handover) = &handover {
        *route = handover.route();
    }
    let deadline = match route.upstream() {
        Some(upstream) => attempt_deadline(lane, upstream, failed, client.deadline),
        None => client.deadline,
    };
    if let Some(handover) = handover {
        let stream = handover.carry_out(&lane.shared, client, record, deadline).await?;
        return Ok(Onward::Local(ToApplication::new(stream)));
    }
    let (service, route) = (route.service(), &*route);
    match route {
        Route::Passthrough { destination, .. } | Route::Tcp { destination, .. } => {
            Ok(Onward::Tcp(connect::tcp(&lane.shared, &lane.pod, *destination, None, deadline).await?))
        }
        Route::Hbone { destination, authority, expected, .. }
        | Route::Waypoint { destination, authority, expected, .. } => {
            let key = PoolKey {
                source: client.workload.identity(),
                expected: expected.clone(),
                destination: *destination,
                source_ip: client.live.source.ip(),
            };
            let request = request(client, authority, service.map(|service| &**service));
            Ok(Onward::Hbone(tunnel(lane, key, &request, deadline).await?))
        }
        // A name was resolved above, or led to an error; what is handed over has left already.
        Route::Unresolved(Unresolved { upstream, .. }) | Route::Local { upstream, .. } => {
            Err(ResolveError::NoAddress { workload: upstream.workload.uid.clone() }.into())
        }
    }
}

/// One endpoint must not use up the time of the others, if there are others.
fn attempt_deadline(lane: &Lane, upstream: &Upstream, failed: &[WorkloadUid], deadline: Instant) -> Instant {
    let has_others = upstream
        .service
        .as_ref()
        .is_some_and(|service| lane.shared.view.endpoints(&service.key()).len() > failed.len() + 1);
    if !has_others {
        return deadline;
    }
    let now = Instant::now();
    let share = (deadline.saturating_duration_since(now) / 2).max(LEAST_ATTEMPT);
    deadline.min(now + share)
}

fn request(client: &Client<'_>, authority: &Authority, service: Option<&Service>) -> Connect {
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

async fn tunnel(
    lane: &Arc<Lane>,
    key: PoolKey,
    request: &Connect,
    deadline: Instant,
) -> Result<hbone::Stream, ConnectionError> {
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
async fn dial(lane: &Lane, key: &PoolKey) -> Result<tls::TlsStream<TcpStream>, DialError> {
    let deadline = Instant::now() + lane.shared.settings.hbone.dial_timeout;
    let certificate = lane.shared.certificates.certificate(&key.source).await.map_err(DialError::tls)?;
    let stream = connect::tunnel(lane, key.destination, deadline).await.map_err(DialError::connect)?;
    let (stream, peer) = tls::connect(stream, &certificate, &key.expected).await.map_err(DialError::tls)?;
    tracing::debug!(destination = %key.destination, identity = %peer.identity, "HBONE connection established");
    Ok(stream)
}

/// Tells log and metrics who talks to whom.
fn describe(lane: &Lane, live: &Arc<Live>, record: &mut Record, source: &Arc<Workload>, route: &Route) {
    let (labels, destination) = (&lane.shared.labels, route.upstream().map(|upstream| &upstream.workload));
    // What is addressed; through a waypoint, the destination is the waypoint's workload all the same.
    let service = route.service();
    let mut identities: Option<(Identity, Identity)> = None;
    match route {
        Route::Hbone { destination: address, authority, upstream, .. }
        | Route::Waypoint { destination: address, authority, upstream, .. } => {
            record.destination_address = *address;
            record.hbone_address = Some(authority.clone());
            identities = Some((source.identity(), upstream.workload.identity()));
        }
        Route::Local { destination: address, upstream } => {
            record.destination_address = *address;
            identities = Some((source.identity(), upstream.workload.identity()));
        }
        Route::Tcp { destination: address, .. } | Route::Passthrough { destination: address, .. } => {
            record.destination_address = *address;
        }
        Route::Unresolved(_) => {}
    }
    let (own, theirs) = identities.unzip();
    let security = match route {
        Route::Hbone { .. } | Route::Waypoint { .. } => Security::MutualTls,
        Route::Local { .. } => Security::SameNode,
        _ => Security::Unknown,
    };
    let labels = ConnectionLabels {
        reporter: Reporter::Source,
        source: labels.workload(source, own.as_ref()),
        destination: destination
            .map_or_else(|| labels.unknown(), |destination| labels.workload(destination, theirs.as_ref())),
        service: service.map(|service| service_labels(service)).unwrap_or_default(),
        security,
    };
    let description = Description {
        source: log_party(source, own),
        destination: destination.map_or_else(Party::default, |destination| log_party(destination, theirs)),
        service: service.map(|service| service.hostname.clone()),
        labels,
    };
    record.describe(&lane.shared, live, description);
}
