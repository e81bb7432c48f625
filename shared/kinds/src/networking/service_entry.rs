//! ServiceEntry: hosts that the mesh is told of.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndpointSelector, WorkloadEntrySpec};
use crate::lenient::{integer_or_text, lenient_enum};
use crate::status::{IstioCondition, ValidationMessage, int_or_string};

/// Hosts, how they are reached and where their endpoints are.
///
/// Source: [ServiceEntry](https://istio.io/latest/docs/reference/config/networking/service-entry/).
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "networking.istio.io",
    version = "v1",
    kind = "ServiceEntry",
    plural = "serviceentries",
    namespaced,
    status = "ServiceEntryStatus",
    shortname = "se",
    category = "istio-io",
    category = "networking-istio-io",
    printcolumn(name = "Hosts", type_ = "string", json_path = ".spec.hosts"),
    printcolumn = r#"{"name": "Location", "type": "string", "jsonPath": ".spec.location"}"#,
    printcolumn = r#"{"name": "Resolution", "type": "string", "jsonPath": ".spec.resolution"}"#,
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    derive = "PartialEq",
    derive = "Default"
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntrySpec {
    /// DNS names; one may begin with `*.`.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Virtual addresses, or ranges of them; without any, they are assigned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Whether the hosts are part of the mesh; the node proxies treat both alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Where the endpoints' addresses come from; `NONE` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// The endpoints; excludes `workloadSelector`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<WorkloadEntrySpec>,
    /// The pods and WorkloadEntries of the namespace that are endpoints; excludes `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_selector: Option<EndpointSelector>,
    /// Who sees the hosts: `*` everybody, `.` the own namespace; everybody unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub export_to: Vec<String>,
    /// Names that certificates of endpoints may carry, besides their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
}

impl ServiceEntrySpec {
    /// Where endpoints' addresses come from.
    #[must_use]
    pub fn resolution(&self) -> Resolution {
        self.resolution.clone().unwrap_or(Resolution::None)
    }

    /// The labels selected by; `None` when there is no selector or it has none, which selects nothing.
    #[must_use]
    pub fn selected(&self) -> Option<&EndpointSelector> {
        self.workload_selector.as_ref().filter(|selector| !selector.labels.is_empty())
    }

    /// Whether addresses may be assigned to a host of this entry: never beside given ones, never where connections go
    /// to whatever address they were made to, and to a wildcard only where its names are resolved one by one.
    #[must_use]
    pub fn takes_addresses(&self, host: &str) -> bool {
        let resolution = self.resolution();
        let is_reachable = !host.starts_with('*') || resolution == Resolution::DynamicDns;
        self.addresses.is_empty() && resolution != Resolution::None && is_reachable
    }
}

lenient_enum! {
    /// Where hosts are.
    Location {
        /// Outside of the mesh.
        MeshExternal = "MESH_EXTERNAL",
        /// Part of the mesh.
        MeshInternal = "MESH_INTERNAL",
    }
}

lenient_enum! {
    /// Where the addresses of endpoints come from.
    Resolution {
        /// Connections go to the address that they were made to.
        None = "NONE",
        /// The endpoints' own addresses.
        Static = "STATIC",
        /// Names are resolved; every address found is used.
        Dns = "DNS",
        /// Names are resolved; one address at a time is used.
        DnsRoundRobin = "DNS_ROUND_ROBIN",
        /// Each name below a wildcard is resolved when it is asked for, by a waypoint.
        DynamicDns = "DYNAMIC_DNS",
    }
}

/// A port of the hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The number, 1 to 65535.
    pub number: u32,
    /// What is spoken; see [`PortProtocol`](super::PortProtocol).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// The name, by which endpoints map it.
    #[serde(default)]
    pub name: String,
    /// The port of the endpoints, if it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<u32>,
}

/// Status of a ServiceEntry.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceEntryStatus {
    /// What is known about the object, one entry per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<IstioCondition>,
    /// The generation that the status as a whole speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "integer_or_text")]
    #[schemars(schema_with = "int_or_string")]
    pub observed_generation: Option<i64>,
    /// Messages of an analyzer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_messages: Vec<ValidationMessage>,
    /// Addresses that were assigned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AssignedAddress>,
}

/// An address that was assigned to a host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignedAddress {
    /// The address.
    #[serde(default)]
    pub value: String,
    /// The host.
    #[serde(default)]
    pub host: String,
}
