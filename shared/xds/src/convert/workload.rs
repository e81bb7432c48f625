//! Workloads.

use std::sync::Arc;

use discovery::{
    Addresses, ApplicationTunnel, Health, Locality, NetworkMode, PortMap, Protocol, TunnelProtocol, Workload,
    WorkloadType,
};
use prost::Message;
use prost::bytes::Bytes;
use prost_types::Struct;
use prost_types::value::Kind;
use proto::istio::workload as wire;
use types::{NamespacedHostname, NamespacedName, TrustDomain};

use super::{ConvertError, enumeration, ip, optional_gateway, port_number, ports};

/// The extension under which a control plane sends a workload's labels: an `Any` of a `Struct` of texts.
pub const LABELS_EXTENSION: &str = "aquifer.dev/labels";

/// Sorted pairs of key and value.
type Labels = Arc<[(Arc<str>, Arc<str>)]>;

/// Converts a workload.
///
/// # Errors
/// The first field that is not as it should be.
pub fn workload(message: wire::Workload) -> Result<Workload, ConvertError> {
    if message.uid.is_empty() {
        return Err(ConvertError::new("uid", "not set"));
    }
    let defaults = Workload::default();
    Ok(Workload {
        addresses: addresses(&message.addresses)?,
        protocol: protocol(message.tunnel_protocol)?,
        trust_domain: trust_domain(&message.trust_domain)?,
        waypoint: optional_gateway("waypoint", message.waypoint)?.map(Arc::new),
        network_gateway: optional_gateway("network_gateway", message.network_gateway)?.map(Arc::new),
        workload_type: workload_type(message.workload_type)?,
        authorization_policies: policies(&message.authorization_policies)?,
        health: match enumeration("status", message.status)? {
            wire::WorkloadStatus::Healthy => Health::Healthy,
            wire::WorkloadStatus::Unhealthy => Health::Unhealthy,
        },
        services: services(&message.services)?,
        application_tunnel: message.application_tunnel.map(application_tunnel).transpose()?,
        network_mode: match enumeration("network_mode", message.network_mode)? {
            wire::NetworkMode::Standard => NetworkMode::Standard,
            wire::NetworkMode::HostNetwork => NetworkMode::HostNetwork,
        },
        labels: labels(&message.extensions)?,
        uid: message.uid.into(),
        name: message.name.into(),
        namespace: message.namespace.into(),
        hostname: message.hostname.into(),
        network: message.network.into(),
        service_account: text_or(message.service_account, &defaults.service_account),
        node: message.node.into(),
        canonical_name: message.canonical_name.into(),
        canonical_revision: message.canonical_revision.into(),
        workload_name: message.workload_name.into(),
        native_tunnel: message.native_tunnel,
        cluster_id: text_or(message.cluster_id, &defaults.cluster_id),
        locality: Arc::new(message.locality.map(locality).unwrap_or_default()),
        capacity: message.capacity.unwrap_or(defaults.capacity),
    })
}

fn text_or(text: String, default: &Arc<str>) -> Arc<str> {
    if text.is_empty() { Arc::clone(default) } else { text.into() }
}

fn addresses(list: &[Bytes]) -> Result<Addresses, ConvertError> {
    list.iter().enumerate().map(|(index, bytes)| ip(&format!("addresses[{index}]"), bytes)).collect()
}

fn protocol(number: i32) -> Result<Protocol, ConvertError> {
    match enumeration("tunnel_protocol", number)? {
        wire::TunnelProtocol::None => Ok(Protocol::Tcp),
        wire::TunnelProtocol::Hbone => Ok(Protocol::Hbone),
        wire::TunnelProtocol::LegacyIstioMtls => {
            Err(ConvertError::new("tunnel_protocol", "LEGACY_ISTIO_MTLS is not supported"))
        }
    }
}

fn trust_domain(text: &str) -> Result<TrustDomain, ConvertError> {
    if text.is_empty() {
        return Ok(TrustDomain::default());
    }
    text.parse().map_err(|error| ConvertError::new("trust_domain", error))
}

fn workload_type(number: i32) -> Result<WorkloadType, ConvertError> {
    Ok(match enumeration("workload_type", number)? {
        wire::WorkloadType::Deployment => WorkloadType::Deployment,
        wire::WorkloadType::Cronjob => WorkloadType::CronJob,
        wire::WorkloadType::Pod => WorkloadType::Pod,
        wire::WorkloadType::Job => WorkloadType::Job,
    })
}

fn policies(keys: &[String]) -> Result<Arc<[NamespacedName]>, ConvertError> {
    let numbered = keys.iter().enumerate();
    let parse = |(index, key): (usize, &String)| {
        key.parse().map_err(|error| ConvertError::new(format!("authorization_policies[{index}]"), error))
    };
    numbered.map(parse).collect()
}

fn services(
    services: &std::collections::BTreeMap<String, wire::PortList>,
) -> Result<Arc<[(NamespacedHostname, PortMap)]>, ConvertError> {
    let convert = |(key, list): (&String, &wire::PortList)| {
        let service = key.parse::<NamespacedHostname>().map_err(|error| ConvertError::new("services", error))?;
        let field = format!("services[{key:?}].ports");
        Ok((service, PortMap::from_iter(ports(&field, &list.ports)?)))
    };
    let mut services = services.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
    services.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(services.into())
}

fn application_tunnel(message: wire::ApplicationTunnel) -> Result<ApplicationTunnel, ConvertError> {
    let protocol = match enumeration("application_tunnel.protocol", message.protocol)? {
        wire::application_tunnel::Protocol::None => TunnelProtocol::None,
        wire::application_tunnel::Protocol::Proxy => TunnelProtocol::Proxy,
    };
    let port = port_number("application_tunnel.port", message.port)?;
    Ok(ApplicationTunnel { protocol, port: (port != 0).then_some(port) })
}

pub(crate) fn locality(message: wire::Locality) -> Locality {
    Locality { region: message.region.into(), zone: message.zone.into(), subzone: message.subzone.into() }
}

/// Other extensions are for others.
fn labels(extensions: &[wire::Extension]) -> Result<Option<Labels>, ConvertError> {
    let Some(extension) = extensions.iter().find(|extension| extension.name == LABELS_EXTENSION) else {
        return Ok(None);
    };
    let field = format!("extensions[{LABELS_EXTENSION:?}]");
    let config = extension.config.as_ref().ok_or_else(|| ConvertError::new(&field, "not set"))?;
    let labels = Struct::decode(&*config.value).map_err(|error| ConvertError::new(&field, error))?;
    let convert = |(key, value): (String, prost_types::Value)| match value.kind {
        Some(Kind::StringValue(text)) => Ok((Arc::from(key), Arc::from(text))),
        _ => Err(ConvertError::new(format!("{field}.{key}"), "a label's value is a text")),
    };
    labels.fields.into_iter().map(convert).collect::<Result<Labels, _>>().map(Some)
}
