//! Where the pods of a comparison are, whoever provides it: a namespace, its nodes, and the Kubernetes API.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bench::machine::Ground;
use bench::usage::{self, Process};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kinds::annotations::REDIRECTION;
use kube::api::{Api, ListParams, LogParams};
use kube::runtime::wait::await_condition;
use load::{Outcome, Plan};
use serde_json::Value;

use super::objects::{APPLICATION, NODE_PROXY};
use crate::demo::cluster;
use crate::kubernetes::{Ended, Program, exec};

/// How long a program may take that does next to nothing.
const FETCH_DEADLINE: Duration = Duration::from_secs(15);

/// Lines of a node proxy's log that may have come since the connection that is looked for.
const LOG_LINES: i64 = 4000;

/// Containers that wait for one of these wait for somebody to do something.
const HOPELESS: [&str; 6] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerError",
    "CreateContainerConfigError",
    "CrashLoopBackOff",
];

/// A namespace that is there for one comparison.
pub(crate) struct Site {
    pub(super) client: kube::Client,
    pub(super) namespace: String,
    /// Of clients, and of the servers that are near them.
    pub(super) near: String,
    /// Of the other servers, if there is another node.
    pub(super) far: Option<String>,
    /// The same once more, if the proxies of these may be told otherwise than those of the others.
    pub(super) apart: Option<[String; 2]>,
    /// The image that has this program in it.
    pub(super) image: String,
    /// A pod is ready, and captured where it is to be, within this time.
    pub(super) patience: Duration,
    /// The process that all others of the site descend from, where this machine runs them.
    pub(super) first_process: Option<u32>,
    /// Where to look for what went wrong.
    pub(super) advice: String,
    /// What is measured on.
    pub(super) ground: Ground,
}

impl Site {
    /// What is measured on.
    pub(crate) fn ground(&self) -> &Ground {
        &self.ground
    }

    /// Why nobody sees what the proxies use; nothing where they are seen.
    pub(crate) fn proxies_unseen(&self) -> Option<String> {
        let why = "it is read from /proc of the machine that the proxies run on, which a cluster does not show";
        self.first_process.is_none().then(|| why.to_owned())
    }

    /// The node of the servers that are not near their clients.
    pub(super) fn far(&self) -> Result<&str> {
        self.far.as_deref().context("there is no second node")
    }

