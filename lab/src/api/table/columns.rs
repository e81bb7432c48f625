//! The columns of each kind.

use serde_json::Value;

use super::{Column, age, since};
use crate::api::kind::Kind;
use crate::api::store::{items, text};

pub(super) fn of(kind: &Kind) -> &'static [Column] {
    match (kind.group, kind.kind) {
        ("", "Namespace") => &[NAME, ("Status", false, |o| word(o, "/status/phase")), AGE],
        ("", "Node") => NODE,
        ("", "Pod") => POD,
        ("", "Service") => SERVICE,
        ("", "ConfigMap") => &[NAME, ("Data", false, |o| count(o, "/data")), AGE],
        ("", "Secret") => &[NAME, ("Type", false, |o| word(o, "/type")), ("Data", false, |o| count(o, "/data")), AGE],
        ("", "Event") => EVENT,
        ("apiextensions.k8s.io", _) => &[NAME, ("Created At", false, |o| word(o, "/metadata/creationTimestamp"))],
        ("discovery.k8s.io", _) => SLICE,
        ("coordination.k8s.io", _) => &[NAME, ("Holder", false, |o| word(o, "/spec/holderIdentity")), AGE],
        ("apps", "Deployment") => DEPLOYMENT,
        ("apps", "ReplicaSet") => REPLICA_SET,
        ("gateway.networking.k8s.io", "Gateway") => GATEWAY,
        ("gateway.networking.k8s.io", "GatewayClass") => GATEWAY_CLASS,
        ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute" | "TLSRoute") => {
            &[NAME, ("Hostnames", false, |o| words(o, "/spec/hostnames")), AGE]
        }
        ("security.istio.io", "PeerAuthentication") => &[NAME, ("Mode", false, |o| word(o, "/spec/mtls/mode")), AGE],
        ("security.istio.io", "AuthorizationPolicy") => &[NAME, ("Action", false, |o| word(o, "/spec/action")), AGE],
        ("networking.istio.io", "VirtualService") => &[
            NAME,
            ("Gateways", false, |o| words(o, "/spec/gateways")),
            ("Hosts", false, |o| words(o, "/spec/hosts")),
            AGE,
        ],
        ("networking.istio.io", "DestinationRule") => &[NAME, ("Host", false, |o| word(o, "/spec/host")), AGE],
        ("networking.istio.io", "ServiceEntry") => &[
            NAME,
            ("Hosts", false, |o| words(o, "/spec/hosts")),
            ("Location", false, |o| word(o, "/spec/location")),
            ("Resolution", false, |o| word(o, "/spec/resolution")),
            AGE,
        ],
        _ => &[NAME, AGE],
    }
}

const NAME: Column = ("Name", false, |object| text(object, "/metadata/name").into());
const AGE: Column = ("Age", false, age);

