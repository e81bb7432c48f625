//! The objects of a comparison: its namespace, clients, servers, and what stands between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bench::envoy::{ADMIN, CONCURRENCY};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kinds::labels::{APP, DATAPLANE_MODE, GATEWAY_NAME, MODE_AMBIENT, MODE_NONE};
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::envoy::Instance;
use super::site::Site;

/// The label of namespaces that a comparison has made for itself.
const OWN: &str = "aquifer.dev/bench";

/// How the pods of node proxies are labelled, by whomever they come from.
pub(super) const NODE_PROXY: &str = "app=ztunnel";

/// The container of a client or server.
pub(super) const APPLICATION: &str = "app";

/// Where servers listen.
pub(super) const SERVER_PORT: u16 = 8080;

/// Where relays listen.
pub(super) const RELAY_PORT: u16 = 8081;

/// The port of a Service at which HTTP is read.
pub(super) const HTTP_PORT: u16 = 80;

/// The port of a Service at which nothing is read.
pub(super) const BYTES_PORT: u16 = 9000;

/// The waypoint: its pod, account, Gateway and Service.
pub(super) const WAYPOINT: &str = "waypoint";

/// Keeps the sidecars of a mesh that is there out of pods that are not to have any.
const INJECT: &str = "sidecar.istio.io/inject";

/// The user and group that pods run as: nobody's in particular, and not root.
const NOBODY: u32 = 65_532;

/// Whether a pod is to be in the ambient mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mesh {
    In,
    Out,
}

