//! What happened to a pod, as Events that `kubectl describe pod` shows.

use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tracing::{debug, warn};

use crate::agent::Step;
use crate::enrol::{EnrolError, Enrolled, full_name};
use crate::observe::AgentMetrics;

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
        let Some((type_, reason, note)) = describe(step, result) else { return };
        if type_ == EventType::Warning {
            warn!(pod = %full_name(pod), note, "a step failed and is tried again");
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: action(step).to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &pod.object_ref(&())).await {
            debug!(pod = %full_name(pod), %error, "the event was not written");
        }
    }
}

fn describe(step: &Step, result: &Result<Option<Enrolled>, EnrolError>) -> Option<(EventType, &'static str, String)> {
    match (step, result) {
        (Step::Enrol(_), Ok(_)) => {
            Some((EventType::Normal, "Captured", "new connections of the pod go through ztunnel".to_owned()))
        }
        (Step::Leave, Ok(_)) => {
            Some((EventType::Normal, "Released", "new connections of the pod bypass the mesh".to_owned()))
        }
        (Step::Forget, Ok(_)) => None,
        (Step::Enrol(_), Err(error)) => Some((EventType::Warning, "CaptureFailed", with_causes(error))),
        (Step::Leave | Step::Forget, Err(error)) => Some((EventType::Warning, "ReleaseFailed", with_causes(error))),
    }
}

fn action(step: &Step) -> &'static str {
    match step {
        Step::Enrol(_) => "Capture",
        Step::Leave | Step::Forget => "Release",
    }
}

fn kind(step: &Step, is_ok: bool) -> &'static str {
    match (step, is_ok) {
        (Step::Enrol(_), true) => "capture",
        (Step::Enrol(_), false) => "capture_failed",
        (Step::Leave, true) => "release",
        (Step::Leave, false) => "release_failed",
        (Step::Forget, true) => "forget",
        (Step::Forget, false) => "forget_failed",
    }
}

/// The error with all its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
