//! The lab's own process: it holds the fabric and everything that would be a machine of its own in a real cluster, the
//! API server, the controllers, the kubelets and the cluster DNS.
//!
//! It runs in namespaces of its own, so that its end is the end of every process of the lab.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linux::mount::{self, Mount};
use linux::seqpacket::{Connection, Listener};
use linux::{NetNs, process};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Server, Status, dns_addresses, kubernetes_addresses};
use crate::control::{Announcement, Channel, Message, server};
use crate::fabric::{self, Node, NodeNetwork, api_endpoint, fabric_addresses};
use crate::families::{self, Families, Family};
use crate::kubelet::{self, NodeContext, Roster};
use crate::launch::Spec;
use crate::services::{self, Published};
use crate::{dns, mesh};

/// The cluster's domain.
const DOMAIN: &str = "cluster.local";

/// The lab's own files, all of them in memory.
const DIRECTORY: &str = "/run/aquifer";

/// Most memory that the lab's files may hold, in bytes.
const DIRECTORY_SIZE: u64 = 512 << 20;

/// How long the kubelets may take to end their pods.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// What the supervisor inherits, in order of the descriptors.
const FILES: [&str; 3] = ["the API's listener", "the channel to the caller", "the lock"];

/// Why the lab cannot come up or go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The supervisor was not started by [`crate::launch::start`].
    #[error("this command is started by `aquifer up` only: {0}")]
    Start(String),
    /// The kernel refused.
    #[error("cannot set up {what}")]
    Kernel {
        /// What was to be made.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// An IPv6 lab was asked for.
    #[error("there is no IPv6 here: {0}")]
    NoIpv6(String),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] telemetry::log::LogError),
    /// The API server cannot start.
    #[error(transparent)]
    Api(#[from] api::StartError),
    /// The API server refused an object of the lab's own.
    #[error("the API server refuses {what}: {status}")]
    Refused {
        /// Which object.
        what: String,
        /// Its answer.
        status: Status,
    },
}

/// What the supervisor was given by its caller.
struct Inherited {
    listener: TcpListener,
    words: Connection,
    /// Says that the lab lives; the kernel lets go of it with the last process that has it.
    _lock: OwnedFd,
}

/// Everything that runs until the lab ends.
struct Parts {
    nodes: Vec<Node>,
    roster: Arc<Roster>,
    shutdown: CancellationToken,
    kubelets: JoinSet<()>,
    others: JoinSet<()>,
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::Kernel { what, source }
}

