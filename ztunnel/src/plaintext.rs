//! Connections to a pod from outside the mesh: port 15006.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use discovery::{Resident, Workload, is_illegal_port};
use telemetry::Direction;
use telemetry::traffic::{ConnectionLabels, Reporter, Security};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::authorise::{Attempt, authorise};
use crate::connect::{self, ToApplication};
use crate::end::{Description, Record, end};
use crate::error::ConnectionError;
use crate::labels::{Named, inbound_service, service_labels};
use crate::lane::{Held, Lane};
use crate::live::{Carriage, Live, Path, Registered};
use crate::shared::CONNECT_DEADLINE;

/// Carries one connection from accept to end.
///
/// No async function: its future would keep each argument twice.
pub(crate) fn serve(
    lane: Arc<Lane>,
    mut stream: TcpStream,
    peer: SocketAddr,
    held: Held,
) -> impl Future<Output = ()> + Send {
    let live = lane.register(Direction::Inbound, peer);
    let mut record = Record::begin(Direction::Inbound, connect::local_address(&stream));
    async move {
        let outcome = live.unless_closed(pin!(carry(&lane, &live, &mut record, &mut stream))).await;
        if outcome.is_err() {
            connect::cut(&stream);
        }
        end(&lane.shared, record, &live, outcome.as_ref().err());
        drop(held);
    }
}

async fn carry(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    stream: &mut TcpStream,
) -> Result<(), ConnectionError> {
    let destination = linux::socket::original_destination(stream).map_err(ConnectionError::OriginalDestination)?;
    record.destination_address = destination;
    // Whatever the address: nothing comes out of one of our listeners to go into another.
    if is_illegal_port(destination.port()) || lane.shared.settings.is_own_port(destination.port()) {
        return Err(ConnectionError::Loop);
    }
    let onward = Box::pin(connect(lane, live, record, destination)).await?;
    let mut onward = ToApplication::new(onward);
    io::copy_bidirectional(stream, &mut onward.stream, live.counters()).await?;
    onward.complete();
    Ok(())
}

async fn connect(
    lane: &Lane,
    live: &Registered,
    record: &mut Record,
    destination: SocketAddr,
) -> Result<TcpStream, ConnectionError> {
    let workload = lane.local_workload().await?;
    describe(lane, live.live(), record, &workload, destination);
    authorise(&lane.shared, live, Attempt { workload: &workload, source: live.source, identity: None, destination })?;
    let application = connect::own_application(&lane.shared.settings, live.source, destination);
    let deadline = Instant::now() + CONNECT_DEADLINE;
    let onward = connect::tcp(&lane.shared, &lane.pod, destination, application, deadline).await?;
    let _ = live.path.set(Path { original: None, actual: destination, carriage: Carriage::Tcp, handshake: None });
    Ok(onward)
}

/// Tells log and metrics who talks to whom; the client is who discovery knows at its address, unproven.
fn describe(lane: &Lane, live: &Arc<Live>, record: &mut Record, workload: &Arc<Workload>, destination: SocketAddr) {
    let view = &lane.shared.view;
    let client = match view.resident(&workload.network, live.source.ip(), None) {
        Some(Resident::Workload(client)) => Some(client),
        _ => None,
    };
    let labels = &lane.shared.labels;
    let service = inbound_service(view, workload, None, destination.port());
    let labels = ConnectionLabels {
        reporter: Reporter::Destination,
        source: client.as_ref().map_or_else(|| labels.unknown(), |client| labels.workload(client, None)),
        destination: labels.workload(workload, None),
        service: service.as_deref().map(service_labels).unwrap_or_default(),
        security: Security::Unknown,
    };
    let description = Description {
        source: client.map_or(Named::Nobody, Named::Resident),
        destination: Named::workload(workload, None),
        service: service.map(|service| service.hostname.clone()),
        labels,
    };
    record.describe(&lane.shared, live, description);
}
