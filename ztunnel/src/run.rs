//! The whole program: control plane, node, ports of its own, and the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drain::{Readiness, Trigger};
use identity::{CaClient, CaOptions, CertificateStore, Clock, LocalSigner};
use policy::PolicySet;
use telemetry::Registry;
use telemetry::log::Logging;
use telemetry::metrics::{XdsMetrics, set_build};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};
use xds::client::Termination;
use xds::delta::Mode;
use xds::demand::Demand;
use xds::feed::{AddressFeed, PolicyFeed};
use xds::node::NodeProxy;

use crate::admin::{Admin, status_routes};
use crate::channel;
use crate::error::ZtunnelError;
use crate::lookups;
use crate::node::{Node, Parts};
use crate::ports::{self, Routers};

/// Where the name servers of the proxy's own pod are listed.
const RESOLVER_CONFIGURATION: &str = "/etc/resolv.conf";

/// How long the root lives that is made up inside the process.
const FAKE_ROOT_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long answers of the proxy's own ports may go on when everything else is over.
const FAREWELL: Duration = Duration::from_millis(500);

/// Runs the node proxy until `trigger` has been started, by whomever, and its drain is over.
///
/// To be called on a runtime of one thread, which carries everything but connections.
///
/// # Errors
/// When the process lacks a capability or a port, or when the node agent breaks the protocol; a new process is then
/// the remedy.
pub async fn run(config: config::Ztunnel, logging: &Logging, trigger: Trigger) -> Result<(), ZtunnelError> {
    let drain = trigger.watch();
    announce(&config);
    crate::certificates::prepare();
    let config = Arc::new(config);
    let registry = Registry::new();
    set_build(&registry, "ztunnel", &build_tag(&config));
    let readiness = Readiness::new();
    let state_manager = readiness.task("state manager");
    let proxy_manager = readiness.task("workload proxy manager");

    let discovery = discovery::Writer::new(config.own.network.as_str(), config.own.node_name.as_deref().map(Arc::from));
    let view = discovery.view();
    let (policies, policies_seen) = watch::channel(Arc::new(PolicySet::default()));
    let certificates = certificates(&config)?;
    let observer = Arc::new(Observer::new(XdsMetrics::new(&registry), certificates.clone()));
    let Discovering { task: discovering, ready: discovered, demand } =
        discovery_client(&config, observer, discovery, policies);
    let node = Node::new(Parts {
        config: Arc::clone(&config),
        view,
        discovered: discovered.clone(),
        demand,
        policies: policies_seen,
        certificates,
        name_servers: name_servers(&config),
        registry: registry.clone(),
        access: logging.access(),
        drain: drain.clone(),
    })?;
    let node = Arc::new(node);

    let admin = Admin::new(Arc::clone(&config), Arc::clone(&node), logging.filter(), trigger.clone());
    let (closing, close) = watch::channel(false);
    let (metrics, ready) = status_routes(&registry, &readiness);
    let routers = Routers { admin: admin.routes(), metrics, readiness: ready };
    let mut servers = ports::serve(&config, routers, &close)?;

    let _completing = OnDrop(tokio::spawn(complete(discovered, state_manager)));
    let outcome = serve_pods(&config, &node, proxy_manager, &drain).await;
    if outcome.is_err() {
        // Whoever connects meanwhile is better off with the process that replaces this one.
        trigger.start(config.drain_deadline);
    }
    let drained = trigger.finished().await;
    info!(?drained, "drained");
    drop(discovering);
    // Answers under way, to whoever asked for the end for instance, are still given.
    let _ = closing.send(true);
    let _ = timeout(FAREWELL, async { while servers.join_next().await.is_some() {} }).await;
    outcome
}

/// Says when discovery is complete.
async fn complete(mut discovered: watch::Receiver<bool>, state_manager: drain::Task) {
    if discovered.wait_for(|discovered| *discovered).await.is_ok() {
        state_manager.complete();
        info!("discovery is complete");
    }
}

/// Serves pods until the process drains; without any, it is ready at once.
///
/// Whom nobody served meanwhile is listened for before discovery is complete: a process that was killed left a gap, and
/// connections that wait for a moment are better off than refused ones.
async fn serve_pods(
    config: &config::Ztunnel,
    node: &Node,
    mut readiness: drain::Task,
    drain: &drain::Watch,
) -> Result<(), ZtunnelError> {
    if config.serves_pods && config.xds.is_some() {
        return node.follow_agent(&config.in_pod.socket, readiness).await;
    }
    readiness.settle();
    drain.draining().await;
    Ok(())
}

fn announce(config: &config::Ztunnel) {
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = config.own.node_name.as_deref().unwrap_or_default(),
        workers = config.worker_threads,
        "starting"
    );
    for (name, instead) in &config.not_honoured {
        warn!(name, instead, "a variable is not honoured");
    }
}

/// What `istio_build` shows: the version that the operator deployed, or else our own.
fn build_tag(config: &config::Ztunnel) -> String {
    let deployed = config.own.metadata.get("ISTIO_VERSION").and_then(|version| version.as_str());
    deployed.unwrap_or(env!("CARGO_PKG_VERSION")).to_owned()
}

