//! Reading and writing what the node agent and the control plane leave for each other on a pod.

use k8s_openapi::api::core::v1::Pod;
use kinds::annotations::{LEAVING, REDIRECTION, REDIRECTION_ENABLED, TOLD};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

/// The value of one annotation.
#[must_use]
pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether the pod is marked as captured.
#[must_use]
pub fn is_enabled(pod: &Pod) -> bool {
    annotation(pod, REDIRECTION) == Some(REDIRECTION_ENABLED)
}

/// Marks the pod as captured.
///
/// # Errors
/// The API server refuses, or cannot be reached.
pub async fn mark_enabled(client: &kube::Client, pod: &Pod) -> kube::Result<()> {
    patch(client, pod, json!({REDIRECTION: REDIRECTION_ENABLED, LEAVING: null, TOLD: null})).await
}

/// Clears the mark and asks the control plane to say when all clients know.
///
/// # Errors
/// The API server refuses, or cannot be reached.
pub async fn mark_leaving(client: &kube::Client, pod: &Pod, nonce: &str) -> kube::Result<()> {
    patch(client, pod, json!({REDIRECTION: null, LEAVING: nonce, TOLD: null})).await
}

/// Removes every mark.
///
/// # Errors
/// The API server refuses, or cannot be reached; a pod that is gone is no error.
pub async fn clear(client: &kube::Client, pod: &Pod) -> kube::Result<()> {
    patch(client, pod, json!({REDIRECTION: null, LEAVING: null, TOLD: null})).await
}

/// A merge patch on the status subresource, which is all that the agent may write on pods.
async fn patch(client: &kube::Client, pod: &Pod, annotations: Value) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // The UID makes the patch fail where another pod took the name meanwhile.
    let body = json!({"metadata": {"uid": pod.metadata.uid, "annotations": annotations}});
    match pods.patch_status(name, &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}
