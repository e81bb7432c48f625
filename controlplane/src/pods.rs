//! Which pods exist, where, and for which Gateway, for decisions about certificates and readers: pure, rebuilt with
//! every derivation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kinds::{gateway, labels};
use types::NamespacedName;

use crate::objects::{Named, Objects};

/// The pods of the cluster as callers are compared with them.
#[derive(Debug, Default)]
pub(crate) struct PodIndex {
    by_name: HashMap<(Arc<str>, Arc<str>), Placement>,
    /// Node, namespace and ServiceAccount of every pod that has not failed.
    running: HashSet<(Arc<str>, Arc<str>, Arc<str>)>,
    /// The class of every Gateway, by namespace and name.
    gateways: HashMap<(Arc<str>, Arc<str>), Arc<str>>,
}

/// One pod.
#[derive(Debug)]
struct Placement {
    uid: Arc<str>,
    node: Arc<str>,
    account: Arc<str>,
    /// Whether its containers have ended for good.
    is_over: bool,
    /// The Gateway that it says it belongs to.
    gateway: Option<Arc<str>>,
}

/// Why a pod is no waypoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoWaypoint {
    #[error("its pod {0} is not there any more, or not placed on a node")]
    NoSuchPod(NamespacedName),
    #[error("its pod {0} has ended")]
    Over(NamespacedName),
    #[error("its pod {pod} runs as ServiceAccount {account}")]
    OtherAccount { pod: NamespacedName, account: Arc<str> },
    #[error("its pod {0} belongs to no Gateway (label {label})", label = labels::GATEWAY_NAME)]
    NoGateway(NamespacedName),
    #[error("Gateway {gateway}, to which its pod {pod} belongs, does not exist")]
    NoSuchGateway { pod: NamespacedName, gateway: NamespacedName },
    #[error("Gateway {gateway}, to which its pod {pod} belongs, is of class {class:?}, which is none of waypoints")]
    OtherClass { pod: NamespacedName, gateway: NamespacedName, class: Arc<str> },
}

impl PodIndex {
    /// Indexes the pods that are bound to a node.
    #[must_use]
    pub(crate) fn new(objects: &Objects) -> Self {
        let mut index = Self::default();
        for gateway in objects.gateways.iter() {
            let (key, class) = (gateway.key(), gateway::class(gateway).unwrap_or_default());
            index.gateways.insert((key.namespace, key.name), Arc::from(class));
        }
        for pod in objects.pods.iter() {
            let spec = pod.spec.as_ref();
            let Some(node) = spec.and_then(|spec| spec.node_name.as_deref()).map(Arc::<str>::from) else { continue };
            let key = pod.key();
            let uid = Arc::from(pod.metadata.uid.as_deref().unwrap_or_default());
            let account = Arc::from(spec.and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default"));
            if phase(pod) != Some("Failed") {
                index.running.insert((Arc::clone(&node), Arc::clone(&key.namespace), Arc::clone(&account)));
            }
            let is_over = matches!(phase(pod), Some("Failed" | "Succeeded"));
            let gateway = pod.label(labels::GATEWAY_NAME).map(Arc::from);
            index.by_name.insert((key.namespace, key.name), Placement { uid, node, account, is_over, gateway });
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

    /// The Gateway whose waypoint runs in the pod with this name and UID under this account.
    pub(crate) fn waypoint(
        &self,
        account: &NamespacedName,
        (name, uid): (&str, &str),
    ) -> Result<NamespacedName, NoWaypoint> {
        let pod = NamespacedName::new(&*account.namespace, name);
        let found = self.by_name.get(&(Arc::clone(&pod.namespace), Arc::clone(&pod.name)));
        let Some(found) = found.filter(|found| !uid.is_empty() && *found.uid == *uid) else {
            return Err(NoWaypoint::NoSuchPod(pod));
        };
        if found.is_over {
            return Err(NoWaypoint::Over(pod));
        }
        if found.account != account.name {
            return Err(NoWaypoint::OtherAccount { pod, account: Arc::clone(&found.account) });
        }
        let Some(gateway) = &found.gateway else { return Err(NoWaypoint::NoGateway(pod)) };
        let gateway = NamespacedName { namespace: Arc::clone(&pod.namespace), name: Arc::clone(gateway) };
        match self.gateways.get(&(Arc::clone(&gateway.namespace), Arc::clone(&gateway.name))) {
            Some(class) if gateway::WAYPOINT_CLASSES.contains(&&**class) => Ok(gateway),
            Some(class) => Err(NoWaypoint::OtherClass { pod, gateway, class: Arc::clone(class) }),
            None => Err(NoWaypoint::NoSuchGateway { pod, gateway }),
        }
    }
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref().and_then(|status| status.phase.as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index() -> PodIndex {
        let mut objects = Objects::default();
        for (name, phase, labels) in [
            ("wp-1", "Running", json!({labels::GATEWAY_NAME: "wp"})),
            ("over", "Succeeded", json!({labels::GATEWAY_NAME: "wp"})),
            ("plain", "Running", json!({})),
            ("edge-1", "Running", json!({labels::GATEWAY_NAME: "edge"})),
            ("orphan", "Running", json!({labels::GATEWAY_NAME: "gone"})),
        ] {
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "labels": labels},
                "spec": {"nodeName": "n", "serviceAccountName": "wp", "containers": []}, "status": {"phase": phase}});
            objects.add(pod).unwrap();
        }
        for (namespace, name, class) in
            [("shop", "wp", "istio-waypoint"), ("shop", "edge", "istio"), ("other", "gone", "istio-waypoint")]
        {
            let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "metadata": {"namespace": namespace, "name": name}, "spec": {"gatewayClassName": class}});
            objects.add(gateway).unwrap();
        }
        PodIndex::new(&objects)
    }

    #[test]
    fn a_waypoint_is_a_live_pod_of_a_waypoint_gateway_under_its_own_account() {
        let index = index();
        let judge = |account: &str, pod: &str, uid: &str| {
            let verdict = index.waypoint(&account.parse().unwrap(), (pod, uid));
            verdict.map(|gateway| gateway.to_string()).map_err(|reason| reason.to_string())
        };
        assert_eq!(judge("shop/wp", "wp-1", "uid-wp-1"), Ok("shop/wp".to_owned()));
        for (account, pod, uid, reason) in [
            ("shop/wp", "wp-1", "uid-old", "is not there any more"),
            ("shop/wp", "wp-1", "", "is not there any more"),
            ("other/wp", "wp-1", "uid-wp-1", "is not there any more"),
            ("shop/wp", "over", "uid-over", "has ended"),
            ("shop/cart", "wp-1", "uid-wp-1", "runs as ServiceAccount wp"),
            ("shop/wp", "plain", "uid-plain", "belongs to no Gateway"),
            ("shop/wp", "edge-1", "uid-edge-1", "is of class \"istio\""),
            (
                "shop/wp",
                "orphan",
                "uid-orphan",
                "Gateway shop/gone, to which its pod shop/orphan belongs, does not exist",
            ),
        ] {
            let text = judge(account, pod, uid).unwrap_err();
            assert!(text.contains(reason), "{account} {pod}: {text}");
        }
    }
}
