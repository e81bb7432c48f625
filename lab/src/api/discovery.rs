//! What the server says about itself: versions, groups and resources, and as much OpenAPI as kubectl asks for before
//! it trusts the server with strict validation.

use serde_json::{Map, Value, json};

use super::kind::{self, Kind};

/// The Kubernetes version that the server keeps to.
const VERSION: (&str, &str, &str) = ("1", "36", "v1.36.0+aquifer");

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Kinds that are only posted: `(group, kind, resource)`, version v1.
pub(crate) const REVIEWS: &[(&str, &str, &str)] = &[
    ("authentication.k8s.io", "TokenReview", "tokenreviews"),
    ("authentication.k8s.io", "SelfSubjectReview", "selfsubjectreviews"),
    ("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
];

/// `/version`.
pub(crate) fn version() -> Value {
    let (major, minor, version) = VERSION;
    json!({
        "major": major, "minor": minor, "gitVersion": version, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    let groups: Vec<_> = group_names().into_iter().filter(|group| !group.is_empty()).map(group).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(crate) fn group(name: &str) -> Value {
    let version = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<_> = versions(name).iter().map(version).collect();
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name,
        "preferredVersion": versions.first(), "versions": versions,
    })
}

/// Whether there is a group of this name.
pub(crate) fn has_group(name: &str) -> bool {
    group_names().contains(&name)
}

/// `/api/v1`, `/apis/GROUP/VERSION`; nothing for a version that is not served.
pub(crate) fn resources(group: &str, version: &str) -> Option<Value> {
    if !versions(group).contains(&version) {
        return None;
    }
    let mut resources = Vec::new();
    for kind in served(group, version) {
        resources.push(json!({
            "name": kind.plural, "singularName": kind.singular(), "namespaced": kind.namespaced, "kind": kind.kind,
            "verbs": VERBS, "shortNames": kind.short_names, "categories": kind.categories(),
        }));
        for (sub, parent, api_version, verbs) in subresources(kind) {
            let (group, version) = kinds::table::split(&api_version);
            resources.push(json!({
                "name": format!("{}/{sub}", kind.plural), "singularName": "", "namespaced": kind.namespaced,
                "kind": parent, "group": group, "version": version, "verbs": verbs,
            }));
        }
    }
    for (_, kind, name) in REVIEWS.iter().filter(|(of, ..)| *of == group) {
        resources.push(json!({
            "name": name, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind, "verbs": ["create"],
        }));
    }
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources,
    }))
}

/// All of discovery in one document
/// ([aggregated discovery](https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery)), for
/// `/api` or `/apis`.
pub(crate) fn aggregated(core: bool) -> Value {
    let group = |name: &str| {
        let version = |version: &&str| {
            let mut resources: Vec<_> = served(name, version).map(|kind| aggregated_resource(kind, version)).collect();
            resources.extend(REVIEWS.iter().filter(|(of, ..)| *of == name).map(|(group, kind, resource)| {
                json!({
                    "resource": resource, "responseKind": {"group": group, "version": "v1", "kind": kind},
                    "scope": "Cluster", "singularResource": kind.to_lowercase(), "verbs": ["create"],
                })
            }));
            json!({"version": version, "resources": resources, "freshness": "Current"})
        };
        json!({"metadata": {"name": name}, "versions": versions(name).iter().map(version).collect::<Vec<_>>()})
    };
    let groups: Vec<_> = group_names().into_iter().filter(|name| name.is_empty() == core).map(group).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": groups,
    })
}

fn aggregated_resource(kind: &Kind, version: &str) -> Value {
    let sub = |(sub, parent, api_version, verbs): (&str, &str, String, &[&str])| {
        let (group, version) = kinds::table::split(&api_version);
        json!({
            "subresource": sub, "responseKind": {"group": group, "version": version, "kind": parent}, "verbs": verbs,
        })
    };
    json!({
        "resource": kind.plural, "responseKind": {"group": kind.group, "version": version, "kind": kind.kind},
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }, "singularResource": kind.singular(),
        "verbs": VERBS, "shortNames": kind.short_names, "categories": kind.categories(),
        "subresources": subresources(kind).map(sub).collect::<Vec<_>>(),
    })
}

