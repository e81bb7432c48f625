//! Connections into other networks.

use super::*;
use crate::route::{Crossing, Upstream};

const GATEWAY: &str = "istio/gateway.example";
const REMOTE: &str = "spiffe://remote.example/ns/a/sa/remote";

/// What stands for all endpoints of the service in the other network.
fn remote() -> Workload {
    Workload {
        network: text("remote"),
        network_gateway: Some(gateway(GATEWAY).into()),
        addresses: vec![].into(),
        ..endpoint("a/x.example", "split", "10.0.0.1")
    }
}

fn gateway_pod(name: &str, address: &str) -> Workload {
    let pod = endpoint(GATEWAY, name, address);
    Workload { network: text("remote"), protocol: Protocol::Tcp, service_account: text("gateway"), ..pod }
}

fn gateway_service() -> Service {
    Service { ports: ports(&[(15008, 15008)]), ..service(GATEWAY, "") }
}

fn global() -> Service {
    Service { subject_alt_names: vec![REMOTE.parse().unwrap()], ..service("a/x.example", "10.96.0.1") }
}

fn crossing(route: Result<Route, ResolveError>) -> Crossing {
    match route {
        Ok(Route::DoubleHbone(crossing)) => *crossing,
        other => panic!("not into another network: {other:?}"),
    }
}

