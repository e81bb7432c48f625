//! Carrying out a plan on a thread of its own.
//!
//! The thread has a runtime of its own, so that neither the caller's work nor the work of other threads delays a send,
//! and so that what the generator uses can be told. Bulk streams beside requests have one more, since reading a
//! hundred kilobytes takes longer than an answer.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use crate::bulk::{self, Streams};
use crate::outcome::{Bulk as Carried, Cpu, Failure, Outcome};
use crate::plan::{Bulk, Kind, Mixed, Plan, PlanError};
use crate::schedule::Window;
use crate::usage::measure;
use crate::{idle, requests};

/// Why a plan could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("the plan makes no sense")]
    Plan(#[from] PlanError),
    /// Not one connection could be made beforehand, or not all bulk streams.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// Where to.
        target: std::net::SocketAddr,
        /// What an attempt ran into.
        reason: Failure,
    },
    /// The system refuses what the generator needs: threads, timers, descriptors.
    #[error("cannot run the generator")]
    System(#[from] io::Error),
    /// It was told to stop before it had measured anything. Held connections are told to stop without this.
    #[error("stopped before its end")]
    Stopped,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Connections are being made.
    #[default]
    Connecting,
    /// The load runs, nothing is counted yet.
    WarmingUp,
    /// What happens is counted.
    Measuring,
    /// Idle connections stand.
    Holding,
    /// What was sent in time may still be answered; connections are closed.
    Ending,
}

/// How far a run is, as JSON: `{"phase": "holding", "open": 10000}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Connections that were made beforehand.
    pub open: u32,
}

/// A plan that is being carried out. Dropped, it stops.
#[derive(Debug)]
pub struct Run {
    control: Control,
    outcome: oneshot::Receiver<Result<Outcome, LoadError>>,
}

/// Watches a run and ends it, from elsewhere.
#[derive(Debug, Clone)]
pub struct Control {
    progress: watch::Receiver<Progress>,
    stop: Arc<watch::Sender<bool>>,
}

/// Carries out `plan` on a thread of its own, in the calling thread's network namespace.
///
/// # Errors
///
/// The plan makes no sense, nothing answers at its target, or the system refuses a thread, a timer or a descriptor.
/// Whatever goes wrong later is told in the [`Outcome`].
pub async fn run(plan: &Plan) -> Result<Outcome, LoadError> {
    start(plan.clone())?.outcome().await
}

/// Begins to carry out `plan`, as [`run`] does.
///
/// # Errors
///
/// The plan makes no sense, or the system refuses a thread.
pub fn start(plan: Plan) -> Result<Run, LoadError> {
    plan.check()?;
    let (reporter, progress) = Reporter::new();
    let (stop, stopped) = watch::channel(false);
    let (tell, outcome) = oneshot::channel();
    thread::Builder::new().name("load".to_owned()).spawn(move || {
        let outcome = on_this_thread(carry_out(&plan, &reporter, stopped)).and_then(|outcome| outcome);
        // Nobody may want to know any more.
        let _ = tell.send(outcome);
    })?;
    Ok(Run { control: Control { progress, stop: Arc::new(stop) }, outcome })
}

