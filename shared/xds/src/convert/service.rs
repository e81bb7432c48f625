//! Services.

use discovery::{
    CidrVip, HealthPolicy, IpFamilies, LoadBalancing, Mode, PortMap, Scope, Service, Visibility, WeightedWaypoint,
};
use proto::istio::workload as wire;
use proto::istio::workload::load_balancing as wire_balancing;
use types::{Cidr, NetworkAddress};

use super::{ConvertError, each, enumeration, gateway_address, ip_as_given, optional_gateway, ports};

/// Converts a service.
///
/// # Errors
/// The first field that is not as it should be.
pub fn service(message: wire::Service) -> Result<Service, ConvertError> {
    for (field, text) in [("namespace", &message.namespace), ("hostname", &message.hostname)] {
        if text.is_empty() {
            return Err(ConvertError::new(field, "not set"));
        }
        if text.contains('/') {
            return Err(ConvertError::new(field, format!("{text:?} contains a slash")));
        }
    }
    let (vips, cidr_vips) = addresses(&message.addresses)?;
    Ok(Service {
        vips,
        cidr_vips,
        ports: PortMap::from_iter(ports("ports", &message.ports)?),
        // What is not a SPIFFE identity never matches a workload's certificate.
        subject_alt_names: message.subject_alt_names.iter().filter_map(|name| name.parse().ok()).collect(),
        waypoint: optional_gateway("waypoint", message.waypoint)?,
        weighted_waypoints: each("weighted_waypoints", message.weighted_waypoints, weighted_waypoint)?,
        load_balancing: message
            .load_balancing
            .as_ref()
            .map(load_balancing)
            .transpose()
            .map_err(|error| error.inside("load_balancing"))?,
        ip_families: match enumeration("ip_families", message.ip_families)? {
            wire::IpFamilies::Automatic => IpFamilies::Automatic,
            wire::IpFamilies::Ipv4Only => IpFamilies::Ipv4Only,
            wire::IpFamilies::Ipv6Only => IpFamilies::Ipv6Only,
            wire::IpFamilies::Dual => IpFamilies::Dual,
        },
        is_canonical: message.canonical,
        // The one enumeration whose unknown numbers are not refused, as in Istio's proxy: who may look a name up is no
        // protection of the workloads behind it.
        visibility: match wire::service::Visibility::try_from(message.visibility) {
            Ok(wire::service::Visibility::Namespace) => Visibility::Namespace,
            Ok(wire::service::Visibility::Public) | Err(_) => Visibility::Public,
        },
        name: message.name.into(),
        namespace: message.namespace.into(),
        hostname: message.hostname.into(),
    })
}

/// Single addresses and ranges.
fn addresses(list: &[wire::NetworkAddress]) -> Result<(Vec<NetworkAddress>, Vec<CidrVip>), ConvertError> {
    let (mut vips, mut ranges) = (Vec::new(), Vec::new());
    for (index, message) in list.iter().enumerate() {
        let address = ip_as_given(&format!("addresses[{index}].address"), &message.address)?;
        let network = message.network.as_str().into();
        let cidr = match message.length {
            None => Cidr::host(address),
            Some(length) => {
                u8::try_from(length).ok().and_then(|length| Cidr::new(address, length).ok()).ok_or_else(|| {
                    let reason = format!("{length} is too long a prefix for {address}");
                    ConvertError::new(format!("addresses[{index}].length"), reason)
                })?
            }
        };
        if cidr.is_host() {
            vips.push(NetworkAddress { network, address: cidr.address() });
        } else {
            ranges.push(CidrVip { network, cidr });
        }
    }
    Ok((vips, ranges))
}

fn weighted_waypoint(message: wire::WeightedWaypoint) -> Result<WeightedWaypoint, ConvertError> {
    let destination = message.destination.ok_or_else(|| ConvertError::new("destination", "not set"))?;
    let destination = gateway_address(destination).map_err(|error| error.inside("destination"))?;
    Ok(WeightedWaypoint { destination, weight: message.weight })
}

fn load_balancing(message: &wire::LoadBalancing) -> Result<LoadBalancing, ConvertError> {
    let preference = message.routing_preference.iter().enumerate();
    let scope = |(index, &number): (usize, &i32)| scope(&format!("routing_preference[{index}]"), number);
    Ok(LoadBalancing {
        routing_preference: preference.map(scope).collect::<Result<_, _>>()?,
        mode: match enumeration("mode", message.mode)? {
            wire_balancing::Mode::UnspecifiedMode => Mode::Standard,
            wire_balancing::Mode::Strict => Mode::Strict,
            wire_balancing::Mode::Failover => Mode::Failover,
            wire_balancing::Mode::Passthrough => Mode::Passthrough,
        },
        health_policy: match enumeration("health_policy", message.health_policy)? {
            wire_balancing::HealthPolicy::OnlyHealthy => HealthPolicy::OnlyHealthy,
            wire_balancing::HealthPolicy::AllowAll => HealthPolicy::AllowAll,
        },
    })
}

fn scope(field: &str, number: i32) -> Result<Scope, ConvertError> {
    Ok(match enumeration(field, number)? {
        wire_balancing::Scope::UnspecifiedScope => return Err(ConvertError::new(field, "unspecified")),
        wire_balancing::Scope::Region => Scope::Region,
        wire_balancing::Scope::Zone => Scope::Zone,
        wire_balancing::Scope::Subzone => Scope::Subzone,
        wire_balancing::Scope::Node => Scope::Node,
        wire_balancing::Scope::Cluster => Scope::Cluster,
        wire_balancing::Scope::Network => Scope::Network,
    })
}