fn names(identities: &[types::Identity]) -> Vec<String> {
    identities.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_in_another_network_is_asked_for_by_name_at_its_gateway() {
    let (_writer, view) = world([remote(), gateway_pod("g", "192.0.2.7")], [global(), gateway_service()]);
    let outcome = route(&view, "10.96.0.1:80");
    assert_eq!(outcome.as_ref().unwrap().service().unwrap().hostname.as_str(), "x.example");
    assert_eq!(name(outcome.as_ref().unwrap()), "g");
    let Crossing { destination, authority: asked, expected, remote, .. } = crossing(outcome);
    assert_eq!((destination, asked), (socket("192.0.2.7:15008"), authority("x.example:80")));
    assert_eq!(names(&expected), ["spiffe://cluster.local/ns/istio/sa/gateway"]);
    // The workload's own identity is not enough: it stands for others.
    assert_eq!(names(remote.expected()), [REMOTE]);
    assert_eq!(&*remote.upstream.workload.name, "split");
}

#[test]
fn a_gateway_may_be_an_address_of_its_network() {
    let at = Destination::Address(address("remote/192.0.2.7"));
    let port = 15443;
    let by_address = Workload {
        network_gateway: Some(GatewayAddress { destination: at, hbone_mtls_port: port }.into()),
        ..remote()
    };
    let (_writer, view) = world([by_address, gateway_pod("g", "192.0.2.7")], [global()]);
    assert_eq!(crossing(route(&view, "10.96.0.1:80")).destination, socket("192.0.2.7:15443"));
}

#[test]
fn a_gateway_may_have_a_name_to_resolve() {
    let named =
        Workload { addresses: vec![].into(), hostname: "gateway.example".into(), ..gateway_pod("g", "192.0.2.7") };
    let (_writer, view) = world([remote(), named], [global(), gateway_service()]);
    let Ok(Route::Unresolved(unresolved)) = route(&view, "10.96.0.1:80") else { panic!("resolved already") };
    assert_eq!(unresolved.hostname().as_str(), "gateway.example");
    let resolved = unresolved.resolved(&[ip("192.0.2.9")], &mut random(1));
    assert_eq!(crossing(resolved).destination, socket("192.0.2.9:15008"));
}

#[test]
fn only_connections_to_services_cross_networks() {
    let addressed = Workload { addresses: vec![ip("10.0.0.1")].into(), ..remote() };
    let (_writer, view) = world([addressed.clone(), gateway_pod("g", "192.0.2.7")], [global(), gateway_service()]);
    // The same address in the client's own network is somebody else's, or nobody's.
    assert!(matches!(route(&view, "10.0.0.1:80").unwrap(), Route::Passthrough { service: None, .. }));
    assert_eq!(crossing(route(&view, "10.96.0.1:80")).authority, authority("x.example:80"));

    // The waypoint of a workload, in another network than the workload.
    let here = Workload { waypoint: Some(gateway("a/x.example").into()), ..pod("b", "here", "10.0.0.9") };
    let waypoint = Service { ports: ports(&[(15008, 15008)]), ..global() };
    let (_writer, view) = world([addressed, here, gateway_pod("g", "192.0.2.7")], [waypoint, gateway_service()]);
    let error = route(&view, "10.0.0.9:80").unwrap_err();
    assert!(matches!(error, ResolveError::OtherNetwork { .. }), "{error}");
}

#[test]
fn a_waypoint_in_another_network_is_behind_its_gateway() {
    const WAYPOINT: &str = "a/waypoint.example";
    let pod = Workload {
        network: text("remote"),
        network_gateway: Some(gateway(GATEWAY).into()),
        ..endpoint(WAYPOINT, "w", "10.0.0.1")
    };
    let other = "spiffe://cluster.local/ns/a/sa/waypoint";
    let waypoint = Service {
        ports: ports(&[(15008, 15008)]),
        subject_alt_names: vec![other.parse().unwrap()],
        ..service(WAYPOINT, "")
    };
    let behind = Service { waypoint: Some(gateway(WAYPOINT)), ..global() };
    let (_writer, view) = world([pod, remote(), gateway_pod("g", "192.0.2.7")], [behind, waypoint, gateway_service()]);
    let found = crossing(route(&view, "10.96.0.1:80"));
    // The addressed service is asked for, and the waypoint must answer.
    assert_eq!(found.authority, authority("x.example:80"));
    assert_eq!(names(found.remote.expected()), [other]);
    assert_eq!(&*found.remote.upstream.workload.name, "w");
}

#[test]
fn without_a_known_gateway_there_is_no_way_around() {
    let (mut writer, view) = world([remote()], [global()]);
    let error = route(&view, "10.96.0.1:80").unwrap_err();
    assert!(matches!(&error, ResolveError::UnknownGateway { gateway: Some(_), .. }), "{error}");
    // With addresses but without a gateway it is no nearer.
    writer.upsert_workload(Workload { network_gateway: None, addresses: vec![ip("10.0.0.1")].into(), ..remote() });
    let error = route(&view, "10.96.0.1:80").unwrap_err();
    assert!(matches!(&error, ResolveError::UnknownGateway { gateway: None, network, .. } if &**network == "remote"));
    // With neither addresses nor gateway it is no endpoint at all.
    writer.upsert_workload(Workload { network_gateway: None, ..remote() });
    assert!(matches!(route(&view, "10.96.0.1:80"), Err(ResolveError::NoEndpoint { .. })));
    // A gateway must listen on the port of the reference, and have an endpoint.
    writer.upsert_workload(remote());
    writer.upsert_service(Service { ports: ports(&[(443, 443)]), ..gateway_service() });
    assert!(matches!(route(&view, "10.96.0.1:80"), Err(ResolveError::UnknownPort { port: 15008, .. })));
    writer.upsert_service(gateway_service());
    assert!(matches!(route(&view, "10.96.0.1:80"), Err(ResolveError::NoEndpoint { port: 15008, .. })));
}

#[test]
fn an_endpoint_whose_gateway_is_down_is_passed_over() {
    let local = endpoint("a/x.example", "local", "10.0.0.2");
    let (mut writer, view) = world([remote(), local], [global()]);
    for seed in 0..20 {
        let found = resolve(&view, &client(), socket("10.96.0.1:80"), &[], &mut random(seed)).unwrap();
        assert_eq!(name(&found), "local", "the other's gateway is not known");
    }
    writer.upsert_workload(gateway_pod("g", "192.0.2.7"));
    writer.upsert_service(gateway_service());
    let gateway = [gateway_pod("g", "192.0.2.7").uid];
    for seed in 0..20 {
        let found = resolve(&view, &client(), socket("10.96.0.1:80"), &gateway, &mut random(seed)).unwrap();
        assert_eq!(name(&found), "local", "the other's gateway has failed");
    }
}

#[test]
fn every_endpoint_of_a_gateway_is_of_use() {
    let (_writer, view) =
        world([remote(), gateway_pod("g", "192.0.2.7"), gateway_pod("h", "192.0.2.8")], [global(), gateway_service()]);
    let uid = |upstream: &Upstream| upstream.workload.uid.clone();
    let first = crossing(route(&view, "10.96.0.1:80")).gateway;
    let second = resolve(&view, &client(), socket("10.96.0.1:80"), &[uid(&first)], &mut random(1));
    assert_ne!(uid(&crossing(second).gateway), uid(&first));
}
