//! Defaults that users see: what an object says after it was written without saying it.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::store::text;

/// Fills in what follows from the object alone.
pub(crate) fn apply(kind: &Kind, object: &mut Value) {
    if kind.is::<Namespace>() {
        let name = text(object, "/metadata/name").to_owned();
        let labels = entry(entry(fields(object), "metadata"), "labels");
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
        set(entry(fields(object), "spec"), &[("finalizers", json!(["kubernetes"]))]);
        set(entry(fields(object), "status"), &[("phase", json!("Active"))]);
    } else if kind.is::<Pod>() {
        pod(entry(fields(object), "spec"));
        set(entry(fields(object), "status"), &[("phase", json!("Pending")), ("qosClass", json!("BestEffort"))]);
    } else if kind.is::<Deployment>() {
        deployment(entry(fields(object), "spec"));
    } else if kind.is::<ReplicaSet>() {
        let spec = entry(fields(object), "spec");
        set(spec, &[("replicas", json!(1))]);
        pod(entry(entry(spec, "template"), "spec"));
    } else if kind.is::<Service>() {
        service(entry(fields(object), "spec"));
    } else if kind.is::<Secret>() {
        secret(fields(object));
    } else if kind.is::<HorizontalPodAutoscaler>() {
        let usage = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
        let metrics = json!([{"type": "Resource", "resource": usage}]);
        set(entry(fields(object), "spec"), &[("minReplicas", json!(1)), ("metrics", metrics)]);
    } else if kind.is::<NetworkPolicy>() {
        let spec = entry(fields(object), "spec");
        let types = if spec.contains_key("egress") { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
        set(spec, &[("policyTypes", types)]);
    }
}

fn deployment(spec: &mut Map<String, Value>) {
    set(
        spec,
        &[
            ("replicas", json!(1)),
            ("strategy", json!({})),
            ("revisionHistoryLimit", json!(10)),
            ("progressDeadlineSeconds", json!(600)),
        ],
    );
    let strategy = entry(spec, "strategy");
    set(strategy, &[("type", json!("RollingUpdate"))]);
    if strategy.get("type") == Some(&json!("RollingUpdate")) {
        set(entry(strategy, "rollingUpdate"), &[("maxSurge", json!("25%")), ("maxUnavailable", json!("25%"))]);
    }
    pod(entry(entry(spec, "template"), "spec"));
}

fn pod(spec: &mut Map<String, Value>) {
    set(
        spec,
        &[
            ("restartPolicy", json!("Always")),
            ("terminationGracePeriodSeconds", json!(30)),
            ("dnsPolicy", json!("ClusterFirst")),
            ("schedulerName", json!("default-scheduler")),
            ("securityContext", json!({})),
        ],
    );
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            set(container, &[("resources", json!({})), ("imagePullPolicy", json!("IfNotPresent"))]);
            for port in each(container, "ports") {
                set(port, &[("protocol", json!("TCP"))]);
            }
            for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
                if let Some(probe) = container.get_mut(probe).and_then(Value::as_object_mut) {
                    set(
                        probe,
                        &[
                            ("timeoutSeconds", json!(1)),
                            ("periodSeconds", json!(10)),
                            ("successThreshold", json!(1)),
                            ("failureThreshold", json!(3)),
                        ],
                    );
                }
            }
            for variable in each(container, "env") {
                let field = variable.get_mut("valueFrom").and_then(|from| from.get_mut("fieldRef"));
                if let Some(field) = field.and_then(Value::as_object_mut) {
                    set(field, &[("apiVersion", json!("v1"))]);
                }
            }
        }
    }
}

fn service(spec: &mut Map<String, Value>) {
    set(spec, &[("type", json!("ClusterIP")), ("sessionAffinity", json!("None"))]);
    for port in each(spec, "ports") {
        set(port, &[("protocol", json!("TCP"))]);
        if let Some(number) = port.get("port").cloned() {
            set(port, &[("targetPort", number)]);
        }
    }
    if spec.get("type") != Some(&json!("ExternalName")) {
        set(spec, &[("internalTrafficPolicy", json!("Cluster"))]);
    }
}

fn secret(secret: &mut Map<String, Value>) {
    use base64::Engine as _;
    set(secret, &[("type", json!("Opaque"))]);
    if let Some(Value::Object(plain)) = secret.shift_remove("stringData") {
        let data = entry(secret, "data");
        for (key, value) in plain {
            let encoded = base64::prelude::BASE64_STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}

/// Mounts the ServiceAccount token, the authority and the namespace, as admission does
/// ([bound tokens](https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-token-volume)).
pub(crate) fn mount_token(pod: &mut Value, volume: &str) {
    const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let spec = entry(fields(pod), "spec");
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        for container in each(spec, list) {
            let mounts = list_entry(container, "volumeMounts");
            if !mounts.iter().any(|mount| text(mount, "/mountPath") == PATH) {
                mounts.push(json!({"name": volume, "mountPath": PATH, "readOnly": true}));
                mounted = true;
            }
        }
    }
    if mounted {
        let namespace =
            json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
        list_entry(spec, "volumes").push(json!({"name": volume, "projected": {"defaultMode": 0o644, "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [namespace]}},
        ]}}));
    }
}

/// The fields of an object; an empty one takes the place of anything else.
pub(crate) fn fields(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made an object")
}

/// The fields of an object's field.
pub(crate) fn entry<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    fields(object.entry(name).or_insert(Value::Null))
}

fn list_entry<'a>(object: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let list = object.entry(name).or_insert(Value::Null);
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("it has just been made a list")
}

fn each<'a>(object: &'a mut Map<String, Value>, name: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    object.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn set(object: &mut Map<String, Value>, defaults: &[(&str, Value)]) {
    for (name, value) in defaults {
        object.entry(*name).or_insert_with(|| value.clone());
    }
}
