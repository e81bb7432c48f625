//! The workload that a pod belongs to, read from the pod alone.

use k8s_openapi::api::core::v1::Pod;
use kinds::labels;

use crate::objects::Named;

/// The name of the workload: that of the Deployment, Job, CronJob or whatever controls the pod, else the pod's own.
pub(super) fn workload_name(pod: &Pod) -> String {
    if let Some(name) = pod.label(labels::WORKLOAD_NAME) {
        return name.to_owned();
    }
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
    // A pod that a person named is its own workload, whoever adopted it.
    let Some(owner) = owner.filter(|_| pod.metadata.generate_name.is_some()) else { return pod.name().to_owned() };
    let hash = pod.label(labels::POD_TEMPLATE_HASH).unwrap_or_default();
    let name = match owner.kind.as_str() {
        "ReplicaSet" => deployment(&owner.name, hash),
        "Job" => cron_job(&owner.name),
        _ => None,
    };
    name.unwrap_or(&owner.name).to_owned()
}

/// A Deployment names its ReplicaSets `<deployment>-<hash>`.
fn deployment<'a>(replica_set: &'a str, hash: &str) -> Option<&'a str> {
    let name = replica_set.strip_suffix(hash)?.strip_suffix('-')?;
    (!hash.is_empty() && !name.is_empty()).then_some(name)
}

/// A CronJob names its Jobs `<cron job>-<minutes since 1970>`.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minutes) = job.rsplit_once('-')?;
    let is_time = (8..=10).contains(&minutes.len()) && minutes.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn name(generate_name: bool, kind: &str, owner: &str, labels: serde_json::Value) -> String {
        let mut pod = json!({"metadata": {"name": "pod-1", "labels": labels,
            "ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": owner, "uid": "u", "controller": true}]}});
        if generate_name {
            pod["metadata"]["generateName"] = json!("pod-");
        }
        workload_name(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_controlling_workload_names_the_pod() {
        let hash = json!({"pod-template-hash": "6d7f"});
        assert_eq!(name(true, "ReplicaSet", "cart-6d7f", hash.clone()), "cart");
        assert_eq!(name(true, "ReplicaSet", "cart-other", hash), "cart-other");
        assert_eq!(name(true, "ReplicaSet", "cart-6d7f", json!({})), "cart-6d7f");
        assert_eq!(name(true, "Job", "report-28456789", json!({})), "report");
        assert_eq!(name(true, "Job", "report-1", json!({})), "report-1");
        assert_eq!(name(true, "StatefulSet", "db", json!({})), "db");
        assert_eq!(name(false, "StatefulSet", "db", json!({})), "pod-1");
        assert_eq!(name(true, "StatefulSet", "db", json!({"service.istio.io/workload-name": "x"})), "x");
        assert_eq!(workload_name(&serde_json::from_value(json!({"metadata": {"name": "alone"}})).unwrap()), "alone");
    }
}
