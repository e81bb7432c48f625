//! The proxy without control plane and ports of its own: pods, connections and what follows them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use discovery::View;
use drain::{Task, Watch};
use identity::CertificateStore;
use policy::PolicySet;
use telemetry::metrics::{HandshakeMetrics, ManagerMetrics, register_process, register_runtime};
use telemetry::{AccessLog, Registry, TrafficMetrics};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use xds::demand::Demand;

use crate::accept::EARLY;
use crate::certificates;
use crate::error::ZtunnelError;
use crate::knowledge::Knowledge;
use crate::labels::Labels;
use crate::live::{Ending, Registry as LiveRegistry};
use crate::lookups::Lookups;
use crate::names::Names;
use crate::pods::Pods;
use crate::residents::Residents;
use crate::revocation::Revocations;
use crate::session::Follower;
use crate::shared::{Seldom, Settings, Shared};
use crate::succession::Succession;
use crate::workers::Workers;

/// The least time between two judgements of all live connections; a change meanwhile is seen after it.
const JUDGE_PAUSE: Duration = Duration::from_millis(20);

/// How long label sets of workloads that left are kept at least; a rolling update sweeps once, not once per pod.
const SWEEP: Duration = Duration::from_secs(30);

/// How often to look for pods whose network is gone while they have connections.
const STRANDED: Duration = Duration::from_secs(3);

/// What a node is made from; a test supplies its own.
pub struct Parts {
    /// The configuration.
    pub config: Arc<config::Ztunnel>,
    /// What is known of workloads and services.
    pub view: View,
    /// Becomes `true` when that has been complete once; no connection is carried before.
    pub discovered: watch::Receiver<bool>,
    /// Where to ask for them, if they are told only to who asks.
    pub demand: Option<Demand>,
    /// The policies of the moment.
    pub policies: watch::Receiver<Arc<PolicySet>>,
    /// Certificates of local workloads.
    pub certificates: CertificateStore,
    /// The servers that are asked for names that the mesh does not know.
    pub name_servers: Vec<SocketAddr>,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Where access records go.
    pub access: AccessLog,
    /// The drain of the process.
    pub drain: Watch,
}

/// The pods of a node and their connections.
pub struct Node {
    shared: Arc<Shared>,
    pods: Pods,
    /// The order to end.
    drain: Watch,
    /// The end of serving, which follows.
    serving: Watch,
    /// Ends with the node.
    _followers: JoinSet<()>,
}

impl Node {
    /// Starts the workers and the tasks that follow discovery and policy; serves no pod yet.
    ///
    /// # Errors
    /// When the process may not do what serving a pod takes.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(parts: Parts) -> Result<Self, ZtunnelError> {
        let Parts { config, view, discovered, demand, policies, certificates, name_servers, registry, access, drain } =
            parts;
        let keeps_source = may_keep_source(&config)?;
        let traffic = TrafficMetrics::new(&registry);
        let shared = Arc::new(Shared {
            settings: Settings::new(&config, keeps_source),
            knowledge: Knowledge::new(demand, view.clone(), &config.own.cluster_id),
            view,
            policies,
            discovered,
            certificates,
            access,
            labels: Labels::new(traffic),
            live: Arc::new(LiveRegistry::default()),
            names: Names::new(config.in_pod.ipv6, &registry),
            residents: Residents::default(),
            lookups: Lookups::new(&config, name_servers, &registry),
            handshakes: HandshakeMetrics::new(&registry),
            revocations: Arc::new(Revocations::new(config.revocation_lists.clone(), &registry)),
            source_warnings: Seldom::default(),
        });
        let environment = |source| ZtunnelError::Environment { what: "cannot start worker threads", source };
        let workers = Workers::start(config.worker_threads).map_err(environment)?;
        let runtimes =
            workers.desks().map(|desk| desk.runtime.clone()).chain([tokio::runtime::Handle::current()]).collect();
        register_runtime(&registry, runtimes);
        register_process(&registry);
        // Pods are served on when the process is told to end: until somebody else serves them.
        let (work, serving) = drain.part();
        let metrics = ManagerMetrics::new(&registry);
        let pods = Pods::new(Arc::clone(&shared), workers, metrics, drain.clone(), serving.clone());
        let mut followers = JoinSet::new();
        followers.spawn(certificates::follow(shared.view.clone(), shared.certificates.clone()));
        followers.spawn(follow_policies(Arc::clone(&shared)));
        followers.spawn(Arc::clone(&shared.revocations).follow());
        followers.spawn(sweep_labels(Arc::clone(&shared)));
        followers.spawn(end_at_deadline(Arc::clone(&shared), drain.clone()));
        followers.spawn(end_stranded(pods.clone()));
        followers.spawn(withdraw_without_discovery(pods.clone()));
        let (live, process) = (Arc::clone(&shared.live), drain.clone());
        followers.spawn(Succession { pods: pods.clone(), live, process, work }.run());
        Ok(Self { shared, pods, drain, serving, _followers: followers })
    }

    /// Serves what the node agent at `socket` says, until the process drains and nobody needs it any more.
    ///
    /// `readiness` is settled while a snapshot is complete and no pod waits for another try.
    ///
    /// # Errors
    /// When the agent breaks the protocol in a way that only a new process can mend.
    pub async fn follow_agent(&self, socket: &Path, readiness: Task) -> Result<(), ZtunnelError> {
        let follower = Follower {
            socket: socket.to_owned(),
            pods: self.pods.clone(),
            readiness,
            process: self.drain.clone(),
            serving: self.serving.clone(),
        };
        follower.run().await
    }

    /// How many connections are live; of a tunnel each stream is one.
    #[must_use]
    pub fn live_connections(&self) -> usize {
        self.shared.live.len()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn pods(&self) -> &Pods {
        &self.pods
    }
}

