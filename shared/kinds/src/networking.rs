//! Istio's networking kinds: hosts and endpoints that Kubernetes does not know.

mod service_entry;
mod workload_entry;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use service_entry::{
    AssignedAddress, Location, Resolution, ServiceEntry, ServiceEntrySpec, ServiceEntryStatus, ServicePort,
};
pub use workload_entry::{WorkloadEntry, WorkloadEntrySpec};

/// The group of the kinds here.
pub const GROUP: &str = "networking.istio.io";

/// Which pods and WorkloadEntries are endpoints of a ServiceEntry.
///
/// Source: [`WorkloadSelector`](https://istio.io/latest/docs/reference/config/networking/sidecar/#WorkloadSelector).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSelector {
    /// Labels that an endpoint must carry, all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortProtocol {
    /// Any bytes.
    Tcp,
    /// Datagrams, which the mesh does not carry.
    Udp,
    /// HTTP/1.1.
    Http,
    /// HTTP/2 in clear text.
    Http2,
    /// gRPC.
    Grpc,
    /// TLS, HTTPS among it.
    Tls,
    /// Known by name, carried as any bytes.
    Other,
}

impl PortProtocol {
    /// Every name that Istio knows, in its spelling.
    pub const KNOWN: &'static [&'static str] =
        &["TCP", "UDP", "HTTP", "HTTP_PROXY", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "TLS", "MONGO", "REDIS", "MYSQL"];

    /// Reads a name in any case; `None` for one that Istio does not know.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_uppercase().as_str() {
            "TCP" => Self::Tcp,
            "UDP" => Self::Udp,
            "HTTP" => Self::Http,
            "HTTP2" => Self::Http2,
            "GRPC" => Self::Grpc,
            "TLS" | "HTTPS" => Self::Tls,
            "GRPC-WEB" | "GRPC-WEB-TLS" | "HTTP_PROXY" | "MONGO" | "REDIS" | "MYSQL" => Self::Other,
            _ => return None,
        })
    }
}
