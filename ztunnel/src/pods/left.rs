//! Pods that are no longer served and still have connections: they end by themselves, or with the pod's network.
//!
//! Deleting a pod takes its network interface away, and no segment ever comes in or goes out again. The sockets that
//! the proxy has inside would keep the network namespace, and themselves, for hours.

use std::sync::Arc;

use drain::Trigger;

use crate::lane::Pod;

/// How many looks in a row must have found no network: interfaces may be exchanged.
const LOOKS: u8 = 2;

/// A pod that is no longer served.
pub(super) struct Left {
    pub(super) pod: Arc<Pod>,
    pub(super) drain: Trigger,
    without_network: u8,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is left of it.
    Over,
    /// It has connections that may go on.
    Alive,
    /// It has connections that go nowhere.
    Stranded,
}

impl Left {
    pub(super) fn new(pod: Arc<Pod>, drain: Trigger) -> Self {
        Self { pod, drain, without_network: 0 }
    }

    pub(super) fn look(&mut self) -> Look {
        if self.drain.watch().live() == 0 {
            return Look::Over;
        }
        match self.pod.netns.run(linux::link::has_network).flatten() {
            Ok(true) => self.without_network = 0,
            Ok(false) => self.without_network += 1,
            Err(error) => tracing::debug!(pod = %self.pod.uid, %error, "cannot look for a pod's network"),
        }
        if self.without_network < LOOKS {
            return Look::Alive;
        }
        tracing::info!(pod = %self.pod.uid, "the pod's network is gone; ending what it left");
        Look::Stranded
    }
}
