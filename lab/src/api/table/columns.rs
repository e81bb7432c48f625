//! The columns of each kind: a table of titles and of what their cells show.

use serde_json::Value;

use super::{age, since};
use crate::api::kind::Kind;
use crate::api::store::{items, text};

/// A column.
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Only `-o wide` shows it.
    pub(super) is_wide: bool,
    cell: &'static str,
}

/// Kind and group, and the columns after the name: `TITLE=CELL`, with `*` behind the title of a wide one.
///
/// A cell is a JSON pointer: to text; with `?` to text that may be missing; with `#` to a number; with `|` to a map to be
/// counted; with `{}` to labels; with `[]` to a list, alone or of what is behind it. `~` names a condition, `@` a
/// function, and `-` shows nothing.
const COLUMNS: &[(&str, &str)] = &[
    ("Namespace", "Status=/status/phase, Age=@age"),
    (
        "Node",
        "Status=@node status, Roles=@roles, Age=@age, Version=/status/nodeInfo/kubeletVersion, Internal-IP*=@address, \
         External-IP*=-, OS-Image*=/status/nodeInfo/osImage?, Kernel-Version*=/status/nodeInfo/kernelVersion?, \
         Container-Runtime*=/status/nodeInfo/containerRuntimeVersion?",
    ),
    (
        "Pod",
        "Ready=@pod ready, Status=@pod status, Restarts=@restarts, Age=@age, IP*=/status/podIP?, Node*=/spec/nodeName?, \
         Nominated Node*=-, Readiness Gates*=-",
    ),
    (
        "Service",
        "Type=/spec/type, Cluster-IP=/spec/clusterIP?, External-IP=/spec/externalName?, Port(s)=@ports, Age=@age, \
         Selector*=/spec/selector{}",
    ),
    ("ConfigMap", "Data=/data|, Age=@age"),
    ("Secret", "Type=/type, Data=/data|, Age=@age"),
    ("ServiceAccount", "Age=@age"),
    (
        "Event",
        "Last Seen=@last seen, Type=/type, Reason=/reason, Object=@about, Source*=/source/component, Message=@message, \
         First Seen*=@first seen, Count*=/count#, Name*=/metadata/name",
    ),
    ("CustomResourceDefinition.apiextensions.k8s.io", "Created At=/metadata/creationTimestamp"),
    (
        "EndpointSlice.discovery.k8s.io",
        "AddressType=/addressType, Ports=/ports[]/port, Endpoints=/endpoints[]/addresses, Age=@age",
    ),
    ("Lease.coordination.k8s.io", "Holder=/spec/holderIdentity, Age=@age"),
    (
        "Deployment.apps",
        "Ready=@ready, Up-to-date=/status/updatedReplicas#, Available=/status/availableReplicas#, Age=@age, \
         Containers*=/spec/template/spec/containers[]/name, Images*=/spec/template/spec/containers[]/image, \
         Selector*=/spec/selector/matchLabels{}",
    ),
    (
        "ReplicaSet.apps",
        "Desired=/spec/replicas#, Current=/status/replicas#, Ready=/status/readyReplicas#, Age=@age, \
         Containers*=/spec/template/spec/containers[]/name, Images*=/spec/template/spec/containers[]/image, \
         Selector*=/spec/selector/matchLabels{}",
    ),
    (
        "HorizontalPodAutoscaler.autoscaling",
        "Reference=@reference, Targets=@targets, MinPods=/spec/minReplicas#, MaxPods=/spec/maxReplicas#, \
         Replicas=/status/currentReplicas#, Age=@age",
    ),
    (
        "PodDisruptionBudget.policy",
        "Min Available=/spec/minAvailable?, Max Unavailable=/spec/maxUnavailable?, \
         Allowed Disruptions=/status/disruptionsAllowed#, Age=@age",
    ),
    ("NetworkPolicy.networking.k8s.io", "Pod-Selector=/spec/podSelector/matchLabels{}, Age=@age"),
    (
        "Gateway.gateway.networking.k8s.io",
        "Class=/spec/gatewayClassName, Address=/status/addresses[]/value, Programmed=~Programmed, Age=@age",
    ),
    ("GatewayClass.gateway.networking.k8s.io", "Controller=/spec/controllerName, Accepted=~Accepted, Age=@age"),
    ("HTTPRoute.gateway.networking.k8s.io", "Hostnames=/spec/hostnames[], Age=@age"),
    ("GRPCRoute.gateway.networking.k8s.io", "Hostnames=/spec/hostnames[], Age=@age"),
    ("TLSRoute.gateway.networking.k8s.io", "Hostnames=/spec/hostnames[], Age=@age"),
    ("PeerAuthentication.security.istio.io", "Mode=/spec/mtls/mode, Age=@age"),
    ("AuthorizationPolicy.security.istio.io", "Action=/spec/action, Age=@age"),
    ("VirtualService.networking.istio.io", "Gateways=/spec/gateways[], Hosts=/spec/hosts[], Age=@age"),
    ("DestinationRule.networking.istio.io", "Host=/spec/host, Age=@age"),
    (
        "ServiceEntry.networking.istio.io",
        "Hosts=/spec/hosts[], Location=/spec/location, Resolution=/spec/resolution, Age=@age",
    ),
];

/// The columns of a kind.
pub(super) fn of(kind: &Kind) -> Vec<Column> {
    let name = kind.qualified();
    let row = COLUMNS.iter().find(|(of, _)| *of == name).map_or("Age=@age", |(_, columns)| *columns);
    let own = row.split(", ").filter_map(|column| {
        let (title, cell) = column.split_once('=')?;
        let narrow = title.trim_end_matches('*');
        Some(Column { title: narrow, is_wide: narrow != title, cell })
    });
    // Events are told apart by what they are about; their names say nothing.
    let first = (name != "Event").then_some(Column { title: "Name", is_wide: false, cell: "/metadata/name" });
    first.into_iter().chain(own).collect()
}

