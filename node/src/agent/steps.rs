//! Steps as tasks: one is started for a pod, works beside the loop, and what it came to is the pod's next state.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tracing::debug;
use types::PodUid;

use super::Agent;
use super::state::{Failure, State, Step};
use crate::enrol::{self, EnrolError, Enrolled, Tools, addresses_of, uid_of};
use crate::find::FindError;

/// How one task for one pod ended.
pub(super) struct Outcome {
    pub(super) uid: PodUid,
    pub(super) step: Step,
    pub(super) result: Result<Option<Enrolled>, EnrolError>,
}

impl Agent {
    pub(super) fn start(&mut self, pod: &Arc<Pod>, step: Step) {
        let uid = uid_of(pod);
        let enrolled = self.states.get(&uid).and_then(State::enrolled).cloned();
        self.begin(&uid);
        let (tools, events, pod) = (self.tools.clone(), self.events.clone(), Arc::clone(pod));
        self.tasks.spawn(async move {
            let result = work(&tools, &pod, &step, enrolled).await;
            events.report(&pod, &step, &result).await;
            Outcome { uid, step, result }
        });
    }

    /// A task is at work on the pod from now on.
    pub(super) fn begin(&mut self, uid: &PodUid) {
        let previous = self.states.remove(uid);
        self.states.insert(uid.clone(), State::working(previous));
    }

    pub(super) fn finish(&mut self, outcome: Outcome) {
        let Outcome { uid, step, result } = outcome;
        let previous = self.states.remove(&uid);
        let next = match (step, result) {
            (Step::Enrol(capture) | Step::Admit(capture) | Step::Repair(capture), Ok(Some(enrolled))) => {
                Some(State::Captured { enrolled, capture })
            }
            (Step::Leave, Ok(Some(enrolled))) => Some(State::Lingering(enrolled)),
            // What was done is undone, and the plugin announces the pod again.
            (Step::Admit(_), Err(_)) | (_, Ok(_)) => None,
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
    pub(super) fn forget_gone(&mut self, uid: PodUid) {
        let Some(state) = self.states.get(&uid) else { return };
        if state.is_working() || state.is_waiting(Instant::now()) {
            return;
        }
        let addresses = state.enrolled().map(|enrolled| enrolled.addresses.clone()).unwrap_or_default();
        self.begin(&uid);
        let tools = self.tools.clone();
        self.tasks.spawn(async move {
            let result = enrol::forget(&tools, &uid, &addresses).await.map(|()| None);
            Outcome { uid, step: Step::Forget, result }
        });
    }
}

async fn work(
    tools: &Tools,
    pod: &Pod,
    step: &Step,
    enrolled: Option<Enrolled>,
) -> Result<Option<Enrolled>, EnrolError> {
    match step {
        // Admission is a step of a task of its own, which knows the network namespace.
        Step::Enrol(capture) | Step::Admit(capture) => enrol::enrol(tools, pod, capture).await.map(Some),
        Step::Repair(capture) => match enrolled {
            Some(enrolled) => enrol::repair(tools, capture, &enrolled).map(|()| Some(enrolled)),
            None => enrol::enrol(tools, pod, capture).await.map(Some),
        },
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
