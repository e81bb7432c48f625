//! Access records: one line per connection, at its end.
//!
//! Keys, order and quoting are fixed; scripts of other meshes read them.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use tracing::Level;
use types::{Authority, Hostname, Identity};

use crate::log::{Entry, FieldValue, Layout, Line, Queue};

/// Which side of the mesh wrote the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// At the destination.
    Inbound,
    /// At the source.
    Outbound,
}

/// One end of the connection; unset values are left out of the line.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// The pod's name.
    pub workload: Option<Arc<str>>,
    /// Its namespace.
    pub namespace: Option<Arc<str>>,
    /// Its identity, if mutual TLS has proven it.
    pub identity: Option<Identity>,
    /// Its cluster.
    pub cluster: Option<Arc<str>>,
}

/// What there is to say about a connection.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// Which side writes.
    pub direction: Direction,
    /// The client's address.
    pub source_address: SocketAddr,
    /// The client.
    pub source: Party,
    /// The address connected to; for inbound HBONE the tunnel's port.
    pub destination_address: SocketAddr,
    /// The server.
    pub destination: Party,
    /// The CONNECT authority, if tunnelled.
    pub hbone_address: Option<Authority>,
    /// The Service that was addressed.
    pub service: Option<Hostname>,
    /// Bytes that the local workload sent.
    pub bytes_sent: u64,
    /// Bytes that the local workload received.
    pub bytes_received: u64,
    /// From accept to end.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// Where access records go.
#[derive(Debug, Clone)]
pub struct AccessLog {
    sink: Sink,
}

#[derive(Debug, Clone)]
enum Sink {
    Queue(Arc<Queue>),
    /// Plain lines without their time, for tests.
    Lines(mpsc::SyncSender<String>),
    Nowhere,
}

/// A record with its time and stage, on its way to the writer.
pub(crate) struct Recorded {
    time: SystemTime,
    stage: Stage,
    record: AccessRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opened,
    Complete,
    /// The connection failed before source and destination were known.
    Early,
}

const TARGET: &str = "access";

impl AccessLog {
    pub(crate) fn to_queue(queue: Arc<Queue>) -> Self {
        Self { sink: Sink::Queue(queue) }
    }

    /// Forgets every record.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { sink: Sink::Nowhere }
    }

    /// Hands out every record as the plain line without its time, for tests; `capacity` lines wait, more are lost.
    #[must_use]
    pub fn lines(capacity: usize) -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::sync_channel(capacity);
        (Self { sink: Sink::Lines(sender) }, receiver)
    }

    /// Whether anybody reads of connections that begin; without, there is no need to make a record.
    #[must_use]
    pub fn wants_opened(&self) -> bool {
        self.is_wanted(Stage::Opened, false)
    }

    /// A connection begins; level debug.
    pub fn opened(&self, record: AccessRecord) {
        if self.wants_opened() {
            self.write(Stage::Opened, record);
        }
    }

    /// A connection ended; level info, or error if it failed.
    pub fn complete(&self, record: AccessRecord) {
        if self.is_wanted(Stage::Complete, record.error.is_some()) {
            self.write(Stage::Complete, record);
        }
    }

    /// A connection failed before anything was known about it but its addresses; level warn.
    pub fn failed_early(
        &self,
        direction: Direction,
        source_address: SocketAddr,
        destination_address: SocketAddr,
        error: impl Into<String>,
    ) {
        if !self.is_wanted(Stage::Early, true) {
            return;
        }
        let record = AccessRecord {
            direction,
            source_address,
            source: Party::default(),
            destination_address,
            destination: Party::default(),
            hbone_address: None,
            service: None,
            bytes_sent: 0,
            bytes_received: 0,
            duration: Duration::ZERO,
            error: Some(error.into()),
        };
        self.write(Stage::Early, record);
    }

    fn is_wanted(&self, stage: Stage, is_failure: bool) -> bool {
        match (&self.sink, stage, is_failure) {
            (Sink::Nowhere, ..) => false,
            (Sink::Lines(_), ..) => true,
            (Sink::Queue(_), Stage::Opened, _) => tracing::enabled!(target: TARGET, Level::DEBUG),
            (Sink::Queue(_), Stage::Early, _) => tracing::enabled!(target: TARGET, Level::WARN),
            (Sink::Queue(_), Stage::Complete, false) => tracing::enabled!(target: TARGET, Level::INFO),
            (Sink::Queue(_), Stage::Complete, true) => tracing::enabled!(target: TARGET, Level::ERROR),
        }
    }

    fn write(&self, stage: Stage, record: AccessRecord) {
        let recorded = Recorded { time: SystemTime::now(), stage, record };
        match &self.sink {
            Sink::Queue(queue) => queue.push(Line::Access(Box::new(recorded))),
            Sink::Lines(lines) => {
                let mut line = String::new();
                recorded.render(Layout::Plain, &mut line);
                let without_time = line.split_once('\t').map_or("", |(_, rest)| rest);
                // A test that does not read its lines does not want them.
                let _ = lines.try_send(without_time.trim_end().to_owned());
            }
            Sink::Nowhere => {}
        }
    }
}

impl Recorded {
    /// Appends the line to `out`.
    pub(crate) fn render(&self, layout: Layout, out: &mut String) {
        let (level, message) = match (self.stage, &self.record.error) {
            (Stage::Opened, _) => (Level::DEBUG, "connection opened"),
            (Stage::Early, _) => (Level::WARN, "connection failed"),
            (Stage::Complete, None) => (Level::INFO, "connection complete"),
            (Stage::Complete, Some(_)) => (Level::ERROR, "connection complete"),
        };
        let fields = self.fields();
        Entry { time: self.time, level, target: TARGET, spans: &[], message, fields: &fields }.render(layout, out);
    }

