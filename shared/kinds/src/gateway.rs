//! What the mesh reads of the Gateway API's Gateways, which come in many versions and with fields of others.

use kube::core::DynamicObject;
use serde_json::Value;

/// The API group.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// The classes of waypoints: Istio's name, which is kept so that manifests work unchanged, and our own.
pub const WAYPOINT_CLASSES: &[&str] = &["istio-waypoint", "aquifer-waypoint"];

/// An address of a Gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayAddress<'a> {
    /// Whether it is a host name; an IP address otherwise.
    pub is_hostname: bool,
    /// The address.
    pub value: &'a str,
}

/// A listener of a Gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Listener<'a> {
    /// Its protocol, such as `HBONE`.
    pub protocol: &'a str,
    /// Its port; 0 without a valid one.
    pub port: u16,
    /// Everything else that it says.
    pub fields: &'a Value,
}

/// The class of a Gateway.
#[must_use]
pub fn class(gateway: &DynamicObject) -> Option<&str> {
    gateway.data.pointer("/spec/gatewayClassName")?.as_str()
}

/// The listeners of a Gateway, in its order.
#[must_use]
pub fn listeners(gateway: &DynamicObject) -> Vec<Listener<'_>> {
    let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
    let read = |fields| Listener {
        protocol: text(fields, "protocol").unwrap_or_default(),
        port: fields.get("port").and_then(Value::as_u64).and_then(|port| port.try_into().ok()).unwrap_or_default(),
        fields,
    };
    listeners.into_iter().flatten().map(read).collect()
}

/// The addresses at which a Gateway is reached, as its controller found them.
#[must_use]
pub fn status_addresses(gateway: &DynamicObject) -> Vec<GatewayAddress<'_>> {
    addresses(gateway.data.pointer("/status/addresses"))
}

/// The addresses that a Gateway asks for, or for a remote one those that it has.
#[must_use]
pub fn spec_addresses(gateway: &DynamicObject) -> Vec<GatewayAddress<'_>> {
    addresses(gateway.data.pointer("/spec/addresses"))
}

fn addresses(list: Option<&Value>) -> Vec<GatewayAddress<'_>> {
    let read = |address| {
        let is_hostname = match text(address, "type") {
            Some("Hostname") => true,
            // The type's default.
            Some("IPAddress") | None => false,
            Some(_) => return None,
        };
        Some(GatewayAddress { is_hostname, value: text(address, "value")? })
    };
    list.and_then(Value::as_array).into_iter().flatten().filter_map(read).collect()
}

fn text<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.get(field)?.as_str()
}
