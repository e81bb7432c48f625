//! The control loops of the lab's cluster: Deployments make ReplicaSets, those make Pods, Pods are bound to Nodes, and
//! EndpointSlices follow Services and ready Pods, and Namespaces end with all that is in them.
//!
//! Each loop looks at the present objects and takes the next steps towards what they ask for, whatever happened
//! before: nothing is remembered between two rounds, and a step that failed is tried again.
//! Rounds follow each other only when an object of interest has changed.

mod deployments;
mod endpoints;
mod namespaces;
mod replicas;
mod rollout;
mod scheduler;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::api::{Client, Status};

/// After a round that is not done, the next one comes even if nothing changes.
const RETRY: Duration = Duration::from_secs(1);

/// Runs every controller until the API server behind `client` stops.
pub async fn run(client: Client) {
    let mut changes = client.changes();
    loop {
        let is_done = round(&client);
        let change = changes.next();
        let changed = if is_done { change.await } else { tokio::time::timeout(RETRY, change).await.unwrap_or(true) };
        if !changed {
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

/// Whether the object is controlled by the one with this uid.
fn is_controlled_by(metadata: &ObjectMeta, uid: Option<&str>) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.controller == Some(true)).any(|owner| Some(owner.uid.as_str()) == uid)
}

/// Names `owner` as the controller of an object to be made.
fn controlled_by<K: k8s_openapi::Resource>(owner: &ObjectMeta) -> Vec<OwnerReference> {
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
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
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
