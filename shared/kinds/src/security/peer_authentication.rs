//! PeerAuthentication: whether a workload accepts plain text.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkloadSelector;
use crate::lenient::lenient_enum;
use crate::status::IstioStatus;

/// What a workload demands of those who connect.
///
/// Source: [PeerAuthentication](https://istio.io/latest/docs/reference/config/security/peer_authentication/).
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "security.istio.io",
    version = "v1",
    kind = "PeerAuthentication",
    namespaced,
    status = "IstioStatus",
    shortname = "pa",
    category = "istio-io",
    category = "security-istio-io",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mtls.mode"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct PeerAuthenticationSpec {
    /// The pods; absent means the whole namespace, and in the root namespace the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// The mode of every port that `portLevelMtls` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// Modes of single ports of the workload; needs a selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub port_level_mtls: BTreeMap<String, MutualTls>,
}

impl PeerAuthenticationSpec {
    /// The mode for all ports; an absent one is inherited.
    #[must_use]
    pub fn mode(&self) -> MutualTlsMode {
        self.mtls.as_ref().map_or(MutualTlsMode::Unset, MutualTls::mode)
    }

    /// The labels selected by; `None` when the object applies to a whole namespace.
    #[must_use]
    pub fn selected(&self) -> Option<&WorkloadSelector> {
        self.selector.as_ref().filter(|selector| !selector.match_labels.is_empty())
    }
}

/// Mutual TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// The mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MutualTlsMode>,
}

impl MutualTls {
    /// The mode; an absent one is inherited.
    #[must_use]
    pub fn mode(&self) -> MutualTlsMode {
        self.mode.clone().unwrap_or(MutualTlsMode::Unset)
    }
}

lenient_enum! {
    /// Whether mutual TLS is demanded.
    MutualTlsMode {
        /// Inherit from the parent; permissive if there is none.
        Unset = "UNSET",
        /// Mutual TLS is not demanded; in ambient mode the same as [`MutualTlsMode::Permissive`].
        Disable = "DISABLE",
        /// Both mutual TLS and plain text are accepted.
        Permissive = "PERMISSIVE",
        /// Plain text is refused.
        Strict = "STRICT",
    }
}
