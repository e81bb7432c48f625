//! Which identity a caller may have: its own, or as a node proxy that of a pod on its node. Pure.

use types::{Identity, NamespacedName, TrustDomain};

use super::authenticate::Account;
use crate::pods::PodIndex;

/// Why an identity is not granted; told to the log, never to the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is not a trusted node account")]
    NotTrusted(NamespacedName),
    #[error("{found} is not of the trust domain {expected}")]
    ForeignTrustDomain { found: TrustDomain, expected: TrustDomain },
    #[error("the caller's token is not bound to a pod")]
    Unbound,
    #[error("the caller's pod {namespace}/{name} is not there any more, or not placed on a node")]
    NoSuchPod { namespace: String, name: String },
    #[error("no pod of {identity} runs on the caller's node {node}")]
    NotOnNode { identity: Identity, node: String },
}

/// What grants depend on.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) trusted_accounts: Vec<NamespacedName>,
}

impl Rules {
    /// The identity that a certificate is made out for.
    pub(crate) fn grant(
        &self,
        caller: &Account,
        requested: Option<Identity>,
        pods: &PodIndex,
    ) -> Result<Identity, Refusal> {
        let Some(identity) = requested else { return Ok(caller.identity(&self.trust_domain)) };
        if !self.trusted_accounts.contains(&caller.name) {
            return Err(Refusal::NotTrusted(caller.name.clone()));
        }
        if identity.trust_domain != self.trust_domain {
            let expected = self.trust_domain.clone();
            return Err(Refusal::ForeignTrustDomain { found: identity.trust_domain, expected });
        }
        let (name, uid) = caller.pod.as_ref().ok_or(Refusal::Unbound)?;
        let namespace = &caller.name.namespace;
        let node = pods
            .node_of(namespace, name, uid)
            .ok_or_else(|| Refusal::NoSuchPod { namespace: namespace.to_string(), name: name.clone() })?;
        if !pods.runs_on(node, &identity.namespace, &identity.service_account) {
            return Err(Refusal::NotOnNode { identity, node: node.to_string() });
        }
        Ok(identity)
    }
}
