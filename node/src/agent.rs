//! The loop that keeps each pod of the node as its labels ask: level-triggered, one task per pod at a time.

mod state;

pub(crate) use state::Step;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kinds::annotations::LEAVING;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, warn};
use types::PodUid;

use crate::agent::state::{Failure, Intent, State};
use crate::annotations::{annotation, is_enabled};
use crate::eligibility::{Eligibility, has_ended};
use crate::enrol::{self, EnrolError, Enrolled, Tools, addresses_of, full_name, uid_of};
use crate::events::Events;
use crate::find::FindError;
use crate::linger::proxied_connections;
use crate::redirect;

/// How often pods that have left are looked at for connections that still run through ztunnel.
const LINGER_INTERVAL: Duration = Duration::from_secs(5);

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
}

/// How one task for one pod ended.
struct Outcome {
    uid: PodUid,
    step: Step,
    result: Result<Option<Enrolled>, EnrolError>,
}

impl Agent {
    /// Knows no pod yet; the first pass looks at all.
    #[must_use]
    pub fn new(tools: Tools, eligibility: Eligibility, namespaces: Store<Namespace>, events: Events) -> Self {
        let (states, inspected) = (BTreeMap::new(), HashSet::new());
        Self { tools, eligibility, namespaces, events, states, inspected, tasks: JoinSet::new() }
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

    fn start(&mut self, pod: &Arc<Pod>, step: Step) {
        let uid = uid_of(pod);
        let enrolled = self.states.get(&uid).and_then(State::enrolled).cloned();
        let previous = self.states.remove(&uid);
        self.states.insert(uid.clone(), State::working(previous));
        let (tools, events, pod) = (self.tools.clone(), self.events.clone(), Arc::clone(pod));
        self.tasks.spawn(async move {
            let result = work(&tools, &pod, &step, enrolled).await;
            events.report(&pod, &step, &result).await;
            Outcome { uid, step, result }
        });
    }

    fn finish(&mut self, outcome: Outcome) {
        let Outcome { uid, step, result } = outcome;
        let previous = self.states.remove(&uid);
        let next = match (step, result) {
            (Step::Enrol(capture), Ok(Some(enrolled))) => Some(State::Captured { enrolled, capture }),
            (Step::Leave, Ok(Some(enrolled))) => Some(State::Lingering(enrolled)),
            (_, Ok(_)) => None,
            (step, Err(error)) => {
                let failure = Failure::after(previous.as_ref(), Instant::now());
                debug!(%uid, %error, ?step, retry_in = ?failure.delay, "a step failed");
                Some(State::Failed { failure, enrolled: previous.and_then(State::into_enrolled) })
            }
        };
        if let Some(next) = next {
            self.states.insert(uid, next);
        }
    }

    /// A pod whose object is gone: nothing to annotate, and its rules went with its network namespace.
    fn forget_gone(&mut self, uid: PodUid) {
        let Some(state) = self.states.get(&uid) else { return };
        if state.is_working() || state.is_waiting(Instant::now()) {
            return;
        }
        let addresses = state.enrolled().map(|enrolled| enrolled.addresses.clone()).unwrap_or_default();
        let previous = self.states.remove(&uid);
        self.states.insert(uid.clone(), State::working(previous));
        let tools = self.tools.clone();
        self.tasks.spawn(async move {
            let result = enrol::forget(&tools, &uid, &addresses).await.map(|()| None);
            Outcome { uid, step: Step::Forget, result }
        });
    }

    /// Takes the last rules out of pods none of whose connections runs through ztunnel any more.
    fn collect_lingering(&mut self) {
        let families = self.tools.families.clone();
        self.states.retain(|uid, state| {
            let State::Lingering(enrolled) = state else { return true };
            match proxied_connections(&enrolled.netns) {
                Ok(0) => {
                    if let Err(error) = redirect::remove(&enrolled.netns, &families) {
                        warn!(%uid, %error, "removing the last rules of a pod failed");
                    }
                    false
                }
                Ok(connections) => {
                    debug!(%uid, connections, "a pod that left still has connections through ztunnel");
                    true
                }
                Err(error) => {
                    warn!(%uid, %error, "a pod that left cannot be looked into");
                    true
                }
            }
        });
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

async fn work(
    tools: &Tools,
    pod: &Pod,
    step: &Step,
    enrolled: Option<Enrolled>,
) -> Result<Option<Enrolled>, EnrolError> {
    match step {
        Step::Enrol(capture) => enrol::enrol(tools, pod, capture).await.map(Some),
        Step::Leave => {
            // An earlier agent may have captured it; then everything is read from the pod.
            let enrolled = match enrolled {
                Some(enrolled) => enrolled,
                None => match tools.netns.open(uid_of(pod).as_str()) {
                    Ok(netns) => Enrolled { netns, addresses: addresses_of(pod) },
                    // Without a network namespace there are no rules to take out.
                    Err(FindError::Absent { .. }) => {
                        enrol::forget(tools, &uid_of(pod), &addresses_of(pod)).await?;
                        return enrol::unmark(tools, pod).await.map(|()| None);
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            enrol::leave(tools, pod, &enrolled).await?;
            Ok(Some(enrolled))
        }
        Step::Forget => {
            let addresses = enrolled.map_or_else(|| addresses_of(pod), |enrolled| enrolled.addresses);
            enrol::forget(tools, &uid_of(pod), &addresses).await.map(|()| None)
        }
    }
}
