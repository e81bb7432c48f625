//! Connections that a pod makes: port 15001.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use discovery::{ResolveError, Route, Unresolved, Workload, is_loop, resolve};
use telemetry::Direction;
use telemetry::traffic::{ConnectionLabels, Reporter, Security};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use types::{Identity, WorkloadUid};

use crate::connect::{self, Other, ToApplication};
use crate::end::{Description, Record, end};
use crate::error::ConnectionError;
use crate::hand_over::{Client, Handover};
use crate::labels::{Named, service_labels};
use crate::lane::{Held, Lane};
use crate::live::{Carriage, Live, Path, Registered};
use crate::shared::CONNECT_DEADLINE;
use crate::socks;
use crate::tunnel::{self, Crossed, Server};

/// The least time that one endpoint of several gets.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

/// How many references may be followed that discovery has to be asked for: a waypoint's gateway is the second.
const MOST_QUESTIONS: usize = 4;

/// How long an attempt goes on whose endpoint was withdrawn meanwhile.
const WITHDRAWN: Duration = Duration::from_millis(500);

/// What the connection continues through.
enum Onward {
    Tcp(TcpStream),
    Hbone(hbone::Stream),
    /// Into another network.
    DoubleHbone(Box<Crossed>),
    /// To an application on this node.
    Local(ToApplication),
}

impl Onward {
    fn carriage(&self) -> Carriage {
        match self {
            Self::Tcp(_) => Carriage::Tcp,
            Self::Hbone(_) => Carriage::Hbone,
            Self::DoubleHbone(_) => Carriage::DoubleHbone,
            Self::Local(_) => Carriage::SameNode,
        }
    }
}

/// How a connection came to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// It was redirected.
    Captured,
    /// It was made to the proxy, and said where it wants to go.
    Socks,
}

/// Carries one connection from accept to end.
///
/// No async function: its future would keep each argument twice.
pub(crate) fn serve(
    lane: Arc<Lane>,
    mut stream: TcpStream,
    peer: SocketAddr,
    (held, entrance): (Held, Entrance),
) -> impl Future<Output = ()> + Send {
    let live = lane.register(Direction::Outbound, peer);
    let mut record = Record::begin(Direction::Outbound, connect::local_address(&stream));
    async move {
        let outcome = live.unless_closed(pin!(carry(&lane, &live, &mut record, (&mut stream, entrance)))).await;
        // A client of SOCKS that was not connected has been told why.
        let was_told = entrance == Entrance::Socks && live.path.get().is_none();
        if outcome.is_err() && !was_told {
            connect::cut(&stream);
        }
        end(&lane.shared, record, &live, outcome.as_ref().err());
        drop(held);
    }
}

