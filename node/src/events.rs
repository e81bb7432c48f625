//! What happened to a pod, as Events that `kubectl describe pod` shows.

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::{debug, warn};

use crate::agent::Step;
use crate::annotations::is_enabled;
use crate::enrol::{EnrolError, Enrolled, full_name};
use crate::observe::{AgentMetrics, result_label};

/// Writes Events; a clone shares the connection.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    metrics: AgentMetrics,
}

impl Events {
    /// Events in the name of the agent on this node.
    #[must_use]
    pub fn new(client: kube::Client, node_name: &str, metrics: AgentMetrics) -> Self {
        let reporter = Reporter { controller: "aquifer-node".to_owned(), instance: Some(node_name.to_owned()) };
        Self { recorder: Recorder::new(client, reporter), metrics }
    }

    /// Notes how many proxies are connected.
    pub(crate) fn connected(&self, proxies: usize) {
        self.metrics.ztunnel_connected.set(i64::from(proxies > 0));
    }

    /// Reports how a step went. An Event that cannot be written is only logged: the mesh goes on without.
    pub(crate) async fn report(&self, pod: &Pod, step: &Step, result: &Result<Option<Enrolled>, EnrolError>) {
        self.metrics.reconcile_events.with(&[kind(step, result.is_ok())]).increment();
        if matches!(step, Step::Repair(_)) {
            self.metrics.repairs.with(&["rules", result_label(result.is_ok())]).increment();
        }
        if matches!(step, Step::Enrol(_)) && result.is_ok() && is_enabled(pod) {
            // An agent that started again has found everything in place.
            return;
        }
        let Some((type_, reason, note)) = describe(step, result) else { return };
        if type_ == EventType::Warning {
            warn!(pod = %full_name(pod), note, "something was not as it should be");
        }
        self.publish(pod, type_, reason, (action(step), note)).await;
    }

    async fn publish(&self, pod: &Pod, type_: EventType, reason: &str, (action, note): (&str, String)) {
        let (reason, action) = (reason.to_owned(), action.to_owned());
        let event = Event { type_, reason, note: Some(note), action, secondary: None };
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            debug!(pod = %full_name(pod), %error, "the event was not written");
        }
    }
}

fn describe(step: &Step, result: &Result<Option<Enrolled>, EnrolError>) -> Option<(EventType, &'static str, String)> {
    match (step, result) {
        (Step::Admit(_), Ok(_)) => {
            Some((EventType::Normal, "Captured", "all connections of the pod go through ztunnel".to_owned()))
        }
        // The kubelet tells of it, with the same words and the pod's sandbox.
        (Step::Admit(_), Err(_)) => None,
        (Step::Repair(_), Ok(_)) => Some((
            EventType::Warning,
            "RulesRepaired",
            "somebody had changed the pod's redirect rules; they are as they were".to_owned(),
        )),
        (Step::Enrol(_), Ok(_)) => {
            Some((EventType::Normal, "Captured", "new connections of the pod go through ztunnel".to_owned()))
        }
        (Step::Leave, Ok(_)) => {
            Some((EventType::Normal, "Released", "new connections of the pod bypass the mesh".to_owned()))
        }
        (Step::Forget, Ok(_)) => None,
        (Step::Enrol(_) | Step::Repair(_), Err(error)) => {
            Some((EventType::Warning, "CaptureFailed", with_causes(error)))
        }
        (Step::Leave | Step::Forget, Err(error)) => Some((EventType::Warning, "ReleaseFailed", with_causes(error))),
    }
}

fn action(step: &Step) -> &'static str {
    match step {
        Step::Enrol(_) | Step::Admit(_) | Step::Repair(_) => "Capture",
        Step::Leave | Step::Forget => "Release",
    }
}

fn kind(step: &Step, is_ok: bool) -> &'static str {
    match (step, is_ok) {
        (Step::Repair(_), true) => "repair",
        (Step::Repair(_), false) => "repair_failed",
        (Step::Admit(_), true) => "admit",
        (Step::Admit(_), false) => "admit_failed",
        (Step::Enrol(_), true) => "capture",
        (Step::Enrol(_), false) => "capture_failed",
        (Step::Leave, true) => "release",
        (Step::Leave, false) => "release_failed",
        (Step::Forget, true) => "forget",
        (Step::Forget, false) => "forget_failed",
    }
}

/// The error with all its causes, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
