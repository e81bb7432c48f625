//! Asking the mesh's components what they know, over their own HTTP ports: those of a lab, from inside its namespaces,
//! or one that is reachable from here.

pub(crate) mod dump;
pub(crate) mod http;
mod inside;

use anyhow::{Result, bail};
use clap::Args;
use futures::future::join_all;
use lab::control::Target;
use lab::control::client;
use lab::mesh::SYSTEM_NAMESPACE;
use lab::status::PodRow;

use crate::failure::Advised;
use crate::lab_name::LabName;
use http::{Method, Request};

/// Where a ztunnel listens for admin requests, in its node's network.
const ZTUNNEL_ADMIN: &str = "127.0.0.1:15000";
/// Where the control plane serves its metrics.
const CONTROL_PLANE_METRICS: u16 = 15014;

/// Which node proxies a verb is about.
#[derive(Debug, Clone, Args)]
pub(crate) struct Proxies {
    #[command(flatten)]
    pub(crate) lab: LabName,
    /// A ztunnel by the name of its pod, such as ztunnel-node-1; without it, all of them.
    #[arg(value_name = "ZTUNNEL", conflicts_with_all = ["node", "admin"])]
    pod: Option<String>,
    /// The ztunnel of this node.
    #[arg(long, value_name = "NODE", conflicts_with = "admin")]
    node: Option<String>,
    /// An admin port that can be reached from here, instead of a lab's ztunnels; may be given more than once.
    #[arg(long, value_name = "HOST:PORT")]
    admin: Vec<String>,
}

/// What one component said.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Who: the name of a pod, or an address.
    pub(crate) from: String,
    /// The body of the answer.
    pub(crate) text: Result<String>,
}

impl Proxies {
    /// All of a lab, or those with the given admin ports.
    pub(crate) fn all(lab: LabName, admin: Vec<String>) -> Self {
        Self { lab, pod: None, node: None, admin }
    }

    /// Asks each of the proxies that are meant.
    ///
    /// # Errors
    /// No such proxy is known. That a proxy does not answer is in its [`Answer`].
    pub(crate) async fn ask(&self, method: Method, path: &str) -> Result<Vec<Answer>> {
        if !self.admin.is_empty() {
            let asked = self.admin.iter().map(|address| async move {
                let text = Request { method, address, path }.send().await.map_err(Into::into);
                Answer { from: address.clone(), text }
            });
            return Ok(join_all(asked).await);
        }
        let lab = self.lab.directory()?;
        let pods = self.pods(client::status(&lab).await?.objects.pods)?;
        let asked = pods.into_iter().map(|pod| {
            let lab = &lab;
            async move {
                let request = Request { method, address: ZTUNNEL_ADMIN, path };
                Answer { text: inside::fetch(lab, Target::Node(pod.node), &request).await, from: pod.name }
            }
        });
        Ok(join_all(asked).await)
    }

    /// The ztunnels among the lab's pods that are meant.
    fn pods(&self, pods: Vec<PodRow>) -> Result<Vec<PodRow>> {
        let name = self.pod.as_deref().map(|name| {
            let name = name.strip_prefix("pod/").unwrap_or(name);
            name.strip_suffix(&format!(".{SYSTEM_NAMESPACE}")).unwrap_or(name)
        });
        let is_meant = |pod: &PodRow| match (name, &self.node) {
            (Some(name), _) => pod.name == name,
            (None, Some(node)) => pod.node == *node,
            (None, None) => true,
        };
        let mut pods = pods;
        pods.retain(|pod| pod.namespace == SYSTEM_NAMESPACE && pod.name.starts_with("ztunnel-") && is_meant(pod));
        if pods.is_empty() {
            let what = match (name, &self.node) {
                (Some(name), _) => format!("no ztunnel {name:?} runs"),
                (None, Some(node)) => format!("no ztunnel runs on node {node:?}"),
                (None, None) => "no ztunnel runs in the lab".to_owned(),
            };
            bail!(Advised::new(what, format!("see what runs: aquifer status{}", self.lab.option())));
        }
        Ok(pods)
    }
}

/// The metrics of the lab's control plane.
///
/// # Errors
/// When none runs or it does not answer.
pub(crate) async fn control_plane_metrics(lab: &LabName) -> Result<String> {
    let directory = lab.directory()?;
    let pods = client::status(&directory).await?.objects.pods;
    let is_control_plane =
        |pod: &&PodRow| pod.namespace == SYSTEM_NAMESPACE && pod.name.starts_with("aquifer-controlplane-");
    let Some(pod) = pods.iter().filter(is_control_plane).find(|pod| !pod.ip.is_empty()) else {
        bail!(Advised::new("no control plane runs", format!("see what runs: aquifer status{}", lab.option())));
    };
    let address = format!("{}:{CONTROL_PLANE_METRICS}", pod.ip);
    let request = Request { method: Method::Get, address: &address, path: "/metrics" };
    inside::fetch(&directory, Target::Fabric, &request).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        proxies: Proxies,
    }

    fn chosen(arguments: &[&str]) -> Result<Vec<String>> {
        let row = |namespace: &str, name: &str, node: &str| PodRow {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.to_owned(),
            ..PodRow::default()
        };
        let pods = vec![
            row(SYSTEM_NAMESPACE, "aquifer-node-node-1", "node-1"),
            row(SYSTEM_NAMESPACE, "ztunnel-node-1", "node-1"),
            row(SYSTEM_NAMESPACE, "ztunnel-node-2", "node-2"),
            row("shop", "ztunnel-of-mine", "node-1"),
        ];
        let command = Command::try_parse_from([&["test"], arguments].concat())?;
        Ok(command.proxies.pods(pods)?.into_iter().map(|pod| pod.name).collect())
    }

    #[test]
    fn proxies_are_chosen_by_pod_or_node() {
        assert_eq!(chosen(&[]).unwrap(), ["ztunnel-node-1", "ztunnel-node-2"]);
        assert_eq!(chosen(&["pod/ztunnel-node-2"]).unwrap(), ["ztunnel-node-2"]);
        assert_eq!(chosen(&["ztunnel-node-2.aquifer-system"]).unwrap(), ["ztunnel-node-2"]);
        assert_eq!(chosen(&["--node", "node-1"]).unwrap(), ["ztunnel-node-1"]);
        assert!(chosen(&["ztunnel-node-1", "--node", "node-1"]).is_err());
    }

    #[test]
    fn an_unknown_proxy_is_named_with_the_next_command() {
        let error = chosen(&["--node", "node-9"]).unwrap_err();
        assert_eq!(error.to_string(), "no ztunnel runs on node \"node-9\"");
        assert_eq!(error.downcast_ref::<Advised>().unwrap().next(), "see what runs: aquifer status");
    }
}
