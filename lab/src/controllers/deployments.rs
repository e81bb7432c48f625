//! Deployments: one ReplicaSet per pod template, and a rolling change from one to the next.

mod progress;
mod template;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use self::template::HASH;
use super::rollout::{self, Size, Strategy};
use super::{claim, controlled_by, first_failure};
use crate::api::{Client, DeleteOptions, Patch, Selection, Status, digest};

/// Counts the templates of a Deployment, for `kubectl rollout history` and `undo`.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Annotations that a ReplicaSet does not take over from its Deployment; others, as the cause of a change, it does.
const OWN: &[&str] = &[REVISION, "kubectl.kubernetes.io/last-applied-configuration"];

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let deployments: Vec<Deployment> = client.list(&Selection::default())?;
    let sets: Vec<ReplicaSet> = client.list(&Selection::default())?;
    let living = deployments.iter().filter(|deployment| deployment.metadata.deletion_timestamp.is_none());
    first_failure(living.map(|deployment| {
        let Some(spec) = &deployment.spec else { return Ok(()) };
        let owned = claim::<Deployment, _>(client, &deployment.metadata, &spec.selector, &sets)?;
        one(client, deployment, spec, owned)
    }))
}

fn one(client: &Client, deployment: &Deployment, spec: &DeploymentSpec, sets: Vec<&ReplicaSet>) -> Result<(), Status> {
    let wanted = template::canonical(&spec.template)?;
    let has_template = |set: &&ReplicaSet| {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        template.is_some_and(|template| template::canonical(template).is_ok_and(|template| template == wanted))
    };
    let (mut same, mut old): (Vec<_>, Vec<_>) = sets.into_iter().partition(has_template);
    same.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
    old.sort_by_key(|set| revision(set));
    let mut same = same.into_iter();
    let created;
    let current = match same.next() {
        Some(current) => Some(current),
        None if spec.paused == Some(true) => None,
        None => {
            created = create(client, deployment, spec, (&digest(&wanted.to_string()), next_revision(&old)))?;
            Some(&created)
        }
    };
    old.extend(same);
    match current {
        Some(current) if spec.paused != Some(true) => roll(client, deployment, spec, (current, &old))?,
        current => scale_paused(client, spec, &old.iter().copied().chain(current).collect::<Vec<_>>())?,
    }
    progress::report(client, deployment, spec, (current, &old))
}

/// Takes the next steps towards pods of the current template alone.
fn roll(
    client: &Client,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    (current, old): (&ReplicaSet, &[&ReplicaSet]),
) -> Result<(), Status> {
    let sizes: Vec<_> = old.iter().map(|set| size(set)).collect();
    let (new, older) = rollout::next(spec.replicas.unwrap_or(1), strategy(spec), size(current), &sizes);
    scale(client, current, new)?;
    for (set, wanted) in old.iter().zip(older) {
        scale(client, set, wanted)?;
    }
    mark(client, deployment, current, revision(current).max(next_revision(old)))?;
    forget(client, spec, old)
}

/// While a rollout is paused, only the number of pods of a single template follows.
fn scale_paused(client: &Client, spec: &DeploymentSpec, sets: &[&ReplicaSet]) -> Result<(), Status> {
    let mut active = sets.iter().filter(|set| size(set).wanted > 0);
    let only = match (active.next(), active.next()) {
        (Some(only), None) => Some(only),
        (None, _) => sets.iter().max_by_key(|set| revision(set)),
        (Some(_), Some(_)) => None,
    };
    only.map_or(Ok(()), |set| scale(client, set, spec.replicas.unwrap_or(1)))
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    metadata.annotations.as_ref().and_then(|annotations| annotations.get(name))
}

fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
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
    let mut template = spec.template.clone();
    let template_metadata = template.metadata.get_or_insert_default();
    template_metadata.labels.get_or_insert_default().insert(HASH.into(), hash.into());
    let labels = template_metadata.labels.clone();
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.into(), hash.into());
    client.create(&ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", name(&deployment.metadata))),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            annotations: Some(inherited(deployment, revision)),
            owner_references: Some(controlled_by::<Deployment>(&deployment.metadata)),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    })
}

fn inherited(deployment: &Deployment, revision: i64) -> BTreeMap<String, String> {
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN.contains(&name.as_str()));
    annotations.insert(REVISION.into(), revision.to_string());
    annotations
}

fn scale(client: &Client, set: &ReplicaSet, replicas: i32) -> Result<(), Status> {
    if size(set).wanted == replicas {
        return Ok(());
    }
    change(client, set, json!({"spec": {"replicas": replicas}}))
}

fn change(client: &Client, set: &ReplicaSet, patch: Value) -> Result<(), Status> {
    let (namespace, name) = (set.metadata.namespace.as_deref(), name(&set.metadata));
    client.patch::<ReplicaSet>(namespace, name, &Patch::Merge(patch)).map(drop)
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

/// Writes down what the newest revision is and why it came about. A template that comes back is the newest again.
fn mark(client: &Client, deployment: &Deployment, current: &ReplicaSet, revision: i64) -> Result<(), Status> {
    let wanted = inherited(deployment, revision);
    let is_marked = |(name, value): (&String, &String)| annotation(&current.metadata, name) == Some(value);
    let is_ready_long = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    let had = current.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
    if !wanted.iter().all(is_marked) || had != is_ready_long {
        let patch = json!({"metadata": {"annotations": wanted}, "spec": {"minReadySeconds": is_ready_long}});
        change(client, current, patch)?;
    }
    let text = revision.to_string();
    if annotation(&deployment.metadata, REVISION) != Some(&text) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REVISION: text}}}));
        client.patch::<Deployment>(deployment.metadata.namespace.as_deref(), name(&deployment.metadata), &patch)?;
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
