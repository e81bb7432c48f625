//! The plugin's part of a node's network configuration: what the agent writes and the plugin reads.

use std::path::PathBuf;

use config::EnablementSelector;
use serde::{Deserialize, Serialize};

use crate::eligibility::Eligibility;

/// The configuration of the plugin, under the keys of Istio's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Always [`cni::PLUGIN`].
    #[serde(rename = "type")]
    pub kind: String,
    /// The directory of the agent's socket and of the kubeconfig.
    pub cni_agent_run_dir: PathBuf,
    /// Whether pods are captured at all.
    #[serde(default = "yes")]
    pub ambient_enabled: bool,
    /// Ways into the mesh, any of which suffices.
    #[serde(default = "EnablementSelector::defaults")]
    pub enablement_selectors: Vec<EnablementSelector>,
    /// Namespaces whose pods are never captured.
    #[serde(default)]
    pub exclude_namespaces: Vec<String>,
    /// The namespace of the mesh's own components.
    #[serde(default)]
    pub pod_namespace: String,
    /// The node's name, for messages.
    #[serde(default)]
    pub node_name: String,
    /// Whether a pod of which nobody can say whether it belongs into the mesh is refused.
    #[serde(default = "yes")]
    pub enable_ambient_detection_retry: bool,
}

fn yes() -> bool {
    true
}

impl Entry {
    /// What an agent with this configuration writes.
    #[must_use]
    pub fn of(config: &config::Node, plugin: &config::Plugin) -> Self {
        Self {
            kind: cni::PLUGIN.to_owned(),
            cni_agent_run_dir: plugin.run_dir.clone(),
            ambient_enabled: true,
            enablement_selectors: config.enablement.clone(),
            exclude_namespaces: config.exclude_namespaces.clone(),
            pod_namespace: config.system_namespace.clone(),
            node_name: config.node_name.clone(),
            enable_ambient_detection_retry: plugin.fails_closed,
        }
    }

    /// The rule by which pods are captured.
    pub(super) fn eligibility(&self) -> Eligibility {
        Eligibility {
            selectors: self.enablement_selectors.clone(),
            excluded_namespaces: self.exclude_namespaces.clone(),
            system_namespace: self.pod_namespace.clone(),
            dns_capture: false,
        }
    }
}
