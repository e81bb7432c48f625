//! The live connections of the node: who they are, what judged them, how to end them.
//!
//! A connection is one allocation that the registry, the connection's task and its metrics share.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::SystemTime;

use discovery::{View, Workload};
use futures::task::AtomicWaker;
use policy::{Connection, Denial, PolicySet};
use telemetry::Direction;
use telemetry::traffic::ByteCount;
use types::PodUid;

use crate::error::ConnectionError;
use crate::lane::Pod;

/// How many maps the registry is split into, so that workers seldom meet at one lock.
const SHARDS: usize = 16;

/// One live connection; of a tunnel each stream is one.
pub(crate) struct Live {
    pub(crate) pod: Arc<Pod>,
    pub(crate) direction: Direction,
    pub(crate) source: SocketAddr,
    counters: io::Counters,
    /// The other side of a connection that is handed over inside the process: its task carries both.
    carrier: Option<Arc<Self>>,
    /// Known once the connection is made.
    pub(crate) path: OnceLock<Path>,
    /// Boxed: only where a connection arrives it is judged.
    judged: OnceLock<Box<Judged>>,
    order: Order,
}

/// Where a connection goes, as a dump shows it.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    /// What was dialled: an address, or the service that the client named.
    pub(crate) original: Option<String>,
    /// What was connected to.
    pub(crate) actual: SocketAddr,
    /// How it gets there.
    pub(crate) carriage: Carriage,
    /// How the client has proven itself, if it came through a tunnel.
    pub(crate) handshake: Option<Arc<Handshake>>,
}

/// What is remembered of a TLS handshake, for dumps.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// When it was through.
    pub(crate) at: SystemTime,
    /// The key exchange, such as `X25519MLKEM768`.
    pub(crate) key_exchange: String,
    /// Whether it went on with an earlier session.
    pub(crate) is_resumed: bool,
}

/// How a connection travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// As plain TCP.
    Tcp,
    /// Through a tunnel.
    Hbone,
    /// Through a tunnel inside a tunnel, into another network.
    DoubleHbone,
    /// Inside the process, between two pods that it serves.
    SameNode,
}

/// What a policy decision about the connection was, and is, made from.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// The destination as it was when the connection came.
    pub(crate) workload: Arc<Workload>,
    /// The connection as policies see it.
    pub(crate) connection: Connection,
}

/// Why somebody else ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Ending {
    PolicyChange = 1,
    Drained = 2,
}

/// The order to end; the first one counts.
#[derive(Default)]
struct Order {
    ending: AtomicU8,
    waker: AtomicWaker,
}

impl Live {
    /// Orders the connection to end, and its other side with it.
    pub(crate) fn close(&self, ending: Ending) {
        if let Some(carrier) = &self.carrier {
            return carrier.close(ending);
        }
        let first = self.order.ending.compare_exchange(0, ending as u8, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            self.order.waker.wake();
        }
    }

    /// Runs `work` unless and until the connection is ordered to end; the order goes first.
    ///
    /// The work is pinned by the caller: taken by value it would take twice its size.
    pub(crate) async fn unless_closed<F: Future<Output = Result<(), ConnectionError>>>(
        &self,
        mut work: Pin<&mut F>,
    ) -> Result<(), ConnectionError> {
        std::future::poll_fn(|context| {
            self.order.waker.register(context.waker());
            match self.order.ending.load(Ordering::Acquire) {
                0 => work.as_mut().poll(context),
                1 => Poll::Ready(Err(ConnectionError::PolicyChange)),
                _ => Poll::Ready(Err(ConnectionError::Drained)),
            }
        })
        .await
    }

    /// The bytes so far; those of a connection that is handed over are counted once for both of its sides.
    pub(crate) fn counters(&self) -> &io::Counters {
        self.carrier.as_ref().map_or(&self.counters, |carrier| &carrier.counters)
    }

    /// Remembers what the connection is judged by: before the first decision, so that no change of policy falls between
    /// the decision and the registration.
    pub(crate) fn judge_by(&self, judged: Judged) -> &Judged {
        self.judged.get_or_init(|| Box::new(judged))
    }

