//! The scheduler: binds each pod to the node that has the fewest.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use super::{first_failure, is_finished};
use crate::api::{Client, Patch, Selection, Status};

/// Pods that name another scheduler are left to it.
const OWN_NAME: &str = "default-scheduler";

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let waiting: Vec<Pod> = client.list(&Selection { fields: "spec.nodeName=".into(), ..Selection::default() })?;
    if waiting.is_empty() {
        return Ok(());
    }
    let nodes: Vec<Node> = client.list(&Selection::default())?;
    let mut bound: Vec<Pod> = client.list(&Selection { fields: "spec.nodeName!=".into(), ..Selection::default() })?;
    bound.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !is_finished(pod));
    first_failure(waiting.into_iter().filter(is_ours).map(|pod| {
        let Some(node) = choose(&pod, &nodes, &bound) else { return refuse(client, &pod, nodes.len()) };
        bound.push(bind(client, &pod, node)?);
        Ok(())
    }))
}

fn is_ours(pod: &Pod) -> bool {
    let scheduler = pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref());
    pod.metadata.deletion_timestamp.is_none() && scheduler.is_none_or(|scheduler| scheduler == OWN_NAME)
}

/// The node with the fewest pods of the same owner, then with the fewest pods, then the first by name.
fn choose<'a>(pod: &Pod, nodes: &'a [Node], bound: &[Pod]) -> Option<&'a str> {
    let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let owner = owner(pod);
    nodes
        .iter()
        .filter(|node| is_open(node) && has_labels(node, selector))
        .filter_map(|node| node.metadata.name.as_deref())
        .min_by_key(|name| {
            let on_node = || {
                bound.iter().filter(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(*name))
            };
            (on_node().filter(|other| owner.is_some() && self::owner(other) == owner).count(), on_node().count(), *name)
        })
}

fn owner(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

fn is_open(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_unready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status != "True");
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    !is_unready && !is_cordoned && node.metadata.deletion_timestamp.is_none()
}

fn has_labels(node: &Node, wanted: Option<&BTreeMap<String, String>>) -> bool {
    let labels = node.metadata.labels.as_ref();
    wanted.into_iter().flatten().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn bind(client: &Client, pod: &Pod, node: &str) -> Result<Pod, Status> {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref().unwrap_or_default());
    // The resource version makes sure that nobody has bound it meanwhile.
    let metadata = json!({"resourceVersion": pod.metadata.resource_version});
    let bound =
        client.patch(namespace, name, &Patch::Merge(json!({"metadata": metadata, "spec": {"nodeName": node}})))?;
    tell(client, pod, json!({"type": "PodScheduled", "status": "True"}))?;
    Ok(bound)
}

fn refuse(client: &Client, pod: &Pod, nodes: usize) -> Result<(), Status> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut told = conditions.into_iter().filter(|condition| condition.type_ == "PodScheduled");
    let message = format!("0/{nodes} nodes are available and match the pod's node selector");
    if told.any(|condition| condition.message.as_deref() == Some(&message)) {
        return Ok(());
    }
    tell(client, pod, json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}))
}

fn tell(client: &Client, pod: &Pod, mut condition: serde_json::Value) -> Result<(), Status> {
    let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref().unwrap_or_default());
    if let Some(fields) = condition.as_object_mut() {
        fields.insert(
            "lastTransitionTime".into(),
            jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
        );
    }
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    client.patch_status::<Pod>(namespace, name, &patch).map(drop)
}
