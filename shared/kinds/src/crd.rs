//! CustomResourceDefinitions of the project's own types, generated from them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use crate::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication, ServiceEntry, WorkloadEntry, table};

/// The definitions, one per kind, each with every version of the kind table.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let derived = [
        AuthorizationPolicy::crd(),
        PeerAuthentication::crd(),
        RequestAuthentication::crd(),
        ServiceEntry::crd(),
        WorkloadEntry::crd(),
    ];
    derived.into_iter().map(with_all_versions).collect()
}

/// The derive makes one version; the others share its schema, as Istio's do.
fn with_all_versions(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let row = table::ISTIO.iter().find(|row| row.group == crd.spec.group && row.kind == crd.spec.names.kind);
    if let (Some(row), Some(version)) = (row, crd.spec.versions.first().cloned()) {
        crd.spec.versions = row
            .versions
            .iter()
            .map(|name| {
                let mut version = version.clone();
                (*name).clone_into(&mut version.name);
                version.storage = *name == row.preferred_version();
                version
            })
            .collect();
    }
    crd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_agree_with_the_table() {
        for crd in definitions() {
            let names: Vec<&str> = crd.spec.versions.iter().map(|version| version.name.as_str()).collect();
            assert_eq!(crd.spec.versions.iter().filter(|version| version.storage).count(), 1);
            let row = table::find(&format!("{}/v1", crd.spec.group), &crd.spec.names.kind).unwrap();
            assert_eq!(names, row.versions);
            assert_eq!(crd.spec.names.plural, row.plural);
            assert_eq!(crd.spec.names.short_names.as_deref().unwrap(), row.short_names);
            assert_eq!(crd.spec.names.categories.as_deref().unwrap(), row.categories());
        }
    }

    #[test]
    fn enumerations_are_closed_in_the_schema() {
        let crd = serde_json::to_value(PeerAuthentication::crd()).unwrap();
        let mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/mtls/properties/mode";
        let values = crd.pointer(&format!("{mode}/enum")).unwrap().as_array().unwrap();
        // The derive lets an optional field be null, which the API server then drops.
        let names: Vec<&str> = values.iter().filter_map(|value| value.as_str()).collect();
        assert_eq!(names, ["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]);
    }
}
