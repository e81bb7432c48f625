//! Pods that the CNI plugin announces: brought into the mesh before anything runs in them, or not at all.

use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tracing::debug;

use super::Agent;
use super::state::{State, Step};
use super::steps::Outcome;
use crate::arrivals::Arrival;
use crate::enrol::{self, EnrolError, Enrolled, Tools, uid_of};
use crate::events::with_causes;
use crate::proxies::HandOverError;

/// The next announcement; never where there is no plugin.
pub(super) async fn next_arrival(arrivals: &mut Option<mpsc::Receiver<Arrival>>) -> Option<Arrival> {
    match arrivals {
        Some(arrivals) => arrivals.recv().await,
        None => std::future::pending().await,
    }
}

impl Agent {
    pub(super) fn welcome(&mut self, arrival: Arrival) {
        let uid = uid_of(&arrival.pod);
        if self.states.get(&uid).is_some_and(State::is_working) {
            let why = "the node agent is still at work on an earlier attempt of it".to_owned();
            // The plugin may have given up meanwhile.
            let _ = arrival.answer.send(Err(why));
            return;
        }
        self.begin(&uid);
        let (tools, events, node) = (self.tools.clone(), self.events.clone(), self.node_name.clone());
        self.tasks.spawn(async move {
            let Arrival { pod, capture, netns, mut addresses, deadline, answer } = arrival;
            addresses.sort_unstable();
            let new = Enrolled { netns, addresses };
            let admitted = timeout_at(deadline, enrol::admit(&tools, &pod, &capture, &new)).await;
            let result = admitted.unwrap_or_else(|_late| Err(missing(&tools)));
            let told = result.as_ref().copied().map_err(|error| explain(error, &node));
            let is_heard = answer.send(told).is_ok();
            let result = if is_heard { result } else { result.and(Err(HandOverError::NoAnswer.into())) };
            if result.is_err()
                && let Err(error) = enrol::dismiss(&tools, &pod, &new).await
            {
                debug!(%error, "a pod that was not let in is not wholly forgotten");
            }
            let (step, result) = (Step::Admit(capture), result.map(|()| Some(new)));
            events.report(&pod, &step, &result).await;
            Outcome { uid, step, result }
        });
    }
}

/// What a pod has waited for in vain.
fn missing(tools: &Tools) -> EnrolError {
    let is_connected = *tools.proxies.connected().borrow() > 0;
    if is_connected { HandOverError::NoAnswer.into() } else { HandOverError::NoProxy.into() }
}

/// The cause as a user meets it, in an Event of the pod.
fn explain(error: &EnrolError, node: &str) -> String {
    match error {
        EnrolError::HandOver(HandOverError::NoProxy) => format!("no ztunnel connected on node {node}"),
        EnrolError::HandOver(HandOverError::NoAnswer) => format!("the ztunnel on node {node} does not answer"),
        error => with_causes(error),
    }
}
