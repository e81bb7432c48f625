//! Endpoints that somebody wrote by hand: one WDS Workload per address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kinds::labels;
use proto::istio::workload::{NetworkMode, Port, PortList, Workload, WorkloadStatus};

use super::index::{Index, is_external_name};
use super::service::{number, octets, tcp_ports};
use super::workload::{key, trust_domain};
use crate::objects::Named;

/// The workloads of a slice: its endpoints that are no pods.
pub(super) fn derive(slice: &EndpointSlice, index: &Index<'_>) -> Vec<Workload> {
    let service = slice.label(labels::SERVICE_NAME).and_then(|name| index.service(slice.namespace(), name));
    let Some(service) = service.filter(|service| slice.address_type != "FQDN" && !is_external_name(service)) else {
        return Vec::new();
    };
    let services = BTreeMap::from([(key(service, index), PortList { ports: ports(service, slice) })]);
    let endpoints = slice.endpoints.iter().flatten().filter(|endpoint| !is_pod(endpoint));
    let addresses = endpoints.flat_map(|endpoint| endpoint.addresses.iter().map(move |text| (endpoint, text)));
    addresses
        .filter_map(|(endpoint, text)| Some((endpoint, text.parse::<IpAddr>().ok()?)))
        .map(|(endpoint, ip)| Workload {
            uid: format!(
                "{}/discovery.k8s.io/EndpointSlice/{}/{}/{ip}",
                index.options.cluster_id,
                slice.namespace(),
                slice.name()
            ),
            name: slice.name().to_owned(),
            namespace: slice.namespace().to_owned(),
            addresses: vec![octets(ip)],
            network: index.network.clone(),
            trust_domain: trust_domain(index),
            status: health(endpoint).into(),
            cluster_id: index.options.cluster_id.clone(),
            services: services.clone(),
            // Such an address may be anything, a node's own included: it must not be taken for a workload's.
            network_mode: NetworkMode::HostNetwork.into(),
            ..Workload::default()
        })
        .collect()
}

/// The ports of a Service as a slice maps them: by name.
pub(super) fn ports(service: &Service, slice: &EndpointSlice) -> Vec<Port> {
    let targets: BTreeMap<&str, i32> = slice
        .ports
        .iter()
        .flatten()
        .filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")))
        .filter_map(|port| Some((port.name.as_deref().unwrap_or_default(), port.port?)))
        .collect();
    tcp_ports(service)
        .filter_map(|port| {
            let target = targets.get(port.name.as_deref().unwrap_or_default())?;
            Some(Port { service_port: number(port.port), target_port: number(*target), ..Port::default() })
        })
        .collect()
}

fn is_pod(endpoint: &Endpoint) -> bool {
    endpoint.target_ref.as_ref().and_then(|target| target.kind.as_deref()) == Some("Pod")
}

/// An endpoint that says nothing about readiness is ready.
fn health(endpoint: &Endpoint) -> WorkloadStatus {
    match endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) {
        Some(false) => WorkloadStatus::Unhealthy,
        _ => WorkloadStatus::Healthy,
    }
}
