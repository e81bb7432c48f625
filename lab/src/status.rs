//! What runs in a lab, for `aquifer status`.

use k8s_openapi::api::core::v1::{Node, Pod};
use serde::{Deserialize, Serialize};

use crate::api::{Client, Selection};
use crate::state::Record;

/// A lab and everything in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    /// The lab itself.
    #[serde(flatten)]
    pub record: Record,
    /// What its API server has.
    #[serde(flatten)]
    pub objects: Objects,
}

/// Nodes and pods, sorted by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// The nodes.
    pub node_list: Vec<NodeRow>,
    /// The pods.
    pub pods: Vec<PodRow>,
}

/// One node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its address on the bridge.
    pub address: String,
    /// The range of its pods' addresses.
    pub pod_range: String,
    /// Whether it takes pods.
    pub ready: bool,
}

/// One pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The node that it is bound to.
    pub node: String,
    /// Its address.
    pub ip: String,
    /// Containers that are ready, and all.
    pub ready: String,
    /// As kubectl shows it: the phase, or why a container waits.
    pub status: String,
    /// Restarts of all containers.
    pub restarts: i32,
}

/// What the API server has now. Lists of a kind that cannot be read are empty.
pub(crate) fn collect(client: &Client) -> Objects {
    let everything = Selection::default();
    Objects {
        node_list: client.list::<Node>(&everything).unwrap_or_default().iter().map(node_row).collect(),
        pods: client.list::<Pod>(&everything).unwrap_or_default().iter().map(pod_row).collect(),
    }
}

fn node_row(node: &Node) -> NodeRow {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().find(|address| address.type_ == "InternalIP");
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    NodeRow {
        name: node.metadata.name.clone().unwrap_or_default(),
        address: internal.map(|address| address.address.clone()).unwrap_or_default(),
        pod_range: node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).unwrap_or_default(),
        ready: conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True"),
    }
}

fn pod_row(pod: &Pod) -> PodRow {
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let containers: Vec<_> = status.iter().flat_map(|status| status.container_statuses.iter().flatten()).collect();
    let ready = containers.iter().filter(|container| container.ready).count();
    let waiting = containers.iter().find_map(|container| {
        let reason = container.state.as_ref()?.waiting.as_ref()?.reason.as_deref()?;
        Some(reason).filter(|reason| *reason != "ContainerCreating")
    });
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let shown = match waiting {
        _ if pod.metadata.deletion_timestamp.is_some() => "Terminating",
        Some(reason) => reason,
        None => phase,
    };
    PodRow {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        ip: status.and_then(|status| status.pod_ip.clone()).unwrap_or_default(),
        ready: format!("{ready}/{}", spec.map_or(0, |spec| spec.containers.len())),
        status: shown.to_owned(),
        restarts: containers.iter().map(|container| container.restart_count).sum(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_shows_what_kubectl_shows() {
        let pod = |status: serde_json::Value, deletion: Option<&str>| -> PodRow {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": "cart", "namespace": "shop", "deletionTimestamp": deletion},
                "spec": {"nodeName": "node-1", "containers": [{"name": "a"}, {"name": "b"}]},
                "status": status,
            }))
            .unwrap();
            pod_row(&pod)
        };
        let container = |ready: bool, state: serde_json::Value| json!({"name": "a", "image": "", "imageID": "", "ready": ready, "restartCount": 2, "state": state});
        let running = json!({"phase": "Running", "podIP": "10.244.1.2",
            "containerStatuses": [container(true, json!({})), container(false, json!({"waiting": {"reason": "CrashLoopBackOff"}}))]});
        let row = pod(running.clone(), None);
        assert_eq!((row.ready.as_str(), row.status.as_str(), row.restarts), ("1/2", "CrashLoopBackOff", 4));
        assert_eq!(pod(running, Some("2026-01-01T00:00:00Z")).status, "Terminating");
        assert_eq!(pod(json!({}), None).status, "Pending");
    }
}
