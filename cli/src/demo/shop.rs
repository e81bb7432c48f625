//! The shop that the demo runs: three services in one namespace on two nodes, and an outsider in another.

use serde_json::{Value, json};

/// The namespace that joins the mesh.
pub(super) const SHOP: &str = "shop";
/// The namespace that does not.
pub(super) const STREET: &str = "street";
/// What the shop's requests carry, and what nobody else should be able to read.
pub(super) const SHOP_SECRET: &str = "card=4111-1111-1111-1111";
/// What the outsider's requests carry.
pub(super) const STREET_SECRET: &str = "hello-from-the-street";

/// The shop's pods: name and node.
pub(super) const PODS: [(&str, &str); 3] = [("frontend", "node-1"), ("cart", "node-2"), ("payment", "node-2")];

/// Every object of the shop and the street, in order of creation.
pub(super) fn manifests() -> Vec<Value> {
    let mut objects = vec![namespace(SHOP), namespace(STREET)];
    for (name, node) in PODS {
        objects.extend(service(SHOP, name));
        objects.push(pod(SHOP, name, node));
    }
    objects.extend(service(STREET, "outsider"));
    objects.push(pod(STREET, "outsider", "node-1"));
    objects
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn service(namespace: &str, name: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "selector": {"app": name},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "tcp", "port": 9000}],
            },
        }),
    ]
}

fn pod(namespace: &str, name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name, "version": "v1"}},
        "spec": {
            "nodeName": node,
            "serviceAccountName": name,
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "app",
                "image": "aquifer/echo",
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "tcp", "containerPort": 9000}],
                "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
            }],
        },
    })
}

/// Denies one caller by its principal.
pub(super) fn deny_payment() -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "payment-may-not-look", "namespace": SHOP},
        "spec": {
            "selector": {"matchLabels": {"app": "cart"}},
            "action": "DENY",
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/payment"]}}]}],
        },
    })
}

/// Allows one caller by its principal, and so denies all others.
pub(super) fn allow_frontend() -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "only-frontend", "namespace": SHOP},
        "spec": {
            "selector": {"matchLabels": {"app": "cart"}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": ["cluster.local/ns/shop/sa/frontend"]}}]}],
        },
    })
}

/// Denies everything in the namespace: an ALLOW policy that allows nothing.
pub(super) fn deny_all() -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "deny-all", "namespace": SHOP},
        "spec": {},
    })
}

/// Refuses plaintext in the namespace.
pub(super) fn strict() -> Value {
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "strict", "namespace": SHOP},
        "spec": {"mtls": {"mode": "STRICT"}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_for_kubectl_is_the_one_of_the_demo() {
        let plain = kinds::manifest::read(include_str!("../../../manifests/shop.yaml")).unwrap();
        let demo = manifests();
        assert_eq!(plain.len(), demo.len());
        for object in demo {
            assert!(plain.contains(&object), "{object} is not in manifests/shop.yaml");
        }
    }
}
