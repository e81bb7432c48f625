//! ReplicaSets: as many pods as they ask for.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{claim, controlled_by, first_failure, is_finished, is_ready, ready_since};
use crate::api::{Client, DeleteOptions, Selection, Status};

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let sets: Vec<ReplicaSet> = client.list(&Selection::default())?;
    let pods: Vec<Pod> = client.list(&Selection::default())?;
    first_failure(sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).map(|set| {
        let Some(spec) = &set.spec else { return Ok(()) };
        let mut owned = claim::<ReplicaSet, _>(client, &set.metadata, &spec.selector, &pods)?;
        owned.retain(|pod| pod.metadata.deletion_timestamp.is_none() && !is_finished(pod));
        one(client, set, &owned)
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

/// What it costs to delete a pod, for users who want others of a ReplicaSet to go first.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What goes first when there are too many: pods without a node, then unready ones, then the cheapest, then the
/// youngest.
fn worth(pod: &Pod) -> (bool, bool, i64, std::cmp::Reverse<Option<jiff::Timestamp>>, Option<String>) {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    let cost = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(COST)?.parse().ok());
    let born = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (has_node, is_ready(pod), cost.unwrap_or(0), std::cmp::Reverse(born), pod.metadata.name.clone())
}

fn report(client: &Client, set: &ReplicaSet, pods: &[&Pod]) -> Result<(), Status> {
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let least = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let now = jiff::Timestamp::now().as_second();
    let is_available = |since: &Option<jiff::Timestamp>| {
        least == 0 || since.is_some_and(|since| now - since.as_second() >= i64::from(least))
    };
    let available = pods.iter().filter_map(|pod| ready_since(pod)).filter(is_available).count();
    let status = ReplicaSetStatus {
        replicas: count(pods.len()),
        fully_labeled_replicas: Some(count(pods.len())),
        ready_replicas: Some(count(ready)),
        available_replicas: Some(count(available)),
        observed_generation: set.metadata.generation,
        ..ReplicaSetStatus::default()
    };
    if set.status.as_ref() != Some(&status) {
        client.replace_status(&ReplicaSet { status: Some(status), ..set.clone() })?;
    }
    if available < ready {
        return Err(Status::unavailable("pods are ready, but not yet for long enough to be available"));
    }
    Ok(())
}
