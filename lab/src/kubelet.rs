//! The kubelet of one node: runs the pods that are bound to it, as processes in namespaces of their own.
//!
//! One task per pod, one per container; everything it knows comes from the API server, and everything it does shows in
//! the pod's status and Events.

mod backoff;
mod container;
pub(crate) mod environment;
mod image;
mod launch;
mod log;
mod network;
mod node;
mod pod;
mod prepare;
mod probing;
mod programs;
mod restarts;
mod roster;
mod sandbox;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Client, Event, Selection, Status};
use crate::fabric::{Node, PodAddress, PodAddresses};

pub(crate) use container::{described, exit_code};
pub(crate) use image::{SEARCH_PATH, is_program, locate};
pub(crate) use launch::enter;
pub(crate) use network::configure;
pub(crate) use node::register;
pub(crate) use programs::run_program;
pub(crate) use roster::{Process, Roster};
pub(crate) use status::time;

/// How long the pods may take to end when the lab ends.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// What all pods of a node share.
pub(crate) struct NodeContext {
    pub(crate) client: Client,
    pub(crate) node: Node,
    /// Where the pods' files are, by uid.
    pub(crate) directory: PathBuf,
    pub(crate) roster: Arc<Roster>,
    /// Changes with each change of any ConfigMap or Secret.
    pub(crate) config: watch::Receiver<u64>,
    /// The whole lab ends.
    pub(crate) shutdown: CancellationToken,
    pub(crate) domain: String,
    /// A directory with CNI plugins of others that make the pods' networks, in place of the lab's own.
    pub(crate) plugins: Option<PathBuf>,
    addresses: Mutex<PodAddresses>,
}

impl NodeContext {
    pub(crate) fn new(
        client: Client,
        node: Node,
        directory: PathBuf,
        roster: Arc<Roster>,
        config: watch::Receiver<u64>,
        (domain, plugins, shutdown): (String, Option<PathBuf>, CancellationToken),
    ) -> Self {
        let addresses = Mutex::new(PodAddresses::new(&node.plan));
        Self { client, node, directory, roster, config, shutdown, domain, plugins, addresses }
    }

    fn take_address(&self) -> Option<PodAddress> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give_back(&self, address: PodAddress) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).give_back(address);
    }

    /// `/etc/resolv.conf` of a pod.
    pub(crate) fn resolver_configuration(&self, namespace: &str) -> String {
        let (domain, server) = (&self.domain, api::dns_addresses(self.node.plan.families).primary);
        format!("nameserver {server}\nsearch {namespace}.svc.{domain} svc.{domain} {domain}\noptions ndots:5\n")
    }
}

/// A pod that has a task.
struct Handle {
    updates: watch::Sender<Arc<Pod>>,
    gone: CancellationToken,
}

/// Runs the node's pods until the shutdown, and then until they have ended.
///
/// # Errors
/// When the pods cannot be watched.
pub(crate) async fn run(context: Arc<NodeContext>) -> Result<(), Status> {
    let mut watch = context.client.watch::<Pod>(&Selection::node(&context.node.plan.name))?;
    let mut pods: BTreeMap<String, Handle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let event = tokio::select! {
            () = context.shutdown.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, node = context.node.plan.name, "a pod's task has failed");
                }
                continue;
            }
            event = watch.next() => event,
        };
        match event {
            None => break,
            Some(Event::Synced) => {}
            Some(Event::Deleted(pod)) => {
                if let Some(handle) = pod.metadata.uid.as_ref().and_then(|uid| pods.remove(uid)) {
                    handle.gone.cancel();
                }
            }
            Some(Event::Applied(pod)) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let pod = Arc::new(pod);
                if let Some(handle) = pods.get(&uid) {
                    handle.updates.send_replace(pod);
                } else {
                    let (updates, receiver) = watch::channel(pod);
                    let gone = CancellationToken::new();
                    let task = pod::PodTask { shared: Arc::clone(&context), updates: receiver, gone: gone.clone() };
                    tasks.spawn(Box::pin(task.run()));
                    pods.insert(uid, Handle { updates, gone });
                }
            }
        }
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_DEADLINE, all).await.is_err() {
        tracing::warn!(node = context.node.plan.name, "pods still run when the lab ends");
    }
    Ok(())
}
