//! Wire messages to the mesh's models: everything is parsed here, once, and what does not parse is refused by field.
//!
//! The rules are those of Istio's own proxy, and stricter where leniency would widen a policy: a condition that cannot
//! be understood refuses the whole policy instead of falling out of it.

mod authorization;
mod service;
mod workload;

use std::fmt;
use std::net::IpAddr;

use discovery::{AppProtocol, Destination, GatewayAddress, Port, Service, Workload};
use proto::istio::workload as wire;
use types::{NamespacedHostname, NetworkAddress, canonical_ip};

pub use authorization::{authorization, decode_authorization, unreadable};
pub use service::service;
pub(crate) use workload::locality;
pub use workload::{LABELS_EXTENSION, workload};

/// Why a resource is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct ConvertError {
    /// The path of the field inside the resource, such as `addresses[1]`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl ConvertError {
    fn new(field: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { field: field.into(), reason: reason.to_string() }
    }

    /// The same error, seen from the message that the field is in.
    fn inside(self, outer: impl fmt::Display) -> Self {
        Self { field: format!("{outer}.{}", self.field), reason: self.reason }
    }
}

/// What an `istio.workload.Address` turns out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    /// A workload.
    Workload(Box<Workload>),
    /// A service.
    Service(Box<Service>),
}

impl Address {
    /// The name that its resource must have.
    #[must_use]
    pub fn resource_name(&self) -> String {
        match self {
            Self::Workload(workload) => workload.uid.to_string(),
            Self::Service(service) => service.key().to_string(),
        }
    }
}

/// Converts an address.
///
/// # Errors
/// The first field that is not as it should be.
pub fn address(message: wire::Address) -> Result<Address, ConvertError> {
    match message.r#type {
        Some(wire::address::Type::Workload(message)) => {
            workload(message).map(Box::new).map(Address::Workload).map_err(|error| error.inside("workload"))
        }
        Some(wire::address::Type::Service(message)) => {
            service(message).map(Box::new).map(Address::Service).map_err(|error| error.inside("service"))
        }
        None => Err(ConvertError::new("type", "neither a workload nor a service")),
    }
}

/// A number of an enumeration; numbers that this version does not know are refused.
fn enumeration<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, ConvertError> {
    E::try_from(number).map_err(|_unknown| ConvertError::new(field, format!("{number} is not a known value")))
}

/// An address in canonical form, as a workload has it.
pub(crate) fn ip(field: &str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    ip_as_given(field, bytes).map(canonical_ip)
}

fn ip_as_given(field: &str, bytes: &[u8]) -> Result<IpAddr, ConvertError> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        Ok(IpAddr::from(bytes))
    } else if let Ok(bytes) = <[u8; 16]>::try_from(bytes) {
        Ok(IpAddr::from(bytes))
    } else {
        Err(ConvertError::new(field, format!("an address has 4 or 16 bytes, not {}", bytes.len())))
    }
}

fn port_number(field: &str, number: u32) -> Result<u16, ConvertError> {
    u16::try_from(number).map_err(|_too_large| ConvertError::new(field, format!("{number} is not a port")))
}

fn ports(field: &str, ports: &[wire::Port]) -> Result<Vec<Port>, ConvertError> {
    let convert = |port: &wire::Port| {
        Ok(Port {
            service_port: port_number("service_port", port.service_port)?,
            target_port: port_number("target_port", port.target_port)?,
            app_protocol: match enumeration("app_protocol", port.app_protocol)? {
                wire::AppProtocol::Unknown => AppProtocol::Unknown,
                wire::AppProtocol::Http11 => AppProtocol::Http11,
                wire::AppProtocol::Http2 => AppProtocol::Http2,
                wire::AppProtocol::Grpc => AppProtocol::Grpc,
                wire::AppProtocol::Tcp => AppProtocol::Tcp,
                wire::AppProtocol::Tls => AppProtocol::Tls,
            },
        })
    };
    each(field, ports, convert)
}

/// Converts a list; an error names the element.
fn each<T, U>(
    field: &str,
    list: impl IntoIterator<Item = T>,
    convert: impl Fn(T) -> Result<U, ConvertError>,
) -> Result<Vec<U>, ConvertError> {
    let numbered = list.into_iter().enumerate();
    numbered
        .map(|(index, element)| convert(element).map_err(|error| error.inside(format_args!("{field}[{index}]"))))
        .collect()
}

fn gateway_address(message: wire::GatewayAddress) -> Result<GatewayAddress, ConvertError> {
    let destination = match message.destination {
        Some(wire::gateway_address::Destination::Hostname(name)) => {
            if name.namespace.is_empty() || name.hostname.is_empty() {
                return Err(ConvertError::new("hostname", "namespace and hostname must be set"));
            }
            Destination::Hostname(NamespacedHostname::new(name.namespace, name.hostname))
        }
        Some(wire::gateway_address::Destination::Address(address)) => Destination::Address(NetworkAddress {
            address: ip("address.address", &address.address)?,
            network: address.network.into(),
        }),
        None => return Err(ConvertError::new("destination", "not set")),
    };
    let hbone_mtls_port = port_number("hbone_mtls_port", message.hbone_mtls_port)?;
    Ok(GatewayAddress { destination, hbone_mtls_port })
}

fn optional_gateway(
    field: &str,
    message: Option<wire::GatewayAddress>,
) -> Result<Option<GatewayAddress>, ConvertError> {
    message.map(gateway_address).transpose().map_err(|error| error.inside(field))
}

#[cfg(test)]
mod tests;
