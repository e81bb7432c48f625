//! Readiness: named tasks of the start-up, of which none may be pending.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Which parts of the start-up are pending; ready when none is.
///
/// ```
/// let readiness = drain::Readiness::new();
/// let task = readiness.task("state manager");
/// assert_eq!(readiness.pending(), ["state manager".into()]);
/// task.complete();
/// assert!(readiness.is_ready());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    /// Names of pending tasks and how many tasks of that name are pending.
    pending: Arc<watch::Sender<BTreeMap<Arc<str>, usize>>>,
}

impl Readiness {
    /// Nothing is pending yet: register every task before the readiness server answers its first request.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a task, pending from now on.
    #[must_use = "a task that is dropped stays pending"]
    pub fn task(&self, name: impl Into<Arc<str>>) -> Task {
        let mut task = Task { readiness: self.clone(), name: name.into(), is_pending: false };
        task.pend();
        task
    }

    /// Whether nothing is pending.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.pending.borrow().is_empty()
    }

    /// Waits until nothing is pending; without bound, because the caller knows what it waits for.
    pub async fn ready(&self) {
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = self.pending.subscribe().wait_for(BTreeMap::is_empty).await;
    }

    /// The names of what is pending, sorted, each once.
    #[must_use]
    pub fn pending(&self) -> Vec<Arc<str>> {
        self.pending.borrow().keys().cloned().collect()
    }
}

/// One part of the start-up.
///
/// Dropped before it is complete it stays pending: a start-up that failed half-way never looks ready.
#[derive(Debug)]
pub struct Task {
    readiness: Readiness,
    name: Arc<str>,
    is_pending: bool,
}

impl Task {
    /// The part is done.
    pub fn complete(mut self) {
        self.settle();
    }

    /// The part is done for now; [`Task::pend`] takes it back.
    pub fn settle(&mut self) {
        if std::mem::replace(&mut self.is_pending, false) {
            self.readiness.pending.send_modify(|pending| {
                if let Some(count) = pending.get_mut(&self.name) {
                    *count -= 1;
                    if *count == 0 {
                        pending.remove(&self.name);
                    }
                }
            });
        }
    }

    /// The part is no longer done: what it provides was lost.
    pub fn pend(&mut self) {
        if !std::mem::replace(&mut self.is_pending, true) {
            self.readiness.pending.send_modify(|pending| *pending.entry(Arc::clone(&self.name)).or_default() += 1);
        }
    }
}