impl Column {
    /// What the column shows of an object.
    pub(super) fn cell(&self, object: &Value) -> Value {
        let (cell, last) = self.cell.split_at(self.cell.len().saturating_sub(1));
        let number = |pointer: &str| number(object, pointer);
        match (self.cell.split_at_checked(1), last) {
            (Some(("@", name)), _) => computed(name, object),
            (Some(("~", kind)), _) => condition(object, kind),
            (Some(("-", "")), _) => "<none>".into(),
            (_, "?") => match object.pointer(cell) {
                Some(Value::String(text)) => or_none(text),
                Some(other) => other.to_string().into(),
                None => "<none>".into(),
            },
            (_, "#") => number(cell).into(),
            (_, "|") => object.pointer(cell).and_then(Value::as_object).map_or(0, serde_json::Map::len).into(),
            (_, "}") => labels(object, cell.trim_end_matches('{')),
            (_, "]") => {
                let words: Vec<_> = items(object, cell.trim_end_matches('[')).cloned().collect();
                if words.is_empty() { "".into() } else { Value::Array(words).to_string().into() }
            }
            _ => match self.cell.split_once("[]") {
                Some((list, rest)) => joined(items(object, list).flat_map(|item| flat(item.pointer(rest)))),
                None => text(object, self.cell).into(),
            },
        }
    }
}

/// A scalar, or those of a list, as text.
fn flat(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().flat_map(|item| flat(Some(item))).collect(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(other) => vec![other.to_string()],
        None => Vec::new(),
    }
}

fn computed(name: &str, object: &Value) -> Value {
    let time = |pointers: &[&str]| {
        let found = pointers.iter().map(|pointer| text(object, pointer)).find(|time| !time.is_empty());
        since(found.unwrap_or_default()).into()
    };
    match name {
        "age" => age(object),
        "pod ready" => pod_ready(object),
        "pod status" => pod_status(object),
        "restarts" => restarts(object).into(),
        "ready" => format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas")).into(),
        "node status" => node_status(object),
        "roles" => {
            let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
            joined(labels.filter_map(|(key, _)| key.strip_prefix("node-role.kubernetes.io/")).map(str::to_owned))
        }
        "address" => {
            let address = items(object, "/status/addresses").find(|address| text(address, "/type") == "InternalIP");
            or_none(address.map(|address| text(address, "/address")).unwrap_or_default())
        }
        "ports" => joined(items(object, "/spec/ports").map(port)),
        "last seen" => time(&["/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]),
        "first seen" => time(&["/firstTimestamp"]),
        "about" => {
            let kind = text(object, "/involvedObject/kind").to_lowercase();
            format!("{kind}/{}", text(object, "/involvedObject/name")).into()
        }
        "message" => text(object, "/message").trim().into(),
        "reference" => {
            let part = |field: &str| text(object, &format!("/spec/scaleTargetRef/{field}")).to_owned();
            format!("{}/{}", part("kind"), part("name")).into()
        }
        // Nobody measures anything.
        "targets" => joined(items(object, "/spec/metrics").map(|metric| {
            let target = format!("/{}/target/averageUtilization", text(metric, "/type").to_lowercase());
            let wanted = metric.pointer(&target).map_or_else(|| "<unknown>".into(), |percent| format!("{percent}%"));
            format!("{}: <unknown>/{wanted}", text(metric, "/resource/name"))
        })),
        _ => Value::Null,
    }
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn joined(words: impl Iterator<Item = String>) -> Value {
    or_none(&words.collect::<Vec<_>>().join(","))
}

fn labels(object: &Value, pointer: &str) -> Value {
    let labels = object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    joined(labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())))
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

fn port(port: &Value) -> String {
    let node = number(port, "/nodePort");
    let node = if node > 0 { format!(":{node}") } else { String::new() };
    format!("{}{node}/{}", number(port, "/port"), text(port, "/protocol"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kind;

    #[test]
    fn every_row_is_of_a_kind_and_every_cell_can_be_shown() {
        for (name, _) in COLUMNS {
            assert!(kind::all().iter().any(|kind| kind.qualified() == *name), "{name}");
        }
        for kind in kind::all() {
            for column in of(kind) {
                assert_ne!(column.cell(&json!({})), Value::Null, "{} {}", kind.kind, column.title);
            }
        }
    }

    #[test]
    fn cells_show_what_their_words_say() {
        let object = json!({
            "t": "text", "n": 3, "m": {"a": "1", "b": "2"}, "l": ["x", "y"],
            "o": [{"p": 80, "q": ["r", "s"]}, {"p": 81}],
        });
        for (cell, expected) in [
            ("/t", json!("text")),
            ("/t?", json!("text")),
            ("/n?", json!("3")),
            ("/none?", json!("<none>")),
            ("/none", json!("")),
            ("/n#", json!(3)),
            ("/m|", json!(2)),
            ("/m{}", json!("a=1,b=2")),
            ("/l[]", json!(r#"["x","y"]"#)),
            ("/none[]", json!("")),
            ("/o[]/p", json!("80,81")),
            ("/o[]/q", json!("r,s")),
            ("-", json!("<none>")),
        ] {
            assert_eq!(Column { title: "", is_wide: false, cell }.cell(&object), expected, "{cell}");
        }
    }
}
