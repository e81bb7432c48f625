//! One pod on one worker: all that a connection's task needs to know beyond what the node shares.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use discovery::{LocalName, Workload};
use drain::{Guard, Watch};
use hbone::client::Pool;
use linux::NetNs;
use telemetry::Direction;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use types::{Identity, PodUid};

use crate::error::ConnectionError;
use crate::live::Registered;
use crate::shared::{LOCAL_WORKLOAD_DEADLINE, Shared};
use crate::workers::{Carried, Desk};

/// A pod that the proxy serves.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) uid: PodUid,
    pub(crate) name: LocalName,
    pub(crate) netns: NetNs,
    /// The mark of connections to its application.
    pub(crate) application_mark: u32,
    /// Somebody listened in the pod before, and may leave us what waits there.
    pub(crate) has_predecessor: bool,
    /// Somebody else listens in the pod by now.
    pub(crate) has_successor: AtomicBool,
}

/// What two tunnels must have in common to share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) source: Identity,
    pub(crate) expected: Vec<Identity>,
    pub(crate) destination: SocketAddr,
    pub(crate) source_ip: IpAddr,
}

/// How many clients of SOCKS may be undecided at once, on one worker for one pod.
pub(crate) const NEGOTIATIONS: usize = 256;

/// One pod on one worker.
pub(crate) struct Lane {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    /// The worker.
    pub(crate) desk: Desk,
    pub(crate) pool: Pool<PoolKey>,
    /// Places for clients of SOCKS that have not said yet what they want.
    pub(crate) negotiations: Semaphore,
    /// The pod's drain, inside that of the node.
    pub(crate) drain: Watch,
    /// The drain of all pods, with which the process takes nothing more.
    pub(crate) node: Watch,
}

/// One pod on all workers.
pub(crate) type Lanes = Arc<[Arc<Lane>]>;

/// What keeps a connection counted: by the drain of its pod, and by its worker.
pub(crate) type Held = (Guard, Carried);

impl Pod {
    pub(crate) fn new(
        uid: PodUid,
        name: LocalName,
        netns: NetNs,
        application_mark: u32,
        has_predecessor: bool,
    ) -> Self {
        Self { uid, name, netns, application_mark, has_predecessor, has_successor: AtomicBool::new(false) }
    }
}

impl Lane {
    /// Whether new connections of the pod are somebody else's from now on, or nobody's.
    pub(crate) fn is_left_to_others(&self) -> bool {
        self.node.is_draining() || self.pod.has_successor.load(Ordering::Acquire)
    }

    /// The pod as discovery knows it, waiting a moment if it does not yet.
    pub(crate) async fn local_workload(&self) -> Result<Arc<Workload>, ConnectionError> {
        if let Some(workload) = self.shared.view.find_local(&self.pod.name) {
            return Ok(workload);
        }
        self.shared.knowledge.pod(&self.pod.name).await?;
        let waiting = self.shared.view.wait_local(&self.pod.name, sleep(LOCAL_WORKLOAD_DEADLINE));
        Box::pin(waiting).await.ok_or(ConnectionError::UnknownLocalWorkload)
    }

    /// Makes a connection known to drains, dumps and changes of policy.
    pub(crate) fn register(&self, direction: Direction, source: SocketAddr) -> Registered {
        self.shared.live.register(Arc::clone(&self.pod), direction, source)
    }
}
