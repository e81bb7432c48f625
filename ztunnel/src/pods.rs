//! The pods that the proxy serves: listeners start, are retried, are taken back, and are left to a successor.

mod left;

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use discovery::LocalName;
use drain::{Trigger, Watch};
use hbone::client::Pool;
use linux::NetNs;
use telemetry::metrics::ManagerMetrics;
use tokio::sync::Semaphore;
use types::PodUid;
use zds::WorkloadInfo;

use self::left::{Left, Look};
use crate::accept::{self, Listeners, Manner};
use crate::claim::Claim;
use crate::lane::{Lane, Lanes, NEGOTIATIONS, Pod};
use crate::live::Ending;
use crate::lookups;
use crate::shared::Shared;
use crate::workers::{Desk, Workers};

/// The pods of the node; cheap to clone.
#[derive(Clone)]
pub(crate) struct Pods {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    workers: Workers,
    metrics: ManagerMetrics,
    /// The drain of the process, which is the order to end.
    process: Watch,
    /// The drain of all pods, which follows it.
    node: Watch,
    /// Whether to listen before discovery is complete, in pods whose connections come whether or not anybody does.
    is_early: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    running: BTreeMap<PodUid, Running>,
    /// Pods that could not be started, for another try.
    parked: BTreeMap<PodUid, (WorkloadInfo, NetNs)>,
    /// Pods in which a successor listens, with all that it takes to serve them again.
    handed_over: BTreeMap<PodUid, Running>,
    /// Pods that are no longer served and may still have connections.
    left: Vec<Left>,
}

struct Running {
    pod: Arc<Pod>,
    info: WorkloadInfo,
    drain: Trigger,
    claim: Claim,
}

/// What the agent does with a pod that it hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was handed over before, to us or to another process: its connections come already.
    Again,
    /// It waits until somebody listens before it redirects connections.
    New,
}

/// How a pod stands, for a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Up,
    Pending,
}

