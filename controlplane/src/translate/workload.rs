//! Pod to WDS Workload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::{annotations, labels};
use proto::istio::workload::{NetworkMode, Port, PortList, TunnelProtocol, Workload, WorkloadStatus, WorkloadType};
use types::TrustDomain;

use super::index::Index;
use super::service::{number, octets, tcp_ports};
use super::service_entry::endpoint_ports;
use super::{endpoint_slice, owner};
use crate::objects::Named;

/// Derives a workload; `None` for a pod that is over or has no address yet.
pub(super) fn derive(pod: &Pod, index: &Index<'_>) -> Option<Workload> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let addresses = addresses(status);
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) || addresses.is_empty() {
        return None;
    }
    static NO_LABELS: BTreeMap<String, String> = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
    let has_own_tunnel = pod.label(labels::TUNNEL).is_some_and(|protocols| protocols.contains("http"));
    let node = spec.node_name.as_deref().unwrap_or_default();
    let workload_name = owner::workload_name(pod);
    let own_gateway = index.waypoints.instance(pod);
    Some(Workload {
        uid: uid(pod, index),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        addresses: addresses.into_iter().map(octets).collect(),
        network: pod.label(labels::TOPOLOGY_NETWORK).unwrap_or_else(|| index.network_of_node(node)).to_owned(),
        tunnel_protocol: tunnel_protocol(pod, has_own_tunnel).into(),
        trust_domain: trust_domain(index),
        service_account: spec.service_account_name.clone().unwrap_or_default(),
        node: node.to_owned(),
        canonical_name: canonical_name(|key| pod.label(key), &workload_name),
        canonical_revision: canonical_revision(|key| pod.label(key)),
        workload_type: WorkloadType::Pod.into(),
        workload_name,
        native_tunnel: has_own_tunnel,
        authorization_policies: index.policies_of(pod.namespace(), labels),
        status: health(pod, status).into(),
        cluster_id: index.options.cluster_id.clone(),
        services: services(pod, spec, labels, index),
        waypoint: if own_gateway.is_none() { index.waypoints.of_workload(pod) } else { None },
        application_tunnel: own_gateway.and_then(|gateway| index.waypoints.inbound_binding(gateway)),
        locality: index.locality(node),
        network_mode: if spec.host_network == Some(true) { NetworkMode::HostNetwork } else { NetworkMode::Standard }
            .into(),
        ..Workload::default()
    })
}

/// The key of a pod's workload: the API group of pods is empty, hence two slashes.
pub(crate) fn pod_uid(cluster_id: &str, namespace: &str, name: &str) -> String {
    format!("{cluster_id}//Pod/{namespace}/{name}")
}

fn uid(pod: &Pod, index: &Index<'_>) -> String {
    pod_uid(&index.options.cluster_id, pod.namespace(), pod.name())
}

/// The default trust domain is not sent.
pub(super) fn trust_domain(index: &Index<'_>) -> String {
    let own = &index.options.trust_domain;
    if *own == TrustDomain::default() { String::new() } else { own.to_string() }
}

fn addresses(status: &PodStatus) -> Vec<IpAddr> {
    let many = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let one = status.pod_ip.iter().filter(|_| status.pod_ips.as_ref().is_none_or(Vec::is_empty));
    many.chain(one).filter_map(|text| text.parse().ok()).collect()
}

/// A pod is reached through the tunnel only when its redirection is complete.
fn tunnel_protocol(pod: &Pod, has_own_tunnel: bool) -> TunnelProtocol {
    let is_redirected = pod.annotation(annotations::REDIRECTION) == Some(annotations::REDIRECTION_ENABLED);
    if is_redirected || has_own_tunnel { TunnelProtocol::Hbone } else { TunnelProtocol::None }
}

fn health(pod: &Pod, status: &PodStatus) -> WorkloadStatus {
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if is_ready && pod.metadata.deletion_timestamp.is_none() {
        WorkloadStatus::Healthy
    } else {
        WorkloadStatus::Unhealthy
    }
}

pub(super) fn canonical_name<'l>(label: impl Fn(&str) -> Option<&'l str>, workload_name: &str) -> String {
    let keys = [labels::CANONICAL_NAME, labels::APP_NAME, labels::APP];
    keys.into_iter().find_map(label).unwrap_or(workload_name).to_owned()
}

pub(super) fn canonical_revision<'l>(label: impl Fn(&str) -> Option<&'l str>) -> String {
    let keys = [labels::CANONICAL_REVISION, labels::APP_VERSION, labels::VERSION];
    keys.into_iter().find_map(label).unwrap_or("latest").to_owned()
}

fn services(
    pod: &Pod,
    spec: &PodSpec,
    labels: &BTreeMap<String, String>,
    index: &Index<'_>,
) -> BTreeMap<String, PortList> {
    let selecting = index.services_selecting(pod.namespace(), labels).into_iter();
    let mut services: BTreeMap<String, PortList> =
        selecting.map(|service| (key(service, index), selected_ports(service, spec))).collect();
    for slice in index.slices_of_pod(pod.namespace(), pod.name()) {
        let Some((service, ports)) = slice_ports(slice, index) else { continue };
        let known = &mut services.entry(key(service, index)).or_default().ports;
        for port in ports {
            // Each address family has a slice of its own; the port is the same one.
            if known.iter().all(|known| known.service_port != port.service_port) {
                known.push(port);
            }
        }
    }
    for entry in index.entries_selecting(pod.namespace(), labels) {
        let ports = endpoint_ports(&entry.object.spec, |name| container_port(spec, name));
        for host in index.hosts.of(entry) {
            let list = || PortList { ports: ports.clone() };
            services.entry(format!("{}/{host}", pod.namespace())).or_insert_with(list);
        }
    }
    services
}

pub(super) fn key(service: &Service, index: &Index<'_>) -> String {
    format!("{}/{}", service.namespace(), index.hostname(service))
}

/// The ports of a selecting Service as this pod serves them; a named port that the pod does not have is left out.
fn selected_ports(service: &Service, spec: &PodSpec) -> PortList {
    let ports = tcp_ports(service).filter_map(|port| {
        let target_port = match &port.target_port {
            Some(IntOrString::Int(target)) => number(*target),
            Some(IntOrString::String(name)) => container_port(spec, name)?,
            None => number(port.port),
        };
        Some(Port { service_port: number(port.port), target_port, ..Port::default() })
    });
    PortList { ports: ports.collect() }
}

/// Looks a name up among the TCP ports of the containers, and of init containers that keep running.
fn container_port(spec: &PodSpec, name: &str) -> Option<u32> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let is_meant = |protocol: Option<&str>| matches!(protocol, None | Some("TCP"));
    ports
        .find(|port| port.name.as_deref() == Some(name) && is_meant(port.protocol.as_deref()))
        .map(|port| number(port.container_port))
}

/// The Service of a slice and its ports as the slice gives them.
fn slice_ports<'a>(slice: &EndpointSlice, index: &Index<'a>) -> Option<(&'a Service, Vec<Port>)> {
    let service = index.service(slice.namespace(), slice.label(labels::SERVICE_NAME)?)?;
    Some((service, endpoint_slice::ports(service, slice)))
}
