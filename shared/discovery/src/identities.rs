//! Which identities of the own node need certificates, as they come and go.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use types::Identity;

/// An identity came to the own node or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityChange {
    /// The first workload with this identity appeared on the node.
    Appeared(Identity),
    /// The last workload with this identity vanished from the node.
    Vanished(Identity),
}

/// Changes of the set of identities that the own node needs certificates for.
///
/// The set is state, not a queue: a reader that is slow misses only what came and went in between.
#[derive(Debug, Clone)]
pub struct IdentityChanges {
    current: watch::Receiver<Arc<BTreeSet<Identity>>>,
    seen: Arc<BTreeSet<Identity>>,
}

impl IdentityChanges {
    pub(crate) fn new(mut current: watch::Receiver<Arc<BTreeSet<Identity>>>) -> Self {
        current.mark_changed();
        Self { current, seen: Arc::default() }
    }

    /// Waits for the next changes; the first call gives what is there already.
    ///
    /// `None` means that the [`Writer`](crate::Writer) is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Vec<IdentityChange>> {
        loop {
            self.current.changed().await.ok()?;
            let current = Arc::clone(&self.current.borrow_and_update());
            let appeared = current.difference(&self.seen).cloned().map(IdentityChange::Appeared);
            let vanished = self.seen.difference(&current).cloned().map(IdentityChange::Vanished);
            let changes: Vec<_> = appeared.chain(vanished).collect();
            self.seen = current;
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }
}
