//! One run of a container: start, probes, end.

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

use super::image;
use super::launch::{self, Running};
use super::log::Log;
use super::pod::PodContext;
use super::prepare;
use super::probing::{self, Attempt, Kind, Probe, Probing, Report};
use super::restarts::{self, RestartPolicy, Runs, stopped};
use super::status::{ContainerState, Ended, Phase};
use crate::api::EventType;
use crate::probe::{self, Target};

/// How long the output of an ended container may still take to be read.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(2);

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

impl Job {
    /// Runs the container until it has ended for good, or the pod stops.
    pub(crate) async fn run(mut self) {
        let (policy, stop) = (self.policy, self.stop.clone());
        restarts::run(&mut self, policy, stop).await;
    }
}

impl Runs for Job {
    async fn run_once(&mut self, state: &mut ContainerState) -> Result<Ended, image::Refusal> {
        let pod = Arc::clone(&self.pod.borrow());
        let plan = prepare::plan(&self.context, &pod, &self.container, &self.volumes)?;
        let plans = probing::plans(&self.container)
            .map_err(|message| image::Refusal { reason: "CreateContainerConfigError", message })?;
        let failed = |error: io::Error| image::Refusal { reason: "RunContainerError", message: described(&error) };
        let log = Log::new();
        let place = self.context.place(&self.container.name);
        self.context.shared.roster.begin(&place, Arc::clone(&log));
        let (started, begun) = (Timestamp::now(), Instant::now());
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
        let has = |wanted| plans.iter().any(|(kind, _)| *kind == wanted);
        state.is_started = !has(Kind::Startup);
        state.is_ready = state.is_started && !has(Kind::Readiness);
        state.phase = Phase::Running { since: started };
        self.tell(state).await;
        let probes = plans.into_iter().map(|(kind, plan)| self.probe(kind, plan, &running)).collect();
        let exit = self.watch(&mut running, probing::start(probes, begun), state).await;
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

    fn names(&self) -> (String, String) {
        let PodContext { name, namespace, uid, .. } = &*self.context;
        (self.container.name.clone(), format!("{name}_{namespace}({uid})"))
    }
}

impl Job {
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
                Some(report) = probing.next() => {
                    if self.heed(report, &probing, state).await {
                        return running.end(self.grace()).await;
                    }
                }
            }
        }
    }

    /// Takes what a probe reports; whether the container has to end.
    async fn heed(&self, report: Report, probing: &Probing, state: &mut ContainerState) -> bool {
        let before = state.clone();
        match report {
            Report::Unhealthy(kind, why) => {
                self.record(EventType::Warning, "Unhealthy", &format!("{} probe failed: {why}", kind.titled()));
            }
            Report::Verdict(Kind::Readiness, is_success) => state.is_ready = is_success,
            Report::Verdict(Kind::Startup, true) => {
                state.is_started = true;
                state.is_ready |= !probing.has(Kind::Readiness);
            }
            Report::Verdict(Kind::Liveness, true) => {}
            Report::Verdict(kind, false) => {
                let name = &self.container.name;
                let message = format!("Container {name} failed {} probe, will be restarted", kind.name());
                self.record(EventType::Normal, "Killing", &message);
                return true;
            }
        }
        if *state != before {
            self.tell(state).await;
        }
        false
    }

    /// A probe whose attempts go to this run of the container.
    fn probe(&self, kind: Kind, plan: probe::Plan, running: &Running) -> Probe {
        let target = Arc::new(Target {
            node: self.context.shared.node.network.clone(),
            address: self.context.addresses.primary,
            process: running.process(),
        });
        let asked = Arc::new(plan.clone());
        let attempt: Attempt = Box::new(move || {
            let (asked, target) = (Arc::clone(&asked), Arc::clone(&target));
            Box::pin(async move { probe::attempt(&asked, &target).await })
        });
        Probe { kind, plan, attempt }
    }

    /// How long the container gets to end when it is restarted.
    fn grace(&self) -> Duration {
        let pod = self.pod.borrow();
        let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(30))
    }
}

/// As a shell tells it: the code, or 128 and the signal.
pub(crate) fn exit_code(status: ExitStatus) -> i32 {
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
