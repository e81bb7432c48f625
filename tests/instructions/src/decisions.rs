//! Where a connection goes, and whether it may.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use discovery::{AppProtocol, Port, PortMap, Protocol, Service, Workload, Writer};
use policy::{Action, Authorization, Clause, Connection, Match, PolicySet, Rule, Scope, StringMatch};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use types::{NamespacedHostname, NetworkAddress};

/// Services of the mesh.
const SERVICES: u8 = 200;

/// Pods of each service.
const ENDPOINTS: u8 = 5;

/// Policies of the destination's namespace.
const POLICIES: usize = 20;

fn service(number: u8) -> Result<Service> {
    let NamespacedHostname { namespace, hostname } = format!("shop/s{number}.shop.svc.cluster.local").parse()?;
    let port = Port { service_port: 80, target_port: 8080, app_protocol: AppProtocol::Unknown };
    Ok(Service {
        name: format!("s{number}").into(),
        namespace,
        hostname,
        vips: vec![NetworkAddress { network: "".into(), address: address(96, number, 0) }],
        ports: [port].into_iter().collect(),
        ..Service::default()
    })
}

fn pod(service: u8, number: u8) -> Result<Workload> {
    let key: NamespacedHostname = format!("shop/s{service}.shop.svc.cluster.local").parse()?;
    Ok(Workload {
        uid: format!("Kubernetes//Pod/shop/s{service}-{number}").into(),
        name: format!("s{service}-{number}").into(),
        namespace: "shop".into(),
        addresses: vec![address(244, service, number)].into(),
        protocol: Protocol::Hbone,
        node: "node-1".into(),
        services: vec![(key, PortMap::default())].into(),
        ..Workload::default()
    })
}

fn address(second: u8, third: u8, fourth: u8) -> IpAddr {
    Ipv4Addr::new(10, second, third, fourth).into()
}

/// A connection to a service of five pods, one of 200 services.
pub(crate) fn resolve(times: u32) -> Result<()> {
    let mut writer = Writer::new("", Some("node-1".into()));
    let view = writer.view();
    let source = pod(0, 0)?;
    let mut batch = writer.batch();
    for number in 0..SERVICES {
        batch.upsert_service(service(number)?);
        for endpoint in 0..ENDPOINTS {
            batch.upsert_workload(pod(number, endpoint)?);
        }
    }
    drop(batch);
    let mut random = SmallRng::seed_from_u64(7);
    for service in (0..SERVICES).cycle().take(times as usize) {
        let destination = SocketAddr::new(address(96, service, 0), 80);
        black_box(discovery::resolve(&view, &source, black_box(destination), &[], &mut random)?);
    }
    Ok(())
}

/// A connection under twenty ALLOW policies of its namespace, of which the last but one allows it.
pub(crate) fn evaluate(times: u32) -> Result<()> {
    let policy = |number: usize| -> Result<Authorization> {
        let client: Arc<str> = format!("cluster.local/ns/shop/sa/client-{number}").into();
        let who = Match { principals: vec![StringMatch::Exact(client)], ..Match::default() };
        let what = Match { destination_ports: vec![8080], ..Match::default() };
        let clauses = vec![Clause { matches: vec![who] }, Clause { matches: vec![what] }];
        let key = format!("shop/policy-{number:02}").parse()?;
        Ok(Authorization {
            key,
            scope: Scope::Namespace,
            action: Action::Allow,
            dry_run: false,
            rules: vec![Rule { clauses }],
        })
    };
    let policies = PolicySet::default().with((0..POLICIES).map(policy).collect::<Result<Vec<_>>>()?, []);
    let connection = Connection {
        source_ip: address(244, 1, 1),
        identity: Some(format!("spiffe://cluster.local/ns/shop/sa/client-{}", POLICIES - 2).parse()?),
        destination: SocketAddr::new(address(244, 2, 1), 8080),
    };
    for _ in 0..times {
        black_box(policies.evaluate("shop", &[], black_box(&connection)));
    }
    Ok(())
}
