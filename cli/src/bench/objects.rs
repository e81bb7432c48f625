//! The objects of a comparison: namespaces, clients, servers, and what stands between them.

use bench::envoy;
use kinds::labels::{APP, DATAPLANE_MODE, GATEWAY_NAME, MODE_AMBIENT, MODE_NONE};
use serde_json::{Value, json};

/// Pods without any mesh.
pub(super) const PLAIN: &str = "bench-plain";

/// Pods whose namespace is labelled for the ambient mesh.
pub(super) const AMBIENT: &str = "bench-ambient";

/// Pods with an Envoy each.
pub(super) const SIDECAR: &str = "bench-sidecar";

/// Where servers listen.
pub(super) const SERVER_PORT: u16 = 8080;

/// The port of a Service at which HTTP is read.
pub(super) const HTTP_PORT: u16 = 80;

/// The port of a Service at which nothing is read.
pub(super) const BYTES_PORT: u16 = 9000;

/// The node of clients, and of the servers that are near them.
pub(super) const CLIENT_NODE: &str = "node-1";

/// The node of the other servers, and of waypoints.
pub(super) const SERVER_NODE: &str = "node-2";

pub(super) fn namespace(name: &str) -> Value {
    let labels = if name == AMBIENT { json!({DATAPLANE_MODE: MODE_AMBIENT}) } else { json!({}) };
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(super) fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

/// A pod from which load comes: it waits for what is run in it.
pub(super) fn client(namespace: &str, name: &str, sidecar: Option<Value>) -> Value {
    let wait = json!({"name": "app", "image": "aquifer", "args": ["load", "agent", "--listen", "127.0.0.1:9090"]});
    pod(namespace, name, CLIENT_NODE, [Some(wait), sidecar])
}

/// A pod to which load goes.
pub(super) fn server(namespace: &str, name: &str, node: &str, sidecar: Option<Value>) -> Value {
    let listen = format!("0.0.0.0:{SERVER_PORT}");
    let app = json!({
        "name": "app", "image": "aquifer", "args": ["load", "server", "--listen", listen],
        "readinessProbe": {"tcpSocket": {"port": SERVER_PORT}, "periodSeconds": 1},
    });
    pod(namespace, name, node, [Some(app), sidecar])
}

fn pod(namespace: &str, name: &str, node: &str, containers: [Option<Value>; 2]) -> Value {
    let containers: Vec<Value> = containers.into_iter().flatten().collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {APP: name}},
        "spec": {
            "nodeName": node, "serviceAccountName": name, "terminationGracePeriodSeconds": 1, "containers": containers,
        },
    })
}

/// The Service through which clients reach the server behind the waypoint.
pub(super) fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "server", "namespace": AMBIENT},
        "spec": {"selector": {APP: "server"}, "ports": [
            {"name": "http", "port": HTTP_PORT, "targetPort": SERVER_PORT},
            {"name": "tcp", "port": BYTES_PORT, "targetPort": SERVER_PORT},
        ]},
    })
}

/// A waypoint, as `istioctl waypoint apply` writes it, and the Service that its controller would make.
pub(super) fn gateway() -> [Value; 2] {
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    [
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "waypoint", "namespace": AMBIENT},
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": [listener]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "waypoint", "namespace": AMBIENT, "labels": {GATEWAY_NAME: "waypoint"}},
            "spec": {
                "selector": {GATEWAY_NAME: "waypoint"},
                "ports": [{"name": "mesh", "port": 15008, "appProtocol": "hbone"}],
            },
        }),
    ]
}

/// The waypoint's pod, outside the mesh's redirection.
pub(super) fn waypoint(command: &[String]) -> Value {
    let mut pod = pod(AMBIENT, "waypoint", SERVER_NODE, [Some(envoy::container(command)), None]);
    if let Some(labels) = pod.pointer_mut("/metadata/labels") {
        *labels = json!({APP: "waypoint", DATAPLANE_MODE: MODE_NONE, GATEWAY_NAME: "waypoint"});
    }
    pod
}
