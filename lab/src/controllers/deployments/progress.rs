//! What a Deployment says about itself: counts, whether it is available, whether its rollout goes on.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{name, size, strategy};
use crate::api::{Client, Patch, Status};
use crate::controllers::rollout::Strategy;

/// Writes the status if it has changed.
pub(super) fn report(
    client: &Client,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    (current, old): (Option<&ReplicaSet>, &[&ReplicaSet]),
) -> Result<(), Status> {
    let wanted = spec.replicas.unwrap_or(1);
    let all = || old.iter().copied().chain(current);
    let available: i32 = all().map(|set| size(set).available).sum();
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = DeploymentStatus {
        replicas: Some(all().map(|set| size(set).existing).sum()),
        updated_replicas: Some(current.map_or(0, |set| size(set).existing)),
        ready_replicas: Some(all().map(ready).sum()),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted - available).max(0)),
        observed_generation: deployment.metadata.generation,
        ..DeploymentStatus::default()
    };
    let missing = match strategy(spec) {
        Strategy::Recreate => 0,
        Strategy::Rolling { unavailable, .. } => unavailable,
    };
    let availability = match available >= wanted - missing {
        true => ("True", "MinimumReplicasAvailable"),
        false => ("False", "MinimumReplicasUnavailable"),
    };
    let known = before.conditions.as_deref().unwrap_or_default();
    let now = jiff::Timestamp::now();
    let (progress, has_moved) = progress(spec, &before, &status, now);
    let conditions = [
        condition(known, "Available", availability, (now, false)),
        condition(known, "Progressing", progress, (now, has_moved)),
    ];
    status.conditions = Some(conditions.into());
    if deployment.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": status}));
    client.patch_status::<Deployment>(deployment.metadata.namespace.as_deref(), name(&deployment.metadata), &patch)?;
    Ok(())
}

/// Status and reason of the condition `Progressing`, in the words that `kubectl rollout status` knows, and whether
/// something has moved, from when the deadline counts anew.
fn progress(
    spec: &DeploymentSpec,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
    now: jiff::Timestamp,
) -> ((&'static str, &'static str), bool) {
    const DONE: &str = "NewReplicaSetAvailable";
    const LATE: &str = "ProgressDeadlineExceeded";
    let wanted = spec.replicas.unwrap_or(1);
    let known = before.conditions.iter().flatten().find(|condition| condition.type_ == "Progressing");
    let reason = known.and_then(|known| known.reason.as_deref()).unwrap_or_default();
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    let all_are = |count: Option<i32>| count.unwrap_or(0) == wanted;
    if spec.paused == Some(true) {
        return (("Unknown", "DeploymentPaused"), false);
    }
    if all_are(status.updated_replicas) && all_are(status.replicas) && all_are(status.available_replicas) {
        return (("True", DONE), false);
    }
    let is_same = before.observed_generation == status.observed_generation;
    if reason == DONE && is_same && old(status) == 0 {
        // A pod that fails after the rollout is no matter of its progress.
        return (("True", DONE), false);
    }
    let has_moved = status.updated_replicas > before.updated_replicas
        || old(status) < old(before)
        || status.ready_replicas > before.ready_replicas
        || status.available_replicas > before.available_replicas;
    if has_moved || !is_same || !["ReplicaSetUpdated", LATE].contains(&reason) {
        return (("True", "ReplicaSetUpdated"), true);
    }
    let deadline = i64::from(spec.progress_deadline_seconds.unwrap_or(600));
    let since = known.and_then(|known| known.last_update_time.as_ref()).map_or(now, |time| time.0);
    let is_late = reason == LATE || now.as_second() - since.as_second() >= deadline;
    (if is_late { ("False", LATE) } else { ("True", "ReplicaSetUpdated") }, false)
}

/// A condition, with the time at which it last changed.
fn condition(
    before: &[DeploymentCondition],
    kind: &str,
    (status, reason): (&str, &str),
    (now, has_moved): (jiff::Timestamp, bool),
) -> DeploymentCondition {
    let same = before.iter().find(|condition| condition.type_ == kind);
    if let Some(same) = same.filter(|same| same.status == status && same.reason.as_deref() == Some(reason))
        && !has_moved
    {
        return same.clone();
    }
    let changed = same.filter(|same| same.status == status).and_then(|same| same.last_transition_time.clone());
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: None,
        last_transition_time: changed.or(Some(Time(now))),
        last_update_time: Some(Time(now)),
    }
}
