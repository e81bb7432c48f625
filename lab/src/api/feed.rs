//! Following a selection of objects: what a watch is made of.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use super::Status;
use super::core::Core;
use super::kind::Kind;
use super::selector::Selector;
use super::store::{Change, Object, Store};

/// What happened to an object of the selection.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// It exists now, or has entered the selection.
    Added(Object),
    /// It changed within the selection.
    Modified(Object),
    /// It is gone, or has left the selection; its last state.
    Deleted(Object),
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// With everything that exists.
    Everything,
    /// With what changes from now on.
    Now,
    /// With what changes after a revision.
    Revision(u64),
}

/// One follower. It holds at most one batch: what existed at the start, or the bounded history.
pub(crate) struct Feed {
    core: Arc<Core>,
    kind: &'static Kind,
    selector: Selector,
    batch: VecDeque<Step>,
    /// Everything up to this revision has been put into the batch.
    position: u64,
    revisions: watch::Receiver<u64>,
}

impl Feed {
    /// Begins to follow.
    ///
    /// # Errors
    /// `Expired` when the changes since the revision are not known.
    pub(crate) fn new(core: Arc<Core>, kind: &'static Kind, selector: Selector, from: From) -> Result<Self, Status> {
        let revisions = core.revisions();
        let mut feed = Self { core, kind, selector, batch: VecDeque::new(), position: 0, revisions };
        match from {
            From::Everything => {
                let (objects, revision) = feed.core.list(kind, &feed.selector);
                feed.batch = objects.into_iter().map(Step::Added).collect();
                feed.position = revision;
            }
            From::Now => feed.position = feed.core.read(Store::revision),
            From::Revision(revision) => {
                feed.position = revision;
                feed.refill()?;
            }
        }
        Ok(feed)
    }

    /// The next step; `None` when the server has stopped. Cancel safe.
    ///
    /// # Errors
    /// `Expired` when this follower was too slow: it must begin again.
    pub(crate) async fn next(&mut self) -> Result<Option<Step>, Status> {
        loop {
            if let Some(step) = self.batch.pop_front() {
                return Ok(Some(step));
            }
            // Marked as seen before the refill, so that a later change wakes the wait below.
            self.revisions.mark_unchanged();
            self.refill()?;
            if !self.batch.is_empty() {
                continue;
            }
            let stopped = self.core.stopped.clone();
            tokio::select! {
                () = stopped.cancelled() => return Ok(None),
                changed = self.revisions.changed() => if changed.is_err() { return Ok(None) },
            }
        }
    }

    /// The revision that this follower has reached, if it has nothing left to report.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.batch.is_empty().then_some(self.position)
    }

    fn refill(&mut self) -> Result<(), Status> {
        let (selector, position) = (&self.selector, self.position);
        let read = |store: &Store| -> Result<_, Status> {
            let steps = store.since(self.kind, position)?.filter_map(|change| step(selector, change)).collect();
            Ok((steps, store.revision()))
        };
        (self.batch, self.position) = self.core.read(read)?;
        Ok(())
    }
}

/// What a change is for those who see only the selection.
fn step(selector: &Selector, change: &Change) -> Option<Step> {
    let was = change.before.as_ref().is_some_and(|before| selector.matches(before));
    let is = !change.is_removal && selector.matches(&change.after);
    let step = match (was, is) {
        (false, false) => return None,
        (false, true) => Step::Added,
        (true, true) => Step::Modified,
        (true, false) => Step::Deleted,
    };
    Some(step(Arc::clone(&change.after)))
}