impl Run {
    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.control.progress()
    }

    /// Ends it now: held connections are closed, and their outcome is told; everything else is [`LoadError::Stopped`].
    pub fn stop(&self) {
        self.control.stop();
    }

    /// What ends it while somebody else waits for its outcome.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits for its end, at most [`Plan::longest`].
    ///
    /// # Errors
    ///
    /// As those of [`run`].
    pub async fn outcome(mut self) -> Result<Outcome, LoadError> {
        (&mut self.outcome).await.unwrap_or(Err(LoadError::Stopped))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Control {
    /// How far the run is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// As [`Run::stop`].
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

/// Tells others how far a run is.
#[derive(Debug)]
pub(crate) struct Reporter {
    progress: watch::Sender<Progress>,
    /// Who else runs in the same window.
    companion: Mutex<Option<oneshot::Sender<Window>>>,
}

impl Reporter {
    pub(crate) fn new() -> (Self, watch::Receiver<Progress>) {
        let (progress, watched) = watch::channel(Progress::default());
        (Self { progress, companion: Mutex::new(None) }, watched)
    }

    /// One more connection stands.
    pub(crate) fn opened(&self) {
        self.progress.send_modify(|progress| progress.open += 1);
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.progress.send_modify(|progress| progress.phase = phase);
    }

    /// The times are fixed.
    pub(crate) fn begins(&self, window: Window) {
        self.phase(Phase::WarmingUp);
        if let Some(companion) = self.companion.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = companion.send(window);
        }
    }
}

fn on_this_thread<T>(work: impl Future<Output = T>) -> Result<T, LoadError> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

async fn carry_out(plan: &Plan, reporter: &Reporter, mut stop: watch::Receiver<bool>) -> Result<Outcome, LoadError> {
    let stopped = async {
        // An error means that nobody waits for the outcome any more.
        let _ = stop.wait_for(|stopped| *stopped).await;
    };
    let work = async {
        match &plan.kind {
            Kind::Requests(requests) => requests::requests(plan, requests, reporter).await,
            Kind::Connections(connections) => requests::connections(plan, connections, reporter).await,
            Kind::Bulk(bulk) => bulk::bulk(plan, bulk, reporter).await,
            Kind::Mixed(mixed) => both(plan, mixed, reporter).await,
            Kind::Idle(idle) => {
                let held = idle::open(plan, idle, reporter).await?;
                return Ok(After::Hold(held));
            }
        }
        .map(|outcome| After::End(Box::new(outcome)))
    };
    let mut stopped = pin!(stopped);
    let after = tokio::select! {
        after = work => after?,
        () = &mut stopped => return Err(LoadError::Stopped),
    };
    match after {
        After::End(outcome) => Ok(*outcome),
        After::Hold(held) => held.hold(plan, reporter, stopped).await,
    }
}

/// What follows on the work that may be stopped at any time.
enum After {
    End(Box<Outcome>),
    Hold(idle::Held),
}

/// Requests here, bulk streams on a thread of their own.
async fn both(plan: &Plan, mixed: &Mixed, reporter: &Reporter) -> Result<Outcome, LoadError> {
    let (window, times) = oneshot::channel();
    let (mut tell, told) = oneshot::channel();
    let (ready, running) = oneshot::channel();
    let (beside, bulk) = (plan.clone(), mixed.bulk.clone());
    // Ends with `told`, too.
    thread::Builder::new().name("load-bulk".to_owned()).spawn(move || {
        let carried = on_this_thread(async {
            tokio::select! {
                carried = companion(&beside, &bulk, ready, times) => carried,
                () = tell.closed() => Err(LoadError::Stopped),
            }
        });
        let _ = tell.send(carried.and_then(|carried| carried));
    })?;
    *reporter.companion.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
    // Whether it runs or failed: the requests would be alone without it.
    if running.await.is_err() {
        return told.await.unwrap_or(Err(LoadError::Stopped)).map(|_| Outcome::default());
    }
    let mut outcome = requests::requests(plan, &mixed.requests, reporter).await?;
    let (carried, cpu) = told.await.unwrap_or(Err(LoadError::Stopped))?;
    outcome.cpu = outcome.cpu + cpu;
    outcome.bulk = Some(carried);
    outcome.invalid = outcome.invalid.or_else(|| bulk::complaint(&mixed.bulk, carried));
    Ok(outcome)
}

async fn companion(
    plan: &Plan,
    bulk: &Bulk,
    ready: oneshot::Sender<()>,
    times: oneshot::Receiver<Window>,
) -> Result<(Carried, Cpu), LoadError> {
    let (reporter, _) = Reporter::new();
    let streams = Streams::open(plan, bulk, &reporter).await?;
    let _ = ready.send(());
    let window = times.await.map_err(|_| LoadError::Stopped)?;
    let (cpu, carried) = tokio::join!(measure(window, &reporter), streams.carried(window));
    Ok((carried, cpu?))
}
