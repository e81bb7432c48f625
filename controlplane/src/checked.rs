//! Istio's objects together with what is wrong with them.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::security::{MutualTls, MutualTlsMode, WorkloadSelector};
use kinds::{
    AuthorizationPolicy, Finding, PeerAuthentication, Problem, ServiceEntry, Severity, WorkloadEntry, check, typed,
};
use kube::Resource;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::objects::Named;

/// An object as it came, as its type, and what checks found.
///
/// Admission refuses most mistakes; what slipped past it must neither be ignored nor stop the other objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<K> {
    /// The object; where it does not fit its type, the closed reading of what is left of it.
    pub object: K,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// A kind with a reading for the case that an object of it cannot be read.
pub trait Lenient: DeserializeOwned + Named + Resource<DynamicType = ()> {
    /// The most restrictive object with this metadata, for a policy one for these workloads.
    fn closed(metadata: ObjectMeta, selector: Option<WorkloadSelector>) -> Self;
}

impl<K: Lenient> Checked<K> {
    /// Checks and reads one object as it is stored, whatever its version.
    #[must_use]
    pub fn read(object: &DynamicObject) -> Self {
        let mut value = serde_json::to_value(object).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            // Items of a list need not repeat what the list is of.
            fields.entry("apiVersion").or_insert_with(|| K::api_version(&()).into());
            fields.entry("kind").or_insert_with(|| K::kind(&()).into());
        }
        let findings = check::object(&value);
        let object = typed(&value).unwrap_or_else(|_named_by_the_findings| {
            let selector = value.pointer("/spec/selector").and_then(|selector| typed(selector).ok());
            K::closed(object.metadata.clone(), selector)
        });
        Self { object, findings }
    }
}

impl<K: Named> Named for Checked<K> {
    fn metadata(&self) -> &ObjectMeta {
        self.object.metadata()
    }
}

impl Lenient for AuthorizationPolicy {
    /// `ALLOW` without rules: as soon as it applies, nothing is allowed.
    fn closed(metadata: ObjectMeta, selector: Option<WorkloadSelector>) -> Self {
        let spec = kinds::security::AuthorizationPolicySpec { selector, ..Default::default() };
        Self { metadata, spec, status: None }
    }
}

impl Lenient for PeerAuthentication {
    fn closed(metadata: ObjectMeta, selector: Option<WorkloadSelector>) -> Self {
        let mtls = Some(MutualTls { mode: Some(MutualTlsMode::Strict) });
        let spec = kinds::security::PeerAuthenticationSpec { selector, mtls, ..Default::default() };
        Self { metadata, spec, status: None }
    }
}

impl Lenient for ServiceEntry {
    /// Without hosts: it defines nothing.
    fn closed(metadata: ObjectMeta, _selector: Option<WorkloadSelector>) -> Self {
        Self { metadata, ..Self::default() }
    }
}

impl Lenient for WorkloadEntry {
    /// Without address: it is no endpoint.
    fn closed(metadata: ObjectMeta, _selector: Option<WorkloadSelector>) -> Self {
        Self { metadata, ..Self::default() }
    }
}

impl Checked<AuthorizationPolicy> {
    /// Rules, by index, that say something which is not understood.
    #[must_use]
    pub fn unclear_rules(&self) -> BTreeSet<usize> {
        self.invalid().filter_map(|finding| rule_index(&finding.path)).collect()
    }

    /// Whether something outside of the rules is not understood, so that no rule may allow anything.
    #[must_use]
    pub fn is_unclear(&self) -> bool {
        self.invalid().any(|finding| finding.path.starts_with("spec") && rule_index(&finding.path).is_none())
    }

    fn invalid(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Refused)
    }
}

impl Checked<PeerAuthentication> {
    /// The mode for all ports; what is not understood counts as strict.
    #[must_use]
    pub fn mode(&self) -> MutualTlsMode {
        let has_unknown_field = self.findings.iter().any(|finding| finding.problem == Problem::UnknownField);
        match self.object.spec.mode() {
            MutualTlsMode::Unset if has_unknown_field => MutualTlsMode::Strict,
            mode => known(mode),
        }
    }

    /// The modes of single ports, sorted; a port that is none is left out, an unknown mode counts as strict.
    #[must_use]
    pub fn ports(&self) -> Vec<(u16, MutualTlsMode)> {
        let ports = &self.object.spec.port_level_mtls;
        let mut ports: Vec<_> =
            ports.iter().filter_map(|(port, mtls)| Some((port.parse().ok()?, known(mtls.mode())))).collect();
        ports.sort_by_key(|(port, _)| *port);
        ports
    }
}

fn known(mode: MutualTlsMode) -> MutualTlsMode {
    match mode {
        MutualTlsMode::Unknown(_) => MutualTlsMode::Strict,
        known => known,
    }
}

/// The index in `spec.rules[3].to[0]`.
fn rule_index(path: &str) -> Option<usize> {
    path.strip_prefix("spec.rules[")?.split_once(']')?.0.parse().ok()
}

/// Reads an object from its manifest, as a watch would deliver it.
///
/// # Errors
/// When the value is no object with metadata.
pub fn from_value<K: Lenient>(value: Value) -> serde_json::Result<Checked<K>> {
    Ok(Checked::read(&serde_json::from_value::<DynamicObject>(value)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(spec: Value) -> Checked<AuthorizationPolicy> {
        let object = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        from_value(object).unwrap()
    }

    fn peer(spec: Value) -> Checked<PeerAuthentication> {
        let object = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        from_value(object).unwrap()
    }

    #[test]
    fn an_unreadable_policy_allows_nothing_where_it_applies() {
        let read = policy(json!({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": "all"}));
        assert_eq!(read.object.spec.selected().unwrap().match_labels["app"], "a");
        assert_eq!((&read.object.spec.action, read.object.spec.rules.len()), (&None, 0));
        assert!(read.is_unclear());
    }

    #[test]
    fn unclear_rules_are_told_by_index() {
        let read = policy(json!({"rules": [{}, {"form": []}, {"to": [{"operation": {"ports": ["x"]}}]}]}));
        assert_eq!(read.unclear_rules(), [1, 2].into());
        assert!(!read.is_unclear());
    }

    #[test]
    fn a_misspelt_or_unknown_mode_is_strict() {
        assert_eq!(peer(json!({"mTLS": {"mode": "PERMISSIVE"}})).mode(), MutualTlsMode::Strict);
        assert_eq!(peer(json!({"mtls": {"mode": "STRIKT"}})).mode(), MutualTlsMode::Strict);
        assert_eq!(peer(json!({"mtls": "STRICT"})).mode(), MutualTlsMode::Strict);
        assert_eq!(peer(json!({"mtls": {"mode": "DISABLE"}})).mode(), MutualTlsMode::Disable);
        assert_eq!(peer(json!({})).mode(), MutualTlsMode::Unset);
    }
}
