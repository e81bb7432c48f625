//! One drain in the tree of drains: its state, its live work and the drains inside it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Whether a drain has been started, and until when its work may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Draining { deadline: Option<Instant> },
}

impl State {
    /// The state after one more start: the earliest deadline counts.
    fn started(self, deadline: Option<Instant>) -> Self {
        let deadline = match (self, deadline) {
            (Self::Draining { deadline: Some(old) }, Some(new)) => Some(old.min(new)),
            (Self::Draining { deadline: Some(old) }, None) => Some(old),
            (_, new) => new,
        };
        Self::Draining { deadline }
    }
}

#[derive(Debug)]
pub(crate) struct Level {
    state: watch::Sender<State>,
    work: TaskTracker,
    outer: Option<Arc<Self>>,
    /// Drains inside this one; those whose handles are all gone are swept when another is made.
    inner: Mutex<Vec<Weak<Self>>>,
}

impl Level {
    pub(crate) fn root() -> Arc<Self> {
        Arc::new(Self::new(State::Running, None))
    }

    pub(crate) fn inside(outer: &Arc<Self>) -> Arc<Self> {
        let mut siblings = outer.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock that `start` takes: a start is either seen here or delivered to the new level.
        let state = *outer.state.borrow();
        let level = Arc::new(Self::new(state, Some(Arc::clone(outer))));
        siblings.retain(|sibling| sibling.strong_count() > 0);
        siblings.push(Arc::downgrade(&level));
        level
    }

    /// A level whose work counts as work of `outer`, and that does not start with it.
    pub(crate) fn part_of(outer: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self::new(State::Running, Some(Arc::clone(outer))))
    }

    fn new(state: State, outer: Option<Arc<Self>>) -> Self {
        let work = TaskTracker::new();
        // Closed, so that `wait` ends whenever nothing is live; closing does not refuse new work.
        work.close();
        Self { state: watch::Sender::new(state), work, outer, inner: Mutex::default() }
    }

    pub(crate) fn start(&self, deadline: Option<Instant>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.send_if_modified(|state| {
            let started = state.started(deadline);
            std::mem::replace(state, started) != started
        });
        for level in inner.iter().filter_map(Weak::upgrade) {
            level.start(deadline);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.state.borrow() != State::Running
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match *self.state.borrow() {
            State::Draining { deadline } => deadline,
            State::Running => None,
        }
    }

    pub(crate) async fn draining(&self) {
        let mut state = self.state.subscribe();
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = state.wait_for(|state| *state != State::Running).await;
    }

    pub(crate) async fn deadline_passed(&self) {
        let mut state = self.state.subscribe();
        loop {
            let current = *state.borrow_and_update();
            match current {
                State::Draining { deadline: Some(deadline) } => {
                    tokio::select! {
                        () = tokio::time::sleep_until(deadline) => return,
                        // Only ever brought forward.
                        _ = state.changed() => {}
                    }
                }
                State::Running | State::Draining { deadline: None } => {
                    let _ = state.changed().await;
                }
            }
        }
    }

    /// One token for this level and each one around it.
    pub(crate) fn tokens(&self) -> Box<[TaskTrackerToken]> {
        std::iter::successors(Some(self), |level| level.outer.as_deref()).map(|level| level.work.token()).collect()
    }

    pub(crate) async fn idle(&self) {
        self.work.wait().await;
    }

    pub(crate) fn live(&self) -> usize {
        self.work.len()
    }

    /// How many drains inside this one are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
