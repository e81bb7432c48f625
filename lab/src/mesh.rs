//! The mesh's own components as the objects that run them in the lab: what an installation on a real cluster has as
//! Deployment and DaemonSets.

use serde_json::{Value, json};

use crate::fabric::NodeNetwork;

/// The namespace of the components.
pub const SYSTEM_NAMESPACE: &str = "aquifer-system";

/// The namespace whose policies hold for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";

/// Where node proxies and agents reach the control plane.
pub const CONTROL_PLANE: &str = "https://aquifer.aquifer-system.svc:15012";

/// Audience of the tokens that node proxies show to the control plane.
const TOKEN_AUDIENCE: &str = "istio-ca";

/// Lifetime of these tokens in seconds.
const TOKEN_SECONDS: u32 = 43_200;

/// Time in seconds that a node proxy gets to end: it tells the proxy as well, which goes on serving until a successor
/// does, for as long as that.
///
/// A successor may be slow to start, and looks ready before it is: both are in the node's network, and whoever is there
/// answers the probes.
const PROXY_GRACE: u32 = 30;

/// The objects to apply, in order.
pub fn manifests(nodes: &[NodeNetwork]) -> Vec<Value> {
    let mut objects = vec![namespace(SYSTEM_NAMESPACE), namespace(ROOT_NAMESPACE)];
    objects.extend(["aquifer", "ztunnel", "aquifer-node"].map(account));
    objects.push(control_plane_service());
    objects.push(control_plane());
    for node in nodes {
        objects.push(agent(node));
        objects.push(proxy(node));
    }
    objects
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE}})
}

fn control_plane_service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "aquifer", "namespace": SYSTEM_NAMESPACE, "labels": {"app": "aquifer-controlplane"}},
        "spec": {"selector": {"app": "aquifer-controlplane"}, "ports": [
            {"name": "grpc-xds", "port": 15012, "targetPort": 15012},
            {"name": "http-monitoring", "port": 15014, "targetPort": 15014},
        ]},
    })
}

fn control_plane() -> Value {
    let labels = json!({"app": "aquifer-controlplane", "istio.io/dataplane-mode": "none"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "aquifer-controlplane", "namespace": SYSTEM_NAMESPACE, "labels": {"app": "aquifer-controlplane"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "aquifer-controlplane"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": "aquifer",
                    "containers": [{
                        "name": "controlplane",
                        "image": "aquifer",
                        "args": ["controlplane"],
                        "env": [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")],
                        "ports": [
                            {"name": "grpc-xds", "containerPort": 15012},
                            {"name": "http-monitoring", "containerPort": 15014},
                        ],
                        "readinessProbe": {
                            "httpGet": {"path": "/ready", "port": "http-monitoring"}, "periodSeconds": 1,
                        },
                    }],
                },
            },
        },
    })
}

fn proxy(node: &NodeNetwork) -> Value {
    let token = json!({"serviceAccountToken": {
        "path": "istio-token", "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS,
    }});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("ztunnel-{}", node.name), "namespace": SYSTEM_NAMESPACE,
            "labels": {"app": "ztunnel", "istio.io/dataplane-mode": "none"},
        },
        "spec": {
            "nodeName": node.name,
            "hostNetwork": true,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "serviceAccountName": "ztunnel",
            "terminationGracePeriodSeconds": PROXY_GRACE,
            "containers": [{
                "name": "istio-proxy",
                "image": "aquifer",
                "args": ["ztunnel"],
                "env": [
                    field("NODE_NAME", "spec.nodeName"),
                    field("POD_NAME", "metadata.name"),
                    field("POD_NAMESPACE", "metadata.namespace"),
                    field("INSTANCE_IP", "status.podIP"),
                    field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
                    {"name": "CA_ADDRESS", "value": CONTROL_PLANE},
                    {"name": "XDS_ADDRESS", "value": CONTROL_PLANE},
                    {"name": "TERMINATION_GRACE_PERIOD_SECONDS", "value": PROXY_GRACE.to_string()},
                ],
                "ports": [{"name": "ztunnel-stats", "containerPort": 15020}],
                "readinessProbe": {"httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "istio-token", "mountPath": "/var/run/secrets/tokens"},
                    {"name": "istiod-ca-cert", "mountPath": "/var/run/secrets/istio"},
                    {"name": "cni-ztunnel-sock-dir", "mountPath": "/var/run/ztunnel"},
                ],
            }],
            "volumes": [
                {"name": "istio-token", "projected": {"sources": [token]}},
                {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
                {"name": "cni-ztunnel-sock-dir", "hostPath": {"path": "/var/run/ztunnel", "type": "DirectoryOrCreate"}},
            ],
        },
    })
}

