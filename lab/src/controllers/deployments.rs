//! Deployments: one ReplicaSet per pod template, and a rolling change from one to the next.

use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;

use super::rollout::{self, Size, Strategy};
use super::{controlled_by, first_failure, is_controlled_by};
use crate::api::{Client, DeleteOptions, Patch, Selection, Status, digest};

/// The label that tells the pods of two templates apart.
const HASH: &str = "pod-template-hash";

/// Counts the templates of a Deployment, for `kubectl rollout history`.
const REVISION: &str = "deployment.kubernetes.io/revision";

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let deployments: Vec<Deployment> = client.list(&Selection::default())?;
    let sets: Vec<ReplicaSet> = client.list(&Selection::default())?;
    let living = deployments.iter().filter(|deployment| deployment.metadata.deletion_timestamp.is_none());
    first_failure(living.map(|deployment| {
        let owned = |set: &&ReplicaSet| {
            set.metadata.namespace == deployment.metadata.namespace
                && is_controlled_by(&set.metadata, deployment.metadata.uid.as_deref())
        };
        one(client, deployment, sets.iter().filter(owned).collect())
    }))
}

fn one(client: &Client, deployment: &Deployment, sets: Vec<&ReplicaSet>) -> Result<(), Status> {
    let Some(spec) = &deployment.spec else { return Ok(()) };
    let template = serde_json::to_string(&spec.template).map_err(|error| Status::bad_request(error.to_string()))?;
    let hash = digest(&template);
    let (current, mut old): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| label(set) == Some(&hash));
    let is_paused = spec.paused == Some(true);
    let created;
    let current = match current.first() {
        Some(current) => *current,
        None if is_paused => return report(client, deployment, None, &old),
        None => {
            created = create(client, deployment, spec, (&hash, next_revision(&old)))?;
            &created
        }
    };
    let current_revision = revision(current);
    old.sort_by_key(|set| revision(set));
    if !is_paused {
        let sizes: Vec<_> = old.iter().map(|set| size(set)).collect();
        let replicas = spec.replicas.unwrap_or(1);
        let (new, older) = rollout::next(replicas, strategy(spec), size(current), &sizes);
        scale(client, current, new)?;
        for (set, wanted) in old.iter().zip(older) {
            scale(client, set, wanted)?;
        }
        mark_revision(client, deployment, current, current_revision.max(next_revision(&old)))?;
        forget(client, spec, &old)?;
    }
    report(client, deployment, Some(current), &old)
}

fn label(set: &ReplicaSet) -> Option<&String> {
    set.metadata.labels.as_ref().and_then(|labels| labels.get(HASH))
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn next_revision(old: &[&ReplicaSet]) -> i64 {
    old.iter().map(|set| revision(set)).max().unwrap_or(0).saturating_add(1)
}

fn size(set: &ReplicaSet) -> Size {
    let status = set.status.as_ref();
    Size {
        wanted: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0),
        existing: status.map_or(0, |status| status.replicas),
        available: status.and_then(|status| status.available_replicas).unwrap_or(0),
    }
}

fn strategy(spec: &DeploymentSpec) -> Strategy {
    let strategy = spec.strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
        return Strategy::Recreate;
    }
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    Strategy::rolling(spec.replicas.unwrap_or(1), surge, unavailable)
}

fn create(
    client: &Client,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    (hash, revision): (&str, i64),
) -> Result<ReplicaSet, Status> {
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut template = spec.template.clone();
    let template_metadata = template.metadata.get_or_insert_default();
    template_metadata.labels.get_or_insert_default().insert(HASH.into(), hash.into());
    let labels = template_metadata.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.into());
    client.create(&ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some([(REVISION.to_owned(), revision.to_string())].into()),
            owner_references: Some(controlled_by::<Deployment>(&deployment.metadata)),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            selector,
            template: Some(template),
            ..ReplicaSetSpec::default()
        }),
        status: None,
    })
}

