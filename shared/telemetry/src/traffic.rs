//! The traffic families: connections and bytes between workloads, with the label set that dashboards rely on.
//!
//! A connection resolves its label set once; afterwards its bytes are its own counters, which a scrape reads.
//! Label sets end with the workloads they name, and their number is bounded.

mod collector;
mod labels;
mod series;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use labels::{ConnectionLabels, Party, Reporter, ResponseFlag, Security, ServiceLabels, WorkloadLabels};
pub(crate) use labels::{SOURCE, shown};
use series::{Key, Series};

use crate::Registry;

/// How many label sets there may be; further ones are counted with unknown source and destination.
/// Peers choose some of the values (through baggage), and must not choose our memory.
const MAX_SERIES: usize = 20_000;

/// Bytes of one connection, readable while it lives.
pub trait ByteCount: Send + Sync {
    /// Bytes relayed from the side that opened the connection to the other.
    fn to_upstream(&self) -> u64;
    /// Bytes relayed back.
    fn to_downstream(&self) -> u64;
}

/// The traffic families of one proxy.
#[derive(Clone)]
pub struct TrafficMetrics {
    store: Arc<Store>,
}

#[derive(Default)]
struct Store {
    tables: Mutex<Tables>,
    sockets: [AtomicI64; 2],
}

#[derive(Default)]
struct Tables {
    parties: HashSet<Arc<WorkloadLabels>>,
    series: HashMap<Key, Arc<Series>>,
}

/// One open connection; dropped without [`OpenConnection::close`] it counts as closed without failure, as one that a
/// drain ended does.
pub struct OpenConnection {
    store: Arc<Store>,
    series: Arc<Series>,
    id: u64,
}

impl TrafficMetrics {
    /// Registers the families.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self { store: Arc::new(Store::default()) };
        let _ = registry.registered(collector::TrafficCollector::new(Arc::clone(&metrics.store)));
        metrics
    }

    /// The label values of a workload; equal values give the same party.
    #[must_use]
    pub fn party(&self, labels: WorkloadLabels) -> Party {
        let mut tables = self.store.lock();
        if let Some(known) = tables.parties.get(&labels) {
            return Party(Arc::clone(known));
        }
        let labels = Arc::new(labels);
        tables.parties.insert(Arc::clone(&labels));
        Party(labels)
    }

    /// A connection was opened; `bytes` is read until it is closed.
    #[must_use]
    pub fn opened(&self, labels: ConnectionLabels, bytes: Arc<dyn ByteCount>) -> OpenConnection {
        let series = self.store.series(Key::new(labels));
        let id = series.open(bytes);
        self.store.sockets(series.key.reporter).fetch_add(1, Ordering::Relaxed);
        OpenConnection { store: Arc::clone(&self.store), series, id }
    }

    /// Forgets label sets that no live connection uses and that name a party which is not live.
    ///
    /// To be called when workloads have left; the unknown party is always live.
    pub fn sweep(&self, is_live: impl Fn(&Party) -> bool) {
        let unknown = WorkloadLabels::default();
        let stays = |party: &Party| *party.0 == unknown || is_live(party);
        let mut tables = self.store.lock();
        tables.series.retain(|key, series| series.is_in_use() || (stays(&key.source) && stays(&key.destination)));
        // One count is the table's own; a party that is held elsewhere may come back with its next connection.
        tables.parties.retain(|party| Arc::strong_count(party) > 1);
    }

    /// How many label sets there are.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.store.lock().series.len()
    }
}

impl std::fmt::Debug for TrafficMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrafficMetrics").field("series", &self.series_count()).finish_non_exhaustive()
    }
}

impl OpenConnection {
    /// The connection ended; `has_failed` counts it as failed as well.
    pub fn close(self, flag: ResponseFlag, has_failed: bool) {
        let closed = match flag {
            ResponseFlag::None => Arc::clone(&self.series),
            flag => self.store.series(self.series.key.ended(flag)),
        };
        self.series.close(self.id);
        closed.count_end(has_failed);
        // `drop` finds the connection gone and only returns the socket.
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.series.close(self.id) {
            self.series.count_end(false);
        }
        self.store.sockets(self.series.key.reporter).fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for OpenConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenConnection").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Store {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sockets(&self, reporter: Reporter) -> &AtomicI64 {
        let [source, destination] = &self.sockets;
        match reporter {
            Reporter::Source => source,
            Reporter::Destination => destination,
        }
    }

    fn series(&self, key: Key) -> Arc<Series> {
        let mut tables = self.lock();
        if let Some(series) = tables.series.get(&key) {
            return Arc::clone(series);
        }
        let key = if tables.series.len() < MAX_SERIES { key } else { key.without_parties(&mut tables.parties) };
        let known = tables.series.entry(key).or_insert_with_key(|key| Arc::new(Series::new(key.clone())));
        Arc::clone(known)
    }
}

#[cfg(test)]
mod tests;