/// Subresource, kind, apiVersion and verbs.
fn subresources(kind: &Kind) -> impl Iterator<Item = (&'static str, &'static str, String, &'static [&'static str])> {
    let own = || kind.api_version(kind.preferred_version());
    let status = kind.has_status.then(|| ("status", kind.kind, own(), &["get", "patch", "update"][..]));
    let exec = (kind.kind == "Pod").then(|| ("exec", "PodExecOptions", own(), &["create", "get"][..]));
    let more = match kind.kind {
        "Pod" => Some(("log", "Pod", own(), &["get"][..])),
        "ServiceAccount" => Some(("token", "TokenRequest", "authentication.k8s.io/v1".to_owned(), &["create"][..])),
        "Deployment" | "ReplicaSet" => {
            Some(("scale", "Scale", "autoscaling/v1".to_owned(), &["get", "patch", "update"][..]))
        }
        _ => None,
    };
    status.into_iter().chain(more).chain(exec)
}

fn group_names() -> Vec<&'static str> {
    let mut names: Vec<_> = kind::all().iter().map(|kind| kind.group).collect();
    names.extend(REVIEWS.iter().map(|(group, ..)| *group));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

/// The versions of a group, the most preferred one first.
fn versions(group: &str) -> Vec<&'static str> {
    let mut versions: Vec<_> = Vec::new();
    for kind in kind::all().iter().filter(|kind| kind.group == group) {
        for version in kind.versions {
            if !versions.contains(version) {
                versions.push(version);
            }
        }
    }
    if REVIEWS.iter().any(|(of, ..)| *of == group) {
        versions.push("v1");
    }
    // Stable before beta before alpha, as kubectl's choice of a version follows this order.
    versions.sort_by_key(|version| (version.contains("alpha"), version.contains("beta"), *version));
    versions
}

fn served(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    kind::all().iter().filter(move |kind| kind.group == group && kind.serves(version))
}

/// `/openapi/v2` as protobuf, the only form in which kubectl asks for it: a Document without paths (swagger, and info
/// with title and version). kubectl looks here for kinds that version 3 does not have.
pub(crate) const OPENAPI_V2: &[u8] = b"\x0a\x032.0\x12\x12\x0a\x0bAquifer lab\x12\x03v36";

/// `/openapi/v3`.
pub(crate) fn openapi_paths() -> Value {
    let mut paths = Map::new();
    for group in group_names() {
        for version in versions(group) {
            let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            paths.insert(path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash=1")}));
        }
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/GROUP/VERSION`: which kinds exist, and that their writes know
/// `fieldValidation`. Types are not described: the server checks every field itself.
pub(crate) fn openapi(group: &str, version: &str) -> Option<Value> {
    if !versions(group).contains(&version) {
        return None;
    }
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for kind in served(group, version) {
        let gvk = json!({"group": group, "version": version, "kind": kind.kind});
        let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
        let operation = |action: &str| {
            let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
            let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
            json!({
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-action": action, "x-kubernetes-group-version-kind": gvk,
            })
        };
        let path = format!("{root}/{version}{scope}/{}", kind.plural);
        paths.insert(path.clone(), json!({"post": operation("post")}));
        paths.insert(path + "/{name}", json!({"patch": operation("patch"), "put": operation("put")}));
        let schema = json!({
            "type": "object", "x-kubernetes-group-version-kind": [gvk], "x-kubernetes-preserve-unknown-fields": true,
        });
        schemas.insert(format!("{}.{version}.{}", if group.is_empty() { "core" } else { group }, kind.kind), schema);
    }
    let info = json!({"title": "Aquifer lab", "version": VERSION.2});
    Some(json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}))
}