impl Pods {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workers: Workers,
        metrics: ManagerMetrics,
        process: Watch,
        node: Watch,
    ) -> Self {
        let (is_early, table) = (AtomicBool::new(true), Mutex::default());
        Self { inner: Arc::new(Inner { shared, workers, metrics, process, node, is_early, table }) }
    }

    /// Serves a pod; it is parked for another try if that fails.
    ///
    /// The same pod in the same namespace is served already.
    /// In another namespace it is another pod in all but name: what the old one had ends at once.
    ///
    /// Until discovery is complete only pods are listened in that nobody else serves and whose connections come already.
    pub(crate) fn add(&self, uid: PodUid, info: WorkloadInfo, netns: NetNs, arrival: Arrival) -> Result<(), String> {
        let mut table = self.lock();
        if let Some(running) = table.running.get(&uid) {
            if running.pod.netns == netns {
                return Ok(());
            }
            tracing::info!(pod = %uid, "the pod has another network namespace; starting anew");
            self.stop(&mut table, &uid, Stop::AtOnce);
        }
        table.parked.remove(&uid);
        table.handed_over.remove(&uid);
        let started = self.manner(arrival).and_then(|manner| self.start(&uid, &info, &netns, manner));
        let outcome = match started {
            Ok(running) => {
                let beside = running.pod.has_predecessor;
                tracing::info!(pod = %uid, name = info.name, namespace = info.namespace, beside, "serving a pod");
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
        table.handed_over.remove(uid);
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
        table.handed_over.retain(|uid, _| mentioned.contains(uid));
        self.count(&table);
    }

    /// Whether the pod is served.
    pub(crate) fn is_running(&self, uid: &PodUid) -> bool {
        self.lock().running.contains_key(uid)
    }

    /// Tries parked pods again; not to be called before discovery is complete.
    pub(crate) async fn retry(&self) {
        let parked = std::mem::take(&mut self.lock().parked);
        for (uid, (info, netns)) in parked {
            // A failure is logged, and the pod parked again.
            let _ = self.add(uid, info, netns, Arrival::Again);
            tokio::task::yield_now().await;
        }
    }

    /// Waits until discovery is complete.
    pub(crate) async fn discovered(&self) {
        self.inner.shared.discovered().await;
    }

    /// Listens no longer, and no more, before discovery is complete: whoever waits has waited long enough.
    pub(crate) fn withdraw(&self) {
        let mut table = self.lock();
        self.inner.is_early.store(false, Ordering::Relaxed);
        if self.inner.shared.is_discovered() {
            return;
        }
        let uids: Vec<PodUid> = table.running.keys().cloned().collect();
        for uid in uids {
            if let Some(Running { pod, info, .. }) = self.stop(&mut table, &uid, Stop::AtOnce) {
                table.parked.insert(uid, (info, pod.netns.clone()));
            }
        }
        self.count(&table);
    }

    /// How to listen in a pod, if at all.
    fn manner(&self, arrival: Arrival) -> io::Result<Manner> {
        let Inner { shared, process, is_early, .. } = &*self.inner;
        if shared.is_discovered() {
            return Ok(if process.is_draining() { Manner::Yielding } else { Manner::Beside });
        }
        match arrival {
            Arrival::Again if is_early.load(Ordering::Relaxed) => Ok(Manner::Alone),
            Arrival::Again | Arrival::New => Err(io::Error::other("discovery is not complete yet")),
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

    /// How many pods' new connections are taken here.
    pub(crate) fn served(&self) -> usize {
        self.lock().running.len()
    }

    /// Stops accepting in every pod in which a successor listens by now.
    pub(crate) async fn leave_to_successors(&self) {
        let uids: Vec<PodUid> = self.lock().running.keys().cloned().collect();
        for uid in uids {
            self.leave_if_succeeded(uid);
            tokio::task::yield_now().await;
        }
    }

    /// Accepts again in every pod whose successor is gone.
    pub(crate) async fn take_back(&self) {
        let uids: Vec<PodUid> = self.lock().handed_over.keys().cloned().collect();
        for uid in uids {
            self.take_back_if_alone(uid);
            tokio::task::yield_now().await;
        }
    }

    fn leave_if_succeeded(&self, uid: PodUid) {
        let mut table = self.lock();
        if table.running.get(&uid).is_some_and(Running::is_succeeded)
            && let Some(running) = self.stop(&mut table, &uid, Stop::HandOver)
        {
            table.handed_over.insert(uid, running);
            self.count(&table);
        }
    }

    fn take_back_if_alone(&self, uid: PodUid) {
        let mut table = self.lock();
        if table.handed_over.get(&uid).is_none_or(Running::is_succeeded) {
            return;
        }
        let Some(Running { pod, info, .. }) = table.handed_over.remove(&uid) else { return };
        drop(table);
        tracing::warn!(pod = %uid, "the successor no longer listens; taking the pod back");
        // A failure is logged, and the pod parked.
        let _ = self.add(uid, info, pod.netns.clone(), Arrival::Again);
    }

    /// Ends what is left of pods whose network is gone: nobody will.
    pub(crate) fn end_stranded(&self) {
        let mut table = self.lock();
        table.left.retain_mut(|left| match left.look() {
            Look::Over => false,
            Look::Alive => true,
            Look::Stranded => {
                self.inner.shared.live.close_all(Some(&left.pod), Ending::Drained);
                left.drain.force();
                false
            }
        });
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

    fn start(&self, uid: &PodUid, info: &WorkloadInfo, netns: &NetNs, manner: Manner) -> io::Result<Running> {
        let Inner { shared, workers, node, .. } = &*self.inner;
        let Listeners { claim, by_worker, application_mark } =
            accept::listen(netns, &shared.settings, workers.desks().len(), manner)?;
        let lookups = lookups::listen(netns, &shared.settings, &shared.lookups.addresses)?;
        let pod =
            Arc::new(Pod::new(uid.clone(), local_name(info), netns.clone(), application_mark, claim.has_elders()));
        let (drain, watch) = node.child();
        let lane = |desk: &Desk| Lane {
            shared: Arc::clone(shared),
            pod: Arc::clone(&pod),
            desk: desk.clone(),
            pool: Pool::new(shared.settings.hbone.clone()),
            negotiations: Semaphore::new(NEGOTIATIONS),
            drain: watch.clone(),
            node: node.clone(),
        };
        let lanes: Lanes = workers.desks_from(spread(uid)).map(|desk| Arc::new(lane(desk))).collect();
        // Lookups are few beside connections: one worker answers those of a pod.
        if let Some(first) = lanes.first() {
            drop(first.desk.runtime.spawn(lookups::serve(Arc::clone(first), lookups)));
        }
        for (lane, listeners) in lanes.iter().zip(by_worker) {
            for (role, listener) in listeners {
                let (lane, lanes) = (Arc::clone(lane), Arc::clone(&lanes));
                drop(lane.desk.runtime.spawn(accept::accept_loop(Arc::clone(&lane), lanes, role, listener)));
            }
        }
        shared.residents.arrive(Arc::clone(&pod), watch);
        self.inner.metrics.started.increment();
        Ok(Running { pod, info: info.clone(), drain, claim })
    }

    fn stop(&self, table: &mut Table, uid: &PodUid, how: Stop) -> Option<Running> {
        let running = table.running.remove(uid)?;
        tracing::info!(pod = %uid, name = &*running.pod.name.name, ?how, "no longer serving a pod");
        self.inner.metrics.stopped.increment();
        self.inner.shared.residents.leave(&running.pod);
        match how {
            Stop::Drain => running.drain.start_without_deadline(),
            Stop::HandOver => {
                running.pod.has_successor.store(true, Ordering::Release);
                running.drain.start_until(self.inner.process.deadline());
            }
            Stop::AtOnce => {
                running.drain.force();
                self.inner.shared.live.close_all(Some(&running.pod), Ending::Drained);
            }
        }
        table.left.push(Left::new(Arc::clone(&running.pod), running.drain.clone()));
        Some(running)
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

impl Running {
    /// Whether somebody else listens in the pod; where that cannot be told, nobody does.
    fn is_succeeded(&self) -> bool {
        let looked = self.pod.netns.run(|| self.claim.is_succeeded()).flatten();
        looked.unwrap_or_else(|error| {
            tracing::debug!(pod = %self.pod.uid, %error, "cannot tell who else listens");
            false
        })
    }
}

/// How to stop serving a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Live connections go on.
    Drain,
    /// The same, and new ones are somebody else's at once.
    HandOver,
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