async fn carry(
    lane: &Arc<Lane>,
    live: &Registered,
    record: &mut Record,
    (stream, entrance): (&mut TcpStream, Entrance),
) -> Result<(), ConnectionError> {
    // Boxed: what connecting needs, a connection that idles for hours must not keep.
    let mut onward = match entrance {
        Entrance::Captured => {
            let destination = original_destination(record, stream)?;
            Box::pin(connect(lane, live, record, destination)).await?
        }
        Entrance::Socks => Box::pin(connect_on_request(lane, live, record, stream)).await?,
    };
    // By reference: a future keeps its arguments beside what it makes of them.
    match &mut onward {
        Onward::Tcp(onward) => io::copy_bidirectional(stream, onward, live.counters()).await?,
        Onward::Hbone(onward) => io::copy_bidirectional(stream, onward, live.counters()).await?,
        Onward::DoubleHbone(onward) => Box::pin(onward.carry(stream, live.counters())).await?,
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
    if destination == local {
        return Err(ConnectionError::Loop);
    }
    Ok(destination)
}

/// Connects a client of SOCKS to where it wants to go, and tells it what came of that.
async fn connect_on_request(
    lane: &Arc<Lane>,
    live: &Registered,
    record: &mut Record,
    stream: &mut TcpStream,
) -> Result<Onward, ConnectionError> {
    let destination = socks::destination(lane, stream).await?;
    record.destination_address = destination;
    let onward = connect(lane, live, record, destination).await;
    socks::report(stream, onward.as_ref().map(|_onward| ())).await?;
    onward
}

/// Resolves and connects; endpoints that fail before a byte was sent are passed over.
async fn connect(
    lane: &Arc<Lane>,
    live: &Registered,
    record: &mut Record,
    destination: SocketAddr,
) -> Result<Onward, ConnectionError> {
    if is_loop(destination) || lane.shared.settings.is_own_loopback(destination) {
        return Err(ConnectionError::Loop);
    }
    let source = lane.local_workload().await?;
    let client = Client { live, workload: &source, deadline: Instant::now() + CONNECT_DEADLINE };
    let mut failed: Vec<WorkloadUid> = Vec::new();
    let mut last: Option<(Route, ConnectionError)> = None;
    let (mut may_ask_again, mut questions) = (true, MOST_QUESTIONS);
    lane.shared.knowledge.address(&source.network, destination.ip()).await?;
    loop {
        let resolved = resolve(&lane.shared.view, &source, destination, &failed, &mut rand::rng());
        let mut route = match resolved {
            Ok(route) => route,
            Err(error) => {
                // Waypoints and gateways may not have been asked for yet.
                let reference = error.missing().filter(|_| lane.shared.knowledge.is_on_demand() && questions > 0);
                let Some(reference) = reference else { return Err(give_up(lane, live, record, &source, last, error)) };
                questions -= 1;
                lane.shared.knowledge.reference(reference).await?;
                continue;
            }
        };
        let withdrawn = withdrawn(lane, route.upstream().map(|upstream| Arc::clone(&upstream.workload)));
        let outcome = tokio::select! {
            biased;
            outcome = attempt(lane, &client, record, &mut route, &failed) => outcome,
            () = withdrawn => Err(ConnectionError::Withdrawn),
        };
        let error = match outcome {
            Ok(onward) => {
                let crossed = if let Onward::DoubleHbone(crossed) = &onward { Some(&**crossed) } else { None };
                describe(lane, live.live(), record, &source, (&route, crossed));
                let (actual, carriage) = (record.destination_address, onward.carriage());
                let _ =
                    live.path.set(Path { original: Some(destination.to_string()), actual, carriage, handshake: None });
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
        match at_fault(&route, &error) {
            Some(uid) if error.permits_another_endpoint() && !is_late => {
                tracing::debug!(%destination, endpoint = %uid, %error, "trying another endpoint");
                failed.push(uid);
                last = Some((route, error));
            }
            _ => {
                describe(lane, live.live(), record, &source, (&route, None));
                return Err(error);
            }
        }
    }
}

/// Who failed: the one that was connected to, or the one behind it.
fn at_fault(route: &Route, error: &ConnectionError) -> Option<WorkloadUid> {
    let upstream = match (route, error) {
        (Route::DoubleHbone(crossing), ConnectionError::BehindGateway(_)) => Some(&crossing.remote.upstream),
        _ => route.upstream(),
    };
    upstream.map(|upstream| upstream.workload.uid.clone())
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
            describe(lane, live.live(), record, source, (&route, None));
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
        let answers = lane.shared.names.resolve(client.workload, unresolved.hostname()).await?;
        *route = unresolved.clone().resolved(&answers, &mut rand::rng())?;
    }
    let handover = Handover::find(&lane.shared, client, route);
    if let Some(handover) = &handover {
        *route = handover.route();
    }
    let deadline = attempt_deadline(lane, route, failed, client.deadline);
    if let Some(handover) = handover {
        let stream = handover.carry_out(&lane.shared, client, record, deadline).await?;
        return Ok(Onward::Local(ToApplication::new(stream)));
    }
    let (service, route) = (route.service(), &*route);
    match route {
        Route::Passthrough { destination, .. } | Route::Tcp { destination, .. } => {
            Ok(Onward::Tcp(connect::tcp(&lane.shared, &lane.pod, *destination, Other::Elsewhere, deadline).await?))
        }
        Route::Hbone { destination, authority, expected, .. }
        | Route::Waypoint { destination, authority, expected, .. } => {
            let request = tunnel::request(client, authority, service.map(|service| &**service));
            let server = Server { destination: *destination, expected };
            Ok(Onward::Hbone(tunnel::shared(lane, client, server, &request, deadline).await?))
        }
        Route::DoubleHbone(crossing) => {
            Ok(Onward::DoubleHbone(Box::new(tunnel::crossing(lane, client, crossing, deadline).await?)))
        }
        // A name was resolved above, or led to an error; what is handed over has left already.
        Route::Unresolved(Unresolved { upstream, .. }) | Route::Local { upstream, .. } => {
            Err(ResolveError::NoAddress { workload: upstream.workload.uid.clone() }.into())
        }
    }
}

/// One endpoint must not use up the time of the others, if there are others.
fn attempt_deadline(lane: &Lane, route: &Route, failed: &[WorkloadUid], deadline: Instant) -> Instant {
    let of_upstream = route.upstream().and_then(|upstream| upstream.service.as_ref());
    let mut services = of_upstream.into_iter().chain(route.service());
    let has_others = services.any(|service| lane.shared.view.endpoints(&service.key()).len() > failed.len() + 1);
    if !has_others {
        return deadline;
    }
    let now = Instant::now();
    let share = (deadline.saturating_duration_since(now) / 2).max(LEAST_ATTEMPT);
    deadline.min(now + share)
}

/// Tells log and metrics who talks to whom; whoever answers in another network describes itself.
fn describe(
    lane: &Lane,
    live: &Arc<Live>,
    record: &mut Record,
    source: &Arc<Workload>,
    (route, crossed): (&Route, Option<&Crossed>),
) {
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
        Route::DoubleHbone(crossing) => {
            record.destination_address = crossing.destination;
            record.hbone_address = Some(crossing.authority.clone());
            identities = Some((source.identity(), crossing.gateway.workload.identity()));
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
        Route::Hbone { .. } | Route::Waypoint { .. } | Route::DoubleHbone(_) => Security::MutualTls,
        Route::Local { .. } => Security::SameNode,
        _ => Security::Unknown,
    };
    let crossed = crossed.filter(|crossed| !crossed.destination.is_empty());
    let labels = ConnectionLabels {
        reporter: Reporter::Source,
        source: labels.workload(source, own.as_ref()),
        destination: match (crossed, destination) {
            (Some(crossed), _) => labels.described(&crossed.destination, Some(&crossed.identity)),
            (None, Some(destination)) => labels.workload(destination, theirs.as_ref()),
            (None, None) => labels.unknown(),
        },
        service: service.map(|service| service_labels(service)).unwrap_or_default(),
        security,
    };
    let description = Description {
        source: Named::workload(source, own.as_ref()),
        destination: match (crossed, destination) {
            (Some(crossed), _) => Named::described(&crossed.destination, crossed.identity.clone()),
            (None, Some(destination)) => Named::workload(destination, theirs.as_ref()),
            (None, None) => Named::Nobody,
        },
        service: service.map(|service| service.hostname.clone()),
        labels,
    };
    record.describe(&lane.shared, live, description);
}
