//! Istio's security kinds, and what they share.

mod authorization_policy;
mod peer_authentication;
mod request_authentication;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Condition, Operation, Provider, Rule, RuleFrom, RuleTo,
    Source, TargetRef,
};
pub use peer_authentication::{MutualTls, MutualTlsMode, PeerAuthentication, PeerAuthenticationSpec};
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication, RequestAuthenticationSpec};

/// The group of the kinds here.
pub const GROUP: &str = "security.istio.io";

/// Which workloads an object applies to.
///
/// Source: [`WorkloadSelector`](https://istio.io/latest/docs/reference/config/type/workload-selector/).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that a pod must carry, all of them; none means every pod of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

impl WorkloadSelector {
    /// Whether a pod with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}