fn certificates(config: &config::Ztunnel) -> Result<CertificateStore, ZtunnelError> {
    if config.fake_ca {
        warn!("certificates are signed inside the process, and no other proxy will accept them");
        let authority = tls::Authority::self_signed(&types::TrustDomain::default(), FAKE_ROOT_TTL)?;
        return Ok(CertificateStore::new(LocalSigner::new(authority, config.secret_ttl), Clock::system()));
    }
    let options = CaOptions {
        cluster_id: config.own.cluster_id.clone(),
        ttl: config.secret_ttl,
        impersonates: true,
        headers: config.ca.headers.clone(),
        key_exchange: channel::key_exchange(config),
        root_file: match &config.ca.root {
            config::RootSource::File(path) if config.ca.address.tls => Some(path.clone()),
            _ => None,
        },
    };
    let connect = channel::factory(config.ca.clone(), channel::Strength::of(config));
    Ok(CertificateStore::new(CaClient::new(connect, channel::token(&config.token), options), Clock::system()))
}

/// The name servers of the proxy's own pod, which are read once: whoever changes them starts the pod anew.
fn name_servers(config: &config::Ztunnel) -> Vec<SocketAddr> {
    if config.dns.listen.is_empty() {
        return Vec::new();
    }
    let text = std::fs::read_to_string(RESOLVER_CONFIGURATION).unwrap_or_else(|error| {
        warn!(%error, path = RESOLVER_CONFIGURATION, "cannot read the name servers");
        String::new()
    });
    let servers = lookups::name_servers(&text);
    if servers.is_empty() {
        warn!("there is no name server that pods can reach; lookups of names outside the mesh will fail");
    }
    servers
}

/// The running discovery client.
struct Discovering {
    task: OnDrop<Infallible>,
    ready: watch::Receiver<bool>,
    demand: Option<Demand>,
}

/// Starts the discovery client; without discovery server it is never ready, and no pod is ever served.
fn discovery_client(
    config: &config::Ztunnel,
    observer: Arc<Observer>,
    writer: discovery::Writer,
    policies: watch::Sender<Arc<PolicySet>>,
) -> Discovering {
    let Some(endpoint) = &config.xds else {
        warn!("discovery is turned off; no pod will be served");
        let (sender, ready) = watch::channel(false);
        let forever = async move {
            let _open = (writer, policies, sender);
            std::future::pending().await
        };
        return Discovering { task: OnDrop(tokio::spawn(forever)), ready, demand: None };
    };
    let options = xds::client::Options {
        node: introduction(config).to_node(),
        channel: channel::factory(endpoint.clone(), channel::Strength::of(config)),
        metadata: channel::metadata(endpoint, channel::token(&config.token), &config.own.cluster_id),
        observer,
    };
    let mut client = xds::client::Client::new(options);
    // Policies first: after an outage a workload may name one that it did not name before, and who names a policy that has
    // not arrived is not reached.
    client.subscribe(proto::AUTHORIZATION_TYPE, Mode::Wildcard, PolicyFeed::new(policies));
    let addresses = AddressFeed::new(writer);
    let demand = if config.on_demand {
        Some(client.subscribe_on_demand(proto::ADDRESS_TYPE, addresses))
    } else {
        client.subscribe(proto::ADDRESS_TYPE, Mode::Wildcard, addresses);
        None
    };
    let ready = client.ready();
    Discovering { task: OnDrop(tokio::spawn(client.run())), ready, demand }
}

fn introduction(config: &config::Ztunnel) -> NodeProxy {
    let own = &config.own;
    NodeProxy {
        instance_ip: own.instance_ip.to_string(),
        pod_name: own.pod_name.clone(),
        namespace: own.pod_namespace.clone(),
        node_name: own.node_name.clone().unwrap_or_default(),
        cluster_id: own.cluster_id.clone(),
        metadata: own.metadata.clone(),
    }
}

/// A task that ends with its owner.
struct OnDrop<T>(JoinHandle<T>);

impl<T> Drop for OnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Counts what discovery does; and when it is back, so is who signs certificates, most likely.
struct Observer {
    metrics: XdsMetrics,
    certificates: CertificateStore,
    was_lost: AtomicBool,
}

impl Observer {
    fn new(metrics: XdsMetrics, certificates: CertificateStore) -> Self {
        Self { metrics, certificates, was_lost: AtomicBool::new(false) }
    }
}

impl xds::client::Observer for Observer {
    fn terminated(&self, termination: Termination) {
        self.was_lost.store(true, Ordering::Relaxed);
        self.metrics.terminated(termination.label());
    }

    fn received(&self, type_url: &str, resource_bytes: usize) {
        // A server chooses what it sends, and must not choose how many label values there are.
        let known = [proto::ADDRESS_TYPE, proto::AUTHORIZATION_TYPE];
        let url = known.into_iter().find(|known| *known == type_url).unwrap_or("unknown");
        self.metrics.received(url, resource_bytes as u64);
        if self.was_lost.swap(false, Ordering::Relaxed) {
            self.certificates.retry();
        }
    }
}
