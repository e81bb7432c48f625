//! The short way leads where the long one does.

use discovery::{Workload, Writer};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::delta::{Feed, Rejected, Update};
use crate::feed::{AddressFeed, address};

fn any_workload() -> impl Strategy<Value = wire::Workload> {
    let own = (
        select(vec!["uid-1", "uid-2", ""]),
        select(vec!["one", "two", "zwei ü"]),
        prop::collection::vec(
            prop_oneof![any::<[u8; 4]>().prop_map(Vec::from), any::<[u8; 16]>().prop_map(Vec::from), Just(vec![1])],
            0..3,
        ),
        select(vec!["node-1", "node-2"]),
        0..3_i32,
        prop::option::of(select(vec!["", "z1", "z2"])),
    );
    let common = (
        select(vec!["shop", "bank"]),
        select(vec!["cluster.local", "", "a/b"]),
        0..3_i32,
        prop::option::of(any::<u32>()),
        prop::collection::btree_map(select(vec!["shop/cart.shop", "bank/till.bank", "none"]), 0..70_000_u32, 0..3),
    );
    (own, common).prop_map(|((uid, name, addresses, node, status, zone), common)| {
        let (namespace, trust_domain, tunnel_protocol, capacity, services) = common;
        let ports = |port| wire::PortList { ports: vec![wire::Port { service_port: port, ..Default::default() }] };
        wire::Workload {
            uid: uid.to_owned(),
            name: name.to_owned(),
            addresses: addresses.into_iter().map(Into::into).collect(),
            node: node.to_owned(),
            status,
            locality: zone.map(|zone| wire::Locality { zone: zone.to_owned(), ..Default::default() }),
            namespace: namespace.to_owned(),
            trust_domain: trust_domain.to_owned(),
            tunnel_protocol,
            capacity,
            services: services.into_iter().map(|(key, port)| (key.to_owned(), ports(port))).collect(),
            ..Default::default()
        }
    })
}

fn encoded(workload: wire::Workload) -> Vec<u8> {
    wire::Address { r#type: Some(wire::address::Type::Workload(workload)) }.encode_to_vec()
}

/// What the feed makes of each resource by itself.
fn fed(resources: &[(&'static str, Vec<u8>)]) -> (Vec<Workload>, Vec<Rejected>) {
    let writer = Writer::new("", None);
    let view = writer.view();
    let mut resources = resources.iter().map(|(name, encoded)| (Arc::from(*name), Some(&**encoded)));
    let rejected = AddressFeed::new(writer).apply(Update { resources: &mut resources, removed: &[] });
    (view.workloads().iter().map(|workload| Workload::clone(workload)).collect(), rejected)
}

/// What the long way makes of them.
fn converted(resources: &[(&'static str, Vec<u8>)]) -> (Vec<Workload>, Vec<Rejected>) {
    let (mut workloads, mut rejected) = (std::collections::BTreeMap::new(), Vec::new());
    for (name, encoded) in resources {
        match address(name, encoded) {
            Ok(convert::Address::Workload(workload)) => {
                workloads.insert(workload.uid.clone(), *workload);
            }
            Ok(convert::Address::Service(_)) => {}
            Err(reason) => rejected.push(Rejected { name: (*name).to_owned(), reason }),
        }
    }
    (workloads.into_values().collect(), rejected)
}

proptest! {
    #[test]
    fn the_short_way_and_the_long_way_agree(
        workloads in prop::collection::vec((any_workload(), prop::option::of((any::<Index>(), any::<u8>()))), 1..8)
    ) {
        let resources: Vec<_> = workloads.into_iter().enumerate().map(|(number, (workload, spoilt))| {
            let name = if number % 2 == 0 { "uid-1" } else { "uid-2" };
            let mut encoded = encoded(workload);
            if let Some((index, byte)) = spoilt && !encoded.is_empty() {
                let index = index.index(encoded.len());
                encoded[index] = byte;
            }
            (name, encoded)
        }).collect();
        prop_assert_eq!(fed(&resources), converted(&resources));
    }
}

#[test]
fn pods_of_a_deployment_are_of_one_kind() {
    let mut writer = Writer::new("", None);
    let mut batch = writer.batch();
    let (mut maker, mut keeper) = batch.halves();
    let mut kinds = Kinds::default();
    for number in 0..10_u8 {
        let pod = wire::Workload {
            uid: format!("uid-{number}"),
            name: format!("pod-{number}"),
            addresses: vec![vec![10, 0, 0, number].into()],
            node: format!("node-{number}"),
            namespace: "shop".to_owned(),
            ..Default::default()
        };
        keeper.keep(kinds.record(&mut maker, &Arc::from(&*pod.uid), &encoded(pod.clone())).unwrap());
    }
    assert_eq!((kinds.kinds.len(), kinds.localities.len()), (1, 1));
    drop(batch);
    assert_eq!(writer.view().workloads().len(), 10);
}