/// Runs a lab to its end. `spec` is what [`crate::launch::start`] wrote.
///
/// # Errors
/// When the lab cannot come up; the caller has been told.
pub fn run(spec: &str) -> Result<(), SupervisorError> {
    let spec: Spec = serde_json::from_str(spec).map_err(|error| SupervisorError::Start(error.to_string()))?;
    let [listener, words, lock] = process::inherited::<3>()
        .map_err(|error| SupervisorError::Start(format!("it inherits {}: {error}", FILES.join(", "))))?;
    let inherited = Inherited { listener: listener.into(), words: words.into(), _lock: lock };
    // Standard output is the lab's log file. Dropping this at the end writes what is left.
    let _logging = telemetry::log::init(&spec.log_filter, telemetry::log::Layout::Plain)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(kernel("the runtime"))?;
    let outcome = runtime.block_on(Box::pin(supervise(spec, inherited)));
    // Tasks that block (a namespace being made, a log being read) end with the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// Files, mounts and limits, and the socket for other commands.
fn prepare_process(spec: &Spec) -> Result<Listener, SupervisorError> {
    process::raise_open_files().map_err(kernel("the limit of open files"))?;
    // Other commands find it in the caller's file system, of which /run is covered below.
    let control = Listener::bind(&spec.socket).map_err(kernel("the control socket"))?;
    let steps = [
        Mount::Proc { target: "/proc".into() },
        Mount::Tmpfs { target: "/run".into(), size: Some(DIRECTORY_SIZE), mode: 0o755 },
        Mount::Directory { path: DIRECTORY.into(), mode: 0o700 },
    ];
    mount::apply(&steps).map_err(kernel("the lab's own files"))?;
    // Namespaces of pods that are kept here later must show in containers that run already.
    mount::make_shared(Path::new("/run")).map_err(kernel("the lab's own files"))?;
    Ok(control)
}

async fn supervise(spec: Spec, inherited: Inherited) -> Result<(), SupervisorError> {
    let words = Channel::new(inherited.words).map_err(kernel("the channel to the caller"))?;
    let came_up = bring_up(&spec, inherited.listener, &words).await;
    let (parts, server) = match came_up {
        Ok(up) => up,
        Err(error) => {
            let why = kubelet::described(&error);
            tracing::error!(error = why, "the lab does not come up");
            // A caller that is gone cannot be told; the log has it.
            let _ = words.send(&Message::Announcement(Announcement::Failed(why)), None).await;
            return Err(error);
        }
    };
    wait_for_end(&spec, &parts.shutdown, &words).await?;
    take_down(parts, &server).await;
    Ok(())
}

async fn say(words: &Channel, step: &str) {
    tracing::info!("{step}");
    // The caller may have gone on without us; that is heard elsewhere.
    let _ = words.send(&Message::Announcement(Announcement::Progress(step.to_owned())), None).await;
}

async fn bring_up(spec: &Spec, listener: TcpListener, words: &Channel) -> Result<(Parts, Server), SupervisorError> {
    let control = prepare_process(spec)?;
    let families = families(spec, words).await?;
    say(words, &format!("network of {} nodes", spec.nodes)).await;
    let plans = NodeNetwork::plan(spec.nodes, families);
    let fabric = NetNs::current().map_err(kernel("the fabric"))?;
    let held: Vec<_> = kubernetes_addresses(families).iter().chain(dns_addresses(families).iter()).collect();
    fabric::build(families, &held).map_err(kernel("the fabric"))?;
    let nodes = plans
        .iter()
        .map(|plan| fabric::add_node(plan, &plans, &Path::new(DIRECTORY).join("nodes")))
        .collect::<io::Result<Vec<_>>>()
        .map_err(kernel("the network of a node"))?;
    say(words, &format!("Kubernetes API on https://{}", spec.api)).await;
    let server = start_api(families, listener)?;
    let client = server.client();
    let mut parts = Parts {
        nodes,
        roster: Arc::new(Roster::default()),
        shutdown: CancellationToken::new(),
        kubelets: JoinSet::new(),
        others: JoinSet::new(),
    };
    server.provide_logs(Arc::clone(&parts.roster) as Arc<dyn api::PodLogs>);
    server.provide_programs(Arc::clone(&parts.roster) as Arc<dyn api::PodPrograms>);
    start_services(families, &mut parts, &client).await?;
    say(words, "nodes").await;
    start_nodes(&mut parts, &client, spec.plugins.as_deref())?;
    let controllers = crate::controllers::run(client.clone());
    parts.others.spawn(Box::pin(controllers));
    if spec.mesh {
        say(words, "mesh components").await;
        for manifest in mesh::manifests(&plans) {
            let text = |pointer| manifest.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default();
            let what = format!("{} {}", text("/kind"), text("/metadata/name"));
            client.apply_json(manifest).map_err(|status| SupervisorError::Refused { what, status })?;
        }
    }
    let context = server::Context {
        client,
        roster: Arc::clone(&parts.roster),
        nodes: parts.nodes.clone(),
        fabric,
        shutdown: parts.shutdown.clone(),
    };
    parts.others.spawn(async move {
        if let Err(error) = server::serve(control, Arc::new(context)).await {
            tracing::error!(%error, "commands cannot reach the lab any more");
        }
    });
    let kubeconfig = server.kubeconfig(&format!("https://{}", spec.api));
    words
        .send(&Message::Announcement(Announcement::Ready { kubeconfig, families }), None)
        .await
        .map_err(kernel("the channel to the caller"))?;
    Ok((parts, server))
}

/// The families that the lab gets: without IPv6 on this machine a lab of both is one of IPv4, and says so.
async fn families(spec: &Spec, words: &Channel) -> Result<Families, SupervisorError> {
    let why = spec.no_ipv6.clone().or_else(families::why_no_ipv6);
    match (spec.families, why) {
        (Families::Dual, Some(why)) => {
            say(words, &format!("IPv4 alone, for there is no IPv6 here: {why}")).await;
            Ok(Families::Ipv4)
        }
        (Families::Ipv6, Some(why)) => Err(SupervisorError::NoIpv6(why)),
        (wanted, _) => Ok(wanted),
    }
}

/// The API server, for the caller on its listener and for pods at the cluster's address and behind it.
fn start_api(families: Families, listener: TcpListener) -> Result<Server, SupervisorError> {
    let options = api::Options {
        names: fabric_addresses(families).iter().map(|address| address.to_string()).collect(),
        cluster_domain: DOMAIN.to_owned(),
        advertise: Some(api_endpoint(families)),
        namespaces: Vec::new(),
        families,
    };
    let server = Server::new(&options)?;
    let what = "the API server's listeners";
    server.serve_tls(listener).map_err(kernel(what))?;
    for address in fabric_addresses(families).iter().chain(kubernetes_addresses(families).iter()) {
        let listener = TcpListener::bind((address, 443)).map_err(kernel(what))?;
        server.serve_tls(listener).map_err(kernel(what))?;
    }
    Ok(server)
}

/// DNS, and the translation of Service addresses in every node.
async fn start_services(families: Families, parts: &mut Parts, client: &api::Client) -> Result<(), SupervisorError> {
    let published = Published::new(families);
    let mut sockets = Vec::new();
    for address in dns_addresses(families).iter().chain(fabric_addresses(families).iter()) {
        let bound = dns::Sockets::bind((address, dns::PORT).into()).await;
        sockets.push(bound.map_err(kernel("the cluster DNS"))?);
    }
    let zone = published.zone.subscribe();
    parts.others.spawn(async move {
        if let Err(error) = dns::serve(sockets, DOMAIN, zone).await {
            tracing::error!(%error, "the cluster DNS has ended");
        }
    });
    for node in &parts.nodes {
        parts.others.spawn(services::enforce(node.clone(), published.rules.subscribe()));
    }
    for object in dns_objects(families) {
        client
            .apply_json(object)
            .map_err(|status| SupervisorError::Refused { what: "Service kube-system/kube-dns".to_owned(), status })?;
    }
    let client = client.clone();
    parts.others.spawn(async move {
        if let Err(status) = services::follow(&client, &published).await {
            tracing::error!(error = %status, "Services are not followed any more");
        }
    });
    Ok(())
}

fn start_nodes(parts: &mut Parts, client: &api::Client, plugins: Option<&Path>) -> Result<(), SupervisorError> {
    let (changes, config) = watch::channel(0);
    let counting = client.clone();
    parts.others.spawn(async move {
        if let Err(status) = services::count_config(&counting, &changes).await {
            tracing::error!(error = %status, "ConfigMaps and Secrets are not followed any more");
        }
    });
    for node in &parts.nodes {
        let name = node.plan.name.clone();
        kubelet::configure(node, plugins).map_err(kernel("the network configuration of a node"))?;
        kubelet::register(client, &node.plan)
            .map_err(|status| SupervisorError::Refused { what: format!("Node {name}"), status })?;
        let context = NodeContext::new(
            client.clone(),
            node.clone(),
            Path::new(DIRECTORY).join("pods"),
            Arc::clone(&parts.roster),
            config.clone(),
            (DOMAIN.to_owned(), plugins.map(Path::to_owned), parts.shutdown.clone()),
        );
        parts.kubelets.spawn(async move {
            if let Err(status) = kubelet::run(Arc::new(context)).await {
                tracing::error!(error = %status, node = name, "the kubelet has ended");
            }
        });
    }
    Ok(())
}

/// The Service of the cluster DNS, for those who look for its addresses in the API.
fn dns_objects(families: Families) -> Vec<serde_json::Value> {
    let labels = serde_json::json!({"k8s-app": "kube-dns", "kubernetes.io/service-name": "kube-dns"});
    let ports = serde_json::json!([
        {"name": "dns", "port": dns::PORT, "protocol": "UDP"},
        {"name": "dns-tcp", "port": dns::PORT, "protocol": "TCP"},
    ]);
    let addresses = dns_addresses(families);
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIPs": addresses.iter().collect::<Vec<_>>(), "ports": ports},
    });
    let slices = fabric_addresses(families).iter().map(|address| {
        let family = Family::of(address);
        let name = if address == fabric_addresses(families).primary { "kube-dns" } else { "kube-dns-second" };
        serde_json::json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family.name(),
            "metadata": {"name": name, "namespace": "kube-system", "labels": labels},
            "ports": ports,
            "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        })
    });
    std::iter::once(service).chain(slices).collect()
}

/// Waits for a signal, for `aquifer down`, or for the end of the caller that the lab belongs to.
async fn wait_for_end(spec: &Spec, shutdown: &CancellationToken, words: &Channel) -> Result<(), SupervisorError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(kernel("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(kernel("signals"))?;
    let caller_gone = async {
        if spec.detach {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(_)) = words.receive().await {}
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to end"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
        () = shutdown.cancelled() => tracing::info!("taken down"),
        () = caller_gone => tracing::info!("the caller is gone"),
    }
    shutdown.cancel();
    Ok(())
}

async fn take_down(mut parts: Parts, server: &Server) {
    let pods = async { while parts.kubelets.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_DEADLINE, pods).await.is_err() {
        tracing::warn!("some pods did not end; they end with the lab");
    }
    parts.others.shutdown().await;
    if tokio::time::timeout(STOP_DEADLINE, server.stop()).await.is_err() {
        tracing::warn!("the API server did not stop; it ends with the lab");
    }
}