/// What a pod has beside its application.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beside<'a> {
    Nothing,
    Envoy(&'a Instance),
    /// Of these words.
    Relay(&'a [String]),
}

/// A namespace whose pods are in the mesh unless they say otherwise, if there `is_mesh` asked for.
pub(super) fn namespace(name: &str, is_mesh: bool) -> Value {
    let mut labels = json!({OWN: "true"});
    if let (true, Some(labels)) = (is_mesh, labels.as_object_mut()) {
        labels.insert(DATAPLANE_MODE.to_owned(), MODE_AMBIENT.into());
    }
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(super) fn account(site: &Site, name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": site.namespace});
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

/// A pod from which load comes: it waits for what is run in it.
pub(super) fn client(site: &Site, name: &str, node: &str, mesh: Mesh, beside: Beside<'_>) -> Value {
    let wait = ["aquifer", "load", "agent", "--listen", "127.0.0.1:9090"];
    let app = json!({"name": APPLICATION, "image": site.image, "command": wait});
    pod(site, name, node, mesh, (Some(app), beside))
}

/// A pod to which load goes.
pub(super) fn server(site: &Site, name: &str, node: &str, mesh: Mesh, beside: Beside<'_>) -> Value {
    let listen = format!("0.0.0.0:{SERVER_PORT}");
    let app = json!({
        "name": APPLICATION, "image": site.image, "command": ["aquifer", "load", "server", "--listen", listen],
        "readinessProbe": {"tcpSocket": {"port": SERVER_PORT}, "periodSeconds": 1},
    });
    pod(site, name, node, mesh, (Some(app), beside))
}

/// A pod on a node: the application, a proxy, or both.
fn pod(site: &Site, name: &str, node: &str, mesh: Mesh, (app, beside): (Option<Value>, Beside<'_>)) -> Value {
    let (proxy, volumes) = match beside {
        Beside::Nothing => (None, Vec::new()),
        Beside::Envoy(envoy) => (Some(container(envoy)), vec![volume(envoy)]),
        Beside::Relay(command) => (Some(relay(site, command)), Vec::new()),
    };
    let containers: Vec<Value> = app.into_iter().chain(proxy).map(unprivileged).collect();
    let mut labels = json!({APP: name, INJECT: "false"});
    if let (Mesh::Out, Some(labels)) = (mesh, labels.as_object_mut()) {
        labels.insert(DATAPLANE_MODE.to_owned(), MODE_NONE.into());
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": site.namespace, "labels": labels},
        "spec": {
            "nodeName": node, "serviceAccountName": name, "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": NOBODY, "runAsGroup": NOBODY,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers, "volumes": volumes,
        },
    })
}

/// With the pod's part, what clusters demand that enforce the strictest of the Pod Security Standards, "restricted".
fn unprivileged(mut container: Value) -> Value {
    if let Some(fields) = container.as_object_mut() {
        let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
        fields.insert("securityContext".to_owned(), context);
    }
    container
}

/// Runs an Envoy, ready when it says so.
fn container(envoy: &Instance) -> Value {
    json!({
        "name": "envoy", "image": envoy.image, "command": envoy.command,
        "readinessProbe": {"httpGet": {"path": "/ready", "port": ADMIN}, "periodSeconds": 1},
        "volumeMounts": [{"name": "envoy", "mountPath": envoy.folder, "readOnly": true}],
    })
}

/// How a relay is run that leads to `to`, with as many threads as an Envoy.
pub(super) fn relay_command(to: SocketAddr) -> Vec<String> {
    let listen = format!("0.0.0.0:{RELAY_PORT}");
    let words = ["aquifer", "load", "relay", "--listen", &listen, "--to", &to.to_string(), "--threads"];
    words.map(str::to_owned).into_iter().chain([CONCURRENCY.to_string()]).collect()
}

/// Runs a relay, ready when it listens.
fn relay(site: &Site, command: &[String]) -> Value {
    json!({
        "name": "relay", "image": site.image, "command": command,
        "readinessProbe": {"tcpSocket": {"port": RELAY_PORT}, "periodSeconds": 1},
    })
}

fn volume(envoy: &Instance) -> Value {
    json!({"name": "envoy", "secret": {"secretName": envoy.name}})
}

/// What an Envoy reads.
pub(super) fn secret(site: &Site, envoy: &Instance) -> serde_json::Result<Value> {
    let bytes = |(name, text): (&String, &String)| (name.clone(), ByteString(text.clone().into_bytes()));
    let data: BTreeMap<String, ByteString> = envoy.files.iter().map(bytes).collect();
    let metadata =
        ObjectMeta { name: Some(envoy.name.clone()), namespace: Some(site.namespace.clone()), ..ObjectMeta::default() };
    serde_json::to_value(Secret { metadata, data: Some(data), ..Secret::default() })
}

/// The Service through which clients reach the server behind the waypoint.
pub(super) fn service(site: &Site, server: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": server, "namespace": site.namespace},
        "spec": {"selector": {APP: server}, "ports": [
            {"name": "http", "port": HTTP_PORT, "targetPort": SERVER_PORT},
            {"name": "tcp", "port": BYTES_PORT, "targetPort": SERVER_PORT},
        ]},
    })
}

/// A waypoint, as `istioctl waypoint apply` writes it, and the Service that its controller would make.
pub(super) fn gateway(site: &Site) -> [Value; 2] {
    let listener = json!({"name": "mesh", "port": 15008, "protocol": "HBONE"});
    [
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": WAYPOINT, "namespace": site.namespace},
            "spec": {"gatewayClassName": "istio-waypoint", "listeners": [listener]},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": WAYPOINT, "namespace": site.namespace, "labels": {GATEWAY_NAME: WAYPOINT}},
            "spec": {
                "selector": {GATEWAY_NAME: WAYPOINT},
                "ports": [{"name": "mesh", "port": 15008, "appProtocol": "hbone"}],
            },
        }),
    ]
}

/// The waypoint's pod, outside the mesh's redirection.
pub(super) fn waypoint(site: &Site, node: &str, envoy: &Instance) -> Value {
    let mut pod = pod(site, WAYPOINT, node, Mesh::Out, (None, Beside::Envoy(envoy)));
    if let Some(labels) = pod.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.insert(GATEWAY_NAME.to_owned(), WAYPOINT.into());
    }
    pod
}

