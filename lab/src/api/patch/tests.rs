//! Patches against the examples of their definitions.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;

use super::*;
use crate::api::kind;

fn patched<K: k8s_openapi::Resource>(mut object: Value, patch: &Patch) -> Value {
    apply(kind::of::<K>(), &mut object, patch).unwrap();
    object
}

#[test]
fn a_merge_patch_replaces_lists_and_removes_nulls() {
    let before = json!({"a": "b", "c": {"d": "e", "f": "g"}, "list": [1, 2]});
    let patch = Patch::Merge(json!({"a": "z", "c": {"f": null}, "list": [3], "new": {"deep": {"x": null, "y": 1}}}));
    let after = json!({"a": "z", "c": {"d": "e"}, "list": [3], "new": {"deep": {"y": 1}}});
    assert_eq!(patched::<Pod>(before, &patch), after);
}

#[test]
fn a_json_patch_is_applied_in_order_or_refused() {
    let patch = Patch::Json(json!([
        {"op": "test", "path": "/metadata/name", "value": "a"},
        {"op": "add", "path": "/metadata/labels", "value": {}},
        {"op": "add", "path": "/metadata/labels/app.kubernetes.io~1name", "value": "shop"},
    ]));
    let after = patched::<Pod>(json!({"metadata": {"name": "a"}}), &patch);
    assert_eq!(after, json!({"metadata": {"name": "a", "labels": {"app.kubernetes.io/name": "shop"}}}));
    let mut other = json!({"metadata": {"name": "b"}});
    assert!(apply(kind::of::<Pod>(), &mut other, &patch).is_err());
    assert!(apply(kind::of::<Pod>(), &mut other, &Patch::Json(json!({"op": "add"}))).is_err());
}

#[test]
fn a_json_patch_that_doubles_the_object_is_refused() {
    let copies: Vec<_> = (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/copy{n}")})).collect();
    let mut object = json!({"metadata": {"name": "a"}});
    let refused = apply(kind::of::<Pod>(), &mut object, &Patch::Json(copies.into())).unwrap_err();
    assert!(refused.message.contains("too large"), "{refused}");
}

#[test]
fn strategic_lists_merge_by_their_keys() {
    let before = json!({"spec": {
        "containers": [{"name": "app", "image": "v1", "ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}],
        "tolerations": [{"key": "x"}],
    }});
    let patch = Patch::Strategic(json!({"spec": {
        "containers": [
            {"name": "app", "image": "v2", "env": [{"name": "B", "value": "2"}, {"name": "A", "$patch": "delete"}]},
            {"name": "side", "image": "s"},
        ],
        "tolerations": [{"key": "y"}],
    }}));
    let after = json!({"spec": {
        "containers": [
            {"name": "app", "image": "v2", "ports": [{"containerPort": 80}], "env": [{"name": "B", "value": "2"}]},
            {"name": "side", "image": "s"},
        ],
        "tolerations": [{"key": "y"}],
    }});
    assert_eq!(patched::<Pod>(before, &patch), after);
}

#[test]
fn strategic_directives_replace_retain_order_and_delete() {
    let before = json!({
        "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
        "spec": {"ports": [{"port": 80, "name": "http"}, {"port": 443}], "selector": {"app": "a"}, "strategy": {"type": "A", "rolling": 1}},
    });
    let patch = Patch::Strategic(json!({
        "metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "labels": {"$patch": "replace", "z": "3"}},
        "spec": {
            "$setElementOrder/ports": [{"port": 443}, {"port": 80}, {"port": 8080}],
            "ports": [{"port": 8080}],
            "selector": {"$patch": "delete"},
            "strategy": {"$retainKeys": ["type"], "type": "B"},
        },
    }));
    let after = json!({
        "metadata": {"finalizers": ["b"], "labels": {"z": "3"}},
        "spec": {"ports": [{"port": 443}, {"port": 80, "name": "http"}, {"port": 8080}], "strategy": {"type": "B"}},
    });
    assert_eq!(patched::<Service>(before, &patch), after);
}

#[test]
fn strategic_conditions_merge_by_type_and_slice_ports_are_replaced() {
    let patch = Patch::Strategic(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    let before =
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "X", "status": "True"}]}});
    let after =
        json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "True"}]}});
    assert_eq!(patched::<Pod>(before, &patch), after);
    let patch = Patch::Strategic(json!({"ports": [{"port": 81}]}));
    assert_eq!(patched::<EndpointSlice>(json!({"ports": [{"port": 80}]}), &patch), json!({"ports": [{"port": 81}]}));
}

#[test]
fn a_strategic_patch_of_a_custom_resource_is_refused() {
    let policy = kind::by_name("security.istio.io/v1", "PeerAuthentication").unwrap();
    let refused = apply(policy, &mut json!({}), &Patch::Strategic(json!({}))).unwrap_err();
    assert_eq!(refused.code, http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