    fn fields(&self) -> Vec<(&'static str, FieldValue)> {
        let record = &self.record;
        let mut fields = Vec::with_capacity(17);
        fields.push(("src.addr", FieldValue::Bare(record.source_address.to_string())));
        push_party(&mut fields, ["src.workload", "src.namespace", "src.identity", "src.cluster"], &record.source, &[]);
        fields.push(("dst.addr", FieldValue::Bare(record.destination_address.to_string())));
        if let Some(authority) = &record.hbone_address {
            fields.push(("dst.hbone_addr", FieldValue::Bare(authority.to_string())));
        }
        let service = record.service.as_ref().map(|service| ("dst.service", quoted(service.as_str())));
        let keys = ["dst.workload", "dst.namespace", "dst.identity", "dst.cluster"];
        push_party(&mut fields, keys, &record.destination, service.as_slice());
        let direction = match record.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        fields.push(("direction", quoted(direction)));
        if self.stage == Stage::Complete {
            fields.push(("bytes_sent", FieldValue::Unsigned(record.bytes_sent)));
            fields.push(("bytes_recv", FieldValue::Unsigned(record.bytes_received)));
            fields.push(("duration", FieldValue::Quoted(format!("{}ms", record.duration.as_millis()))));
        }
        fields.extend(record.error.as_ref().map(|error| ("error", quoted(error))));
        fields
    }
}

fn push_party(
    fields: &mut Vec<(&'static str, FieldValue)>,
    [workload, namespace, identity, cluster]: [&'static str; 4],
    party: &Party,
    before: &[(&'static str, FieldValue)],
) {
    let value = |value: &Option<Arc<str>>| value.as_deref().filter(|text| !text.is_empty()).map(quoted);
    fields.extend_from_slice(before);
    fields.extend(value(&party.workload).map(|value| (workload, value)));
    fields.extend(value(&party.namespace).map(|value| (namespace, value)));
    fields.extend(party.identity.as_ref().map(|id| (identity, FieldValue::Quoted(id.to_string()))));
    fields.extend(value(&party.cluster).map(|value| (cluster, value)));
}

fn quoted(text: &str) -> FieldValue {
    FieldValue::Quoted(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(workload: &str, namespace: &str) -> Party {
        Party {
            workload: Some(Arc::from(workload)),
            namespace: Some(Arc::from(namespace)),
            identity: format!("spiffe://cluster.local/ns/{namespace}/sa/{workload}").parse().ok(),
            cluster: Some(Arc::from("Kubernetes")),
        }
    }

    fn record() -> AccessRecord {
        AccessRecord {
            direction: Direction::Outbound,
            source_address: "10.244.1.2:40000".parse().unwrap(),
            source: party("frontend", "shop"),
            destination_address: "10.244.2.3:15008".parse().unwrap(),
            destination: party("cart", "shop"),
            hbone_address: Some("10.244.2.3:8080".parse().unwrap()),
            service: Some(Hostname::from("cart.shop.svc.cluster.local")),
            bytes_sent: 10,
            bytes_received: 2000,
            duration: Duration::from_micros(12_900),
            error: None,
        }
    }

    #[test]
    fn a_complete_record_has_every_key_in_its_place() {
        let (log, lines) = AccessLog::lines(1);
        log.complete(record());
        assert_eq!(
            lines.try_recv().unwrap(),
            "info\taccess\tconnection complete\tsrc.addr=10.244.1.2:40000 src.workload=\"frontend\" \
             src.namespace=\"shop\" src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\" \
             src.cluster=\"Kubernetes\" dst.addr=10.244.2.3:15008 dst.hbone_addr=10.244.2.3:8080 \
             dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart\" dst.namespace=\"shop\" \
             dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\" dst.cluster=\"Kubernetes\" \
             direction=\"outbound\" bytes_sent=10 bytes_recv=2000 duration=\"12ms\""
        );
    }

    #[test]
    fn unset_values_are_left_out_and_failures_are_errors() {
        let (log, lines) = AccessLog::lines(1);
        let bare = AccessRecord {
            direction: Direction::Inbound,
            source: Party::default(),
            destination: Party::default(),
            hbone_address: None,
            service: None,
            error: Some("http status: 401".to_owned()),
            ..record()
        };
        log.complete(bare);
        assert_eq!(
            lines.try_recv().unwrap(),
            "error\taccess\tconnection complete\tsrc.addr=10.244.1.2:40000 dst.addr=10.244.2.3:15008 \
             direction=\"inbound\" bytes_sent=10 bytes_recv=2000 duration=\"12ms\" error=\"http status: 401\""
        );
    }

    #[test]
    fn an_early_failure_knows_only_addresses() {
        let (log, lines) = AccessLog::lines(1);
        let (source, destination) = ("10.0.0.1:1".parse().unwrap(), "127.0.0.1:15001".parse().unwrap());
        log.failed_early(Direction::Outbound, source, destination, "attempted recursive call to ourselves");
        assert_eq!(
            lines.try_recv().unwrap(),
            "warn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1 dst.addr=127.0.0.1:15001 direction=\"outbound\" \
             error=\"attempted recursive call to ourselves\""
        );
    }

    #[test]
    fn the_json_layout_has_the_same_keys() {
        let mut line = String::new();
        Recorded { time: SystemTime::now(), stage: Stage::Complete, record: record() }.render(Layout::Json, &mut line);
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys[..5], ["level", "time", "scope", "message", "src.addr"]);
        assert_eq!(json["scope"], "access");
        assert_eq!(json["bytes_recv"], 2000);
        assert_eq!(json["dst.hbone_addr"], "10.244.2.3:8080");
    }
}
