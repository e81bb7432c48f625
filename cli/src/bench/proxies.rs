//! Node proxies that are told something else than the others.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{EnvVar, Pod};
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;

use super::site::Site;
use crate::demo::cluster;

/// How long the old proxy of a node without captured pods may take to end, in seconds.
const GRACE: u32 = 1;

/// Puts a proxy with these settings in the place of a node's, before any pod of the node is captured.
///
/// # Errors
/// There is none, or the new one does not become ready.
pub(super) async fn tell(site: &Site, node: &str, settings: &[(&str, &str)]) -> Result<()> {
    let (namespace, name) = site.node_proxy(node).await?;
    let pods: Api<Pod> = Api::namespaced(site.client.clone(), &namespace);
    let old = pods.get(&name).await?;
    let uid = old.metadata.uid.clone().unwrap_or_default();
    pods.delete(&name, &DeleteParams::default().grace_period(GRACE)).await?;
    let gone = await_condition(pods.clone(), &name, is_deleted(&uid));
    let gone = tokio::time::timeout(site.patience, Box::pin(gone)).await;
    gone.with_context(|| format!("{name} does not end"))?.with_context(|| format!("cannot watch {name}"))?;
    pods.create(&PostParams::default(), &told(old, settings)).await.with_context(|| format!("cannot make {name}"))?;
    cluster::wait_for_pods(&site.client, &namespace, site.patience, cluster::is_ready).await?;
    Ok(())
}

/// The same pod as somebody would create it, with these variables in the environment of its containers.
fn told(old: Pod, settings: &[(&str, &str)]) -> Pod {
    let ObjectMeta { name, namespace, labels, .. } = old.metadata;
    let mut spec = old.spec;
    for container in spec.iter_mut().flat_map(|spec| &mut spec.containers) {
        let variables = container.env.get_or_insert_default();
        variables.retain(|one| settings.iter().all(|(name, _)| one.name != *name));
        let variable = |(name, value): &(&str, &str)| EnvVar {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            ..EnvVar::default()
        };
        variables.extend(settings.iter().map(variable));
    }
    Pod { metadata: ObjectMeta { name, namespace, labels, ..ObjectMeta::default() }, spec, status: None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_proxy_that_is_told_something_is_otherwise_the_same() {
        let pod = |metadata: serde_json::Value, environment: serde_json::Value| -> Pod {
            let container = json!({"name": "istio-proxy", "image": "x", "args": ["ztunnel"], "env": environment});
            let spec = json!({"nodeName": "node-3", "containers": [container]});
            serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
        };
        let old = pod(
            json!({"name": "z", "namespace": "s", "labels": {"app": "ztunnel"}, "uid": "1", "resourceVersion": "7"}),
            json!([{"name": "NODE_NAME", "value": "node-3"}, {"name": "POOL", "value": "9"}]),
        );
        let new = pod(
            json!({"name": "z", "namespace": "s", "labels": {"app": "ztunnel"}}),
            json!([{"name": "NODE_NAME", "value": "node-3"}, {"name": "POOL", "value": "1"}]),
        );
        assert_eq!(told(old, &[("POOL", "1")]), new);
    }
}