const POD: &[Column] = &[
    NAME,
    ("Ready", false, pod_ready),
    ("Status", false, pod_status),
    ("Restarts", false, |o| restarts(o).into()),
    AGE,
    ("IP", true, |o| or_none(text(o, "/status/podIP"))),
    ("Node", true, |o| or_none(text(o, "/spec/nodeName"))),
    ("Nominated Node", true, |_| "<none>".into()),
    ("Readiness Gates", true, |_| "<none>".into()),
];
const NODE: &[Column] = &[
    NAME,
    ("Status", false, node_status),
    ("Roles", false, node_roles),
    AGE,
    ("Version", false, |o| word(o, "/status/nodeInfo/kubeletVersion")),
    ("Internal-IP", true, |o| {
        let address = items(o, "/status/addresses").find(|address| text(address, "/type") == "InternalIP");
        or_none(address.map(|address| text(address, "/address")).unwrap_or_default())
    }),
    ("External-IP", true, |_| "<none>".into()),
    ("OS-Image", true, |o| or_unknown(text(o, "/status/nodeInfo/osImage"))),
    ("Kernel-Version", true, |o| or_unknown(text(o, "/status/nodeInfo/kernelVersion"))),
    ("Container-Runtime", true, |o| or_unknown(text(o, "/status/nodeInfo/containerRuntimeVersion"))),
];
const SERVICE: &[Column] = &[
    NAME,
    ("Type", false, |o| word(o, "/spec/type")),
    ("Cluster-IP", false, |o| or_none(text(o, "/spec/clusterIP"))),
    ("External-IP", false, |o| or_none(text(o, "/spec/externalName"))),
    ("Port(s)", false, service_ports),
    AGE,
    ("Selector", true, |o| labels(o, "/spec/selector")),
];
const DEPLOYMENT: &[Column] = &[
    NAME,
    ("Ready", false, |o| format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")).into()),
    ("Up-to-date", false, |o| number(o, "/status/updatedReplicas").into()),
    ("Available", false, |o| number(o, "/status/availableReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const REPLICA_SET: &[Column] = &[
    NAME,
    ("Desired", false, |o| number(o, "/spec/replicas").into()),
    ("Current", false, |o| number(o, "/status/replicas").into()),
    ("Ready", false, |o| number(o, "/status/readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
const CONTAINERS: Column =
    ("Containers", true, |o| joined(items(o, TEMPLATE).map(|container| text(container, "/name"))));
const IMAGES: Column = ("Images", true, |o| joined(items(o, TEMPLATE).map(|container| text(container, "/image"))));
const SELECTOR: Column = ("Selector", true, |o| labels(o, "/spec/selector/matchLabels"));
const TEMPLATE: &str = "/spec/template/spec/containers";
const SLICE: &[Column] = &[
    NAME,
    ("AddressType", false, |o| word(o, "/addressType")),
    ("Ports", false, |o| {
        let ports: Vec<_> = items(o, "/ports").map(|port| number(port, "/port").to_string()).collect();
        joined(ports.iter().map(String::as_str))
    }),
    ("Endpoints", false, |o| {
        joined(items(o, "/endpoints").flat_map(|endpoint| items(endpoint, "/addresses")).filter_map(Value::as_str))
    }),
    AGE,
];
const EVENT: &[Column] = &[
    ("Last Seen", false, |o| {
        let last = ["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];
        since(last.iter().map(|time| text(o, time)).find(|time| !time.is_empty()).unwrap_or_default()).into()
    }),
    ("Type", false, |o| word(o, "/type")),
    ("Reason", false, |o| word(o, "/reason")),
    ("Object", false, |o| {
        let kind = text(o, "/involvedObject/kind").to_lowercase();
        format!("{kind}/{}", text(o, "/involvedObject/name")).into()
    }),
    ("Source", true, |o| word(o, "/source/component")),
    ("Message", false, |o| text(o, "/message").trim().into()),
    ("First Seen", true, |o| since(text(o, "/firstTimestamp")).into()),
    ("Count", true, |o| number(o, "/count").into()),
    ("Name", true, |o| word(o, "/metadata/name")),
];
const GATEWAY: &[Column] = &[
    NAME,
    ("Class", false, |o| word(o, "/spec/gatewayClassName")),
    ("Address", false, |o| joined(items(o, "/status/addresses").map(|address| text(address, "/value")))),
    ("Programmed", false, |o| condition(o, "Programmed")),
    AGE,
];
const GATEWAY_CLASS: &[Column] = &[
    NAME,
    ("Controller", false, |o| word(o, "/spec/controllerName")),
    ("Accepted", false, |o| condition(o, "Accepted")),
    AGE,
];

fn word(object: &Value, pointer: &str) -> Value {
    text(object, pointer).into()
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>".into() } else { text.into() }
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn count(object: &Value, pointer: &str) -> Value {
    object.pointer(pointer).and_then(Value::as_object).map_or(0, serde_json::Map::len).into()
}

fn words(object: &Value, pointer: &str) -> Value {
    let words: Vec<_> = items(object, pointer).cloned().collect();
    if words.is_empty() { "".into() } else { Value::Array(words).to_string().into() }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> Value {
    or_none(&words.collect::<Vec<_>>().join(","))
}

fn labels(object: &Value, pointer: &str) -> Value {
    let labels = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    let labels: Vec<_> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    joined(labels.iter().map(String::as_str))
}

fn condition(object: &Value, kind: &str) -> Value {
    let found = items(object, "/status/conditions").find(|condition| text(condition, "/type") == kind);
    found.map(|condition| text(condition, "/status")).unwrap_or_default().into()
}

fn pod_ready(pod: &Value) -> Value {
    let is_ready = |status: &&Value| status.get("ready") == Some(&Value::Bool(true));
    let ready = items(pod, "/status/containerStatuses").filter(is_ready).count();
    format!("{ready}/{}", items(pod, "/spec/containers").count()).into()
}

fn restarts(pod: &Value) -> String {
    let total: i64 = items(pod, "/status/containerStatuses").map(|status| number(status, "/restartCount")).sum();
    let ends = items(pod, "/status/containerStatuses").map(|status| text(status, "/lastState/terminated/finishedAt"));
    match ends.max().filter(|end| total > 0 && !end.is_empty()) {
        Some(end) => format!("{total} ({} ago)", since(end)),
        None => total.to_string(),
    }
}

fn pod_status(pod: &Value) -> Value {
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        return "Terminating".into();
    }
    let reasons = ["/state/waiting/reason", "/state/terminated/reason"];
    let states = items(pod, "/status/containerStatuses").flat_map(|status| reasons.map(|reason| text(status, reason)));
    let given = [text(pod, "/status/reason")];
    let phase = [text(pod, "/status/phase")];
    states.chain(given).chain(phase).find(|reason| !reason.is_empty()).unwrap_or("Unknown").into()
}

fn node_status(node: &Value) -> Value {
    let status = match condition(node, "Ready").as_str() {
        Some("True") => "Ready",
        Some("False") => "NotReady",
        _ => "Unknown",
    };
    let is_cordoned = node.pointer("/spec/unschedulable") == Some(&Value::Bool(true));
    if is_cordoned { format!("{status},SchedulingDisabled").into() } else { status.into() }
}

fn node_roles(node: &Value) -> Value {
    let labels = node.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    joined(labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")))
}

fn service_ports(service: &Value) -> Value {
    let port = |port: &Value| {
        let node = number(port, "/nodePort");
        let node = if node > 0 { format!(":{node}") } else { String::new() };
        format!("{}{node}/{}", number(port, "/port"), text(port, "/protocol"))
    };
    let ports: Vec<_> = items(service, "/spec/ports").map(port).collect();
    joined(ports.iter().map(String::as_str))
}
