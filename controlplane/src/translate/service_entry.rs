//! ServiceEntry to WDS Services, one per host, and to Workloads, one per endpoint that it lists itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kinds::networking::{PortProtocol, Resolution, ServiceEntrySpec, ServicePort, WorkloadEntrySpec};
use kinds::{ServiceEntry, labels};
use proto::istio::workload::load_balancing::{HealthPolicy, Mode};
use proto::istio::workload::{
    self, AppProtocol, LoadBalancing, NetworkAddress, Port, PortList, Workload, service::Visibility,
};
use types::Cidr;

use super::index::Index;
use super::service::{annotated_distribution, octets};
use super::workload_entry::{Endpoint, endpoint};
use crate::checked::Checked;
use crate::objects::Named;

/// The services of an entry: one for each host that it defines.
pub(super) fn services(entry: &Checked<ServiceEntry>, index: &Index<'_>) -> Vec<workload::Service> {
    let spec = &entry.object.spec;
    let visibility = if is_private(spec) { Visibility::Namespace } else { Visibility::Public };
    let waypoint = index.waypoints.of_service(entry);
    let service = |host: &str| workload::Service {
        name: entry.name().to_owned(),
        namespace: entry.namespace().to_owned(),
        hostname: host.to_owned(),
        addresses: addresses(entry, host, &index.networks),
        ports: tcp_ports(spec).map(port).collect(),
        subject_alt_names: spec.subject_alt_names.clone(),
        ingress_use_waypoint: waypoint.is_some() && index.waypoints.takes_ingress(entry),
        waypoint: waypoint.clone(),
        weighted_waypoints: index.waypoints.weighted(entry),
        load_balancing: load_balancing(entry, index),
        canonical: index.hosts.is_canonical(entry, host),
        visibility: visibility.into(),
        ..workload::Service::default()
    };
    index.hosts.of(entry).into_iter().map(service).collect()
}

/// The workloads of the endpoints that an entry lists.
///
/// Where names are to be resolved and none are listed, the hosts themselves are the endpoints.
pub(super) fn workloads(entry: &Checked<ServiceEntry>, index: &Index<'_>) -> Vec<Workload> {
    let spec = &entry.object.spec;
    let hosts = index.hosts.of(entry);
    let resolves = matches!(spec.resolution(), Resolution::Dns | Resolution::DnsRoundRobin | Resolution::DynamicDns);
    let mut workloads = Vec::new();
    if spec.endpoints.is_empty() && resolves && spec.workload_selector.is_none() {
        for host in hosts {
            let itself = WorkloadEntrySpec { address: host.to_owned(), ..WorkloadEntrySpec::default() };
            workloads.extend(listed(entry, &itself, &[host], index));
        }
    } else if spec.workload_selector.is_none() && spec.resolution() != Resolution::None {
        workloads.extend(spec.endpoints.iter().filter_map(|endpoint| listed(entry, endpoint, &hosts, index)));
    }
    workloads
}

fn listed(
    entry: &Checked<ServiceEntry>,
    spec: &WorkloadEntrySpec,
    hosts: &[&str],
    index: &Index<'_>,
) -> Option<Workload> {
    let place = if spec.address.is_empty() { &spec.network } else { &spec.address };
    let (cluster, namespace, name) = (&index.options.cluster_id, entry.namespace(), entry.name());
    let ports = PortList { ports: endpoint_ports(&entry.object.spec, |name| spec.ports.get(name).copied()) };
    let services = hosts.iter().map(|host| (format!("{namespace}/{host}"), ports.clone())).collect();
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    let described = Endpoint {
        uid: format!("{cluster}/networking.istio.io/ServiceEntry/{namespace}/{name}/{place}"),
        spec,
        // Policies select listed endpoints by the labels of the entry.
        labels: entry.metadata().labels.as_ref().unwrap_or(&NO_LABELS),
        services,
    };
    endpoint(entry, described, index)
}

/// The ports of an entry as an endpoint serves them, which maps names of ports to other numbers.
pub(super) fn endpoint_ports(spec: &ServiceEntrySpec, named: impl Fn(&str) -> Option<u32>) -> Vec<Port> {
    let port = |port: &ServicePort| Port {
        service_port: port.number,
        target_port: named(&port.name).or(port.target_port).unwrap_or(port.number),
        ..Port::default()
    };
    tcp_ports(spec).map(port).collect()
}

