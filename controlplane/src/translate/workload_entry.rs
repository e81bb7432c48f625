//! WorkloadEntry to WDS Workload, and what endpoints of a ServiceEntry have in common with it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::networking::WorkloadEntrySpec;
use kinds::{WorkloadEntry, annotations, labels};
use proto::istio::workload::{Locality, Port, PortList, TunnelProtocol, Workload, WorkloadStatus, WorkloadType};

use super::index::Index;
use super::service::{number, octets, tcp_ports};
use super::service_entry::endpoint_ports;
use super::workload::{canonical_name, canonical_revision, key, trust_domain};
use crate::checked::Checked;
use crate::objects::Named;

/// The workload of an entry; `None` if it cannot be reached over TCP.
pub(super) fn derive(entry: &Checked<WorkloadEntry>, index: &Index<'_>) -> Option<Workload> {
    let spec = &entry.object.spec;
    let mut labels = entry.metadata().labels.clone().unwrap_or_default();
    labels.extend(spec.labels.clone());
    let (cluster, namespace, name) = (&index.options.cluster_id, entry.namespace(), entry.name());
    let described = Endpoint {
        uid: format!("{cluster}/networking.istio.io/WorkloadEntry/{namespace}/{name}"),
        spec,
        labels: &labels,
        services: services(spec, namespace, &labels, index),
    };
    let workload = endpoint(entry, described, index)?;
    // Whoever probes an entry says so in its status.
    let mut conditions = entry.object.status.iter().flat_map(|status| &status.conditions);
    let is_ill = conditions.any(|condition| condition.kind == "Healthy" && condition.status == "False");
    let status = if is_ill { WorkloadStatus::Unhealthy } else { WorkloadStatus::Healthy };
    Some(Workload { status: status.into(), ..workload })
}

/// An endpoint with what depends on where it is written down.
pub(super) struct Endpoint<'a> {
    pub(super) uid: String,
    pub(super) spec: &'a WorkloadEntrySpec,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) services: BTreeMap<String, PortList>,
}

/// The workload of an endpoint that `object` holds; `None` if it cannot be reached over TCP.
pub(super) fn endpoint(object: &impl Named, endpoint: Endpoint<'_>, index: &Index<'_>) -> Option<Workload> {
    let Endpoint { uid, spec, labels, services } = endpoint;
    let address = spec.address.parse::<IpAddr>().ok();
    let is_nowhere = spec.address.is_empty() && spec.network.is_empty();
    if spec.address.starts_with("unix://") || is_nowhere {
        return None;
    }
    let label = |key: &str| labels.get(key).map(String::as_str);
    let has_own_tunnel = label(labels::TUNNEL).is_some_and(|protocols| protocols.contains("http"));
    let is_redirected = object.annotation(annotations::REDIRECTION) == Some(annotations::REDIRECTION_ENABLED);
    let tunnel = if has_own_tunnel || is_redirected { TunnelProtocol::Hbone } else { TunnelProtocol::None };
    let network = if spec.network.is_empty() { &index.network } else { &spec.network };
    let workload_name = label(labels::WORKLOAD_NAME).unwrap_or_else(|| object.name()).to_owned();
    Some(Workload {
        uid,
        name: object.name().to_owned(),
        namespace: object.namespace().to_owned(),
        addresses: address.map(octets).into_iter().collect(),
        hostname: if address.is_none() { spec.address.clone() } else { String::new() },
        network: network.clone(),
        tunnel_protocol: tunnel.into(),
        trust_domain: trust_domain(index),
        service_account: spec.service_account.clone(),
        canonical_name: canonical_name(label, &workload_name),
        canonical_revision: canonical_revision(label),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        native_tunnel: has_own_tunnel,
        authorization_policies: index.policies_of(object.namespace(), labels),
        cluster_id: index.options.cluster_id.clone(),
        services,
        waypoint: index.waypoints.of_workload(object),
        locality: locality(&spec.locality),
        capacity: (spec.weight > 0).then_some(spec.weight),
        ..Workload::default()
    })
}

/// The services of which an entry is an endpoint: those of its namespace whose selector it meets.
fn services(
    spec: &WorkloadEntrySpec,
    namespace: &str,
    labels: &BTreeMap<String, String>,
    index: &Index<'_>,
) -> BTreeMap<String, PortList> {
    let selecting = index.services_selecting(namespace, labels).into_iter();
    let mut services: BTreeMap<String, PortList> =
        selecting.map(|service| (key(service, index), PortList { ports: selected_ports(service, spec) })).collect();
    for entry in index.entries_selecting(namespace, labels) {
        let ports = endpoint_ports(&entry.object.spec, |name| spec.ports.get(name).copied());
        for host in index.hosts.of(entry) {
            services.entry(format!("{namespace}/{host}")).or_insert_with(|| PortList { ports: ports.clone() });
        }
    }
    services
}

/// The ports of a Service as the entry serves them; a named port that it does not have is left out.
fn selected_ports(service: &Service, spec: &WorkloadEntrySpec) -> Vec<Port> {
    let ports = tcp_ports(service).filter_map(|port| {
        let target_port = match &port.target_port {
            Some(IntOrString::Int(target)) => number(*target),
            Some(IntOrString::String(name)) => *spec.ports.get(name)?,
            None => number(port.port),
        };
        Some(Port { service_port: number(port.port), target_port, ..Port::default() })
    });
    ports.collect()
}

/// Reads `region/zone/subzone`.
fn locality(text: &str) -> Option<Locality> {
    let mut parts = text.split('/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    let locality = Locality { region: next(), zone: next(), subzone: next() };
    (locality != Locality::default()).then_some(locality)
}
