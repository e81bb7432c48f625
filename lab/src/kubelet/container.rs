//! One container from its first start to its last end: restarts, probes, liveness, states.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backoff::Backoff;
use super::image;
use super::launch::{self, Running};
use super::log::Log;
use super::pod::PodContext;
use super::prepare;
use super::probing::{self, Kind, Probing};
use super::status::{ContainerState, Ended, Phase, waiting};
use crate::api::EventType;

/// How long to wait before looking again whether what a container needs is there.
const CONFIG_RETRY: Duration = Duration::from_secs(1);

/// How long the output of an ended container may still take to be read.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);

/// When a container starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
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

/// A container to be run.
pub(crate) struct Job {
    pub(crate) context: Arc<PodContext>,
    /// The pod as it is now, with its address.
    pub(crate) pod: watch::Receiver<Arc<Pod>>,
    pub(crate) container: Container,
    /// Where the pod's volumes are.
    pub(crate) volumes: Arc<BTreeMap<String, PathBuf>>,
    pub(crate) policy: RestartPolicy,
    /// Which container of the pod this is, and where its states go.
    pub(crate) states: (usize, mpsc::Sender<(usize, ContainerState)>),
    /// Set to the time that the container gets to end.
    pub(crate) stop: watch::Receiver<Option<Duration>>,
}

/// What ended the wait for something.
enum Next {
    GoOn,
    Stop,
}

impl Job {
    /// Runs the container until it has ended for good, or the pod stops.
    pub(crate) async fn run(mut self) {
        let mut state = ContainerState::new();
        let mut backoff = Backoff::default();
        while self.stop.borrow().is_none() {
            let begun = Instant::now();
            match self.run_once(&mut state).await {
                Ok(ended) => {
                    let exit_code = ended.exit_code;
                    self.terminated(&mut state, ended).await;
                    if self.stop.borrow().is_some() || !self.policy.restarts_after(exit_code) {
                        return;
                    }
                    let wait = backoff.next(begun.elapsed());
                    self.back_off(&mut state, wait).await;
                    if matches!(self.pause(wait).await, Next::Stop) {
                        return;
                    }
                    state.restarts += 1;
                }
                Err(refusal) => {
                    self.refused(&mut state, &refusal).await;
                    if matches!(self.pause(CONFIG_RETRY).await, Next::Stop) {
                        return;
                    }
                }
            }
        }
    }

    /// One run: start, watch, end.
    async fn run_once(&mut self, state: &mut ContainerState) -> Result<Ended, image::Refusal> {
        let pod = Arc::clone(&self.pod.borrow());
        let plan = prepare::plan(&self.context, &pod, &self.container, &self.volumes)?;
        let probes = probing::plans(&self.container)
            .map_err(|message| image::Refusal { reason: "CreateContainerConfigError", message })?;
        let failed = |error: io::Error| image::Refusal { reason: "RunContainerError", message: described(&error) };
        let log = Log::new();
        let place = self.context.place(&self.container.name);
        self.context.shared.roster.begin(&place, Arc::clone(&log));
        let started = Timestamp::now();
        let launched = tokio::task::spawn_blocking(move || launch::start(plan)).await;
        let launched = launched.map_err(io::Error::other).and_then(|launched| launched);
        let mut running = launched.map_err(|error| {
            log.say(&format!("aquifer: the container did not start: {}", described(&error)));
            log.close();
            failed(error)
        })?;
        self.context.shared.roster.set_process(&place, running.process());
        let mut output = JoinSet::new();
        if let Some(stdout) = running.child.stdout.take() {
            output.spawn(Arc::clone(&log).fill(stdout));
        }
        if let Some(stderr) = running.child.stderr.take() {
            output.spawn(Arc::clone(&log).fill(stderr));
        }
        state.is_ready = !probes.iter().any(|(kind, _)| matches!(kind, Kind::Readiness | Kind::Startup));
        state.phase = Phase::Running { since: started };
        self.tell(state).await;
        let exit = self.watch(&mut running, probing::start(&self.context, probes), state).await;
        self.context.shared.roster.set_process(&place, None);
        running.sweep();
        let all = async { while output.join_next().await.is_some() {} };
        if tokio::time::timeout(OUTPUT_DEADLINE, all).await.is_err() {
            tracing::debug!(container = self.container.name, "output of an ended container is still open");
        }
        log.close();
        let exit_code = exit.map_or(255, exit_code);
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        Ok(Ended { exit_code, reason, started, finished: Timestamp::now() })
    }