/// The ports that the mesh carries, without those that are none.
pub(super) fn tcp_ports(spec: &ServiceEntrySpec) -> impl Iterator<Item = &ServicePort> {
    let is_port = |number: u32| (1..=65535).contains(&number);
    let is_valid = move |port: &&ServicePort| is_port(port.number) && port.target_port.is_none_or(is_port);
    let is_tcp = |port: &&ServicePort| PortProtocol::parse(&port.protocol) != Some(PortProtocol::Udp);
    spec.ports.iter().filter(is_valid).filter(is_tcp)
}

fn port(port: &ServicePort) -> Port {
    let app_protocol = match PortProtocol::parse(&port.protocol) {
        Some(PortProtocol::Tcp) => AppProtocol::Tcp,
        Some(PortProtocol::Http) => AppProtocol::Http11,
        Some(PortProtocol::Http2) => AppProtocol::Http2,
        Some(PortProtocol::Grpc) => AppProtocol::Grpc,
        Some(PortProtocol::Tls) => AppProtocol::Tls,
        Some(PortProtocol::Other | PortProtocol::Udp) | None => AppProtocol::Unknown,
    };
    Port {
        service_port: port.number,
        target_port: port.target_port.unwrap_or(port.number),
        app_protocol: app_protocol.into(),
    }
}

/// The addresses that the entry gives, else those that were assigned to the host.
fn addresses(entry: &Checked<ServiceEntry>, host: &str, networks: &[String]) -> Vec<NetworkAddress> {
    let spec = &entry.object.spec;
    let given = spec.addresses.iter().filter_map(|text| text.parse::<Cidr>().ok());
    let status = entry.object.status.iter().flat_map(|status| &status.addresses);
    let is_entitled = takes_addresses(entry, host);
    let assigned = status.filter(|assigned| is_entitled && assigned.host == host);
    let assigned = assigned.filter_map(|assigned| assigned.value.parse::<IpAddr>().ok()).map(Cidr::host);
    let ranges: Vec<Cidr> = given.chain(assigned).collect();
    networks.iter().flat_map(|network| ranges.iter().map(|range| network_address(*range, network))).collect()
}

fn network_address(range: Cidr, network: &str) -> NetworkAddress {
    let length = (!range.is_host()).then(|| u32::from(range.length()));
    let mut address = octets(range.address()).to_vec();
    for (index, octet) in address.iter_mut().enumerate() {
        let kept = usize::from(range.length()).saturating_sub(8 * index).min(8);
        *octet &= u8::try_from(0xff_u16 << (8 - kept) & 0xff).unwrap_or(u8::MAX);
    }
    NetworkAddress { network: network.to_owned(), address: address.into(), length }
}

/// Whether addresses are assigned to this host.
pub(crate) fn takes_addresses(entry: &Checked<ServiceEntry>, host: &str) -> bool {
    let spec = &entry.object.spec;
    let is_refused = entry.label(labels::ENABLE_AUTO_ALLOCATION).is_some_and(|text| text.eq_ignore_ascii_case("false"));
    !is_refused && !is_hidden(spec) && spec.takes_addresses(host)
}

/// Whether nobody is to see the entry.
pub(super) fn is_hidden(spec: &ServiceEntrySpec) -> bool {
    !spec.export_to.is_empty() && spec.export_to.iter().all(|namespace| namespace == "~")
}

/// Whether the entry is not for everybody: then its own namespace alone sees it.
pub(super) fn is_private(spec: &ServiceEntrySpec) -> bool {
    !spec.export_to.is_empty() && !spec.export_to.iter().any(|namespace| namespace == "*")
}

fn load_balancing(entry: &Checked<ServiceEntry>, index: &Index<'_>) -> Option<LoadBalancing> {
    if entry.object.spec.resolution() == Resolution::None {
        let (mode, health_policy) = (Mode::Passthrough.into(), HealthPolicy::AllowAll.into());
        return Some(LoadBalancing { routing_preference: Vec::new(), mode, health_policy });
    }
    let scopes = annotated_distribution(entry, index)?;
    let routing_preference = scopes.iter().map(|scope| i32::from(*scope)).collect();
    Some(LoadBalancing { routing_preference, mode: Mode::Failover.into(), ..LoadBalancing::default() })
}
