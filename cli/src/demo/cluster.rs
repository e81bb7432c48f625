//! The demo's dealings with the Kubernetes API: it labels, applies, watches and reads logs as kubectl would.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kinds::annotations::{LEAVING, REDIRECTION, REDIRECTION_ENABLED};
use kinds::labels::DATAPLANE_MODE;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use lab::mesh::SYSTEM_NAMESPACE;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Creates one object.
pub(crate) async fn create(client: &kube::Client, object: &Value) -> Result<()> {
    let api = api_of(client, object)?;
    let typed: DynamicObject = serde_json::from_value(object.clone())?;
    let name = typed.metadata.name.clone().unwrap_or_default();
    api.create(&PostParams::default(), &typed).await.with_context(|| format!("creating {name}"))?;
    Ok(())
}

/// Deletes what [`create`] made; an absent object is fine.
pub(super) async fn delete(client: &kube::Client, object: &Value) -> Result<()> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    match api_of(client, object)?.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).with_context(|| format!("deleting {name}")),
    }
}

pub(super) fn api_of(client: &kube::Client, object: &Value) -> Result<Api<DynamicObject>> {
    let text = |key| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or_else(|| ("", text("apiVersion")));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text("kind")));
    let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
    Ok(match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    })
}

/// Sets or removes the label that asks for the mesh.
pub(super) async fn label(client: &kube::Client, namespace: &str, mode: Option<&str>) -> Result<()> {
    let patch = json!({"metadata": {"labels": {DATAPLANE_MODE: mode}}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(namespace, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Sets or takes the mark of capture of every pod of a namespace.
pub(super) async fn mark(client: &kube::Client, namespace: &str, state: Option<&str>) -> Result<()> {
    annotate(client, namespace, REDIRECTION, state).await
}

/// Sets or removes an annotation of every pod of a namespace.
pub(super) async fn annotate(client: &kube::Client, namespace: &str, key: &str, value: Option<&str>) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {key: value}}});
    for pod in pods(client, namespace).await? {
        let name = pod.metadata.name.unwrap_or_default();
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

/// The pods of a namespace.
pub(super) async fn pods(client: &kube::Client, namespace: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Ok(api.list(&ListParams::default()).await?.items)
}

/// Waits until all pods of a namespace satisfy the condition, and returns how long it took.
pub(crate) async fn wait_for_pods(
    client: &kube::Client,
    namespace: &str,
    deadline: Duration,
    condition: impl Fn(&Pod) -> bool,
) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let pods = pods(client, namespace).await?;
        if !pods.is_empty() && pods.iter().all(&condition) {
            return Ok(start.elapsed());
        }
        if start.elapsed() > deadline {
            let late: Vec<String> =
                pods.iter().filter(|pod| !condition(pod)).filter_map(|pod| pod.metadata.name.clone()).collect();
            bail!("after {} s still waiting for {}/{}", deadline.as_secs(), namespace, late.join(", "));
        }
        sleep(POLL).await;
    }
}

/// Whether the pod's containers are ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether the pod is marked as captured.
pub(crate) fn is_captured(pod: &Pod) -> bool {
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(REDIRECTION))
        .is_some_and(|state| state == REDIRECTION_ENABLED)
}

/// Whether the pod has left the mesh, and nothing of that is left to do.
pub(super) fn has_left(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    !is_captured(pod) && !annotations.is_some_and(|all| all.contains_key(LEAVING))
}

/// The newest lines of a ztunnel's log.
async fn ztunnel_log(client: &kube::Client, pod: &str) -> Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let parameters = LogParams { tail_lines: Some(4000), ..LogParams::default() };
    Ok(api.logs(pod, &parameters).await?)
}

/// Waits until the log of a ztunnel holds a line with all of the given parts, and returns that line.
pub(crate) async fn wait_for_log(
    client: &kube::Client,
    pod: &str,
    deadline: Duration,
    parts: &[&str],
) -> Result<Option<String>> {
    let start = Instant::now();
    loop {
        let log = ztunnel_log(client, pod).await?;
        let found = log.lines().rev().find(|line| parts.iter().all(|part| line.contains(part)));
        if found.is_some() || start.elapsed() > deadline {
            return Ok(found.map(str::to_owned));
        }
        sleep(POLL * 10).await;
    }
}
