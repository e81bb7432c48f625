//! What an object must satisfy beyond its types: names, labels and the few rules of built-in kinds that users trip over.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::Value;

use super::Status;
use super::kind::Kind;
use super::store::{items, text};

/// Annotations of one object together; the limit of kube-apiserver.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Checks a complete object.
///
/// # Errors
/// `Invalid`, naming every rule that is broken.
pub(crate) fn check(kind: &Kind, object: &Value) -> Result<(), Status> {
    let mut broken = Vec::new();
    let name = text(object, "/metadata/name");
    check_name(kind, name, &mut broken);
    check_labels(object, &mut broken);
    if kind.is::<Pod>() {
        check_pod(object, "/spec", &mut broken);
    } else if kind.is::<Service>() {
        check_service(object, &mut broken);
    } else if kind.is::<Deployment>() || kind.is::<ReplicaSet>() {
        check_workload(object, &mut broken);
    } else if kind.is::<HorizontalPodAutoscaler>() {
        let number = |field: &str| object.pointer(field).and_then(Value::as_i64).unwrap_or(0);
        let (least, most) = (number("/spec/minReplicas"), number("/spec/maxReplicas"));
        if most < 1 || most < least {
            let why = "must be greater than 0 and not less than spec.minReplicas";
            broken.push(format!("spec.maxReplicas: Invalid value: {most}: {why}"));
        }
        if text(object, "/spec/scaleTargetRef/name").is_empty() {
            broken.push("spec.scaleTargetRef.name: Required value".into());
        }
    } else if kind.is::<PodDisruptionBudget>()
        && ["/spec/minAvailable", "/spec/maxUnavailable"].iter().all(|field| object.pointer(field).is_some())
    {
        broken.push("spec: Invalid value: minAvailable and maxUnavailable cannot be both set".into());
    }
    if broken.is_empty() { Ok(()) } else { Err(Status::invalid(&kind.qualified(), name, list(&broken))) }
}

fn list(broken: &[String]) -> String {
    match broken {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn check_name(kind: &Kind, name: &str, broken: &mut Vec<String>) {
    if name.is_empty() {
        broken.push("metadata.name: Required value: name or generateName is required".into());
    } else if (kind.is::<Namespace>() || kind.is::<Service>()) && !is_label(name) {
        broken.push(format!(
            "metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 label must consist of lower case alphanumeric \
             characters or '-', and must start and end with an alphanumeric character"
        ));
    } else if !is_subdomain(name) {
        broken.push(format!(
            "metadata.name: Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case \
             alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        ));
    }
}

/// A DNS label of RFC 1123.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The part of a label key behind the prefix, and a label value.
fn is_qualified(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= 63 && text.bytes().all(inner) && edge(text.bytes().next()) && edge(text.bytes().last())
}

fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
        None => is_qualified(key),
    }
}

fn check_labels(object: &Value, broken: &mut Vec<String>) {
    let map = |pointer| object.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    for (key, value) in map("/metadata/labels") {
        let Some(value) = value.as_str() else {
            broken.push(format!("metadata.labels: Invalid value: {key:?}: its value is not text"));
            continue;
        };
        if !is_key(key) {
            broken.push(format!("metadata.labels: Invalid value: {key:?}: it is no label key"));
        }
        if !value.is_empty() && !is_qualified(value) {
            broken.push(format!(
                "metadata.labels: Invalid value: {value:?}: a valid label must be an empty string or consist of \
                 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            ));
        }
    }
    let mut size = 0;
    for (key, value) in map("/metadata/annotations") {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !value.is_string() || !is_key(&key.to_ascii_lowercase()) {
            broken.push(format!("metadata.annotations: Invalid value: {key:?}: it needs a qualified name and text"));
        }
    }
    if size > MAX_ANNOTATIONS {
        broken.push(format!("metadata.annotations: Too long: may not be more than {MAX_ANNOTATIONS} bytes"));
    }
}

/// Checks the specification of a pod, which lies at a JSON pointer.
fn check_pod(object: &Value, pointer: &str, broken: &mut Vec<String>) {
    let at = |field: &str| format!("{pointer}/{field}");
    let path = pointer.trim_start_matches('/').replace('/', ".");
    if items(object, &at("containers")).next().is_none() {
        broken.push(format!("{path}.containers: Required value"));
    }
    let mut names = Vec::new();
    for list in ["containers", "initContainers"] {
        for (index, container) in items(object, &at(list)).enumerate() {
            let name = text(container, "/name");
            if !is_label(name) {
                broken.push(format!("{path}.{list}[{index}].name: Invalid value: {name:?}: must be an RFC 1123 label"));
            }
            if names.contains(&name) {
                broken.push(format!("{path}.{list}[{index}].name: Duplicate value: {name:?}"));
            }
            if text(container, "/image").is_empty() {
                broken.push(format!("{path}.{list}[{index}].image: Required value"));
            }
            names.push(name);
        }
    }
    let volumes: Vec<_> = items(object, &at("volumes")).map(|volume| text(volume, "/name")).collect();
    for container in items(object, &at("containers")) {
        for mount in items(container, "/volumeMounts") {
            let name = text(mount, "/name");
            if !volumes.contains(&name) {
                let container = text(container, "/name");
                broken.push(format!("{path}.containers[{container}].volumeMounts.name: Not found: {name:?}"));
            }
        }
    }
}

fn check_service(object: &Value, broken: &mut Vec<String>) {
    let ports: Vec<_> = items(object, "/spec/ports").collect();
    let needs_none = text(object, "/spec/type") == "ExternalName" || text(object, "/spec/clusterIP") == "None";
    if ports.is_empty() && !needs_none {
        broken.push("spec.ports: Required value".into());
    }
    let mut names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let number = port.get("port").and_then(Value::as_i64).unwrap_or_default();
        if !(1..=65535).contains(&number) {
            broken.push(format!("spec.ports[{index}].port: Invalid value: {number}: must be between 1 and 65535"));
        }
        let name = text(port, "/name");
        if ports.len() > 1 && name.is_empty() {
            broken.push(format!("spec.ports[{index}].name: Required value"));
        } else if names.contains(&name) {
            broken.push(format!("spec.ports[{index}].name: Duplicate value: {name:?}"));
        }
        names.push(name);
    }
}

fn check_workload(object: &Value, broken: &mut Vec<String>) {
    let selector = object.pointer("/spec/selector/matchLabels").and_then(Value::as_object);
    let is_empty = selector.is_none_or(serde_json::Map::is_empty);
    if is_empty && items(object, "/spec/selector/matchExpressions").next().is_none() {
        broken.push("spec.selector: Required value".into());
    }
    let labels = object.pointer("/spec/template/metadata/labels");
    let differs = |(key, value): (&String, &Value)| labels.and_then(|labels| labels.get(key)) != Some(value);
    if selector.into_iter().flatten().any(differs) {
        broken.push("spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`".into());
    }
    if object.pointer("/spec/replicas").and_then(Value::as_i64).is_some_and(|replicas| !(0..=1000).contains(&replicas))
    {
        broken.push("spec.replicas: Invalid value: must be between 0 and 1000 in this lab".into());
    }
    check_pod(object, "/spec/template/spec", broken);
}
