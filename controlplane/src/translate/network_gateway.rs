//! Gateways between networks: the workloads that stand for them, and which network each leads into.
//!
//! A network is named by the label `topology.istio.io/network`: of the root namespace for the whole cluster, of a node
//! for its pods, of a pod for itself, and of a Gateway for the network behind it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kinds::{annotations, gateway, labels};
use kube::core::DynamicObject;
use proto::istio::workload::gateway_address::Destination;
use proto::istio::workload::{
    GatewayAddress, NamespacedHostname, NetworkAddress, TunnelProtocol, Workload, WorkloadType,
};
use types::TrustDomain;

use super::Options;
use super::service::octets;
use crate::objects::{Named, Objects};

/// Where gateways take HBONE unless their listener says something else.
const HBONE_PORT: u16 = 15008;

/// The gateway into each network that has one.
pub(super) struct NetworkGateways {
    by_network: BTreeMap<String, (GatewayAddress, Workload)>,
}

impl NetworkGateways {
    pub(super) fn new(objects: &Objects, options: &Options) -> Self {
        let mut by_network = BTreeMap::new();
        // Where several lead into one network, the first by name does for everybody.
        for gateway in objects.gateways.iter() {
            if let Some((network, entrance)) = entrance(gateway, options) {
                by_network.entry(network).or_insert(entrance);
            }
        }
        Self { by_network }
    }

    /// The gateway through which workloads of a network are reached from others.
    pub(super) fn entrance_of(&self, network: &str) -> Option<GatewayAddress> {
        self.by_network.get(network).map(|(address, _)| address.clone())
    }

    /// The gateways as workloads, so that their addresses and identities are known.
    pub(super) fn workloads(&self) -> impl Iterator<Item = Workload> {
        self.by_network.values().map(|(_, workload)| workload.clone())
    }
}

/// The network that a Gateway leads into, its address there and its workload; `None` if it is none between networks.
fn entrance(gateway: &DynamicObject, options: &Options) -> Option<(String, (GatewayAddress, Workload))> {
    let network = gateway.label(labels::TOPOLOGY_NETWORK).filter(|network| !network.is_empty())?;
    let class = gateway::class(gateway)?;
    let is_meant = |listener: &&gateway::Listener<'_>| {
        let mode = listener.fields.pointer("/tls/mode").and_then(serde_json::Value::as_str);
        // Terminate is the mode's default.
        listener.protocol == "HBONE" && (class == REMOTE_CLASS || mode.unwrap_or("Terminate") == "Terminate")
    };
    let listeners = gateway::listeners(gateway);
    let listener = listeners.iter().filter(|_| matches!(class, REMOTE_CLASS | EAST_WEST_CLASS)).find(is_meant)?;
    let port = if listener.port == 0 { HBONE_PORT } else { listener.port };
    let mut addresses = gateway::status_addresses(gateway);
    if addresses.is_empty() && class == REMOTE_CLASS {
        addresses = gateway::spec_addresses(gateway);
    }
    let place = addresses.first()?;
    let (namespace, name) = (gateway.namespace(), gateway.name());
    let ip = if place.is_hostname { None } else { Some(place.value.parse::<IpAddr>().ok()?) };
    let destination = match ip {
        Some(ip) => {
            Destination::Address(NetworkAddress { network: network.to_owned(), address: octets(ip), length: None })
        }
        None => Destination::Hostname(NamespacedHostname {
            namespace: namespace.to_owned(),
            hostname: place.value.to_owned(),
        }),
    };
    let account = gateway.annotation(annotations::GATEWAY_SERVICE_ACCOUNT).unwrap_or(name);
    let trust_domain = &options.trust_domain;
    let workload = Workload {
        uid: format!("NetworkGateway/{network}/{}/{port}", place.value),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        addresses: ip.map(octets).into_iter().collect(),
        hostname: if ip.is_none() { place.value.to_owned() } else { String::new() },
        network: network.to_owned(),
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: if *trust_domain == TrustDomain::default() { String::new() } else { trust_domain.to_string() },
        service_account: account.to_owned(),
        canonical_name: name.to_owned(),
        canonical_revision: "latest".to_owned(),
        workload_type: WorkloadType::Pod.into(),
        workload_name: name.to_owned(),
        cluster_id: options.cluster_id.clone(),
        ..Workload::default()
    };
    let address = GatewayAddress { destination: Some(destination), hbone_mtls_port: port.into() };
    Some((network.to_owned(), (address, workload)))
}

/// A Gateway that only describes one in another cluster.
const REMOTE_CLASS: &str = "istio-remote";
/// A Gateway for connections from other networks.
const EAST_WEST_CLASS: &str = "istio-east-west";
