//! Pods on their way out of the mesh: tells the node agent when every proxy knows.
//!
//! The agent clears a pod's redirection and leaves a nonce in one annotation; once all connected proxies have
//! acknowledged a snapshot in which the pod is reached without a tunnel, the nonce is repeated in another.
//! The agent waits a bounded time, so nothing here is vital; each replica speaks for the proxies connected to it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kinds::annotations;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use proto::ADDRESS_TYPE;
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info};
use types::NamespacedName;

use crate::objects::{Named, Objects};
use crate::translate::{self, Options};

/// How long one write may take; the agent does not wait longer either.
const WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// A pod whose agent waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaving {
    /// The pod.
    pub(crate) pod: NamespacedName,
    /// Its UID, so that a successor of the same name is not told.
    pub(crate) uid: Arc<str>,
    /// Its workload's key.
    pub(crate) workload: String,
    /// What to repeat.
    pub(crate) nonce: String,
    /// The first snapshot in which the pod has no tunnel.
    pub(crate) since: u64,
}

/// The pods that wait for an answer; [`since`] sets the snapshot.
pub(crate) fn find(objects: &Objects, options: &Options) -> Vec<Leaving> {
    let waiting = objects.pods.iter().filter_map(|pod| {
        let nonce = pod.annotation(annotations::LEAVING)?;
        let is_captured = pod.annotation(annotations::REDIRECTION) == Some(annotations::REDIRECTION_ENABLED);
        let is_told = pod.annotation(annotations::TOLD) == Some(nonce);
        (!is_captured && !is_told).then(|| Leaving {
            pod: pod.key(),
            uid: Arc::from(pod.metadata.uid.as_deref().unwrap_or_default()),
            workload: translate::pod_uid(&options.cluster_id, pod.namespace(), pod.name()),
            nonce: nonce.to_owned(),
            since: 0,
        })
    });
    waiting.collect()
}

/// Who waited before keeps the snapshot of then; the others get the present one.
pub(crate) fn since(mut found: Vec<Leaving>, before: &[Leaving], version: u64) -> Vec<Leaving> {
    for leaving in &mut found {
        let known = before.iter().find(|other| other.uid == leaving.uid && other.nonce == leaving.nonce);
        leaving.since = known.map_or(version, |known| known.since);
    }
    found
}

/// Writes answers until the publisher is gone.
pub(crate) async fn run(client: Client, mut leaving: watch::Receiver<Arc<Vec<Leaving>>>, server: xds::server::Server) {
    let mut told = server.told();
    let mut written: Vec<(Arc<str>, String)> = Vec::new();
    loop {
        let waiting = Arc::clone(&leaving.borrow_and_update());
        let reached = *told.borrow_and_update();
        written.retain(|(uid, nonce)| waiting.iter().any(|pod| pod.uid == *uid && pod.nonce == *nonce));
        let mut has_failed = false;
        for pod in waiting.iter().filter(|pod| pod.since <= reached) {
            let answer = (Arc::clone(&pod.uid), pod.nonce.clone());
            // A proxy that refused the change still tunnels: the agent's deadline has to do.
            if written.contains(&answer) || server.is_rejected(ADDRESS_TYPE, &pod.workload) {
                continue;
            }
            if write(&client, pod).await {
                written.push(answer);
            } else {
                has_failed = true;
            }
        }
        let has_ended = tokio::select! {
            changed = leaving.changed() => changed.is_err(),
            changed = told.changed() => changed.is_err(),
            () = tokio::time::sleep(RETRY), if has_failed => false,
        };
        if has_ended {
            return;
        }
    }
}

/// Whether the matter is settled: written, or the pod is gone.
async fn write(client: &Client, leaving: &Leaving) -> bool {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &leaving.pod.namespace);
    let patch = json!({"metadata": {"uid": &*leaving.uid, "annotations": {annotations::TOLD: leaving.nonce}}});
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(&patch));
    let written = pods.patch_subresource("status", &leaving.pod.name, &parameters, &patch);
    match tokio::time::timeout(WRITE_DEADLINE, written).await {
        Ok(Ok(_)) => {
            debug!(pod = %leaving.pod, "every proxy knows that the pod left the mesh");
            true
        }
        // Gone, or replaced by another pod of the same name.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => true,
        Ok(Err(error)) => {
            info!(pod = %leaving.pod, %error, "could not tell the node agent that every proxy knows");
            false
        }
        Err(_elapsed) => {
            info!(pod = %leaving.pod, "telling the node agent took too long");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(annotations: &serde_json::Value) -> Objects {
        let mut objects = Objects::default();
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": "n", "name": "p", "uid": "u", "annotations": annotations}});
        objects.add(pod).unwrap();
        objects
    }

    #[test]
    fn a_pod_waits_while_it_is_out_and_not_yet_told() {
        let waits = |annotations| find(&objects(&annotations), &Options::default()).len();
        assert_eq!(waits(json!({annotations::LEAVING: "1"})), 1);
        assert_eq!(waits(json!({annotations::LEAVING: "2", annotations::TOLD: "1"})), 1);
        assert_eq!(waits(json!({annotations::LEAVING: "1", annotations::TOLD: "1"})), 0);
        assert_eq!(waits(json!({annotations::LEAVING: "1", annotations::REDIRECTION: "enabled"})), 0);
        assert_eq!(waits(json!({})), 0);
    }

    #[test]
    fn a_pod_waits_for_the_snapshot_that_first_had_it_out() {
        let found = || find(&objects(&json!({annotations::LEAVING: "1"})), &Options::default());
        let first = since(found(), &[], 5);
        assert_eq!(first[0].since, 5);
        assert_eq!(since(found(), &first, 9)[0].since, 5);
        let again = find(&objects(&json!({annotations::LEAVING: "2"})), &Options::default());
        assert_eq!(since(again, &first, 9)[0].since, 9, "another nonce is another departure");
    }
}
