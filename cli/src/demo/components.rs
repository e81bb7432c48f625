//! The mesh's own components in the demo's lab: taken away, put back, one put beside another, and what they count.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use lab::fabric::NodeNetwork;
use lab::mesh::{self, SYSTEM_NAMESPACE};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster;
use super::lab::{Lab, NODES, Place};
use crate::own_lab::MESH_DEADLINE;

/// Components that are taken away are gone within this time.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(15);

/// How often a component is asked what it counts.
const POLL: Duration = Duration::from_millis(50);

const CONTROL_PLANE: &str = "aquifer-controlplane";

/// The metrics of a ztunnel, in its node's network.
const ZTUNNEL_METRICS: &str = "127.0.0.1:15020";

/// The port of the control plane's metrics.
const CONTROL_PLANE_METRICS: u16 = 15014;

impl Lab {
    /// Takes the node agents away, and waits until they are gone.
    pub(super) async fn remove_node_agents(&self) -> Result<()> {
        self.remove_pods(|name| name.starts_with("aquifer-node-")).await
    }

    /// Puts node agents in the place of others, and waits until they are ready.
    pub(super) async fn replace_node_agents(&self, ipv6: bool) -> Result<()> {
        self.remove_node_agents().await?;
        for mut agent in self.manifests("aquifer-node") {
            let environment = agent.pointer_mut("/spec/containers/0/env").and_then(Value::as_array_mut);
            let environment = environment.context("a node agent without an environment")?;
            environment.push(json!({"name": "AMBIENT_IPV6", "value": ipv6.to_string()}));
            cluster::create(self.client(), &agent).await?;
        }
        cluster::wait_for_pods(self.client(), SYSTEM_NAMESPACE, MESH_DEADLINE, cluster::is_ready).await?;
        Ok(())
    }

    /// Takes the control plane away, and waits until it is gone.
    pub(super) async fn remove_control_plane(&self) -> Result<()> {
        self.scale_control_plane(0).await?;
        self.remove_pods(|name| name.starts_with(CONTROL_PLANE)).await
    }

    /// Brings the control plane back, and waits until every ztunnel is connected to it.
    pub(super) async fn restore_control_plane(&self) -> Result<()> {
        self.scale_control_plane(1).await?;
        let deadline = Instant::now() + MESH_DEADLINE;
        while self.connected_ztunnels().await? < u64::from(NODES) {
            if Instant::now() > deadline {
                bail!("the ztunnels do not connect to the new control plane within {} s", MESH_DEADLINE.as_secs());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn scale_control_plane(&self, replicas: u32) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().clone(), SYSTEM_NAMESPACE);
        let patch = json!({"spec": {"replicas": replicas}});
        deployments.patch(CONTROL_PLANE, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// How many clients the control plane counts; none while it does not run or does not answer.
    async fn connected_ztunnels(&self) -> Result<u64> {
        let pods = cluster::pods(self.client(), SYSTEM_NAMESPACE).await?;
        let pod = pods.iter().find(|pod| name_of(pod).starts_with(CONTROL_PLANE) && cluster::is_ready(pod));
        let Some(address) = pod.and_then(|pod| pod.status.as_ref()?.pod_ip.as_ref()) else { return Ok(0) };
        let metrics = self.metrics("node-1", &format!("{address}:{CONTROL_PLANE_METRICS}")).await;
        Ok(metrics.map_or(0, |metrics| sum(&metrics, "pilot_xds", "")))
    }

    /// Starts a second ztunnel on a node, waits until it is ready, and returns its name.
    pub(super) async fn start_successor(&self, node: &str) -> Result<String> {
        let (old, name) = (format!("ztunnel-{node}"), format!("ztunnel-next-{node}"));
        let is_it = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str) == Some(&*old);
        let mut successor = self.manifests("ztunnel").find(is_it).with_context(|| format!("no manifest of {old}"))?;
        *successor.pointer_mut("/metadata/name").context("a ztunnel without a name")? = json!(name);
        cluster::create(self.client(), &successor).await?;
        cluster::wait_for_pods(self.client(), SYSTEM_NAMESPACE, MESH_DEADLINE, |pod| {
            name_of(pod) != name || cluster::is_ready(pod)
        })
        .await?;
        Ok(name)
    }

    /// Tells a ztunnel to end; at once, or when nobody needs it any more.
    pub(super) async fn end_ztunnel(&self, name: &str, at_once: bool) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client().clone(), SYSTEM_NAMESPACE);
        let parameters = if at_once { DeleteParams::default().grace_period(0) } else { DeleteParams::default() };
        api.delete(name, &parameters).await?;
        Ok(())
    }

