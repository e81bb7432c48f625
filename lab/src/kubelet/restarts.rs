//! When a container runs again: its pod's restart policy, the waits between runs, and what its status says meanwhile.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::{Backoff, written};
use super::image::Refusal;
use super::status::{ContainerState, Ended, Phase, waiting};
use crate::api::EventType;

/// How long to wait before looking again whether what a container needs is there.
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// When a container starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// Something that can be run again and again: a container, or what a test makes of it.
pub(crate) trait Runs {
    /// One run: start, watch, end. Keeps `state` current and tells of it meanwhile.
    fn run_once(&mut self, state: &mut ContainerState) -> impl Future<Output = Result<Ended, Refusal>> + Send;
    /// Passes a state on to whom it may concern.
    fn tell(&self, state: &ContainerState) -> impl Future<Output = ()> + Send;
    /// Writes an Event.
    fn record(&self, kind: EventType, reason: &str, message: &str);
    /// The container's name, and the pod as messages name it.
    fn names(&self) -> (String, String);
}

/// What ended the wait for something.
enum Next {
    GoOn,
    Stop,
}

impl RestartPolicy {
    /// The policy of a pod; `Always` unless it says otherwise.
    pub(crate) fn of(pod: &Pod) -> Self {
        match pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn restarts_after(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// Runs the container until it has ended for good, or `stop` is set.
pub(crate) async fn run(container: &mut impl Runs, policy: RestartPolicy, mut stop: watch::Receiver<Option<Duration>>) {
    let mut state = ContainerState::new();
    let mut backoff = Backoff::default();
    while stop.borrow().is_none() {
        let begun = Instant::now();
        let wait = match container.run_once(&mut state).await {
            Ok(ended) => {
                let exit_code = ended.exit_code;
                state.end(ended);
                container.tell(&state).await;
                if stop.borrow().is_some() || !policy.restarts_after(exit_code) {
                    return;
                }
                let wait = backoff.next(begun.elapsed());
                back_off(container, &mut state, wait).await;
                wait
            }
            Err(refusal) => {
                refused(container, &mut state, &refusal).await;
                CONFIG_RETRY
            }
        };
        if matches!(pause(wait, &mut stop).await, Next::Stop) {
            return;
        }
    }
}

/// The container starts again after `wait`; says so unless that is at once.
async fn back_off(container: &impl Runs, state: &mut ContainerState, wait: Duration) {
    if let Phase::Terminated(ended) = &state.phase {
        state.last = Some(ended.clone());
    }
    state.restarts += 1;
    if wait.is_zero() {
        return;
    }
    let (name, pod) = container.names();
    let message = format!("back-off {} restarting failed container={name} pod={pod}", written(wait));
    let mut shown = state.clone();
    // The restart that is waited for has not happened yet.
    shown.restarts -= 1;
    shown.phase = waiting("CrashLoopBackOff", message);
    let message = format!("Back-off restarting failed container {name} in pod {pod}");
    container.record(EventType::Warning, "BackOff", &message);
    container.tell(&shown).await;
}

async fn refused(container: &impl Runs, state: &mut ContainerState, refusal: &Refusal) {
    let phase = waiting(refusal.reason, refusal.message.clone());
    if state.phase != phase {
        container.record(EventType::Warning, "Failed", &format!("Error: {}", refusal.message));
        state.phase = phase;
        (state.is_ready, state.is_started) = (false, false);
        container.tell(state).await;
    }
}

async fn pause(wait: Duration, stop: &mut watch::Receiver<Option<Duration>>) -> Next {
    tokio::select! {
        () = tokio::time::sleep(wait) => Next::GoOn,
        _ = stopped(stop) => Next::Stop,
    }
}

/// Resolves with the time that is left once the pod stops.
pub(crate) async fn stopped(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    // No deadline: a container runs as long as its pod does.
    let grace = match stop.wait_for(Option::is_some).await {
        Ok(grace) => *grace,
        // The pod's task is gone, so nothing may go on.
        Err(_) => None,
    };
    grace.unwrap_or_default()
}

#[cfg(test)]
mod tests;
