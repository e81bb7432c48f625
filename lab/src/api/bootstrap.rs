//! The objects that are there from the start.

use serde_json::{Value, json};

use super::kind::{self, Kind};
use super::{Client, Options, Status, kubernetes_addresses};
use crate::families::Family;

/// Creates what every cluster has, what the options ask for, and the definitions of the custom kinds.
///
/// # Errors
/// When an object is refused: a namespace's name may be no DNS label.
pub(crate) fn create(client: &Client, options: &Options) -> Result<(), Status> {
    let names = ["default", "kube-system"].into_iter().chain(options.namespaces.iter().map(String::as_str));
    for name in names {
        client.apply_json(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
    }
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    client.apply_json(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": kubernetes_addresses(options.families).primary,
            "ports": [{"name": "https", "port": 443, "protocol": "TCP"}],
        },
    }))?;
    for kind in kind::all().iter().filter(|kind| kind.is_custom()) {
        client.apply_json(definition(kind))?;
    }
    let Some(address) = options.advertise else { return Ok(()) };
    let family = Family::of(address.ip()).name();
    client.apply_json(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {
            "name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": address.port(), "protocol": "TCP"}],
    }))?;
    Ok(())
}

/// The CustomResourceDefinition of a kind. Tools look whether it is there; the server itself does not need it.
fn definition(kind: &Kind) -> Value {
    let version = |version: &&str| {
        let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "name": version, "served": true, "storage": *version == kind.preferred_version(),
            "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
        })
    };
    let names = json!({
        "plural": kind.plural, "singular": kind.singular(), "kind": kind.kind, "listKind": format!("{}List", kind.kind),
        "shortNames": kind.short_names, "categories": kind.categories(),
    });
    let condition = |name: &str| json!({"type": name, "status": "True", "reason": "Served"});
    let spec = json!({
        "group": kind.group, "names": names, "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "versions": kind.versions.iter().map(version).collect::<Vec<_>>(),
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.resource()}, "spec": spec,
        "status": {
            "conditions": [condition("NamesAccepted"), condition("Established")], "acceptedNames": names,
            "storedVersions": [kind.preferred_version()],
        },
    })
}