    /// Creates an object; that it is there already is fine.
    pub(super) async fn apply(&self, object: &Value) -> Result<()> {
        match cluster::create(&self.client, object).await {
            Err(error) if is_conflict(&error) => Ok(()),
            created => created,
        }
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for a condition of a pod, which is called `what`; the pod.
    pub(super) async fn wait_for(&self, name: &str, what: &str, is_so: fn(&Pod) -> bool) -> Result<Pod> {
        let is_settled = move |pod: Option<&Pod>| pod.is_some_and(|pod| is_so(pod) || is_hopeless(pod));
        let settled = Box::pin(await_condition(self.pods(), name, is_settled));
        let settled = tokio::time::timeout(self.patience, settled).await;
        let pod = match settled {
            Ok(found) => found.with_context(|| format!("cannot watch pod {}/{name}", self.namespace))?,
            Err(_elapsed) => self.pods().get_opt(name).await?,
        };
        match pod {
            Some(pod) if is_so(&pod) => Ok(pod),
            Some(pod) => {
                let (namespace, seconds) = (&self.namespace, self.patience.as_secs());
                bail!("pod {namespace}/{name} is not {what} (it may take {seconds} s): {}", described(&pod))
            }
            None => bail!("pod {}/{name} is gone", self.namespace),
        }
    }

    /// Runs this program in the application's container of a pod.
    async fn run(&self, pod: &str, arguments: &[&str], input: &[u8]) -> Result<Ended> {
        let command: Vec<&str> = ["aquifer"].iter().chain(arguments).copied().collect();
        let namespace = &self.namespace;
        exec(&self.client, Program { namespace, pod, container: APPLICATION, command: &command, input }).await
    }

    /// Carries out a plan in a pod. Whoever calls sets the deadline.
    pub(super) async fn load(&self, pod: &str, plan: &Plan) -> Result<Outcome> {
        let arguments = ["load", "client", "--plan", "--output", "json"];
        let Ended { output, failure } = self.run(pod, &arguments, &serde_json::to_vec(plan)?).await?;
        match (serde_json::from_str(&output), failure) {
            // Also that of an invalid outcome, which says itself what is wrong with it.
            (Ok(outcome), _) => Ok(outcome),
            (Err(_), Some(failure)) => bail!(failure),
            (Err(error), None) => Err(error).context(format!("the load generator in pod {pod} told no outcome")),
        }
    }

    /// Asks an HTTP server from inside a pod.
    pub(super) async fn fetch(&self, pod: &str, address: SocketAddr, path: &str) -> Result<String> {
        let address = address.to_string();
        let arguments = ["fetch", &address, path];
        let said = tokio::time::timeout(FETCH_DEADLINE, self.run(pod, &arguments, &[])).await;
        let late = || format!("{address} did not answer within {} s", FETCH_DEADLINE.as_secs());
        match said.with_context(late)?? {
            Ended { output, failure: None } => Ok(output),
            Ended { failure: Some(failure), .. } => bail!(failure),
        }
    }

    /// The pod of a node's proxy: its namespace and name.
    pub(super) async fn node_proxy(&self, node: &str) -> Result<(String, String)> {
        let everywhere: Api<Pod> = Api::all(self.client.clone());
        let wanted = ListParams::default().labels(NODE_PROXY).fields(&format!("spec.nodeName={node}"));
        let found = everywhere.list(&wanted).await.context("cannot list the pods of all namespaces")?;
        let names = found.items.into_iter().find_map(|pod| Some((pod.metadata.namespace?, pod.metadata.name?)));
        names.with_context(|| format!("no pod with label {NODE_PROXY} is on node {node}: there is no ambient mesh"))
    }

    /// Whether a node's proxy has written a line with all of these parts.
    pub(super) async fn has_logged(&self, node: &str, parts: &[String]) -> Result<bool> {
        let (namespace, name) = self.node_proxy(node).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let newest = LogParams { tail_lines: Some(LOG_LINES), ..LogParams::default() };
        let log =
            pods.logs(&name, &newest).await.with_context(|| format!("cannot read the log of {namespace}/{name}"))?;
        Ok(log.lines().rev().any(|line| parts.iter().all(|part| line.contains(part.as_str()))))
    }

    /// The process that `is_it` tells by number and command line; none where nobody sees processes.
    ///
    /// # Errors
    /// There is no such process.
    pub(super) fn process(&self, name: &str, is_it: impl Fn(u32, &[String]) -> bool) -> Result<Option<Process>> {
        let Some(first) = self.first_process else { return Ok(None) };
        let family = usage::family(first)?;
        let found = family.iter().find(|(pid, words)| is_it(*pid, words));
        let (pid, _) = found.with_context(|| format!("no process of the lab is {name}"))?;
        Ok(Some(Process::open(name, *pid)?))
    }
}

/// The address of a pod that is ready.
pub(super) fn address(pod: &Pod) -> Result<IpAddr> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    address.with_context(|| format!("pod {name} has no address"))?.parse().context("not an address")
}

fn is_conflict(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 409)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten())
}

/// Reason and message of a container that waits.
fn waiting(container: &ContainerStatus) -> Option<(&str, &str)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.as_deref().unwrap_or_default(), waiting.message.as_deref().unwrap_or_default()))
}

fn is_hopeless(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Failed")
        || containers(pod).filter_map(waiting).any(|(reason, message)| {
            // The same reason stands for a container that is tried again for the first time, without a message.
            HOPELESS.contains(&reason) && !message.is_empty()
        })
}

/// What a pod is doing instead.
fn described(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let mut text = status.and_then(|status| status.phase.clone()).unwrap_or_else(|| "no node runs it".to_owned());
    for (container, (reason, message)) in containers(pod).filter_map(|one| Some((&one.name, waiting(one)?))) {
        text.push_str(&format!(", container {container} waits: {reason} {message}"));
    }
    if let Some(message) = status.and_then(|status| status.message.as_ref()) {
        text.push_str(&format!(", {message}"));
    }
    let redirection = pod.metadata.annotations.as_ref().and_then(|all| all.get(REDIRECTION));
    if let Some(redirection) = redirection {
        text.push_str(&format!(", annotation {REDIRECTION} is {redirection:?}"));
    }
    text
}
