//! Carrying out a plan on a thread of its own.

use std::io;

use tokio::sync::watch;

use crate::outcome::Outcome;
use crate::plan::{Plan, PlanError};

/// Why a plan could not be carried out at all.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan makes no sense.
    #[error("the plan makes no sense")]
    Plan(#[from] PlanError),
    /// Not one connection could be made beforehand.
    #[error("cannot connect to {target}: {reason}")]
    Connect {
        /// Where to.
        target: std::net::SocketAddr,
        /// What the first attempt ran into.
        reason: crate::Failure,
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
    /// Connections that stand.
    pub open: u32,
}

/// A plan that is being carried out. Dropped, it stops.
#[derive(Debug)]
pub struct Run {
    progress: watch::Receiver<Progress>,
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

/// Begins to carry out `plan`.
///
/// # Errors
///
/// The plan makes no sense, or the system refuses a thread.
pub fn start(plan: Plan) -> Result<Run, LoadError> {
    plan.check()?;
    todo!()
}

impl Run {
    /// How far it is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Ends it now: held connections are closed, and their outcome is told; everything else is [`LoadError::Stopped`].
    pub fn stop(&self) {
        todo!()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// As those of [`run`].
    pub async fn outcome(self) -> Result<Outcome, LoadError> {
        todo!()
    }
}
