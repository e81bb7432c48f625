//! A wake-up for controllers that look at everything anew in each round.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::sync::watch;

use crate::api::core::Core;
use crate::api::kind::{self, Kind};

/// Changes of the kinds that the cluster's own controllers act on; many become one.
pub struct Changes {
    core: Arc<Core>,
    kinds: [&'static Kind; 7],
    revisions: watch::Receiver<u64>,
    seen: u64,
}

impl Changes {
    pub(super) fn new(core: Arc<Core>) -> Self {
        let kinds = [
            kind::of::<Namespace>(),
            kind::of::<Deployment>(),
            kind::of::<ReplicaSet>(),
            kind::of::<Pod>(),
            kind::of::<Node>(),
            kind::of::<Service>(),
            kind::of::<EndpointSlice>(),
        ];
        let revisions = core.revisions();
        let mut changes = Self { core, kinds, revisions, seen: 0 };
        changes.seen = changes.newest();
        changes
    }

    /// Waits for a change since the last call; false once the server has stopped. Cancel safe.
    pub async fn next(&mut self) -> bool {
        let stopped = self.core.stopped.clone();
        loop {
            // Marked as seen before the look, so that a later change wakes the wait below.
            self.revisions.mark_unchanged();
            let newest = self.newest();
            if newest > self.seen {
                self.seen = newest;
                return true;
            }
            tokio::select! {
                () = stopped.cancelled() => return false,
                changed = self.revisions.changed() => if changed.is_err() { return false },
            }
        }
    }

    fn newest(&self) -> u64 {
        self.core.read(|store| self.kinds.iter().map(|kind| store.changed(kind)).max().unwrap_or(0))
    }
}
