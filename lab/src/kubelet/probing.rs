//! Runs a container's probes beside it.
//!
//! As a kubelet's, a probe's attempts are a period apart, and the first one that can end the container does not come
//! the moment the container starts: a program that is just about to listen would be killed, and killed again.

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Container;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::probe::{Plan, State, Verdict};

/// Reports that wait to be read; a probe that finds no room waits, too.
const ROOM: usize = 4;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whether the container has started; the other probes wait for it.
    Startup,
    /// Whether the container gets traffic.
    Readiness,
    /// Whether the container goes on.
    Liveness,
}

/// Makes one attempt; `Err` says why it failed.
pub(crate) type Attempt = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// A probe of one run of a container.
pub(crate) struct Probe {
    pub(crate) kind: Kind,
    pub(crate) plan: Plan,
    pub(crate) attempt: Attempt,
}

/// What a probe has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// An attempt failed, for another reason than the one before.
    Unhealthy(Kind, String),
    /// The verdict is new: success or not.
    Verdict(Kind, bool),
}

/// The running probes of one container; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Probing {
    kinds: Vec<Kind>,
    reports: mpsc::Receiver<Report>,
    _tasks: JoinSet<()>,
}

impl Kind {
    /// Within a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }

    /// At the beginning of a sentence.
    pub(crate) fn titled(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The probes that a container asks for.
///
/// # Errors
/// A sentence that says what the lab cannot do.
pub(crate) fn plans(container: &Container) -> Result<Vec<(Kind, Plan)>, String> {
    let asked = [
        (Kind::Startup, &container.startup_probe),
        (Kind::Readiness, &container.readiness_probe),
        (Kind::Liveness, &container.liveness_probe),
    ];
    let plans = asked.into_iter().filter_map(|(kind, probe)| Some((kind, Plan::new(probe.as_ref()?, container))));
    plans.map(|(kind, plan)| plan.map(|plan| (kind, plan))).collect()
}

/// Starts the probes of a container that started at `started`; readiness and liveness wait until the startup probe, if
/// there is one, has succeeded.
pub(crate) fn start(probes: Vec<Probe>, started: Instant) -> Probing {
    let (sender, reports) = mpsc::channel(ROOM);
    let kinds = probes.iter().map(|probe| probe.kind).collect();
    let mut tasks = JoinSet::new();
    if !probes.is_empty() {
        tasks.spawn(run_all(probes, started, sender));
    }
    Probing { kinds, reports, _tasks: tasks }
}

impl Probing {
    /// The next report; `None` without probes. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// Whether there is such a probe.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

async fn run_all(probes: Vec<Probe>, started: Instant, sender: mpsc::Sender<Report>) {
    let (startup, others): (Vec<_>, Vec<_>) = probes.into_iter().partition(|probe| probe.kind == Kind::Startup);
    for probe in startup {
        if run(&probe, started, &sender).await != Some(Verdict::Success) {
            return;
        }
    }
    let mut tasks = JoinSet::new();
    for probe in others {
        let sender = sender.clone();
        tasks.spawn(async move {
            run(&probe, started, &sender).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Probes until nobody reads the reports; a startup probe until its first verdict, which it returns.
async fn run(probe: &Probe, started: Instant, sender: &mpsc::Sender<Report>) -> Option<Verdict> {
    let Probe { kind, plan, attempt } = probe;
    let mut state = state(*kind, plan);
    let mut said = String::new();
    let mut ticks = tokio::time::interval_at(first_attempt(*kind, plan, started), plan.period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = attempt().await;
        let verdict = state.record(outcome.is_ok());
        if let Err(why) = outcome
            && why != said
        {
            said.clone_from(&why);
            sender.send(Report::Unhealthy(*kind, why)).await.ok()?;
        }
        let Some(verdict) = verdict else { continue };
        sender.send(Report::Verdict(*kind, verdict == Verdict::Success)).await.ok()?;
        said.clear();
        if *kind == Kind::Startup {
            return Some(verdict);
        }
    }
}

/// Readiness and startup are looked for at once, since a success is good news; liveness has no news before a period
/// has passed. Delays count from the container's start.
fn first_attempt(kind: Kind, plan: &Plan, started: Instant) -> Instant {
    let due = (started + plan.initial_delay).max(Instant::now());
    if kind == Kind::Liveness { due + plan.period } else { due }
}

fn state(kind: Kind, plan: &Plan) -> State {
    match kind {
        Kind::Startup => {
            // The early first look costs nothing: `failureThreshold` periods are what a container has to start.
            State::undecided(plan.success_threshold, plan.failure_threshold.saturating_add(1))
        }
        Kind::Readiness => State::new(Verdict::Failure, plan.success_threshold, plan.failure_threshold),
        Kind::Liveness => State::new(Verdict::Success, plan.success_threshold, plan.failure_threshold),
    }
}

#[cfg(test)]
mod tests;
