//! The loop that keeps each pod of the node as its labels ask: level-triggered, one task per pod at a time.

mod state;
mod steps;
mod upkeep;
mod welcome;

pub(crate) use state::Step;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kinds::annotations::LEAVING;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};
use types::PodUid;

use crate::agent::state::{Intent, State};
use crate::agent::steps::Outcome;
use crate::agent::upkeep::{Found, inspected};
use crate::agent::welcome::next_arrival;
use crate::annotations::{annotation, is_enabled};
use crate::arrivals::Arrival;
use crate::eligibility::{Eligibility, has_ended};
use crate::enrol::{self, Tools, addresses_of, full_name, uid_of};
use crate::events::Events;
use crate::redirect;

/// How often pods that have left are looked at for connections that still run through ztunnel.
const LINGER_INTERVAL: Duration = Duration::from_secs(5);

/// How often the rules of captured pods are compared with what they should be: a deletion lasts no longer.
const INSPECTION_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps the pods of one node as their labels ask.
pub struct Agent {
    tools: Tools,
    eligibility: Eligibility,
    namespaces: Store<Namespace>,
    events: Events,
    states: BTreeMap<PodUid, State>,
    /// Pods outside the mesh that were looked into for what an earlier agent may have left.
    inspected: HashSet<PodUid>,
    tasks: JoinSet<Outcome>,
    /// Announcements of the CNI plugin; none where it is not installed.
    arrivals: Option<mpsc::Receiver<Arrival>>,
    /// The last comparison of rules with what they should be.
    inspection: Option<JoinHandle<Found>>,
    node_name: Arc<str>,
}

impl Agent {
    /// Knows no pod yet; the first pass looks at all.
    #[must_use]
    pub fn new(tools: Tools, eligibility: Eligibility, namespaces: Store<Namespace>, events: Events) -> Self {
        Self {
            tools,
            eligibility,
            namespaces,
            events,
            states: BTreeMap::new(),
            inspected: HashSet::new(),
            tasks: JoinSet::new(),
            arrivals: None,
            inspection: None,
            node_name: Arc::from(""),
        }
    }

    /// Lets pods in that the CNI plugin announces.
    pub(crate) fn with_arrivals(mut self, node_name: &str, arrivals: mpsc::Receiver<Arrival>) -> Self {
        (self.node_name, self.arrivals) = (node_name.into(), Some(arrivals));
        self
    }

    /// Tells the proxies' list of pods that an earlier agent captured and that still belong into the mesh.
    ///
    /// A proxy that connects drops every pod that it is not told about, so this comes before it may connect.
    pub fn remember_captured(&self) {
        for pod in self.tools.pods.state() {
            if is_enabled(&pod) && !has_ended(&pod) {
                let uid = uid_of(&pod);
                let netns = self.tools.netns.open(uid.as_str());
                if let Err(error) = &netns {
                    warn!(pod = %full_name(&pod), %error, "a captured pod's network namespace was not found");
                }
                self.tools.proxies.remember(uid, enrol::info_of(&pod), netns.ok());
            }
        }
    }

    /// Works until `stop` completes; steps under way are given up then, and are safe to do again.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut changes = self.tools.changes.clone();
        let mut connected = self.tools.proxies.connected();
        let mut linger = interval(LINGER_INTERVAL);
        linger.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut inspection = interval(INSPECTION_INTERVAL);
        inspection.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.reconcile();
            let retry = self.next_retry();
            tokio::select! {
                () = &mut stop => return,
                // A branch whose sender is gone is switched off instead of firing for ever.
                Ok(()) = changes.changed() => {}
                Ok(()) = connected.changed() => {
                    self.events.connected(*connected.borrow_and_update());
                    self.retry_now();
                }
                Some(joined) = self.tasks.join_next() => match joined {
                    Ok(outcome) => self.finish(outcome),
                    Err(error) => warn!(%error, "a task ended without a result"),
                },
                () = sleep_until(retry) => {}
                _ = linger.tick() => self.collect_lingering(),
                _ = inspection.tick() => self.inspect_rules(),
                found = inspected(&mut self.inspection) => self.finish_inspection(found),
                Some(arrival) = next_arrival(&mut self.arrivals) => self.welcome(arrival),
            }
        }
    }

    /// Compares each pod with what its labels ask, and starts a task where they differ.
    fn reconcile(&mut self) {
        let now = Instant::now();
        let pods = self.tools.pods.state();
        let present: HashSet<PodUid> = pods.iter().map(|pod| uid_of(pod)).collect();
        for pod in pods {
            if let Some(step) = self.next_step(&pod, now) {
                self.start(&pod, step);
            }
        }
        let gone: Vec<PodUid> = self.states.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for uid in gone {
            self.forget_gone(uid);
        }
        self.inspected.retain(|uid| present.contains(uid));
    }

    fn next_step(&mut self, pod: &Pod, now: Instant) -> Option<Step> {
        let uid = uid_of(pod);
        let namespace = ObjectRef::new(pod.metadata.namespace.as_deref().unwrap_or_default());
        // A pod is seen before its namespace only for a moment: the namespace's event comes.
        let namespace = self.namespaces.get(&namespace)?;
        let decision = self.eligibility.decide(pod, &namespace);
        let intent = match decision {
            Ok(_) if addresses_of(pod).is_empty() => return None,
            Ok(capture) => Intent::Captured { capture, addresses: addresses_of(pod) },
            Err(_) if has_ended(pod) => Intent::Ended,
            Err(reason) => {
                debug!(pod = %full_name(pod), %reason, "not captured");
                Intent::Outside
            }
        };
        if let Some(state) = self.states.get(&uid) {
            return state.next_step(&intent, now);
        }
        if is_enabled(pod) && intent != Intent::Outside && *self.tools.proxies.connected().borrow() == 0 {
            // An earlier agent has captured it: its proxy goes on without us, and will be told when it connects.
            return None;
        }
        let is_marked = is_enabled(pod)
            || annotation(pod, LEAVING).is_some()
            || (matches!(intent, Intent::Outside) && self.has_leftovers(&uid));
        State::unknown_next_step(&intent, is_marked)
    }

    /// Whether an earlier agent left rules in a pod that has no mark of it: it was ended between the two.
    ///
    /// Without a listener behind them such rules would refuse every connection of the pod.
    fn has_leftovers(&mut self, uid: &PodUid) -> bool {
        if self.inspected.contains(uid) {
            return false;
        }
        // A pod that is only starting has no namespace yet, and nobody's rules either.
        let Ok(netns) = self.tools.netns.open(uid.as_str()) else { return false };
        match redirect::is_present(&netns) {
            Ok(true) => true,
            Ok(false) => {
                self.inspected.insert(uid.clone());
                false
            }
            Err(error) => {
                debug!(%uid, %error, "a pod outside the mesh cannot be looked into");
                false
            }
        }
    }

    /// A proxy has connected or gone: what failed for want of one may work now.
    fn retry_now(&mut self) {
        let now = Instant::now();
        for state in self.states.values_mut() {
            state.retry_at(now);
        }
    }

    fn next_retry(&self) -> Instant {
        // Without failures only a change wakes the loop; a minute later it looks again all the same.
        let idle = Instant::now() + Duration::from_secs(60);
        self.states.values().filter_map(State::retry_time).min().map_or(idle, |retry| retry.min(idle))
    }
}