    /// Whether a component's pod is still there.
    pub(super) async fn has_component(&self, name: &str) -> Result<bool> {
        let api: Api<Pod> = Api::namespaced(self.client().clone(), SYSTEM_NAMESPACE);
        Ok(api.get_opt(name).await?.is_some())
    }

    /// Waits until a component's pod is gone, and returns how long that took.
    pub(super) async fn wait_for_end(&self, name: &str) -> Result<Duration> {
        cluster::wait_for_pods(self.client(), SYSTEM_NAMESPACE, REMOVAL_DEADLINE, |pod| name_of(pod) != name).await
    }

    /// Lookups of a pod that its node's ztunnel received, and those of them that it had to ask others about.
    pub(super) async fn lookups(&self, node: &str, pod: &str) -> Result<(u64, u64)> {
        let metrics = self.metrics(node, ZTUNNEL_METRICS).await?;
        let label = format!("source_canonical_service=\"{pod}\"");
        let count = |name| sum(&metrics, name, &label);
        Ok((count("istio_dns_requests_total"), count("istio_dns_upstream_requests_total")))
    }

    /// What a component counts, asked for from a node.
    async fn metrics(&self, node: &str, address: &str) -> Result<String> {
        let mut command = self.exec(&Place::Node(node), &["fetch", address, "/metrics"]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output().await?;
        if !output.status.success() {
            bail!("{address} does not tell its metrics");
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    fn manifests(&self, app: &str) -> impl Iterator<Item = Value> {
        let objects = mesh::manifests(&NodeNetwork::plan(NODES, self.families()));
        objects.into_iter().filter(move |object| object.pointer("/metadata/labels/app") == Some(&json!(app)))
    }

    async fn remove_pods(&self, is_meant: impl Fn(&str) -> bool) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client().clone(), SYSTEM_NAMESPACE);
        for pod in cluster::pods(self.client(), SYSTEM_NAMESPACE).await? {
            let name = name_of(&pod);
            if is_meant(name)
                && let Err(error) = api.delete(name, &DeleteParams::default().grace_period(0)).await
                && !matches!(&error, kube::Error::Api(status) if status.code == 404)
            {
                return Err(error.into());
            }
        }
        cluster::wait_for_pods(self.client(), SYSTEM_NAMESPACE, REMOVAL_DEADLINE, |pod| !is_meant(name_of(pod)))
            .await?;
        Ok(())
    }
}

fn name_of(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// The sum of a metric's values over all label sets in which `label` occurs.
fn sum(metrics: &str, name: &str, label: &str) -> u64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        // Another metric's name may begin with this one.
        let is_it = rest.starts_with(['{', ' ']) && rest.contains(label);
        is_it.then(|| line.rsplit(' ').next()?.parse::<u64>().ok())?
    };
    metrics.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn values_of_one_metric_are_added_up() {
        let metrics = "# TYPE a counter\na{b=\"c\"} 2\na{b=\"d\"} 3\na{b=\"c\",e=\"f\"} 4\na_total{b=\"c\"} 50\na 1\n";
        assert_eq!(sum(metrics, "a", "b=\"c\""), 6);
        assert_eq!(sum(metrics, "a", ""), 10);
        assert_eq!(sum(metrics, "g", ""), 0);
    }
}
