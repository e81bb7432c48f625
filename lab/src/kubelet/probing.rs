//! Runs a container's probes beside it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::pod::PodContext;
use crate::api::EventType;
use crate::probe::{Plan, State, Verdict, attempt};

/// Verdicts that wait to be read; a probe that finds no room waits, too.
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

impl Kind {
    /// As events name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// A probe's verdict has changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) kind: Kind,
    pub(crate) is_success: bool,
}

/// The running probes of one container; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Probing {
    kinds: Vec<Kind>,
    reports: mpsc::Receiver<Report>,
    _tasks: JoinSet<()>,
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

/// Starts the probes; readiness and liveness wait until the startup probe, if there is one, has succeeded.
pub(crate) fn start(context: &Arc<PodContext>, plans: Vec<(Kind, Plan)>) -> Probing {
    let (sender, reports) = mpsc::channel(ROOM);
    let kinds = plans.iter().map(|(kind, _)| *kind).collect();
    let mut tasks = JoinSet::new();
    if !plans.is_empty() {
        tasks.spawn(run_all(Arc::clone(context), plans, sender));
    }
    Probing { kinds, reports, _tasks: tasks }
}

impl Probing {
    /// The next change; `None` without probes.
    pub(crate) async fn next(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// Whether there is such a probe.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}

async fn run_all(context: Arc<PodContext>, plans: Vec<(Kind, Plan)>, sender: mpsc::Sender<Report>) {
    let (startup, others): (Vec<_>, Vec<_>) = plans.into_iter().partition(|(kind, _)| *kind == Kind::Startup);
    for (kind, plan) in startup {
        if run(&context, kind, &plan, &sender).await != Some(Verdict::Success) {
            return;
        }
    }
    let mut tasks = JoinSet::new();
    for (kind, plan) in others {
        let (context, sender) = (Arc::clone(&context), sender.clone());
        tasks.spawn(async move {
            run(&context, kind, &plan, &sender).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Probes until nobody reads the reports; a startup probe until its first verdict, which it returns.
async fn run(context: &PodContext, kind: Kind, plan: &Plan, sender: &mpsc::Sender<Report>) -> Option<Verdict> {
    // A startup probe has no verdict yet: from either start, the opposite one would be the first change.
    let initial = if kind == Kind::Liveness { Verdict::Success } else { Verdict::Failure };
    let mut state = State::new(initial, plan.success_threshold, plan.failure_threshold);
    let mut failures = 0;
    let mut said = String::new();
    tokio::time::sleep(plan.initial_delay).await;
    let mut ticks = tokio::time::interval(plan.period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = attempt(plan, &context.shared.node.network, context.address).await;
        if let Err(why) = &outcome
            && *why != said
        {
            context.record(EventType::Warning, "Unhealthy", &format!("{} probe failed: {why}", titled(kind)));
            said.clone_from(why);
        }
        let changed = state.record(outcome.is_ok());
        failures = if outcome.is_ok() { 0 } else { failures + 1 };
        let gives_up = kind == Kind::Startup && failures >= plan.failure_threshold;
        let Some(verdict) = changed.or_else(|| gives_up.then_some(Verdict::Failure)) else { continue };
        let report = Report { kind, is_success: verdict == Verdict::Success };
        if sender.send(report).await.is_err() {
            return None;
        }
        said.clear();
        if kind == Kind::Startup {
            return Some(verdict);
        }
    }
}

fn titled(kind: Kind) -> &'static str {
    match kind {
        Kind::Startup => "Startup",
        Kind::Readiness => "Readiness",
        Kind::Liveness => "Liveness",
    }
}
