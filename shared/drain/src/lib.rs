//! How a program ends: draining, its deadline, force; and how it becomes ready.
//!
//! A [`Trigger`] starts a drain and waits for it, every task holds a [`Watch`] to hear of it, and live work is counted
//! by guards, so that the drain ends as soon as the last connection has.
//! [`Signals`] turns SIGTERM and SIGINT into values, [`supervise`] ties the two together, [`Readiness`] says which parts
//! of the start-up are still pending.
//! The crate refuses to decide how long a drain may take, and never ends the process.
//! Its main types are [`Trigger`] and [`Watch`].

mod level;
mod readiness;
mod signals;
mod supervise;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use level::Level;

pub use readiness::{Readiness, Task};
pub use signals::{Signal, Signals};
pub use supervise::{Ending, supervise};

/// How long work that was told that its deadline has passed may still take to say so in the log.
const LAST_WORD: Duration = Duration::from_millis(250);

/// Makes a drain: the side that starts it and the side that hears of it.
#[must_use]
pub fn new() -> (Trigger, Watch) {
    let level = Level::root();
    (Trigger { level: Arc::clone(&level) }, Watch { level })
}

/// Starts a drain and waits until it is over.
///
/// Clones start the same drain; dropping all of them starts nothing.
#[derive(Debug, Clone)]
pub struct Trigger {
    level: Arc<Level>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All work ended by itself.
    Complete,
    /// The deadline passed; `left` pieces of work were still live and have been dropped or abandoned.
    Forced {
        /// How many guards were still held.
        left: usize,
    },
}

impl Trigger {
    /// Starts draining: work gets `grace` to end by itself, and is then told that its deadline has passed.
    ///
    /// May be called again, by anyone: the earliest deadline counts.
    pub fn start(&self, grace: Duration) {
        self.level.start(Some(Instant::now() + grace));
    }

    /// Starts draining until `deadline`; without one as [`Trigger::start_without_deadline`].
    pub fn start_until(&self, deadline: Option<Instant>) {
        self.level.start(deadline);
    }

    /// Starts draining and leaves live work all the time it wants, unless a deadline is set later.
    ///
    /// For a pod that leaves the mesh: nobody is in a hurry, its connections end with their peers or with the pod.
    pub fn start_without_deadline(&self) {
        self.level.start(None);
    }

    /// Lets the deadline pass now.
    pub fn force(&self) {
        self.level.start(Some(Instant::now()));
    }

    /// Another handle to hear of this drain.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch { level: Arc::clone(&self.level) }
    }

    /// Waits until the drain has been started and all its work has ended, or its deadline and a moment for last words
    /// have passed.
    ///
    /// Waits without bound before a start and after [`Trigger::start_without_deadline`]: both are asked for.
    pub async fn finished(&self) -> Drained {
        let watch = self.watch();
        watch.draining().await;
        let overdue = async {
            watch.deadline_passed().await;
            tokio::time::sleep(LAST_WORD).await;
        };
        tokio::select! {
            biased;
            () = self.level.idle() => Drained::Complete,
            () = overdue => match self.level.live() {
                0 => Drained::Complete,
                left => Drained::Forced { left },
            },
        }
    }
}

/// Hears of a drain, and counts work that the drain waits for.
///
/// Cheap to clone; every task that lives longer than a request holds one.
#[derive(Debug, Clone)]
pub struct Watch {
    level: Arc<Level>,
}

impl Watch {
    /// Whether the drain has been started: no new work should be taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.level.is_draining()
    }

    /// When live work has to be over; `None` while no drain with a deadline has been started.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.level.deadline()
    }

    /// Waits for the start of the drain.
    pub async fn draining(&self) {
        self.level.draining().await;
    }

    /// Waits until the deadline of the drain has passed: end now, and say why.
    pub async fn deadline_passed(&self) {
        self.level.deadline_passed().await;
    }

    /// Runs `future` unless and until a drain starts: `None` then, and the future is dropped.
    ///
    /// For start-up and for waiting on others, so that a signal at any moment ends the program promptly.
    pub async fn unless_draining<F: Future>(&self, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.draining() => None,
            output = future => Some(output),
        }
    }

    /// Counts a piece of work: the drain waits until the guard is dropped.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard { _tokens: self.level.tokens() }
    }

    /// Runs `future` on a task of its own that the drain waits for.
    ///
    /// The future should end by itself when [`Watch::deadline_passed`] does; it is dropped a moment later, and the
    /// handle then yields `None`.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let watch = self.clone();
        let guard = self.guard();
        tokio::spawn(async move {
            let _guard = guard;
            let overdue = async {
                watch.deadline_passed().await;
                tokio::time::sleep(LAST_WORD).await;
            };
            tokio::select! {
                biased;
                output = future => Some(output),
                () = overdue => None,
            }
        })
    }

    /// How many pieces of work are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.level.live()
    }

    /// Makes a drain inside this one, for a part that may end on its own (one pod of a node).
    ///
    /// The inner drain starts with the outer one, at the latest with its deadline; work of the inner one counts as
    /// work of the outer one too.
    #[must_use]
    pub fn child(&self) -> (Trigger, Self) {
        let level = Level::inside(&self.level);
        (Trigger { level: Arc::clone(&level) }, Self { level })
    }

    /// Makes a drain whose work counts as work of this one too, and which does not start with it.
    ///
    /// For work that goes on when the end is announced, until something else has come true; whoever makes it owes it a
    /// start by this drain's deadline.
    #[must_use]
    pub fn part(&self) -> (Trigger, Self) {
        let level = Level::part_of(&self.level);
        (Trigger { level: Arc::clone(&level) }, Self { level })
    }
}

/// A live piece of work; dropping it tells the drain that the work is over.
#[derive(Debug)]
pub struct Guard {
    _tokens: Box<[TaskTrackerToken]>,
}

#[cfg(test)]
mod tests;