    /// Ends the connection if these policies deny it.
    ///
    /// Which policies select the destination is asked of `view`, because a new policy may select a workload that it did
    /// not exist for when the connection came.
    /// A policy that is named but has not arrived keeps new connections out; for one that lives, its arrival decides.
    fn judge_again(&self, policies: &PolicySet, view: &View) {
        let Some(Judged { workload, connection }) = self.judged.get().map(Box::as_ref) else { return };
        let current = view.workload(&workload.uid);
        let named = &current.as_ref().unwrap_or(workload).authorization_policies;
        let evaluation = policies.evaluate(&workload.namespace, named, connection);
        match evaluation.decision.denial() {
            None | Some(Denial::NotReceived(_)) => {}
            Some(denial) => {
                tracing::debug!(source = %self.source, %denial, "a policy change closes a connection");
                self.close(Ending::PolicyChange);
            }
        }
    }
}

impl ByteCount for Live {
    fn to_upstream(&self) -> u64 {
        self.counters().to_upstream()
    }

    fn to_downstream(&self) -> u64 {
        self.counters().to_downstream()
    }
}

/// All live connections of the node.
#[derive(Default)]
pub(crate) struct Registry {
    next: AtomicU64,
    shards: [Mutex<HashMap<u64, Arc<Live>>>; SHARDS],
}

/// A connection's place in the registry, left when it is dropped.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    id: u64,
    live: Arc<Live>,
}

impl Registry {
    /// Adds a connection.
    pub(crate) fn register(self: &Arc<Self>, pod: Arc<Pod>, direction: Direction, source: SocketAddr) -> Registered {
        self.insert(pod, direction, source, None)
    }

    /// Adds the arriving side of a connection that is handed over inside the process; what closes it closes both.
    pub(crate) fn register_arrival(self: &Arc<Self>, pod: Arc<Pod>, carrier: &Arc<Live>) -> Registered {
        self.insert(pod, Direction::Inbound, carrier.source, Some(Arc::clone(carrier)))
    }

    fn insert(
        self: &Arc<Self>,
        pod: Arc<Pod>,
        direction: Direction,
        source: SocketAddr,
        carrier: Option<Arc<Live>>,
    ) -> Registered {
        let live = Arc::new(Live {
            pod,
            direction,
            source,
            counters: io::Counters::new(),
            carrier,
            path: OnceLock::new(),
            judged: OnceLock::new(),
            order: Order::default(),
        });
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(id).insert(id, Arc::clone(&live));
        Registered { registry: Arc::clone(self), id, live }
    }

    /// Judges every connection again: by what was known of it when it came, and the policies that apply now.
    pub(crate) fn judge_again(&self, policies: &PolicySet, view: &View) {
        self.for_each(|live| live.judge_again(policies, view));
    }

    /// Ends every connection, or those of one pod.
    pub(crate) fn close_all(&self, pod: Option<&Arc<Pod>>, ending: Ending) {
        self.for_each(|live| {
            if pod.is_none_or(|pod| Arc::ptr_eq(&live.pod, pod)) {
                live.close(ending);
            }
        });
    }

    /// All connections by pod, in the order in which they came.
    pub(crate) fn by_pod(&self) -> HashMap<PodUid, Vec<Arc<Live>>> {
        let mut all: Vec<(u64, Arc<Live>)> = Vec::new();
        for shard in 0..SHARDS as u64 {
            all.extend(self.shard(shard).iter().map(|(id, live)| (*id, Arc::clone(live))));
        }
        all.sort_by_key(|(id, _)| *id);
        let mut by_pod: HashMap<PodUid, Vec<Arc<Live>>> = HashMap::new();
        for (_, live) in all {
            by_pod.entry(live.pod.uid.clone()).or_default().push(live);
        }
        by_pod
    }

