//! WorkloadEntry: an endpoint that is no pod.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::IstioStatus;

/// One endpoint: of its own, or inside a ServiceEntry.
///
/// Source: [WorkloadEntry](https://istio.io/latest/docs/reference/config/networking/workload-entry/).
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "WorkloadEntry",
    plural = "workloadentries",
    namespaced,
    status = "IstioStatus",
    shortname = "we",
    category = "istio-io",
    category = "networking-istio-io",
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address"),
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEntrySpec {
    /// An IP address, or a host name to be resolved when it is needed; may be absent where `network` is given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// Ports of the endpoint by the name of the service's port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u32>,
    /// Labels of the endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The network that the endpoint is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network: String,
    /// `region/zone/subzone`, or its beginning.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// Its share of connections, compared with the others; 0 means 1.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub weight: u32,
    /// The ServiceAccount of the workload, if it has one of the mesh.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service_account: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
