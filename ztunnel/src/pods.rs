//! The pods that the proxy serves: listeners start, are retried, and are taken back.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discovery::LocalName;
use drain::{Trigger, Watch};
use hbone::client::Pool;
use linux::NetNs;
use telemetry::metrics::ManagerMetrics;
use types::PodUid;
use zds::WorkloadInfo;

use crate::accept;
use crate::lane::{Lane, Pod};
use crate::live::Ending;
use crate::lookups;
use crate::shared::Shared;
use crate::workers::Workers;

/// The pods of the node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pods {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    workers: Workers,
    metrics: ManagerMetrics,
    process: Watch,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<PodUid, Running>,
    /// Pods that could not be started, for another try.
    parked: BTreeMap<PodUid, (WorkloadInfo, NetNs)>,
}

struct Running {
    pod: Arc<Pod>,
    drain: Trigger,
}

/// How a pod stands, for a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Up,
    Pending,
}

impl Pods {
    pub(crate) fn new(shared: Arc<Shared>, workers: Workers, metrics: ManagerMetrics, process: Watch) -> Self {
        Self { inner: Arc::new(Inner { shared, workers, metrics, process, table: Mutex::default() }) }
    }

    /// Serves a pod; it is parked for another try if that fails.
    ///
    /// The same pod in the same namespace is served already.
    /// In another namespace it is another pod in all but name: what the old one had ends at once.
    pub(crate) fn add(&self, uid: PodUid, info: WorkloadInfo, netns: NetNs) -> Result<(), String> {
        let mut table = self.lock();
        if let Some(running) = table.running.get(&uid) {
            if running.pod.netns == netns {
                return Ok(());
            }
            tracing::info!(pod = %uid, "the pod has another network namespace; starting anew");
            self.stop(&mut table, &uid, Stop::AtOnce);
        }
        table.parked.remove(&uid);
        let started = self.start(&uid, &info, &netns);
        let outcome = match started {
            Ok(running) => {
                tracing::info!(pod = %uid, name = info.name, namespace = info.namespace, "serving a pod");
                table.running.insert(uid, running);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(pod = %uid, name = info.name, namespace = info.namespace, %error, "cannot serve a pod");
                table.parked.insert(uid, (info, netns));
                Err(error.to_string())
            }
        };
        self.count(&table);
        outcome
    }

    /// Stops serving a pod: no new connections; live ones go on until their peers or the process end them.
    pub(crate) fn remove(&self, uid: &PodUid) {
        let mut table = self.lock();
        table.parked.remove(uid);
        self.stop(&mut table, uid, Stop::Drain);
        self.count(&table);
    }

    /// Stops serving pods that are not among those.
    pub(crate) fn retain(&self, mentioned: &HashSet<PodUid>) {
        let mut table = self.lock();
        let gone: Vec<PodUid> = table.running.keys().filter(|uid| !mentioned.contains(*uid)).cloned().collect();
        for uid in gone {
            self.stop(&mut table, &uid, Stop::Drain);
        }
        table.parked.retain(|uid, _| mentioned.contains(uid));
        self.count(&table);
    }

    /// Whether the pod is served.
    pub(crate) fn is_running(&self, uid: &PodUid) -> bool {
        self.lock().running.contains_key(uid)
    }

    /// Tries parked pods again.
    pub(crate) fn retry(&self) {
        let parked = std::mem::take(&mut self.lock().parked);
        for (uid, (info, netns)) in parked {
            // A failure is logged, and the pod parked again.
            let _ = self.add(uid, info, netns);
        }
    }

    /// Gives up on pods that could not be started; the agent will mention them again.
    pub(crate) fn forget_parked(&self) {
        let mut table = self.lock();
        table.parked.clear();
        self.count(&table);
    }

    /// Whether a pod waits for another try.
    pub(crate) fn has_parked(&self) -> bool {
        !self.lock().parked.is_empty()
    }

    /// Every pod with its description, for a dump.
    pub(crate) fn standings(&self) -> Vec<(PodUid, LocalName, Standing)> {
        let table = self.lock();
        let running = table.running.values().map(|run| (run.pod.uid.clone(), run.pod.name.clone(), Standing::Up));
        let parked = table.parked.iter().map(|(uid, (info, _))| (uid.clone(), local_name(info), Standing::Pending));
        let mut all: Vec<_> = running.chain(parked).collect();
        all.sort_by(|(left, ..), (right, ..)| left.cmp(right));
        all
    }

    fn start(&self, uid: &PodUid, info: &WorkloadInfo, netns: &NetNs) -> std::io::Result<Running> {
        let Inner { shared, workers, process, .. } = &*self.inner;
        let listeners = accept::listen(netns, &shared.settings, workers.handles().len())?;
        let mut lookups = Some(lookups::listen(netns, &shared.settings, &shared.lookups.addresses)?);
        let pod = Arc::new(Pod { uid: uid.clone(), name: local_name(info), netns: netns.clone() });
        let (drain, watch) = process.child();
        for (handle, listeners) in workers.handles_from(spread(uid)).zip(listeners) {
            let lane = Arc::new(Lane {
                shared: Arc::clone(shared),
                pod: Arc::clone(&pod),
                pool: Pool::new(shared.settings.hbone.clone()),
                drain: watch.clone(),
                process: process.clone(),
            });
            // Lookups are few beside connections: one worker answers those of a pod.
            if let Some(sockets) = lookups.take() {
                drop(handle.spawn(lookups::serve(Arc::clone(&lane), sockets)));
            }
            for (role, listener) in listeners {
                drop(handle.spawn(accept::accept_loop(Arc::clone(&lane), role, listener)));
            }
        }
        shared.residents.arrive(Arc::clone(&pod), watch);
        self.inner.metrics.started.increment();
        Ok(Running { pod, drain })
    }

    fn stop(&self, table: &mut Table, uid: &PodUid, how: Stop) {
        let Some(running) = table.running.remove(uid) else { return };
        tracing::info!(pod = %uid, name = &*running.pod.name.name, ?how, "no longer serving a pod");
        self.inner.metrics.stopped.increment();
        self.inner.shared.residents.leave(&running.pod);
        match how {
            Stop::Drain => running.drain.start_without_deadline(),
            Stop::AtOnce => {
                running.drain.force();
                self.inner.shared.live.close_all(Some(uid), Ending::Drained);
            }
        }
    }

    fn count(&self, table: &Table) {
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        self.inner.metrics.active.set(count(table.running.len()));
        self.inner.metrics.pending.set(count(table.parked.len()));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How to stop serving a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Live connections go on.
    Drain,
    /// Live connections end.
    AtOnce,
}

/// A number by which pods are spread over the workers, for when each has its listeners on one of them only.
fn spread(uid: &PodUid) -> usize {
    uid.as_str().bytes().map(usize::from).sum()
}

fn local_name(info: &WorkloadInfo) -> LocalName {
    LocalName {
        namespace: Arc::from(info.namespace.as_str()),
        name: Arc::from(info.name.as_str()),
        service_account: Arc::from(info.service_account.as_str()),
    }
}