fn scale(client: &Client, set: &ReplicaSet, replicas: i32) -> Result<(), Status> {
    if size(set).wanted == replicas {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    client.patch::<ReplicaSet>(set.metadata.namespace.as_deref(), name(&set.metadata), &patch).map(drop)
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// A template that comes back is the newest revision again.
fn mark_revision(client: &Client, deployment: &Deployment, current: &ReplicaSet, revision: i64) -> Result<(), Status> {
    let text = revision.to_string();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {REVISION: text}}}));
    let is_marked = |metadata: &ObjectMeta| {
        metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION)) == Some(&text)
    };
    let namespace = deployment.metadata.namespace.as_deref();
    if !is_marked(&current.metadata) {
        client.patch::<ReplicaSet>(namespace, name(&current.metadata), &patch)?;
    }
    if !is_marked(&deployment.metadata) {
        client.patch::<Deployment>(namespace, name(&deployment.metadata), &patch)?;
    }
    Ok(())
}

/// Deletes the oldest ReplicaSets without pods beyond the limit; `old` is sorted by revision.
fn forget(client: &Client, spec: &DeploymentSpec, old: &[&ReplicaSet]) -> Result<(), Status> {
    let limit = spec.revision_history_limit.map_or(10, |limit| usize::try_from(limit).unwrap_or(0));
    let empty: Vec<_> = old.iter().filter(|set| size(set).wanted == 0 && size(set).existing == 0).collect();
    first_failure(empty.iter().take(empty.len().saturating_sub(limit)).map(|set| {
        let namespace = set.metadata.namespace.as_deref();
        client.delete::<ReplicaSet>(namespace, name(&set.metadata), &DeleteOptions::default())
    }))
}

fn report(
    client: &Client,
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
) -> Result<(), Status> {
    let Some(spec) = &deployment.spec else { return Ok(()) };
    let wanted = spec.replicas.unwrap_or(1);
    let updated = current.map_or(0, |set| size(set).existing);
    let all = || old.iter().copied().chain(current);
    let existing: i32 = all().map(|set| size(set).existing).sum();
    let available: i32 = all().map(|set| size(set).available).sum();
    let missing = match strategy(spec) {
        Strategy::Recreate => 0,
        Strategy::Rolling { unavailable, .. } => unavailable,
    };
    let is_done = updated == wanted && existing == wanted && available == wanted;
    let (is_available, progress) =
        (available >= wanted - missing, if is_done { "NewReplicaSetAvailable" } else { "ReplicaSetUpdated" });
    let before = deployment.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let availability = if is_available { "MinimumReplicasAvailable" } else { "MinimumReplicasUnavailable" };
    let conditions = vec![
        condition(&before, "Available", is_available, availability),
        condition(&before, "Progressing", true, progress),
    ];
    let status = DeploymentStatus {
        replicas: Some(existing),
        updated_replicas: Some(updated),
        ready_replicas: Some(available),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted - available).max(0)),
        observed_generation: deployment.metadata.generation,
        conditions: Some(conditions),
        ..DeploymentStatus::default()
    };
    if deployment.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let status = json!({"status": status});
    let namespace = deployment.metadata.namespace.as_deref();
    client.patch_status::<Deployment>(namespace, name(&deployment.metadata), &Patch::Merge(status)).map(drop)
}

/// A condition, with the time at which it last changed.
fn condition(before: &[DeploymentCondition], kind: &str, is_true: bool, reason: &str) -> DeploymentCondition {
    let status = if is_true { "True" } else { "False" };
    let same = before.iter().find(|condition| condition.type_ == kind);
    if let Some(same) = same.filter(|same| same.status == status && same.reason.as_deref() == Some(reason)) {
        return same.clone();
    }
    let now = Some(Time(jiff::Timestamp::now()));
    let changed = same.filter(|same| same.status == status).and_then(|same| same.last_transition_time.clone());
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: None,
        last_transition_time: changed.or_else(|| now.clone()),
        last_update_time: now,
    }
}