fn agent(node: &NodeNetwork) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("aquifer-node-{}", node.name), "namespace": SYSTEM_NAMESPACE,
            "labels": {"app": "aquifer-node", "istio.io/dataplane-mode": "none"},
        },
        "spec": {
            "nodeName": node.name,
            "hostNetwork": true,
            "dnsPolicy": "ClusterFirstWithHostNet",
            "serviceAccountName": "aquifer-node",
            "containers": [{
                "name": "node",
                "image": "aquifer",
                "args": ["node"],
                "env": [
                    field("NODE_NAME", "spec.nodeName"),
                    field("POD_NAME", "metadata.name"),
                    field("POD_NAMESPACE", "metadata.namespace"),
                    {"name": "POD_NETNS_DIR", "value": "/var/run/aquifer/netns"},
                    {"name": "MOUNTED_CNI_NET_DIR", "value": "/host/etc/cni/net.d"},
                    // The namespaces of pods are where the runtime has them.
                    {"name": "CNI_HOST_ROOT", "value": "/"},
                ],
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": 8000}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "cni-ztunnel-sock-dir", "mountPath": "/var/run/ztunnel"},
                    {"name": "netns", "mountPath": "/var/run/aquifer/netns"},
                    {"name": "cni-net-dir", "mountPath": "/host/etc/cni/net.d"},
                    {"name": "cni-bin-dir", "mountPath": "/host/opt/cni/bin"},
                    {"name": "cni-run-dir", "mountPath": "/var/run/aquifer-cni"},
                ],
            }],
            "volumes": [
                {"name": "cni-ztunnel-sock-dir", "hostPath": {"path": "/var/run/ztunnel", "type": "DirectoryOrCreate"}},
                {"name": "netns", "hostPath": {"path": "/var/run/aquifer/netns", "type": "DirectoryOrCreate"}},
                {"name": "cni-net-dir", "hostPath": {"path": "/etc/cni/net.d", "type": "DirectoryOrCreate"}},
                {"name": "cni-bin-dir", "hostPath": {"path": "/opt/cni/bin", "type": "DirectoryOrCreate"}},
                {"name": "cni-run-dir", "hostPath": {"path": "/var/run/aquifer-cni", "type": "DirectoryOrCreate"}},
            ],
        },
    })
}

fn field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::Families;

    #[test]
    fn every_object_passes_strict_checking() {
        for object in manifests(&NodeNetwork::plan(2, Families::Dual)) {
            let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
            let findings = kinds::check::unknown_fields(version, kind, &object);
            assert!(findings.is_empty(), "{kind} {}: {findings:?}", object["metadata"]["name"]);
        }
    }

    #[test]
    fn each_node_has_its_proxy_and_agent() {
        let objects = manifests(&NodeNetwork::plan(2, Families::Dual));
        let pods: Vec<_> = objects
            .iter()
            .filter(|object| object["kind"] == "Pod")
            .map(|pod| (pod["metadata"]["name"].as_str().unwrap(), pod["spec"]["nodeName"].as_str().unwrap()))
            .collect();
        assert_eq!(
            pods,
            [
                ("aquifer-node-node-1", "node-1"),
                ("ztunnel-node-1", "node-1"),
                ("aquifer-node-node-2", "node-2"),
                ("ztunnel-node-2", "node-2")
            ]
        );
    }
}
