//! What a write does beyond the object itself: namespaces that must exist, cluster addresses, ServiceAccounts.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::core::now;
use super::defaults::{self, entry, fields};
use super::kind::{self, Kind};
use super::store::{Object, Store, key, text};
use super::{Status, cluster_addresses, random};
use crate::families::Families;

/// Events kept; older ones make room.
const MAX_EVENTS: usize = 1000;

/// Completes a new object; `lab` says in which families Services can have addresses.
///
/// # Errors
/// When it cannot be where it wants to be, or what it needs is not there.
pub(crate) fn create(store: &mut Store, lab: Families, kind: &Kind, mut object: Value) -> Result<Value, Status> {
    let (namespace, name) = key(&object);
    if kind.namespaced {
        check_namespace(store, kind, &namespace, &name)?;
    }
    if !store.has_room() {
        return Err(Status::forbidden(&kind.resource(), &name, "the lab's API server is full"));
    }
    // A node registers itself together with its status, definitions are as good as established; everything else gets
    // a status later.
    if kind.has_status && !kind.is::<Node>() && !kind.is::<CustomResourceDefinition>() {
        fields(&mut object).shift_remove("status");
    }
    defaults::apply(kind, &mut object);
    if kind.is::<Pod>() {
        pod(store, &mut object)?;
    } else if kind.is::<Service>() {
        service(store, lab, &mut object)?;
    } else if kind.is::<CustomResourceDefinition>() {
        definition(&object)?;
    } else if kind.is::<Event>() || kind.resource() == "events.events.k8s.io" {
        forget_oldest_event(store);
    }
    Ok(object)
}

/// Completes a changed object.
///
/// # Errors
/// When it changes what cannot change.
pub(crate) fn update(
    store: &Store,
    lab: Families,
    kind: &Kind,
    current: &Value,
    next: &mut Value,
) -> Result<(), Status> {
    let immutable = |field: &str| {
        let name = text(current, "/metadata/name");
        Status::invalid(&kind.qualified(), name, format!("{field}: Invalid value: field is immutable"))
    };
    if kind.is::<Service>() && text(next, "/spec/type") != "ExternalName" {
        cluster_addresses::reassign(store, lab, current, next)?;
    } else if kind.group == "apps" && current.pointer("/spec/selector") != next.pointer("/spec/selector") {
        return Err(immutable("spec.selector"));
    } else if kind.is::<Pod>() && fixed_spec(current, current) != fixed_spec(current, next) {
        let why = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`";
        return Err(Status::invalid("Pod", text(current, "/metadata/name"), why));
    }
    Ok(())
}

/// What stays the same as long as a pod lives: all but images, and the node once there is one.
fn fixed_spec(current: &Value, pod: &Value) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    if text(current, "/spec/nodeName").is_empty() {
        fields(&mut spec).shift_remove("nodeName");
    }
    for container in spec.pointer_mut("/containers").and_then(Value::as_array_mut).into_iter().flatten() {
        fields(container).shift_remove("image");
    }
    spec
}

/// Puts into a new namespace what each has.
///
/// # Errors
/// Never in practice: both objects are known to be good.
pub(crate) fn furnish(store: &mut Store, namespace: &str, ca_pem: &str) -> Result<(), Status> {
    let metadata =
        |name: &str| json!({"name": name, "namespace": namespace, "uid": random::uid(), "creationTimestamp": now()});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("default")});
    store.put(kind::of::<ServiceAccount>(), account);
    let roots = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("kube-root-ca.crt"), "data": {"ca.crt": ca_pem},
    });
    store.put(kind::of::<ConfigMap>(), roots);
    Ok(())
}

fn check_namespace(store: &Store, kind: &Kind, namespace: &str, name: &str) -> Result<(), Status> {
    let Some(found) = store.fetch(kind::of::<Namespace>(), "", namespace) else {
        return Err(Status::not_found("namespaces", namespace));
    };
    if text(found, "/metadata/deletionTimestamp").is_empty() {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    Err(Status::forbidden(&kind.resource(), name, why))
}

/// The kinds are fixed: a definition of another one must not look as if it had an effect.
fn definition(object: &Value) -> Result<(), Status> {
    let (group, name) = (text(object, "/spec/group"), text(object, "/spec/names/kind"));
    if kind::all().iter().any(|kind| kind.group == group && kind.kind == name) {
        return Ok(());
    }
    let why = format!("this lab serves a fixed set of kinds, and {name} of {group:?} is not one of them");
    Err(Status::forbidden("customresourcedefinitions.apiextensions.k8s.io", text(object, "/metadata/name"), why))
}

fn pod(store: &Store, object: &mut Value) -> Result<(), Status> {
    let (namespace, name) = key(object);
    let spec = entry(fields(object), "spec");
    let asked = spec.get("serviceAccountName").or_else(|| spec.get("serviceAccount")).and_then(Value::as_str);
    let account = asked.filter(|asked| !asked.is_empty()).unwrap_or("default").to_owned();
    spec.insert("serviceAccountName".into(), account.clone().into());
    spec.insert("serviceAccount".into(), account.clone().into());
    let automount = spec.get("automountServiceAccountToken").and_then(Value::as_bool);
    let Some(found) = store.fetch(kind::of::<ServiceAccount>(), &namespace, &account) else {
        let why =
            format!("error looking up service account {namespace}/{account}: serviceaccount {account:?} not found");
        return Err(Status::forbidden("pods", &name, why));
    };
    let automount = automount.or_else(|| found.get("automountServiceAccountToken").and_then(Value::as_bool));
    if automount != Some(false) {
        defaults::mount_token(object, &format!("kube-api-access-{}", random::suffix(5)));
    }
    Ok(())
}

fn service(store: &Store, lab: Families, object: &mut Value) -> Result<(), Status> {
    if text(object, "/spec/type") == "ExternalName" {
        return Ok(());
    }
    cluster_addresses::assign(store, lab, object)?;
    entry(entry(fields(object), "status"), "loadBalancer");
    Ok(())
}

fn forget_oldest_event(store: &mut Store) {
    let kind = kind::of::<Event>();
    let age = |event: &&Object| text(event, "/metadata/creationTimestamp").to_owned();
    if store.iter(kind, None).count() >= MAX_EVENTS
        && let Some(oldest) = store.iter(kind, None).min_by_key(age).map(|event| key(event))
    {
        store.remove(kind, &oldest);
    }
}
