//! Which pods exist and where, for decisions about certificates: pure, rebuilt with every derivation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::objects::{Named, Objects};

/// The pods of the cluster as certificate requests see them.
#[derive(Debug, Default)]
pub(crate) struct PodIndex {
    by_name: HashMap<(Arc<str>, Arc<str>), Placement>,
    /// Node, namespace and ServiceAccount of every pod that has not failed.
    running: HashSet<(Arc<str>, Arc<str>, Arc<str>)>,
}

/// One pod.
#[derive(Debug)]
struct Placement {
    uid: Arc<str>,
    node: Arc<str>,
}

impl PodIndex {
    /// Indexes the pods that are bound to a node.
    #[must_use]
    pub(crate) fn new(objects: &Objects) -> Self {
        let mut index = Self::default();
        for pod in objects.pods.iter() {
            let spec = pod.spec.as_ref();
            let Some(node) = spec.and_then(|spec| spec.node_name.as_deref()).map(Arc::<str>::from) else { continue };
            let key = pod.key();
            let uid = Arc::from(pod.metadata.uid.as_deref().unwrap_or_default());
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase != Some("Failed") {
                let account = spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
                index.running.insert((Arc::clone(&node), Arc::clone(&key.namespace), Arc::from(account)));
            }
            index.by_name.insert((key.namespace, key.name), Placement { uid, node });
        }
        index
    }

    /// The node of a pod, if the pod with that name is still the one with that UID.
    #[must_use]
    pub(crate) fn node_of(&self, namespace: &str, name: &str, uid: &str) -> Option<&Arc<str>> {
        let pod = self.by_name.get(&(Arc::from(namespace), Arc::from(name)))?;
        (!uid.is_empty() && *pod.uid == *uid).then_some(&pod.node)
    }

    /// Whether some pod that has not failed runs with this ServiceAccount on the node.
    #[must_use]
    pub(crate) fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        self.running.contains(&(Arc::from(node), Arc::from(namespace), Arc::from(service_account)))
    }
}
