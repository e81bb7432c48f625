//! Handing a connection over to a pod that this process serves as well: no tunnel, and everything else as with one.
//!
//! Who is at either end is proven by the network namespaces that their sockets are in.

use std::net::SocketAddr;
use std::sync::Arc;

use discovery::{HBONE_PORT, InboundError, Route, Upstream, Workload, inbound_target};
use drain::Guard;
use telemetry::Direction;
use telemetry::traffic::{ConnectionLabels, Reporter, Security};
use tokio::net::TcpStream;
use tokio::time::Instant;
use types::Authority;

use crate::authorise::{Attempt, authorise};
use crate::connect;
use crate::end::{Arrival, Description, Record};
use crate::error::ConnectionError;
use crate::labels::{Named, inbound_service, service_labels};
use crate::lane::Pod;
use crate::live::{Carriage, Live, Path, Registered};
use crate::proxy_header::Header;
use crate::shared::Shared;

/// Who connects, and until when.
pub(crate) struct Client<'a> {
    pub(crate) live: &'a Registered,
    pub(crate) workload: &'a Arc<Workload>,
    pub(crate) deadline: Instant,
}

/// A connection that needs no tunnel.
pub(crate) struct Handover {
    destination: SocketAddr,
    upstream: Upstream,
    /// The destination as its own proxy knows it.
    workload: Arc<Workload>,
    pod: Arc<Pod>,
    guard: Guard,
}

impl Handover {
    /// Whether the route needs no tunnel: it leads to a pod of this node that this very process serves.
    ///
    /// Whatever is in doubt is left to the tunnel.
    pub(crate) fn find(shared: &Shared, client: &Client<'_>, route: &Route) -> Option<Self> {
        if !shared.settings.hands_over {
            return None;
        }
        let local = route.handed_over(&shared.view, client.workload, client.live.source.ip())?;
        let Route::Local { destination, upstream } = local else { return None };
        let name = upstream.workload.local_name();
        // Of several pods of one name, only the one that its proxy would answer for.
        let workload = shared.view.find_local(&name).filter(|known| known.uid == upstream.workload.uid)?;
        let (pod, guard) = shared.residents.serving(&name, destination.ip())?;
        Some(Self { destination, upstream, workload, pod, guard })
    }

    pub(crate) fn route(&self) -> Route {
        Route::Local { destination: self.destination, upstream: self.upstream.clone() }
    }

    /// Does what the destination's side of a tunnel does, in the same order: validates, authorises, connects.
    ///
    /// The arriving side is left in `record`, and ends with it.
    pub(crate) async fn carry_out(
        self,
        shared: &Shared,
        client: &Client<'_>,
        record: &mut Record,
        deadline: Instant,
    ) -> Result<TcpStream, ConnectionError> {
        let Self { destination, upstream, workload, pod, guard } = self;
        let live = shared.live.register_arrival(Arc::clone(&pod), client.live.live());
        let arrival = Record::begin(Direction::Inbound, destination);
        let arrival = record.arrival.insert(Box::new(Arrival { record: arrival, live, _guard: guard }));

        let listener = SocketAddr::new(destination.ip(), HBONE_PORT);
        let target = inbound_target(&shared.view, &workload, &Authority::Address(destination), listener)?;
        if shared.settings.is_own_port(target.destination.port()) {
            return Err(InboundError::IllegalPort(target.destination.port()).into());
        }
        describe(shared, client, arrival, (&upstream, &workload), target.destination.port());
        let (source, destination) = (client.live.source, target.destination);
        let identity = client.workload.identity();
        let attempt = Attempt { workload: &workload, source, identity: Some(&identity), destination };
        authorise(shared, &arrival.live, attempt)?;
        let mut stream = connect::application(shared, &pod, source, &target, deadline).await?;
        if let Some(announced) = target.announced {
            Header::new(source, announced, Some(&identity)).write(&mut stream).await?;
        }
        let original = upstream.service.map(|service| service.hostname.to_string());
        let _ = arrival.live.path.set(Path {
            original,
            actual: destination,
            carriage: Carriage::SameNode,
            handshake: None,
        });
        Ok(stream)
    }
}

/// Tells log and metrics of the destination's side who talks to whom.
fn describe(
    shared: &Shared,
    client: &Client<'_>,
    arrival: &mut Arrival,
    (upstream, destination): (&Upstream, &Arc<Workload>),
    port: u16,
) {
    let source = client.workload;
    let (theirs, own) = (source.identity(), destination.identity());
    let host = upstream.service.as_ref().map(|service| &service.hostname);
    let service = inbound_service(&shared.view, destination, host, port);
    let labels = ConnectionLabels {
        reporter: Reporter::Destination,
        source: shared.labels.workload(source, Some(&theirs)),
        destination: shared.labels.workload(destination, Some(&own)),
        service: service.as_deref().map(service_labels).unwrap_or_default(),
        security: Security::SameNode,
    };
    let description = Description {
        source: Named::workload(source, Some(&theirs)),
        destination: Named::workload(destination, Some(&own)),
        service: service.map(|service| service.hostname.clone()),
        labels,
    };
    let live: &Arc<Live> = arrival.live.live();
    arrival.record.describe(shared, live, description);
}
