//! The root certificate in every namespace: a ConfigMap that pods mount to know the control plane by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info};

use crate::objects::{Named, Objects};

/// The name of the ConfigMap.
pub(crate) const CONFIG_MAP: &str = "istio-ca-root-cert";
/// Its key.
pub(crate) const KEY: &str = "root-cert.pem";
/// Another try for namespaces in which a write failed.
const RETRY: Duration = Duration::from_secs(2);
/// How long one write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What a namespace holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The namespace.
    pub(crate) namespace: Arc<str>,
    /// The root certificate there; `None` without ConfigMap or key.
    pub(crate) root: Option<String>,
}

/// The state of every namespace that is there to stay.
pub(crate) fn derive(objects: &Objects) -> Vec<State> {
    let namespaces = objects.namespaces.iter().filter(|namespace| !is_terminating(namespace));
    let states = namespaces.map(|namespace| {
        let config_map = objects.root_config_maps.get(namespace.name(), CONFIG_MAP);
        let root = config_map.and_then(|config_map| config_map.data.as_ref()?.get(KEY).cloned());
        State { namespace: Arc::from(namespace.name()), root }
    });
    states.collect()
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        || namespace.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Terminating")
}

/// Writes the root wherever it is missing or different, until the publisher is gone.
pub(crate) async fn run(client: Client, mut namespaces: watch::Receiver<Arc<Vec<State>>>, root: Arc<str>) {
    loop {
        let states = Arc::clone(&namespaces.borrow_and_update());
        let mut has_failed = false;
        for state in states.iter().filter(|state| state.root.as_deref() != Some(&*root)) {
            has_failed |= !write(&client, state, &root).await;
        }
        let changed = async {
            if has_failed {
                // Another change may come sooner; if none does, what failed is tried again.
                tokio::time::timeout(RETRY, namespaces.changed()).await.unwrap_or(Ok(()))
            } else {
                namespaces.changed().await
            }
        };
        if changed.await.is_err() {
            return;
        }
    }
}

async fn write(client: &Client, state: &State, root: &str) -> bool {
    match tokio::time::timeout(WRITE_DEADLINE, create_or_patch(client, state, root)).await {
        Ok(Ok(())) => {
            debug!(namespace = %state.namespace, "wrote the root certificate");
            true
        }
        // The namespace went away meanwhile, or accepts nothing any more.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
            debug!(namespace = %state.namespace, reason = status.reason, "the namespace takes no root certificate");
            status.code == 404
        }
        Ok(Err(error)) => {
            info!(namespace = %state.namespace, %error, "could not write the root certificate");
            false
        }
        Err(_elapsed) => {
            info!(namespace = %state.namespace, "writing the root certificate took too long");
            false
        }
    }
}

async fn create_or_patch(client: &Client, state: &State, root: &str) -> kube::Result<()> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &state.namespace);
    let data = BTreeMap::from([(KEY.to_owned(), root.to_owned())]);
    if state.root.is_none() {
        let metadata = ObjectMeta { name: Some(CONFIG_MAP.to_owned()), ..ObjectMeta::default() };
        let new = ConfigMap { metadata, data: Some(data.clone()), ..ConfigMap::default() };
        match config_maps.create(&PostParams::default(), &new).await {
            Ok(_) => return Ok(()),
            // It exists without the key, or another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    let patch = json!({"data": data});
    config_maps.patch(CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}
