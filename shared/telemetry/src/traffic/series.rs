//! One label set with its numbers.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::labels::{ConnectionLabels, Party, Reporter, ResponseFlag, Security, ServiceLabels, WorkloadLabels};
use super::{ByteCount, Tables};

/// A label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) reporter: Reporter,
    pub(crate) source: Party,
    pub(crate) destination: Party,
    pub(crate) service: ServiceLabels,
    pub(crate) security: Security,
    pub(crate) flag: ResponseFlag,
}

impl Key {
    /// That of connections that have not ended, or well.
    pub(crate) fn new(labels: ConnectionLabels) -> Self {
        let ConnectionLabels { reporter, source, destination, service, security } = labels;
        Self { reporter, source, destination, service, security, flag: ResponseFlag::None }
    }

    /// The same connections, but those that ended like this.
    pub(crate) fn ended(&self, flag: ResponseFlag) -> Self {
        Self { flag, ..self.clone() }
    }

    /// The same with everything unknown that there can be many of.
    pub(crate) fn without_parties(self, parties: &mut HashSet<Arc<WorkloadLabels>>) -> Self {
        let unknown = WorkloadLabels::default();
        let party = parties.get(&unknown).cloned().unwrap_or_else(|| {
            let unknown = Arc::new(unknown);
            parties.insert(Arc::clone(&unknown));
            unknown
        });
        Self { source: Party(Arc::clone(&party)), destination: Party(party), service: ServiceLabels::default(), ..self }
    }
}

/// A label set with its numbers.
pub(crate) struct Series {
    pub(crate) key: Key,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    opened: u64,
    closed: u64,
    failed: u64,
    /// Bytes of connections that are closed.
    past: Bytes,
    /// Live connections; their bytes are read when somebody asks.
    live: BTreeMap<u64, Arc<dyn ByteCount>>,
}

#[derive(Default, Clone, Copy)]
struct Bytes {
    to_upstream: u64,
    to_downstream: u64,
}

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) failed: u64,
    pub(crate) to_upstream: u64,
    pub(crate) to_downstream: u64,
}

impl Series {
    pub(crate) fn new(key: Key) -> Self {
        Self { key, state: Mutex::default() }
    }

    /// Counts a connection as opened and reads its bytes from now on.
    pub(crate) fn open(&self, bytes: Arc<dyn ByteCount>) -> u64 {
        let mut state = self.lock();
        state.opened += 1;
        let id = state.opened;
        state.live.insert(id, bytes);
        id
    }

    /// Takes the final bytes of a connection; `false` when that has been done.
    pub(crate) fn close(&self, id: u64) -> bool {
        let mut state = self.lock();
        let Some(bytes) = state.live.remove(&id) else { return false };
        state.past.add(bytes.as_ref());
        true
    }

    /// Counts the end of a connection.
    pub(crate) fn count_end(&self, has_failed: bool) {
        let mut state = self.lock();
        state.closed += 1;
        state.failed += u64::from(has_failed);
    }

    /// Whether a live connection counts here.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.lock().live.is_empty()
    }

    pub(crate) fn sample(&self) -> Sample {
        let state = self.lock();
        let mut bytes = state.past;
        state.live.values().for_each(|live| bytes.add(live.as_ref()));
        Sample {
            opened: state.opened,
            closed: state.closed,
            failed: state.failed,
            to_upstream: bytes.to_upstream,
            to_downstream: bytes.to_downstream,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bytes {
    fn add(&mut self, bytes: &dyn ByteCount) {
        self.to_upstream += bytes.to_upstream();
        self.to_downstream += bytes.to_downstream();
    }
}

impl Tables {
    /// Every label set with its numbers, taken without holding up connections for long.
    pub(crate) fn snapshot(&self) -> Vec<(Key, Arc<Series>)> {
        self.series.iter().map(|(key, series)| (key.clone(), Arc::clone(series))).collect()
    }
}
