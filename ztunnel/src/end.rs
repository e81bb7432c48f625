//! The record of a connection, and its one end.

use std::net::SocketAddr;
use std::sync::Arc;

use telemetry::traffic::{ConnectionLabels, OpenConnection};
use telemetry::{AccessRecord, Direction, ResponseFlag};
use tokio::time::Instant;
use types::{Authority, Hostname};

use crate::error::ConnectionError;
use crate::labels::Named;
use crate::live::{Live, Registered};
use crate::shared::Shared;

/// What is known of a connection so far; it becomes the access-log line and the metrics at its end.
pub(crate) struct Record {
    direction: Direction,
    started: Instant,
    pub(crate) destination_address: SocketAddr,
    pub(crate) hbone_address: Option<Authority>,
    /// Absent until source and destination are known; what fails before gets a short line and no metrics.
    described: Option<Box<Described>>,
    /// The other side, if the connection is handed over inside the process.
    pub(crate) arrival: Option<Box<Arrival>>,
}

/// The arriving side of a connection that is handed over inside the process.
pub(crate) struct Arrival {
    pub(crate) record: Record,
    pub(crate) live: Registered,
    /// The drain of the pod that it arrives at waits for it.
    pub(crate) _guard: drain::Guard,
}

struct Described {
    source: Named,
    destination: Named,
    service: Option<Hostname>,
    open: OpenConnection,
}

/// Who talks to whom, as log and metrics say it.
pub(crate) struct Description {
    pub(crate) source: Named,
    pub(crate) destination: Named,
    pub(crate) service: Option<Hostname>,
    pub(crate) labels: ConnectionLabels,
}

impl Record {
    /// A connection was accepted.
    pub(crate) fn begin(direction: Direction, destination_address: SocketAddr) -> Self {
        Self {
            direction,
            started: Instant::now(),
            destination_address,
            hbone_address: None,
            described: None,
            arrival: None,
        }
    }

    /// The arriving side ends although the connection itself may go on, to another endpoint.
    pub(crate) fn end_arrival(&mut self, shared: &Shared, error: &ConnectionError) {
        if let Some(arrival) = self.arrival.take() {
            end(shared, arrival.record, &arrival.live, Some(error));
        }
    }

    /// Source and destination are known; the connection counts as opened from now on.
    pub(crate) fn describe(&mut self, shared: &Shared, live: &Arc<Live>, description: Description) {
        let Description { source, destination, service, labels } = description;
        let bytes: Arc<Live> = Arc::clone(live);
        let open = shared.labels.traffic().opened(labels, bytes);
        if shared.access.wants_opened() {
            shared.access.opened(self.access_record(live, source.clone(), destination.clone(), service.clone()));
        }
        self.described = Some(Box::new(Described { source, destination, service, open }));
    }

    fn access_record(&self, live: &Live, source: Named, destination: Named, service: Option<Hostname>) -> AccessRecord {
        let (up, down) = (live.counters().to_upstream(), live.counters().to_downstream());
        let (bytes_sent, bytes_received) = match self.direction {
            Direction::Outbound => (up, down),
            Direction::Inbound => (down, up),
        };
        AccessRecord {
            direction: self.direction,
            source_address: live.source,
            source: source.into(),
            destination_address: self.destination_address,
            destination: destination.into(),
            hbone_address: self.hbone_address.clone(),
            service,
            bytes_sent,
            bytes_received,
            duration: self.started.elapsed(),
            error: None,
        }
    }
}

/// The one place where a connection ends: bytes, duration and outcome become the access-log line and the metrics,
/// of both sides where it was handed over.
pub(crate) fn end(shared: &Shared, mut record: Record, live: &Live, error: Option<&ConnectionError>) {
    if let Some(arrival) = record.arrival.take() {
        end(shared, arrival.record, &arrival.live, error);
    }
    let text = error.map(ToString::to_string);
    let Some(described) = record.described.take() else {
        let text = text.unwrap_or_else(|| "closed before anything was known".to_owned());
        shared.access.failed_early(record.direction, live.source, record.destination_address, text);
        return;
    };
    let Described { source, destination, service, open } = *described;
    let complete = record.access_record(live, source, destination, service);
    shared.access.complete(AccessRecord { error: text, ..complete });
    match error {
        None => open.close(ResponseFlag::None, false),
        Some(error) => open.close(error.flag(), error.is_failure()),
    }
}
