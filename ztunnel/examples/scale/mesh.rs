//! A mesh with many workloads, and the changes of one of its endpoints.

use std::time::Duration;

use anyhow::Result;
use prost::Message;
use prost_types::Any;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, Resource};
use proto::istio::workload::{Address, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload, address};
use tokio::net::TcpListener;

use crate::script::Server;

/// Where its discovery server listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:15010";

/// How many workloads a service has.
pub(crate) const WORKLOADS_PER_SERVICE: usize = 10;

/// The mesh, as it is served.
pub(crate) struct Mesh {
    server: Server,
    /// Kept: what is given back to the allocator is put in order by whoever allocates next, within the measured time.
    _first: DeltaDiscoveryResponse,
}

impl Mesh {
    /// Serves this many workloads, a tenth as many services, and no policies.
    pub(crate) async fn start(workloads: usize) -> Result<Self> {
        let services = (0..workloads / WORKLOADS_PER_SERVICE).map(|index| {
            let service = service(index);
            resource(format!("{}/{}", service.namespace, service.hostname), address::Type::Service(service))
        });
        let workloads = (0..workloads).map(|index| resource(uid(index), workload(index, 0)));
        let listener = TcpListener::bind(ADDRESS).await?;
        let first = response("first", services.chain(workloads).collect());
        Ok(Self { server: Server::start(listener, &first), _first: first })
    }

    /// Gives a workload another address; the time until the client has said that it uses it.
    pub(crate) async fn change_an_endpoint(&mut self, change: u64, patience: Duration) -> Result<Duration> {
        let nonce = (change + 1).to_string();
        self.server.push(&response(&nonce, vec![resource(uid(0), workload(0, change + 1))]), patience).await
    }
}

fn response(nonce: &str, mut resources: Vec<Resource>) -> DeltaDiscoveryResponse {
    resources.sort_by(|left, right| left.name.cmp(&right.name));
    DeltaDiscoveryResponse {
        type_url: proto::ADDRESS_TYPE.to_owned(),
        nonce: nonce.to_owned(),
        resources,
        ..DeltaDiscoveryResponse::default()
    }
}

fn resource(name: String, of: address::Type) -> Resource {
    let value = Address { r#type: Some(of) }.encode_to_vec();
    let version = xds::server::version(&value).to_string();
    let resource = Some(Any { type_url: proto::ADDRESS_TYPE.to_owned(), value });
    Resource { name, version, resource, ..Resource::default() }
}

fn uid(index: usize) -> String {
    format!("Kubernetes//Pod/ns-{}/app-{index}-6d4cf56db6-x8k2p", index % 100)
}

/// A pod as a cluster has it, all fields filled.
fn workload(index: usize, change: u64) -> address::Type {
    let service = index / WORKLOADS_PER_SERVICE;
    let namespace = format!("ns-{}", service % 100);
    let ports = PortList { ports: vec![Port { service_port: 80, target_port: 8080, ..Port::default() }] };
    address::Type::Workload(Workload {
        uid: uid(index),
        name: format!("app-{index}-6d4cf56db6-x8k2p"),
        namespace: namespace.clone(),
        service_account: format!("app-{service}"),
        addresses: vec![ip(10, index as u64 + (change << 20)).into()],
        tunnel_protocol: TunnelProtocol::Hbone.into(),
        trust_domain: "cluster.local".to_owned(),
        node: format!("node-{}", index % 500),
        workload_name: format!("app-{service}"),
        canonical_name: format!("app-{service}"),
        canonical_revision: "v1".to_owned(),
        cluster_id: "Kubernetes".to_owned(),
        services: [(format!("{namespace}/{}", hostname(service)), ports)].into_iter().collect(),
        ..Workload::default()
    })
}

fn service(index: usize) -> Service {
    let vip = NetworkAddress { address: ip(11, index as u64).into(), ..NetworkAddress::default() };
    Service {
        name: format!("app-{index}"),
        namespace: format!("ns-{}", index % 100),
        hostname: hostname(index),
        addresses: vec![vip],
        ports: vec![Port { service_port: 80, target_port: 8080, ..Port::default() }],
        ..Service::default()
    }
}

fn hostname(service: usize) -> String {
    format!("app-{service}.ns-{}.svc.cluster.local", service % 100)
}

fn ip(first: u8, index: u64) -> Vec<u8> {
    let [.., b, c, d] = (index + 1).to_be_bytes();
    vec![first, b, c, d]
}
