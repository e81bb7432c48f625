//! A discovery server with many workloads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use proto::istio::workload::{Address, NetworkAddress, Port, PortList, Service, TunnelProtocol, Workload, address};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::TcpListenerStream;
use xds::server::{Caller, Entry, Limits, Options, Resources, Server, Snapshot};

/// Where it listens.
pub(crate) const ADDRESS: &str = "127.0.0.1:15010";

/// How many workloads a service has.
pub(crate) const WORKLOADS_PER_SERVICE: usize = 10;

type Addresses = BTreeMap<Arc<str>, Arc<Entry>>;

/// The server, and what it serves.
pub(crate) struct Mesh {
    server: Server,
    snapshots: watch::Sender<Arc<Snapshot>>,
    addresses: Addresses,
    version: u64,
}

impl Mesh {
    /// Serves this many workloads, a tenth as many services, and no policies.
    pub(crate) async fn start(workloads: usize) -> Result<Self> {
        let all = (0..workloads).map(|index| (uid(index), entry(workload(index, 0))));
        let services = (0..workloads / WORKLOADS_PER_SERVICE).map(|index| {
            let service = service(index);
            (format!("{}/{}", service.namespace, service.hostname), entry(address::Type::Service(service)))
        });
        let all = all.chain(services).map(|(name, entry)| (Arc::from(name), Arc::new(entry)));
        let addresses: Addresses = all.collect();
        let (snapshots, served) = watch::channel(Arc::new(snapshot(1, &addresses)));
        let server = Server::new(Options {
            snapshots: served,
            authenticate: Arc::new(|_call| {
                Box::pin(async { Ok(Caller { description: Arc::from("proxy"), identity: None }) })
            }),
            admit: Arc::new(|_caller, _node| Ok(())),
            limits: Limits::default(),
            observer: Arc::new(()),
            drain: drain::new().1,
        });
        let listener = TcpListener::bind(ADDRESS).await?;
        let serving = tonic::transport::Server::builder()
            .add_service(server.service())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        Ok(Self { server, snapshots, addresses, version: 1 })
    }

    /// Gives a workload another address; the time until every client has said that it uses it.
    pub(crate) async fn change_an_endpoint(&mut self, change: u64, patience: Duration) -> Result<Duration> {
        self.version += 1;
        self.addresses.insert(uid(0).into(), Arc::new(entry(workload(0, change + 1))));
        let snapshot = Arc::new(snapshot(self.version, &self.addresses));
        let mut told = self.server.told();
        let published = Instant::now();
        self.snapshots.send_replace(snapshot);
        let version = self.version;
        timeout(patience, told.wait_for(|told| *told >= version)).await.context("a change was never taken")??;
        Ok(published.elapsed())
    }
}

fn snapshot(version: u64, addresses: &Addresses) -> Snapshot {
    let addresses: Resources = addresses.clone().into_iter().collect();
    let types =
        [(Arc::from(proto::ADDRESS_TYPE), Arc::new(addresses)), (Arc::from(proto::AUTHORIZATION_TYPE), Arc::default())];
    Snapshot { version, types: types.into_iter().collect() }
}

fn entry(of: address::Type) -> Entry {
    Entry::encode(proto::ADDRESS_TYPE, &Address { r#type: Some(of) })
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
