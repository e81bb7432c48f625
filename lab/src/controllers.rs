//! The control loops of the lab's cluster: Deployments make ReplicaSets, those make Pods, Pods are bound to Nodes, and
//! EndpointSlices follow Services and ready Pods, and Namespaces end with all that is in them.
//!
//! Each loop looks at the present objects and takes the next steps towards what they ask for, whatever happened
//! before: nothing is remembered between two rounds, and a step that failed is tried again.
//! A round follows when an object of interest has changed, or after some seconds for the sake of deadlines.

mod deployments;
mod endpoints;
mod namespaces;
mod replicas;
mod rollout;
mod scheduler;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::{Metadata, Resource};
use serde_json::json;

use crate::api::{Client, Key, Patch, Status};

/// After a round that is not done, the next one comes even if nothing changes.
const RETRY: Duration = Duration::from_secs(1);

/// After any round, as deadlines pass without a change.
const LOOK: Duration = Duration::from_secs(5);

/// Runs every controller until the API server behind `client` stops.
pub async fn run(client: Client) {
    let mut changes = client.changes();
    loop {
        let pause = if round(&client) { LOOK } else { RETRY };
        if !tokio::time::timeout(pause, changes.next()).await.unwrap_or(true) {
            return;
        }
    }
}

/// One step of everything; whether there is nothing left to do until something changes.
fn round(client: &Client) -> bool {
    type Step = fn(&Client) -> Result<(), Status>;
    let steps: [(&str, Step); 5] = [
        ("deployments", deployments::reconcile),
        ("replica sets", replicas::reconcile),
        ("scheduler", scheduler::reconcile),
        ("endpoint slices", endpoints::reconcile),
        ("namespaces", namespaces::reconcile),
    ];
    let mut is_done = true;
    for (name, step) in steps {
        if let Err(error) = step(client) {
            tracing::debug!(controller = name, %error, "a round is not done");
            is_done = false;
        }
    }
    is_done
}

/// The objects that an owner controls. Those of nobody that its selector matches become its own, and those that it no
/// longer matches are let go
/// ([rules](https://github.com/kubernetes/design-proposals-archive/blob/main/api-machinery/controller-ref.md)).
fn claim<'a, O: Resource, K: Key + Metadata<Ty = ObjectMeta>>(
    client: &Client,
    owner: &ObjectMeta,
    selector: &LabelSelector,
    objects: &'a [K],
) -> Result<Vec<&'a K>, Status> {
    let mut owned = Vec::new();
    for object in objects.iter().filter(|object| object.metadata().namespace == owner.namespace) {
        let metadata = object.metadata();
        let mut owners = metadata.owner_references.clone().unwrap_or_default();
        let controller = owners.iter().position(|owner| owner.controller == Some(true));
        let is_own = controller.and_then(|at| owners.get(at)).map(|found| Some(&found.uid) == owner.uid.as_ref());
        let is_ending = metadata.deletion_timestamp.is_some();
        match (is_own, selects(selector, metadata)) {
            (Some(true), is_selected) if is_selected || is_ending => {
                owned.push(object);
                continue;
            }
            (Some(true), _) => owners.retain(|found| Some(&found.uid) != owner.uid.as_ref()),
            (None, true) if !is_ending => {
                owners.extend(controlled_by::<O>(owner));
                owned.push(object);
            }
            _ => continue,
        }
        let own = json!({"resourceVersion": metadata.resource_version, "ownerReferences": owners});
        let name = metadata.name.as_deref().unwrap_or_default();
        client.patch::<K>(metadata.namespace.as_deref(), name, &Patch::Merge(json!({"metadata": own})))?;
    }
    Ok(owned)
}

/// Whether a selector matches an object's labels.
fn selects(selector: &LabelSelector, metadata: &ObjectMeta) -> bool {
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| label(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|term| {
            let is_in = |value: &String| term.values.as_ref().is_some_and(|values| values.contains(value));
            match (term.operator.as_str(), label(&term.key)) {
                ("Exists", found) => found.is_some(),
                ("DoesNotExist", found) => found.is_none(),
                ("NotIn", found) => !found.is_some_and(is_in),
                (_, found) => found.is_some_and(is_in),
            }
        })
}

/// Names `owner` as the controller of an object.
fn controlled_by<K: Resource>(owner: &ObjectMeta) -> Vec<OwnerReference> {
    vec![OwnerReference {
        api_version: K::API_VERSION.into(),
        kind: K::KIND.into(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }]
}

/// Whether the pod says that it is ready.
fn is_ready(pod: &Pod) -> bool {
    ready_since(pod).is_some()
}

/// Since when the pod says that it is ready, if it does; it may leave the time open.
fn ready_since(pod: &Pod) -> Option<Option<jiff::Timestamp>> {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(ready.last_transition_time.as_ref().map(|time| time.0))
}

/// Whether the pod will not run again.
fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Several steps may fail alone: all are tried, then the first failure is told.
fn first_failure(steps: impl Iterator<Item = Result<(), Status>>) -> Result<(), Status> {
    let mut failure = None;
    for step in steps {
        match step {
            // Another client was faster; the next round sees what it did.
            Err(status) if status.is_not_found() => {}
            Err(status) => failure = failure.or(Some(status)),
            Ok(()) => {}
        }
    }
    failure.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