/// Whether connections to applications can come from their clients' addresses; checks on the way what nothing works
/// without.
fn may_keep_source(config: &config::Ztunnel) -> Result<bool, ZtunnelError> {
    let environment = |what| move |source| ZtunnelError::Environment { what, source };
    let can_mark = linux::socket::can_set_mark().map_err(environment("cannot make a socket"))?;
    if !can_mark {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(environment("cannot mark sockets: CAP_NET_ADMIN is missing")(source));
    }
    let own = linux::NetNs::current().map_err(environment("cannot open the own network namespace"))?;
    own.run(|| ()).map_err(environment("cannot enter network namespaces: CAP_SYS_ADMIN is missing"))?;
    match config.in_pod.original_source {
        Some(wanted) => Ok(wanted),
        None => linux::socket::can_be_transparent().map_err(environment("cannot make a socket")),
    }
}

/// Judges live connections again whenever policies change, or what they select.
async fn follow_policies(shared: Arc<Shared>) {
    let (mut policies, mut workloads) = (shared.policies.clone(), shared.view.changes());
    policies.mark_unchanged();
    workloads.mark_unchanged();
    loop {
        let changed = tokio::select! {
            changed = policies.changed() => changed,
            changed = workloads.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let current = Arc::clone(&policies.borrow_and_update());
        workloads.mark_unchanged();
        shared.live.judge_again(&current, &shared.view);
        // Changes of discovery come by the hundred; judging takes a look at every connection.
        sleep(JUDGE_PAUSE).await;
    }
}

/// Lets connections wait for discovery, but not for ever.
async fn withdraw_without_discovery(pods: Pods) {
    if timeout(EARLY, pods.discovered()).await.is_err() {
        pods.withdraw();
    }
}

/// Ends what is left of pods that are gone.
async fn end_stranded(pods: Pods) {
    loop {
        sleep(STRANDED).await;
        pods.end_stranded();
    }
}

/// Lets go of what metrics remember of workloads that have left.
async fn sweep_labels(shared: Arc<Shared>) {
    let mut changes = shared.view.changes();
    while changes.changed().await.is_ok() {
        sleep(SWEEP).await;
        changes.mark_unchanged();
        shared.labels.sweep(&shared.view);
        shared.lookups.sweep(&shared.view);
        shared.names.sweep(&shared.view);
    }
}

/// Ends what is live when the process has no more time.
async fn end_at_deadline(shared: Arc<Shared>, drain: Watch) {
    drain.deadline_passed().await;
    shared.live.close_all(None, Ending::Drained);
}
