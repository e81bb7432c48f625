//! AuthorizationPolicy: who may do what with a workload.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkloadSelector;
use crate::lenient::lenient_enum;
use crate::status::IstioStatus;

/// Rules that allow or deny.
///
/// Source: [AuthorizationPolicy](https://istio.io/latest/docs/reference/config/security/authorization-policy/).
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "security.istio.io",
    version = "v1",
    kind = "AuthorizationPolicy",
    plural = "authorizationpolicies",
    namespaced,
    status = "IstioStatus",
    shortname = "ap",
    category = "istio-io",
    category = "security-istio-io",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// The pods, enforced by their node proxy; absent means the whole namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<WorkloadSelector>,
    /// The Service, Gateway or class in front of which a waypoint enforces the policy; the older, single form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// The Services, Gateways or classes in front of which a waypoint enforces the policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// Any of them matching makes the policy match; none never match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// What happens on a match; `ALLOW` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// The external authorizer of a `CUSTOM` action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

impl AuthorizationPolicySpec {
    /// The action; `ALLOW` unless given.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action.clone().unwrap_or(Action::Allow)
    }

    /// The labels selected by; `None` when the policy applies to a whole namespace.
    #[must_use]
    pub fn selected(&self) -> Option<&WorkloadSelector> {
        self.selector.as_ref().filter(|selector| !selector.match_labels.is_empty())
    }

    /// Whether a waypoint has to enforce the policy.
    #[must_use]
    pub fn is_for_waypoints(&self) -> bool {
        self.target_ref.is_some() || !self.target_refs.is_empty()
    }
}

lenient_enum! {
    /// What a matching policy does.
    Action {
        /// Allow; as soon as one such policy applies to a workload, what none allows is denied.
        Allow = "ALLOW",
        /// Deny, before any `ALLOW` is looked at.
        Deny = "DENY",
        /// Log the request.
        Audit = "AUDIT",
        /// Ask an external authorizer.
        Custom = "CUSTOM",
    }
}

/// An object in front of which a waypoint enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// The API group; empty for a Service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace; must be empty or the policy's own.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// The external authorizer of a `CUSTOM` policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Its name in the mesh configuration.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A rule: one of `from`, and one of `to`, and every `when`; what is absent does not constrain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Sources, any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<RuleFrom>,
    /// Operations, any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<RuleTo>,
    /// Further conditions, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
}

/// One source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleFrom {
    /// Its attributes.
    #[serde(default)]
    pub source: Source,
}

/// One operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleTo {
    /// Its attributes.
    #[serde(default)]
    pub operation: Operation,
}

macro_rules! string_lists {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_doc])*
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub $field: Vec<String>,)+
        }
    };
}

string_lists! {
    /// Attributes of a source: all lists that are not empty must match; within a list any value.
    Source {
        /// SPIFFE identities without their scheme: `cluster.local/ns/shop/sa/cart`.
        principals,
        /// None of these.
        not_principals,
        /// Identities of a request's JSON web token, layer 7.
        request_principals,
        /// None of these, layer 7.
        not_request_principals,
        /// Namespaces of the peer's identity.
        namespaces,
        /// None of these.
        not_namespaces,
        /// Service accounts, `namespace/name` or `name` in the policy's namespace.
        service_accounts,
        /// None of these.
        not_service_accounts,
        /// Trust domains of the peer's identity.
        trust_domains,
        /// None of these.
        not_trust_domains,
        /// Addresses of the peer, single or with a prefix length.
        ip_blocks,
        /// None of these.
        not_ip_blocks,
        /// Addresses out of forwarding headers, layer 7.
        remote_ip_blocks,
        /// None of these, layer 7.
        not_remote_ip_blocks,
    }
}

string_lists! {
    /// Attributes of an operation: all lists that are not empty must match; within a list any value.
    Operation {
        /// Host names, layer 7.
        hosts,
        /// None of these, layer 7.
        not_hosts,
        /// Ports of the workload.
        ports,
        /// None of these.
        not_ports,
        /// HTTP methods, layer 7.
        methods,
        /// None of these, layer 7.
        not_methods,
        /// HTTP paths, layer 7.
        paths,
        /// None of these, layer 7.
        not_paths,
    }
}

/// A condition on one attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The attribute's name.
    #[serde(default)]
    pub key: String,
    /// Any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// None of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_values: Vec<String>,
}