#[cfg(test)]
mod tests {
    use bench::machine::{Ground, Machine};
    use k8s_openapi::api::core::v1::{Container, Pod};

    use super::*;

    fn site() -> Site {
        let nowhere = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        Site {
            client: nowhere.try_into().unwrap(),
            namespace: "bench".to_owned(),
            near: "a".to_owned(),
            far: Some("b".to_owned()),
            apart: None,
            image: "registry.example.com/aquifer:1".to_owned(),
            patience: std::time::Duration::ZERO,
            first_process: None,
            advice: String::new(),
            ground: Ground::Lab(Machine::default()),
        }
    }

    /// Why a cluster that enforces "restricted" would turn a container away.
    ///
    /// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
    fn unrestricted(container: &Container) -> Vec<&'static str> {
        let context = container.security_context.clone().unwrap_or_default();
        let dropped = context.capabilities.as_ref().and_then(|all| all.drop.clone()).unwrap_or_default();
        let added = context.capabilities.as_ref().and_then(|all| all.add.clone()).unwrap_or_default();
        let host_ports = container.ports.iter().flatten().any(|port| port.host_port.is_some());
        let wrongs = [
            (context.allow_privilege_escalation != Some(false), "may escalate privileges"),
            (!dropped.contains(&"ALL".to_owned()) || !added.is_empty(), "has capabilities"),
            (context.privileged == Some(true), "is privileged"),
            (context.run_as_non_root == Some(false) || context.run_as_user == Some(0), "is root"),
            (context.seccomp_profile.is_some_and(|profile| profile.type_ == "Unconfined"), "may call everything"),
            (context.proc_mount.is_some(), "has a /proc of its own"),
            (host_ports, "has ports of the host"),
        ];
        wrongs.into_iter().filter_map(|(is_wrong, what)| is_wrong.then_some(what)).collect()
    }

    #[tokio::test]
    async fn a_cluster_that_restricts_pods_takes_them() {
        let site = site();
        let envoy = Instance {
            name: "sidecar".to_owned(),
            role: "sidecar".to_owned(),
            image: "envoy".to_owned(),
            command: vec!["envoy".to_owned()],
            folder: "/aquifer-bench/sidecar".to_owned(),
            files: BTreeMap::new(),
        };
        let command = relay_command(SocketAddr::from(([127, 0, 0, 1], SERVER_PORT)));
        let objects = [
            client(&site, "client", "a", Mesh::In, Beside::Nothing),
            client(&site, "client", "a", Mesh::Out, Beside::Envoy(&envoy)),
            server(&site, "server", "b", Mesh::In, Beside::Nothing),
            server(&site, "server", "b", Mesh::Out, Beside::Envoy(&envoy)),
            server(&site, "server", "b", Mesh::Out, Beside::Relay(&command)),
            waypoint(&site, "b", &envoy),
        ];
        let mut containers = 0;
        for object in objects {
            assert!(kinds::check::unknown_fields("v1", "Pod", &object).is_empty(), "{object}");
            let pod: Pod = serde_json::from_value(object).unwrap();
            let spec = pod.spec.unwrap();
            let context = spec.security_context.unwrap();
            assert_eq!(context.run_as_non_root, Some(true));
            // An image whose user is root would not start otherwise.
            assert!(context.run_as_user.is_some_and(|user| user > 0));
            assert_eq!(context.seccomp_profile.map(|profile| profile.type_).as_deref(), Some("RuntimeDefault"));
            assert!(context.sysctls.is_none());
            assert!([spec.host_network, spec.host_pid, spec.host_ipc].iter().all(Option::is_none));
            assert!(spec.volumes.iter().flatten().all(|volume| volume.secret.is_some()), "no files of the host");
            assert!(spec.init_containers.is_none());
            for container in &spec.containers {
                assert_eq!(unrestricted(container), [""; 0], "{}", container.name);
                containers += 1;
            }
        }
        assert_eq!(containers, 9);
    }
}
