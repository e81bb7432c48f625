//! Whether an agent that ends goes for good, or makes place for the next one.
//!
//! What cannot be told counts as making place: a plugin that stays refuses labelled pods until there is an agent, and
//! one that is gone would let them run outside the mesh. That the API refuses the agent's own account is no doubt,
//! though: somebody deletes everything at once, and a plugin that stayed behind would refuse every pod of the node.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client};
use tokio::time::timeout;
use tracing::warn;

use crate::plugin;

/// How long the API may take.
const DEADLINE: Duration = Duration::from_secs(2);

const UNAUTHORIZED: u16 = 401;
const FORBIDDEN: u16 = 403;

/// The way by which the API is asked.
pub(super) struct Way {
    client: Client,
    /// Whether its token belongs to no pod, and is refused only once the account is gone.
    outlives_pod: bool,
}

impl Way {
    /// With the token of the agent's own pod, which the API refuses as soon as the pod is gone.
    pub(super) fn of_pod(client: Client) -> Self {
        Self { client, outlives_pod: false }
    }

    /// With the plugin's token; `None` where its kubeconfig cannot be used.
    pub(super) async fn of_plugin(kubeconfig: &Path) -> Option<Self> {
        Some(Self { client: plugin::connect(kubeconfig).await.ok()?, outlives_pod: true })
    }

    /// Whether no agent will follow on this node: its DaemonSet is gone or going, does not want this node any more, or
    /// has lost its account.
    pub(super) async fn is_last(&self, config: &config::Plugin, node_name: &str) -> bool {
        timeout(DEADLINE, Box::pin(self.ask(config, node_name))).await.unwrap_or(false)
    }

    async fn ask(&self, config: &config::Plugin, node_name: &str) -> bool {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &config.own_namespace);
        let own = match pods.get_opt(&config.own_pod).await {
            Ok(own) => own,
            Err(kube::Error::Api(status)) if status.code == UNAUTHORIZED => return self.outlives_pod,
            // Without the right to read pods there is no agent.
            Err(kube::Error::Api(status)) if status.code == FORBIDDEN => return true,
            Err(_unknown) => return false,
        };
        // Nothing is left of a pod that was deleted by force, as may happen in an upgrade.
        let owners = own.and_then(|own| own.metadata.owner_references).unwrap_or_default();
        let Some(owner) = owners.into_iter().find(|owner| owner.kind == "DaemonSet") else { return false };
        let sets = Api::<DaemonSet>::namespaced(self.client.clone(), &config.own_namespace);
        match sets.get_opt(&owner.name).await {
            Err(error) => {
                warn!(%error, set = owner.name, "whether the agent goes for good cannot be told; its CNI plugin stays");
                false
            }
            Ok(None) => true,
            // One of the same name that was made since has agents of its own.
            Ok(Some(set)) if set.metadata.uid.as_deref() != Some(owner.uid.as_str()) => false,
            Ok(Some(set)) => set.metadata.deletion_timestamp.is_some() || !self.is_wanted(&set, node_name).await,
        }
    }

    /// Whether the DaemonSet has a place for an agent on the node.
    async fn is_wanted(&self, set: &DaemonSet, node_name: &str) -> bool {
        let spec = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let Some(selector) = spec.and_then(|spec| spec.node_selector.as_ref()) else { return true };
        let Ok(node) = Api::<Node>::all(self.client.clone()).get(node_name).await else { return true };
        let labels = node.metadata.labels.unwrap_or_default();
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
