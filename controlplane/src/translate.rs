//! From Kubernetes and Istio objects to what node proxies read: pure functions over [`Objects`].
//!
//! Each resource is derived from one object and an index of the objects around it, so that a later version can
//! derive only what a change touches.

mod app_protocol;
mod authorization;
mod endpoint_slice;
mod hosts;
mod index;
mod network_gateway;
mod owner;
mod peer_authentication;
mod service;
mod service_entry;
mod waypoint;
mod workload;
mod workload_entry;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proto::istio::security::Authorization;
use proto::istio::workload::{self as wds, Address, NetworkMode, Workload, address};
use types::{Cidr, NetworkAddress, TrustDomain};

use crate::objects::Objects;
pub(crate) use hosts::{Hosts, by_age};
use index::Index;
pub(crate) use service_entry::takes_addresses;
pub(crate) use waypoint::{Purpose, Waypoints};
pub(crate) use workload::pod_uid;

/// What derivations need to know besides the objects.
#[derive(Debug, Clone)]
pub struct Options {
    /// The cluster's id.
    pub cluster_id: String,
    /// The domain below which Services have their names.
    pub cluster_domain: String,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The namespace whose policies apply to the whole mesh.
    pub root_namespace: String,
    /// The namespace of the mesh's own components.
    pub system_namespace: String,
    /// Whether policies marked as dry run are sent, to be reported on and not enforced.
    pub dry_run_policies: bool,
    /// Where the addresses of ServiceEntries that give none are taken from.
    pub ranges: Ranges,
}

/// Where addresses are assigned from, of each IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges {
    /// IPv4.
    pub v4: Cidr,
    /// IPv6.
    pub v6: Cidr,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster_id: "Kubernetes".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            trust_domain: TrustDomain::default(),
            root_namespace: "istio-system".to_owned(),
            system_namespace: "aquifer-system".to_owned(),
            dry_run_policies: false,
            ranges: Ranges::default(),
        }
    }
}

impl Default for Ranges {
    /// Ranges that nobody routes: a reserved one and one for benchmarks (RFC 1112, section 4; RFC 5180, section 8).
    fn default() -> Self {
        let range = |address: IpAddr, length| Cidr::new(address, length).unwrap_or_else(|_| Cidr::host(address));
        Self {
            v4: range(Ipv4Addr::new(240, 240, 0, 0).into(), 16),
            v6: range(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0).into(), 48),
        }
    }
}

/// The resources of a mesh, by their name on the wire.
#[derive(Debug, Default, PartialEq)]
pub struct Resources {
    /// Workloads and services.
    pub addresses: BTreeMap<String, Address>,
    /// Authorization policies.
    pub authorizations: BTreeMap<String, Authorization>,
}

/// Derives everything.
#[must_use]
pub fn resources(objects: &Objects, options: &Options) -> Resources {
    let index = Index::new(objects, options);
    let mut resources = Resources::default();
    let services = objects.services.iter().filter_map(|service| service::derive(service, &index));
    let entries = objects.service_entries.iter().flat_map(|entry| service_entry::services(entry, &index));
    for service in services.chain(entries) {
        let name = format!("{}/{}", service.namespace, service.hostname);
        resources.addresses.insert(name, Address { r#type: Some(address::Type::Service(service)) });
    }
    let pods = objects.pods.iter().filter_map(|pod| workload::derive(pod, &index));
    let others = objects.endpoint_slices.iter().flat_map(|slice| endpoint_slice::derive(slice, &index));
    let listed = objects.service_entries.iter().flat_map(|entry| service_entry::workloads(entry, &index));
    let entries = objects.workload_entries.iter().filter_map(|entry| workload_entry::derive(entry, &index));
    let workloads = pods.chain(others).chain(listed).chain(entries);
    let workloads = workloads.map(|workload| {
        let network_gateway = index.network_gateways.entrance_of(&workload.network);
        Workload { network_gateway, ..workload }
    });
    for workload in workloads.chain(index.network_gateways.workloads()) {
        let address = Address { r#type: Some(address::Type::Workload(workload.clone())) };
        resources.addresses.insert(workload.uid, address);
    }
    for policy in index.authorizations() {
        resources.authorizations.insert(format!("{}/{}", policy.namespace, policy.name), policy);
    }
    resources
}

/// The names besides its own under which a client may ask for a resource: its addresses, and for a workload the
/// services that it is an endpoint of.
#[must_use]
pub fn aliases(address: &Address) -> Vec<String> {
    let alias = |network: &str, octets: &[u8]| {
        let address = ip(octets)?;
        Some(NetworkAddress { network: network.into(), address }.to_string())
    };
    let of_vip = |vip: &wds::NetworkAddress| {
        let alias = alias(&vip.network, &vip.address)?;
        Some(vip.length.map_or_else(|| alias.clone(), |length| format!("{alias}/{length}")))
    };
    match &address.r#type {
        Some(address::Type::Service(service)) => service.addresses.iter().filter_map(of_vip).collect(),
        Some(address::Type::Workload(workload)) => {
            // The address of a node is not that of the pods which share it.
            let is_own = workload.network_mode != i32::from(NetworkMode::HostNetwork);
            let own = workload.addresses.iter().filter(|_| is_own);
            let own = own.filter_map(|octets| alias(&workload.network, octets));
            own.chain(workload.services.keys().cloned()).collect()
        }
        None => Vec::new(),
    }
}

/// The node on which a workload runs.
pub(crate) fn node(address: &Address) -> Option<&str> {
    match &address.r#type {
        Some(address::Type::Workload(workload)) => Some(workload.node.as_str()).filter(|node| !node.is_empty()),
        _ => None,
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?));
    v4().or_else(v6)
}

#[cfg(test)]
mod tests;
