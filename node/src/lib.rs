//! The node agent: watches the pods of its node, decides which belong into the mesh, hands their network namespaces to
//! ztunnel over the ZDS socket and programs redirection inside them.
//!
//! It refuses to know what ztunnel does with a connection, and it never redirects a connection to where nobody listens.
//! Its main type is [`agent::Agent`]; [`run`] puts it together with a Kubernetes API and a socket.

pub mod agent;
pub mod annotations;
mod arrivals;
pub mod eligibility;
pub mod enrol;
pub mod events;
pub mod find;
pub mod host;
pub mod install;
pub mod linger;
pub mod observe;
pub mod plugin;
mod plugin_host;
pub mod proxies;
pub mod redirect;
pub mod rules;
mod watch;

use std::path::PathBuf;

use config::Node as Config;
use drain::Readiness;
use tokio::task::JoinSet;
use tracing::{info, warn};
use zds::agent::Listener;

use crate::agent::Agent;
use crate::arrivals::Knowledge;
use crate::eligibility::Eligibility;
use crate::enrol::Tools;
use crate::events::Events;
use crate::find::NetnsSource;
use crate::host::ProbeBypass;
use crate::observe::{AgentMetrics, observe};
use crate::plugin_host::PluginHost;
use crate::proxies::Proxies;
use crate::rules::FamilyRules;

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// No way to the Kubernetes API.
    #[error("the Kubernetes API cannot be used")]
    Kubernetes(#[source] Box<kube::Error>),
    /// The first lists of pods and namespaces did not come.
    #[error("the watch of {0} ended before its first list")]
    Watch(&'static str),
    /// The node's own rules.
    #[error("the node's packet filter rules cannot be installed")]
    Rules(#[source] std::io::Error),
    /// The ports of metrics and health.
    #[error("metrics and health cannot be served on ports {monitoring} and {health}")]
    Observe {
        /// The port of metrics.
        monitoring: u16,
        /// The port of health.
        health: u16,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The socket for the CNI plugin.
    #[error("cannot listen for the CNI plugin at {path}")]
    PluginSocket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The socket for ztunnel.
    #[error("cannot listen for ztunnel at {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the agent in the node's network namespace until the drain starts.
///
/// Ending leaves captured pods captured: the next agent, or the same one started again, takes over where this one was.
///
/// # Errors
/// The API, the socket or the kernel cannot be used at start.
pub async fn run(config: Config, drain: drain::Watch) -> Result<(), NodeError> {
    let client = kube::Client::try_default().await.map_err(|error| NodeError::Kubernetes(Box::new(error)))?;
    Box::pin(run_with(config, client, drain)).await
}

/// [`run`] with a given way to the API.
///
/// # Errors
/// As [`run`].
pub async fn run_with(config: Config, client: kube::Client, drain: drain::Watch) -> Result<(), NodeError> {
    let registry = telemetry::Registry::new();
    let metrics = AgentMetrics::new(&registry);
    let readiness = Readiness::new();
    let started = readiness.task("agent");
    let installed = config.plugin.as_ref().map(|_| readiness.task("CNI plugin"));
    let ports = [config.monitoring_port, config.health_port];
    tokio::select! {
        outcome = observe(registry, readiness, ports, drain.clone()) => outcome.map_err(|source| {
            NodeError::Observe { monitoring: config.monitoring_port, health: config.health_port, source }
        }),
        outcome = Box::pin(work(&config, client, metrics, (started, installed), drain)) => outcome,
    }
}

async fn work(
    config: &Config,
    client: kube::Client,
    metrics: AgentMetrics,
    (started, installed): (drain::Task, Option<drain::Task>),
    drain: drain::Watch,
) -> Result<(), NodeError> {
    let mut tasks = JoinSet::new();
    let (pods, namespaces, changes) = watch::start(&client, &config.node_name, &mut tasks);
    let lists = async {
        pods.wait_until_ready().await.map_err(|_gone| NodeError::Watch("pods"))?;
        namespaces.wait_until_ready().await.map_err(|_gone| NodeError::Watch("namespaces"))
    };
    // A drain that starts before the API answers ends the agent at once.
    match drain.unless_draining(lists).await {
        Some(listed) => listed?,
        None => return Ok(()),
    }

    let families = families(config);
    let bypass = ProbeBypass::install(families.clone(), &enrol::captured_addresses(&pods)).map_err(NodeError::Rules)?;
    let proxies = Proxies::default();
    let tools = Tools {
        client: client.clone(),
        pods,
        changes,
        proxies: proxies.clone(),
        netns: netns_source(config),
        bypass: bypass.clone(),
        families,
        told_deadline: config.leaving_timeout,
    };
    let events = Events::new(client.clone(), &config.node_name, metrics.clone());
    let knowledge = Knowledge {
        client: client.clone(),
        pods: tools.pods.clone(),
        namespaces: namespaces.clone(),
        changes: tools.changes.clone(),
        eligibility: eligibility(config),
    };
    let mut agent = Agent::new(tools, eligibility(config), namespaces, events);
    agent.remember_captured();
    let plugin = match (&config.plugin, installed) {
        (Some(plugin), Some(installed)) => {
            let (host, arrivals) = PluginHost::open(config, plugin, knowledge, metrics.plugin)?;
            agent = agent.with_arrivals(&config.node_name, arrivals);
            Some((host, installed))
        }
        _ => None,
    };
    let failed = |source| NodeError::Socket { path: config.socket.clone(), source };
    let listener = Listener::bind(&config.socket).map_err(failed)?;
    started.complete();
    info!(node = config.node_name, socket = %config.socket.display(), "node agent ready");
    let plugin_is_gone = async {
        match plugin {
            Some((host, installed)) => Box::pin(host.run(client, installed, &drain)).await,
            None => {
                drain.draining().await;
                false
            }
        }
    };
    tokio::select! {
        // What the plugin leaves on the host is dealt with after the agent's last step.
        ((), is_gone) = async { tokio::join!(agent.run(drain.draining()), plugin_is_gone) } => {
            if is_gone && let Err(error) = bypass.uninstall() {
                warn!(%error, "the node's own rules are not gone");
            }
            Ok(())
        }
        served = proxies.serve(listener) => {
            Err(failed(served.err().unwrap_or_else(|| std::io::Error::other("the listener ended"))))
        }
    }
}

fn families(config: &Config) -> Vec<FamilyRules> {
    let mut families = vec![FamilyRules::v4(config.probe_source_v4)];
    if config.ipv6 {
        families.push(FamilyRules::v6(config.probe_source_v6));
    }
    families
}

fn netns_source(config: &Config) -> NetnsSource {
    match &config.netns_dir {
        Some(directory) => NetnsSource::Directory(directory.clone()),
        None => NetnsSource::Processes(PathBuf::from("/host/proc")),
    }
}

fn eligibility(config: &Config) -> Eligibility {
    Eligibility {
        selectors: config.enablement.clone(),
        excluded_namespaces: config.exclude_namespaces.clone(),
        system_namespace: config.system_namespace.clone(),
        dns_capture: config.dns_capture,
    }
}