    /// How many there have ever been.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        (0..SHARDS as u64).map(|shard| self.shard(shard).len()).sum()
    }

    fn for_each(&self, visit: impl Fn(&Live)) {
        for shard in 0..SHARDS as u64 {
            // Taken out of the lock: a visit may be long, and connections come and go meanwhile.
            let connections: Vec<Arc<Live>> = self.shard(shard).values().cloned().collect();
            connections.iter().for_each(|live| visit(live));
        }
    }

    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "the remainder is below SHARDS")]
    fn shard(&self, id: u64) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.shards[(id % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registered {
    pub(crate) fn live(&self) -> &Arc<Live> {
        &self.live
    }
}

impl std::ops::Deref for Registered {
    type Target = Live;

    fn deref(&self) -> &Live {
        &self.live
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.shard(self.id).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use policy::{Action, Authorization, Scope};
    use std::pin::pin;

    use types::NamespacedName;

    use super::*;

    fn pod(uid: &str) -> Arc<Pod> {
        let text = || Arc::<str>::from(uid);
        let name = discovery::LocalName { namespace: text(), name: text(), service_account: text() };
        Arc::new(Pod::new(uid.into(), name, linux::NetNs::current().unwrap(), 0, false))
    }

    fn registered(registry: &Arc<Registry>, uid: &str) -> Registered {
        registry.register(pod(uid), Direction::Inbound, "10.0.0.1:1".parse().unwrap())
    }

    fn judged() -> Judged {
        let workload = Workload { namespace: Arc::from("shop"), ..Workload::default() };
        let connection = Connection {
            source_ip: "10.0.0.1".parse().unwrap(),
            identity: None,
            destination: "10.0.0.2:80".parse().unwrap(),
        };
        Judged { workload: Arc::new(workload), connection }
    }

    fn deny_all(namespace: &str) -> PolicySet {
        let policy = Authorization {
            key: NamespacedName::new(namespace, "deny-all"),
            scope: Scope::Namespace,
            action: Action::Allow,
            dry_run: false,
            rules: Vec::new(),
        };
        PolicySet::default().with([policy], [])
    }

    #[tokio::test]
    async fn a_policy_change_ends_what_it_denies_and_nothing_else() {
        let registry = Arc::new(Registry::default());
        let (judged_one, unjudged) = (registered(&registry, "a"), registered(&registry, "a"));
        judged_one.judge_by(judged());
        let view = discovery::Writer::new("", None).view();
        registry.judge_again(&deny_all("elsewhere"), &view);
        assert!(judged_one.unless_closed(pin!(async { Ok(()) })).await.is_ok());
        registry.judge_again(&deny_all("shop"), &view);
        let ended = judged_one.unless_closed(pin!(std::future::pending())).await;
        assert!(matches!(ended, Err(ConnectionError::PolicyChange)));
        assert!(unjudged.unless_closed(pin!(async { Ok(()) })).await.is_ok());
    }

    #[tokio::test]
    async fn an_order_wakes_a_connection_that_waits() {
        let registry = Arc::new(Registry::default());
        let one = registered(&registry, "a");
        let live = Arc::clone(one.live());
        let waiting = tokio::spawn(async move { live.unless_closed(pin!(std::future::pending())).await });
        tokio::task::yield_now().await;
        registry.close_all(Some(&pod("a")), Ending::Drained);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let own = Arc::clone(&one.live().pod);
        registry.close_all(Some(&own), Ending::Drained);
        assert!(matches!(waiting.await.unwrap(), Err(ConnectionError::Drained)));
    }

    #[tokio::test]
    async fn what_closes_an_arrival_closes_the_whole_connection() {
        let registry = Arc::new(Registry::default());
        let departure = registered(&registry, "a");
        let arrival = registry.register_arrival(pod("b"), departure.live());
        departure.counters().add(io::Direction::ToUpstream, 7);
        assert_eq!((arrival.to_upstream(), arrival.to_downstream()), (7, 0));
        arrival.judge_by(judged());
        registry.judge_again(&deny_all("shop"), &discovery::Writer::new("", None).view());
        let ended = departure.unless_closed(pin!(std::future::pending())).await;
        assert!(matches!(ended, Err(ConnectionError::PolicyChange)));
    }

    #[test]
    fn connections_leave_the_registry_when_they_end() {
        let registry = Arc::new(Registry::default());
        let (one, two) = (registered(&registry, "a"), registered(&registry, "b"));
        assert_eq!((registry.len(), registry.by_pod().len()), (2, 2));
        drop(one);
        assert_eq!(registry.by_pod().into_keys().collect::<Vec<_>>(), [PodUid::from("b")]);
        drop(two);
        assert_eq!(registry.len(), 0);
    }
}
