//! Small things that tests are made of.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use types::{Authority, NamespacedHostname, NetworkAddress};

use crate::model::{
    AppProtocol, Destination, GatewayAddress, LoadBalancing, Mode, Port, PortMap, Protocol, Scope, Service, Workload,
};
use crate::view::View;
use crate::writer::Writer;

pub(crate) fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn authority(text: &str) -> Authority {
    text.parse().unwrap()
}

pub(crate) fn address(text: &str) -> NetworkAddress {
    text.parse().unwrap()
}

pub(crate) fn key(text: &str) -> NamespacedHostname {
    text.parse().unwrap()
}

pub(crate) fn random(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Ports as pairs of service port and target port.
pub(crate) fn ports(ports: &[(u16, u16)]) -> PortMap {
    let port = |&(service_port, target_port)| Port { service_port, target_port, app_protocol: AppProtocol::Unknown };
    ports.iter().map(port).collect()
}

/// A captured pod `namespace/name` on node `node-1`.
pub(crate) fn pod(namespace: &str, name: &str, address: &str) -> Workload {
    Workload {
        uid: format!("Kubernetes//Pod/{namespace}/{name}").into(),
        name: text(name),
        namespace: text(namespace),
        addresses: vec![ip(address)].into(),
        protocol: Protocol::Hbone,
        node: text("node-1"),
        ..Workload::default()
    }
}

/// The same, as an endpoint of a service without ports of its own.
pub(crate) fn endpoint(service: &str, name: &str, address: &str) -> Workload {
    let key = key(service);
    Workload { services: vec![(key.clone(), PortMap::default())].into(), ..pod(&key.namespace, name, address) }
}

/// A service `namespace/hostname` at one address, port 80 to 8080.
pub(crate) fn service(name: &str, vip: &str) -> Service {
    let NamespacedHostname { namespace, hostname } = key(name);
    let vips = if vip.is_empty() { vec![] } else { vec![NetworkAddress { network: text(""), address: ip(vip) }] };
    let name = text(hostname.as_str().split('.').next().unwrap_or_default());
    Service { name, namespace, hostname, vips, ports: ports(&[(80, 8080)]), ..Service::default() }
}

pub(crate) fn balancing(mode: Mode, preference: &[Scope]) -> Option<LoadBalancing> {
    Some(LoadBalancing { routing_preference: preference.to_vec(), mode, ..LoadBalancing::default() })
}

/// A reference to a service, `namespace/hostname`.
pub(crate) fn gateway(service: &str) -> GatewayAddress {
    GatewayAddress { destination: Destination::Hostname(key(service)), hbone_mtls_port: 15008 }
}

pub(crate) fn world(
    workloads: impl IntoIterator<Item = Workload>,
    services: impl IntoIterator<Item = Service>,
) -> (Writer, View) {
    let mut writer = Writer::new("", Some(text("node-1")));
    let view = writer.view();
    let mut batch = writer.batch();
    workloads.into_iter().for_each(|workload| batch.upsert_workload(workload));
    services.into_iter().for_each(|service| batch.upsert_service(service));
    drop(batch);
    (writer, view)
}
