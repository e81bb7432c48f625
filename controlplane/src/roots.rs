//! The root certificates in every namespace, and revocations if the operator gives any: ConfigMaps that pods mount.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, info};

use crate::ca::Issuing;
use crate::objects::{Named, Objects, Store};

/// What a ConfigMap is called, and its key.
type Place = (&'static str, &'static str);

/// The roots, by which pods know the control plane.
pub(crate) const ROOTS: Place = ("istio-ca-root-cert", "root-cert.pem");
/// Certificates that are not to be trusted any more.
pub(crate) const REVOCATIONS: Place = ("istio-ca-crl", "ca-crl.pem");
/// Another try for namespaces in which a write failed.
const RETRY: Duration = Duration::from_secs(2);
/// How long one write may take.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

/// What a namespace holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// The namespace.
    pub(crate) namespace: Arc<str>,
    /// The root certificates there; `None` without ConfigMap or key.
    pub(crate) roots: Option<String>,
    /// The revocations there.
    pub(crate) revocations: Option<String>,
}

/// The state of every namespace that is there to stay.
pub(crate) fn derive(objects: &Objects) -> Vec<State> {
    let namespaces = objects.namespaces.iter().filter(|namespace| !is_terminating(namespace));
    let states = namespaces.map(|namespace| {
        let text = |store: &Store<ConfigMap>, (name, key): Place| {
            store.get(namespace.name(), name)?.data.as_ref()?.get(key).cloned()
        };
        State {
            namespace: Arc::from(namespace.name()),
            roots: text(&objects.root_config_maps, ROOTS),
            revocations: text(&objects.revocation_config_maps, REVOCATIONS),
        }
    });
    states.collect()
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_some()
        || namespace.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Terminating")
}

/// Writes what is missing or different somewhere, until the publisher is gone.
pub(crate) async fn run(
    client: Client,
    mut namespaces: watch::Receiver<Arc<Vec<State>>>,
    mut issuing: watch::Receiver<Arc<Issuing>>,
) {
    loop {
        let states = Arc::clone(&namespaces.borrow_and_update());
        let current = Arc::clone(&issuing.borrow_and_update());
        let mut has_failed = false;
        for state in states.iter() {
            for (place, present, text) in due(state, &current) {
                has_failed |= !write(&client, (&*state.namespace, place), present, text).await;
            }
        }
        let has_ended = tokio::select! {
            changed = namespaces.changed() => changed.is_err(),
            changed = issuing.changed() => changed.is_err(),
            // Another change may come sooner; if none does, what failed is tried again.
            () = tokio::time::sleep(RETRY), if has_failed => false,
        };
        if has_ended {
            return;
        }
    }
}

/// What a namespace has to hold and does not: the place, whether something is there, and the text.
fn due<'a>(state: &State, issuing: &'a Issuing) -> Vec<(Place, bool, &'a str)> {
    let mut due = Vec::new();
    let roots = issuing.authority.roots_pem();
    if state.roots.as_deref() != Some(roots) {
        due.push((ROOTS, state.roots.is_some(), roots));
    }
    // Revocations that were taken back must not stay in force; where there never were any, nothing is written.
    let revocations = issuing.revocations.as_deref().or_else(|| state.revocations.as_ref().map(|_| ""));
    if let Some(revocations) = revocations.filter(|text| state.revocations.as_deref() != Some(*text)) {
        due.push((REVOCATIONS, state.revocations.is_some(), revocations));
    }
    due
}

async fn write(client: &Client, (namespace, place): (&str, Place), is_present: bool, text: &str) -> bool {
    let config_map = place.0;
    let writing = create_or_patch(client, (namespace, place), is_present, text);
    match tokio::time::timeout(WRITE_DEADLINE, writing).await {
        Ok(Ok(())) => {
            debug!(namespace, config_map, "wrote the ConfigMap");
            true
        }
        // The namespace went away meanwhile, or accepts nothing any more.
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
            debug!(namespace, config_map, reason = status.reason, "the namespace takes no ConfigMap");
            status.code == 404
        }
        Ok(Err(error)) => {
            info!(namespace, config_map, %error, "could not write the ConfigMap");
            false
        }
        Err(_elapsed) => {
            info!(namespace, config_map, "writing the ConfigMap took too long");
            false
        }
    }
}

async fn create_or_patch(
    client: &Client,
    (namespace, (name, key)): (&str, Place),
    is_present: bool,
    text: &str,
) -> kube::Result<()> {
    let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let data = BTreeMap::from([(key.to_owned(), text.to_owned())]);
    if !is_present {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        let new = ConfigMap { metadata, data: Some(data.clone()), ..ConfigMap::default() };
        match config_maps.create(&PostParams::default(), &new).await {
            Ok(_) => return Ok(()),
            // It exists without the key, or another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
    }
    let patch = json!({"data": data});
    config_maps.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
}
