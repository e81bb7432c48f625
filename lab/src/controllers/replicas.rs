//! ReplicaSets: as many pods as they ask for.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{controlled_by, first_failure, is_controlled_by, is_finished, is_ready};
use crate::api::{Client, DeleteOptions, Selection, Status};

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let sets: Vec<ReplicaSet> = client.list(&Selection::default())?;
    let pods: Vec<Pod> = client.list(&Selection::default())?;
    first_failure(sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).map(|set| {
        let counts = |pod: &&Pod| {
            pod.metadata.namespace == set.metadata.namespace
                && is_controlled_by(&pod.metadata, set.metadata.uid.as_deref())
                && pod.metadata.deletion_timestamp.is_none()
                && !is_finished(pod)
        };
        one(client, set, &pods.iter().filter(counts).collect::<Vec<_>>())
    }))
}

fn one(client: &Client, set: &ReplicaSet, pods: &[&Pod]) -> Result<(), Status> {
    let spec = set.spec.as_ref();
    let wanted = spec.and_then(|spec| spec.replicas).map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0));
    let creations = (pods.len()..wanted).map(|_| create(client, set));
    let mut by_worth = pods.to_vec();
    by_worth.sort_by_key(|pod| worth(pod));
    let surplus = pods.len().saturating_sub(wanted);
    let removals = by_worth.iter().take(surplus).map(|pod| remove(client, pod));
    let report = std::iter::once_with(|| report(client, set, pods));
    first_failure(creations.chain(removals).chain(report))
}

fn create(client: &Client, set: &ReplicaSet) -> Result<(), Status> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let template_metadata = template.metadata.unwrap_or_default();
    let pod = Pod {
        metadata: ObjectMeta {
            generate_name: set.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: template_metadata.labels,
            annotations: template_metadata.annotations,
            finalizers: template_metadata.finalizers,
            owner_references: Some(controlled_by::<ReplicaSet>(&set.metadata)),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    };
    client.create(&pod).map(drop)
}

fn remove(client: &Client, pod: &Pod) -> Result<(), Status> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    client.delete::<Pod>(pod.metadata.namespace.as_deref(), name, &DeleteOptions::default())
}

/// What goes first when there are too many: pods without a node, then unready ones, then the youngest.
fn worth(pod: &Pod) -> (bool, bool, std::cmp::Reverse<Option<jiff::Timestamp>>, Option<String>) {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let born = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (has_node, is_ready(pod), std::cmp::Reverse(born), pod.metadata.name.clone())
}

fn report(client: &Client, set: &ReplicaSet, pods: &[&Pod]) -> Result<(), Status> {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let ready = count(pods.iter().filter(|pod| is_ready(pod)).count());
    let status = ReplicaSetStatus {
        replicas: count(pods.len()),
        fully_labeled_replicas: Some(count(pods.len())),
        ready_replicas: Some(ready),
        available_replicas: Some(ready),
        observed_generation: set.metadata.generation,
        ..ReplicaSetStatus::default()
    };
    if set.status.as_ref() == Some(&status) {
        return Ok(());
    }
    client.replace_status(&ReplicaSet { status: Some(status), ..set.clone() }).map(drop)
}
