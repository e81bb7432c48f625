//! A pod's status from the states of its containers: what `kubectl get pods` and the EndpointSlices see. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::families::Addresses;

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It does not run, and why.
    Waiting { reason: String, message: String },
    /// It runs.
    Running { since: Timestamp },
    /// It has ended and stays so.
    Terminated(Ended),
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) exit_code: i32,
    pub(crate) reason: &'static str,
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
}

/// Everything about a container that its pod's status shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub(crate) phase: Phase,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: u32,
    pub(crate) is_ready: bool,
    /// It runs, and its startup probe, if it has one, has succeeded.
    pub(crate) is_started: bool,
}

/// What a pod's status is made of.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) addresses: Option<Addresses>,
    pub(crate) hosts: Addresses,
    pub(crate) started: Timestamp,
    /// Name, image and state of each container.
    pub(crate) containers: Vec<(&'a str, &'a str, ContainerState)>,
    /// As `containers`, for those that run before.
    pub(crate) init: Vec<(&'a str, &'a str, ContainerState)>,
    pub(crate) restarts_always: bool,
    pub(crate) restarts_on_failure: bool,
}

/// Remembers when each condition changed last.
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    since: BTreeMap<&'static str, (bool, Timestamp)>,
}

impl ContainerState {
    /// Before its first start.
    pub(crate) fn new() -> Self {
        let phase = waiting("ContainerCreating", "");
        Self { phase, last: None, restarts: 0, is_ready: false, is_started: false }
    }

    /// A run has ended.
    pub(crate) fn end(&mut self, ended: Ended) {
        (self.is_ready, self.is_started) = (false, false);
        self.phase = Phase::Terminated(ended);
    }
}

/// Waiting for a reason.
pub(crate) fn waiting(reason: &str, message: impl Into<String>) -> Phase {
    Phase::Waiting { reason: reason.to_owned(), message: message.into() }
}

impl Conditions {
    /// The `status` of a pod as a strategic merge patch.
    pub(crate) fn status(&mut self, view: &View<'_>, now: Timestamp) -> Value {
        let phase = phase(view);
        let is_done = matches!(phase, "Succeeded" | "Failed");
        let is_initialized = view.init.iter().all(|(_, _, state)| is_success(state));
        let is_ready = !is_done && view.containers.iter().all(|(_, _, state)| state.is_ready);
        let unready = || {
            let names: Vec<_> =
                view.containers.iter().filter(|(_, _, state)| !state.is_ready).map(|(name, ..)| *name).collect();
            let reason = if is_done { "PodCompleted" } else { "ContainersNotReady" };
            (reason, format!("containers with unready status: [{}]", names.join(" ")))
        };
        let conditions = [
            self.condition("Initialized", is_initialized, now, || ("ContainersNotInitialized", String::new())),
            self.condition("ContainersReady", is_ready, now, unready),
            self.condition("Ready", is_ready, now, unready),
        ];
        let mut status = json!({
            "phase": phase,
            "hostIP": view.hosts.primary,
            "hostIPs": listed(view.hosts),
            "startTime": time(view.started),
            "conditions": conditions,
            "containerStatuses": view.containers.iter().map(container).collect::<Vec<_>>(),
        });
        if let (Some(addresses), Some(fields)) = (view.addresses, status.as_object_mut()) {
            fields.insert("podIP".to_owned(), json!(addresses.primary));
            fields.insert("podIPs".to_owned(), listed(addresses));
        }
        if let (false, Some(fields)) = (view.init.is_empty(), status.as_object_mut()) {
            fields.insert("initContainerStatuses".to_owned(), view.init.iter().map(container).collect());
        }
        status
    }