    /// Waits for the end of the process, which probes and the pod's stop may bring about.
    async fn watch(
        &mut self,
        running: &mut Running,
        mut probing: Probing,
        state: &mut ContainerState,
    ) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                ended = running.child.wait() => return ended,
                grace = stopped(&mut self.stop) => return running.end(grace).await,
                Some(report) = probing.next() => match report.kind {
                    Kind::Readiness if state.is_ready != report.is_success => {
                        state.is_ready = report.is_success;
                        self.tell(state).await;
                    }
                    Kind::Readiness => {}
                    Kind::Startup if report.is_success => {
                        if !probing.has(Kind::Readiness) {
                            state.is_ready = true;
                            self.tell(state).await;
                        }
                    }
                    Kind::Liveness | Kind::Startup => {
                        let message = format!("Container {} failed {} probe, will be restarted", self.container.name, report.kind.name());
                        self.record(EventType::Normal, "Killing", &message);
                        return running.end(self.grace()).await;
                    }
                },
            }
        }
    }

    async fn terminated(&self, state: &mut ContainerState, ended: Ended) {
        state.is_ready = false;
        state.last = match std::mem::replace(&mut state.phase, Phase::Terminated(ended)) {
            Phase::Terminated(before) => Some(before),
            _ => state.last.take(),
        };
        self.tell(state).await;
    }

    async fn back_off(&self, state: &mut ContainerState, wait: Duration) {
        let message = format!(
            "back-off {} ms restarting failed container={} pod={}",
            wait.as_millis(),
            self.container.name,
            self.context.name
        );
        if let Phase::Terminated(ended) = &state.phase {
            state.last = Some(ended.clone());
        }
        state.phase = waiting("CrashLoopBackOff", message.clone());
        self.record(EventType::Warning, "BackOff", &message);
        self.tell(state).await;
    }

    async fn refused(&self, state: &mut ContainerState, refusal: &image::Refusal) {
        let phase = waiting(refusal.reason, refusal.message.clone());
        if state.phase != phase {
            self.record(EventType::Warning, "Failed", &format!("Error: {}", refusal.message));
            state.phase = phase;
            state.is_ready = false;
            self.tell(state).await;
        }
    }

    /// The pod reads states until every container has ended.
    async fn tell(&self, state: &ContainerState) {
        let (index, states) = &self.states;
        if states.send((*index, state.clone())).await.is_err() {
            tracing::debug!(container = self.container.name, "the pod has ended before its container");
        }
    }

    fn record(&self, kind: EventType, reason: &str, message: &str) {
        let pod = Arc::clone(&self.pod.borrow());
        self.context.shared.client.record(&pod, kind, reason, message);
    }

    /// How long the container gets to end when it is restarted.
    fn grace(&self) -> Duration {
        let pod = self.pod.borrow();
        let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
    }

    async fn pause(&mut self, wait: Duration) -> Next {
        tokio::select! {
            () = tokio::time::sleep(wait) => Next::GoOn,
            _ = stopped(&mut self.stop) => Next::Stop,
        }
    }
}

/// Resolves with the time that is left once the pod stops.
async fn stopped(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    // No deadline: a container runs as long as its pod does.
    let grace = match stop.wait_for(Option::is_some).await {
        Ok(grace) => *grace,
        // The pod's task is gone, so nothing may go on.
        Err(_) => None,
    };
    grace.unwrap_or_default()
}

/// As a shell tells it: the code, or 128 and the signal.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

/// An error with its causes.
pub(crate) fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}