    fn condition(
        &mut self,
        kind: &'static str,
        is_true: bool,
        now: Timestamp,
        why_not: impl Fn() -> (&'static str, String),
    ) -> Value {
        let entry = self.since.entry(kind).or_insert((is_true, now));
        if entry.0 != is_true {
            *entry = (is_true, now);
        }
        let mut condition = json!({
            "type": kind, "status": if is_true { "True" } else { "False" }, "lastTransitionTime": time(entry.1),
            "lastProbeTime": null, "reason": null, "message": null,
        });
        if let (false, Some(fields)) = (is_true, condition.as_object_mut()) {
            let (reason, message) = why_not();
            fields.insert("reason".to_owned(), json!(reason));
            fields.insert("message".to_owned(), json!(message));
        }
        condition
    }
}

fn listed(addresses: Addresses) -> Value {
    addresses.iter().map(|ip| json!({"ip": ip})).collect()
}

/// [Kubernetes: pod phase](https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase).
fn phase(view: &View<'_>) -> &'static str {
    let mut states = view.containers.iter().map(|(_, _, state)| state);
    let will_not_run_again = |state: &ContainerState| match &state.phase {
        Phase::Terminated(ended) => !view.restarts_always && (ended.exit_code == 0 || !view.restarts_on_failure),
        _ => false,
    };
    let init_failed = view.init.iter().any(|(_, _, state)| {
        matches!(&state.phase, Phase::Terminated(ended) if ended.exit_code != 0)
            && !view.restarts_always
            && !view.restarts_on_failure
    });
    if init_failed {
        return "Failed";
    }
    if !view.containers.is_empty() && states.clone().all(will_not_run_again) {
        return if states.all(is_success) { "Succeeded" } else { "Failed" };
    }
    let has_started = |state: &ContainerState| {
        matches!(state.phase, Phase::Running { .. } | Phase::Terminated(_)) || state.last.is_some()
    };
    if view.containers.iter().all(|(_, _, state)| has_started(state)) { "Running" } else { "Pending" }
}

fn is_success(state: &ContainerState) -> bool {
    matches!(&state.phase, Phase::Terminated(ended) if ended.exit_code == 0)
}

fn container((name, image, state): &(&str, &str, ContainerState)) -> Value {
    let current = match &state.phase {
        Phase::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        Phase::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        Phase::Running { since } => json!({"running": {"startedAt": time(*since)}}),
        Phase::Terminated(ended) => json!({"terminated": terminated(ended)}),
    };
    let last = state.last.as_ref().map_or_else(|| json!({}), |ended| json!({"terminated": terminated(ended)}));
    json!({
        "name": name,
        "image": image,
        "imageID": image,
        "ready": state.is_ready,
        "started": state.is_started,
        "restartCount": state.restarts,
        "state": current,
        "lastState": last,
    })
}

fn terminated(ended: &Ended) -> Value {
    json!({
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": time(ended.started),
        "finishedAt": time(ended.finished),
    })
}

/// As Kubernetes writes times: to the second.
pub(crate) fn time(timestamp: Timestamp) -> String {
    timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a pod has ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn ended(exit_code: i32) -> Ended {
        Ended { exit_code, reason: "Error", started: now(), finished: now() }
    }

    fn state(phase: Phase, is_ready: bool) -> ContainerState {
        ContainerState { phase, is_ready, ..ContainerState::new() }
    }

    fn both(primary: &str, secondary: &str) -> Addresses {
        Addresses { primary: primary.parse().unwrap(), secondary: secondary.parse().ok() }
    }

    fn view(states: Vec<ContainerState>, policy: &str) -> View<'static> {
        View {
            addresses: Some(both("10.244.1.2", "fd00:a:1:1::2")),
            hosts: both("172.30.0.11", "fd00:a:0:1::b"),
            started: now(),
            containers: states.into_iter().map(|state| ("c", "aquifer/echo", state)).collect(),
            init: vec![],
            restarts_always: policy == "Always",
            restarts_on_failure: policy == "OnFailure",
        }
    }

    #[test]
    fn the_phase_follows_containers_and_restart_policy() {
        let running = || state(Phase::Running { since: now() }, true);
        let done = |code| state(Phase::Terminated(ended(code)), false);
        let waits = || state(waiting("CrashLoopBackOff", ""), false);
        let restarted = || ContainerState { last: Some(ended(1)), ..waits() };
        for (states, policy, expected) in [
            (vec![ContainerState::new()], "Always", "Pending"),
            (vec![running(), waits()], "Always", "Pending"),
            (vec![running(), restarted()], "Always", "Running"),
            (vec![done(0)], "Always", "Running"),
            (vec![done(0)], "Never", "Succeeded"),
            (vec![done(0), done(1)], "Never", "Failed"),
            (vec![done(0), running()], "Never", "Running"),
            (vec![done(1)], "OnFailure", "Running"),
            (vec![done(0)], "OnFailure", "Succeeded"),
        ] {
            let view = view(states, policy);
            assert_eq!(phase(&view), expected, "{policy} {:?}", view.containers);
        }
    }

    #[test]
    fn ready_needs_every_container() {
        let running = |is_ready| state(Phase::Running { since: now() }, is_ready);
        let ready_of = |view: &View<'_>| {
            let status = Conditions::default().status(view, now());
            status["conditions"][2]["status"].as_str().unwrap().to_owned()
        };
        assert_eq!(ready_of(&view(vec![running(true), running(true)], "Always")), "True");
        assert_eq!(ready_of(&view(vec![running(true), running(false)], "Always")), "False");
        assert_eq!(ready_of(&view(vec![state(Phase::Terminated(ended(0)), true)], "Never")), "False");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let mut conditions = Conditions::default();
        let at = |second: i64| now() + jiff::SignedDuration::from_secs(second);
        let mut ready_since = |is_ready, second| {
            let view = view(vec![state(Phase::Running { since: now() }, is_ready)], "Always");
            let status = conditions.status(&view, at(second));
            status["conditions"][2]["lastTransitionTime"].as_str().unwrap().to_owned()
        };
        assert_eq!(ready_since(false, 0), time(at(0)));
        assert_eq!(ready_since(false, 1), time(at(0)));
        assert_eq!(ready_since(true, 2), time(at(2)));
        assert_eq!(ready_since(true, 3), time(at(2)));
    }

    #[test]
    fn the_status_is_one_that_kubernetes_understands() {
        let mut crashing = state(waiting("CrashLoopBackOff", "back-off 1s"), false);
        crashing.last = Some(ended(137));
        crashing.restarts = 3;
        let status = Conditions::default().status(&view(vec![crashing], "Always"), now());
        let pod: Pod = serde_json::from_value(json!({"metadata": {}, "status": status})).unwrap();
        let status = pod.status.unwrap();
        assert_eq!(status.pod_ip.as_deref(), Some("10.244.1.2"));
        let pod_ips: Vec<_> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
        assert_eq!(pod_ips, ["10.244.1.2", "fd00:a:1:1::2"]);
        let host_ips: Vec<_> = status.host_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
        assert_eq!(host_ips, ["172.30.0.11", "fd00:a:0:1::b"]);
        let container = &status.container_statuses.unwrap()[0];
        assert_eq!(container.restart_count, 3);
        assert_eq!(container.last_state.as_ref().unwrap().terminated.as_ref().unwrap().exit_code, 137);
    }
}
