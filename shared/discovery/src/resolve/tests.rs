//! The decision tree, branch by branch.

use super::*;
use crate::fixtures::{
    address, authority, balancing, endpoint, gateway, ip, pod, ports, random, service, socket, text, world,
};
use crate::model::{
    Destination, Health, HealthPolicy, IpFamilies, LoadBalancing, NetworkMode, Protocol, Scope, Visibility,
    WeightedWaypoint,
};
use crate::writer::Writer;

fn client() -> Workload {
    pod("client", "client", "10.0.0.200")
}

fn route(view: &View, destination: &str) -> Result<Route, ResolveError> {
    resolve(view, &client(), socket(destination), &[], &mut random(1))
}

fn name(route: &Route) -> &str {
    &route.upstream().unwrap().workload.name
}

#[test]
fn an_unknown_destination_is_left_alone() {
    let (_writer, view) = world([client()], [service("a/x.example", "10.96.0.1")]);
    let destination = socket("203.0.113.9:443");
    assert_eq!(route(&view, "203.0.113.9:443").unwrap(), Route::Passthrough { destination, service: None });
    assert_eq!(route(&view, "[::ffff:203.0.113.9]:443").unwrap(), Route::Passthrough { destination, service: None });
}

#[test]
fn a_captured_workload_is_reached_through_a_tunnel() {
    let (_writer, view) = world([pod("a", "one", "10.0.0.1")], []);
    let Route::Hbone { destination, authority: asked, expected, upstream } = route(&view, "10.0.0.1:8080").unwrap()
    else {
        panic!("no tunnel")
    };
    assert_eq!(destination, socket("10.0.0.1:15008"));
    assert_eq!(asked, authority("10.0.0.1:8080"));
    assert_eq!(expected, ["spiffe://cluster.local/ns/a/sa/default".parse().unwrap()]);
    assert_eq!((&*upstream.workload.name, upstream.service, upstream.port), ("one", None, 8080));
}

#[test]
fn a_workload_that_is_not_captured_is_reached_in_plaintext() {
    let plain = Workload { protocol: Protocol::Tcp, ..endpoint("a/x.example", "one", "10.0.0.1") };
    let (_writer, view) = world([plain], [service("a/x.example", "10.96.0.1")]);
    let Route::Tcp { destination, upstream } = route(&view, "10.96.0.1:80").unwrap() else { panic!("no plaintext") };
    assert_eq!(destination, socket("10.0.0.1:8080"));
    assert_eq!((upstream.service.unwrap().hostname.as_str(), upstream.port), ("x.example", 8080));
    let Route::Tcp { destination, .. } = route(&view, "10.0.0.1:80").unwrap() else { panic!("no plaintext") };
    assert_eq!(destination, socket("10.0.0.1:80"));
}

#[test]
fn a_service_is_reached_at_the_target_port_of_its_endpoint() {
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    let Route::Hbone { destination, authority: asked, .. } = route(&view, "10.96.0.1:80").unwrap() else {
        panic!("no tunnel")
    };
    assert_eq!((destination, asked), (socket("10.0.0.1:15008"), authority("10.0.0.1:8080")));
}

#[test]
fn a_service_adds_the_identities_that_its_endpoints_may_have() {
    let own = "spiffe://cluster.local/ns/a/sa/default".parse().unwrap();
    let other = "spiffe://cluster.local/ns/b/sa/other".parse().unwrap();
    let named = Service { subject_alt_names: vec![other, own], ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [named]);
    let expected = |destination| match route(&view, destination).unwrap() {
        Route::Hbone { expected, .. } => expected.iter().map(|identity| identity.to_string()).collect::<Vec<_>>(),
        other => panic!("no tunnel: {other:?}"),
    };
    let own = "spiffe://cluster.local/ns/a/sa/default";
    assert_eq!(expected("10.96.0.1:80"), [own, "spiffe://cluster.local/ns/b/sa/other"]);
    assert_eq!(expected("10.0.0.1:80"), [own]);
}

#[test]
fn a_service_comes_before_a_workload_with_the_same_address() {
    let (mut writer, view) = world(
        [pod("a", "same-address", "10.96.0.1"), endpoint("a/x.example", "one", "10.0.0.1")],
        [service("a/x.example", "10.96.0.1")],
    );
    assert_eq!(name(&route(&view, "10.96.0.1:80").unwrap()), "one");
    writer.remove("a/x.example");
    assert_eq!(name(&route(&view, "10.96.0.1:80").unwrap()), "same-address");
}

#[test]
fn a_service_without_usable_endpoint_is_never_gone_around() {
    let sick = Workload { health: Health::Unhealthy, ..endpoint("a/x.example", "one", "10.0.0.1") };
    let (mut writer, view) = world([sick], [service("a/x.example", "10.96.0.1")]);
    let error = route(&view, "10.96.0.1:80").unwrap_err();
    assert!(matches!(error, ResolveError::NoEndpoint { port: 80, .. }), "{error:?}");
    assert!(error.to_string().starts_with("no healthy upstream"), "{error}");
    writer.remove("Kubernetes//Pod/a/one");
    assert_eq!(route(&view, "10.96.0.1:80").unwrap_err(), error);
}

#[test]
fn an_unknown_port_of_a_service_is_never_gone_around() {
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    let error = route(&view, "10.96.0.1:81").unwrap_err();
    assert!(matches!(error, ResolveError::UnknownPort { port: 81, .. }), "{error:?}");
    assert!(error.to_string().starts_with("no healthy upstream"), "{error}");
}

#[test]
fn health_does_not_matter_for_a_workload_that_is_addressed_itself() {
    let sick = Workload { health: Health::Unhealthy, ..pod("a", "one", "10.0.0.1") };
    let (_writer, view) = world([sick], []);
    assert_eq!(name(&route(&view, "10.0.0.1:80").unwrap()), "one");
}

#[test]
fn a_passthrough_service_keeps_the_original_destination() {
    let through = Service { load_balancing: balancing(Mode::Passthrough, &[]), ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [through]);
    // Any port will do, listed or not.
    for destination in ["10.96.0.1:80", "10.96.0.1:4711"] {
        match route(&view, destination).unwrap() {
            Route::Passthrough { destination: found, service: Some(service) } => {
                assert_eq!((found, service.hostname.as_str()), (socket(destination), "x.example"));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_service_that_the_client_cannot_see_is_an_unknown_destination() {
    let hidden = Service { visibility: Visibility::Namespace, ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [hidden]);
    assert!(matches!(route(&view, "10.96.0.1:80").unwrap(), Route::Passthrough { service: None, .. }));
    let neighbour = pod("a", "neighbour", "10.0.0.201");
    let route = resolve(&view, &neighbour, socket("10.96.0.1:80"), &[], &mut random(1)).unwrap();
    assert_eq!(name(&route), "one");
}

#[test]
fn an_address_of_a_host_is_an_unknown_destination() {
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..pod("a", "host", "172.30.0.11") };
    let (_writer, view) = world([host], []);
    assert!(matches!(route(&view, "172.30.0.11:80").unwrap(), Route::Passthrough { service: None, .. }));
}

#[test]
fn weighted_waypoints_share_the_connections() {
    let weighted = |name: &str, weight| WeightedWaypoint { destination: gateway(name), weight };
    let picks = |weights: [u32; 2]| {
        let shared = Service {
            waypoint: Some(gateway("a/primary.example")),
            weighted_waypoints: vec![weighted("a/one.example", weights[0]), weighted("a/two.example", weights[1])],
            ..service("a/x.example", "10.96.0.1")
        };
        let mut random = random(5);
        let mut count = |name| (0..1000).filter(|_| shared.pick_waypoint(&mut random) == Some(&gateway(name))).count();
        [count("a/one.example"), count("a/two.example"), count("a/primary.example")]
    };
    let [one, two, primary] = picks([90, 10]);
    assert!((850..950).contains(&one) && (50..150).contains(&two) && primary == 0, "{one} {two} {primary}");
    assert_eq!(picks([0, 1]), [0, 1000, 0]);
    assert_eq!(picks([0, 0]), [0, 0, 1000]);
}

#[test]
fn a_gateway_of_the_own_network_is_ignored() {
    let local = Workload {
        network_gateway: Some(gateway("istio/gateway.example").into()),
        ..endpoint("a/x.example", "one", "10.0.0.1")
    };
    let (_writer, view) = world([local], [service("a/x.example", "10.96.0.1")]);
    assert_eq!(name(&route(&view, "10.96.0.1:80").unwrap()), "one");
}

#[test]
fn a_connection_to_our_own_listeners_is_refused() {
    let (_writer, view) = world([], []);
    for destination in ["127.0.0.1:15001", "127.9.9.9:15006", "[::1]:15008", "[::ffff:127.0.0.1]:15008"] {
        assert!(matches!(route(&view, destination).unwrap_err(), ResolveError::Loop { .. }), "{destination}");
        assert!(is_loop(socket(destination)));
    }
    for destination in ["127.0.0.1:80", "127.0.0.1:15000", "10.0.0.1:15001"] {
        assert!(route(&view, destination).is_ok(), "{destination}");
    }
}

#[test]
fn the_next_endpoint_is_tried_until_there_is_none() {
    let (_writer, view) = world(
        [endpoint("a/x.example", "one", "10.0.0.1"), endpoint("a/x.example", "two", "10.0.0.2")],
        [service("a/x.example", "10.96.0.1")],
    );
    let (mut failed, mut random) = (Vec::new(), random(1));
    let last = loop {
        match resolve(&view, &client(), socket("10.96.0.1:80"), &failed, &mut random) {
            Ok(route) => failed.push(route.upstream().unwrap().workload.uid.clone()),
            Err(error) => break error,
        }
    };
    assert!(matches!(last, ResolveError::NoEndpoint { .. }));
    assert_eq!(failed.len(), 2);
    let error = resolve(&view, &client(), socket("10.0.0.1:80"), &failed, &mut random).unwrap_err();
    assert!(matches!(error, ResolveError::NoAlternative { .. }));
}

#[test]
fn an_address_of_the_workload_is_kept_and_others_follow_the_family_of_the_original_destination() {
    let both = Workload {
        addresses: vec![ip("10.0.0.1"), ip("fd00::1")].into(),
        protocol: Protocol::Tcp,
        ..endpoint("a/x.example", "one", "10.0.0.1")
    };
    let dual = |ip_families| Service {
        vips: vec![address("/10.96.0.1"), address("/fd00::96")],
        ip_families,
        ..service("a/x.example", "")
    };
    let (mut writer, view) = world([both], [dual(IpFamilies::Automatic)]);
    let reached = |destination: &str| match route(&view, destination).unwrap() {
        Route::Tcp { destination, .. } => destination,
        other => panic!("{other:?}"),
    };
    assert_eq!(reached("10.0.0.1:80"), socket("10.0.0.1:80"));
    assert_eq!(reached("[fd00::1]:80"), socket("[fd00::1]:80"));
    for families in [IpFamilies::Automatic, IpFamilies::Dual] {
        writer.upsert_service(dual(families));
        assert_eq!(reached("10.96.0.1:80"), socket("10.0.0.1:8080"));
        assert_eq!(reached("[fd00::96]:80"), socket("[fd00::1]:8080"));
    }
    writer.upsert_service(dual(IpFamilies::Ipv4Only));
    assert_eq!(reached("[fd00::96]:80"), socket("10.0.0.1:8080"));
    writer.upsert_service(dual(IpFamilies::Ipv6Only));
    assert_eq!(reached("10.96.0.1:80"), socket("[fd00::1]:8080"));
}

#[test]
fn an_endpoint_without_an_address_of_the_services_families_is_an_error() {
    let four_only = Service { ip_families: IpFamilies::Ipv6Only, ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [four_only]);
    assert!(matches!(route(&view, "10.96.0.1:80").unwrap_err(), ResolveError::NoAddress { .. }));
}

#[test]
fn a_workload_with_a_name_only_must_be_resolved_first() {
    let named = Workload {
        addresses: vec![].into(),
        hostname: "api.example".into(),
        protocol: Protocol::Tcp,
        ..endpoint("a/x.example", "named", "10.0.0.1")
    };
    let external = Service { ip_families: IpFamilies::Automatic, ..service("a/x.example", "240.240.0.1") };
    let (_writer, view) = world([named], [external]);
    let Route::Unresolved(unresolved) = route(&view, "240.240.0.1:80").unwrap() else { panic!("resolved") };
    assert_eq!(unresolved.hostname().as_str(), "api.example");

    let answers = [ip("2001:db8::1"), ip("203.0.113.1"), ip("203.0.113.2")];
    let mut random = random(1);
    let mut reached = |answers: &[IpAddr]| match unresolved.clone().resolved(answers, &mut random) {
        Ok(Route::Tcp { destination, .. }) => Some(destination),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    };
    let found: std::collections::BTreeSet<_> = (0..100).filter_map(|_| reached(&answers)).collect();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [socket("203.0.113.1:8080"), socket("203.0.113.2:8080")]);
    assert_eq!(reached(&[ip("2001:db8::1")]), Some(socket("[2001:db8::1]:8080")));
    assert_eq!(reached(&[]), None);
}

#[test]
fn the_nearest_endpoint_is_chosen_from_where_the_source_is() {
    let near = Workload { node: text("node-2"), ..endpoint("a/x.example", "near", "10.0.0.2") };
    let local = Service {
        load_balancing: balancing(Mode::Strict, &[Scope::Node]),
        ports: ports(&[(80, 8080)]),
        ..service("a/x.example", "10.96.0.1")
    };
    let (_writer, view) = world([endpoint("a/x.example", "far", "10.0.0.1"), near], [local]);
    let source = Workload { node: text("node-2"), ..client() };
    for seed in 0..50 {
        let route = resolve(&view, &source, socket("10.96.0.1:80"), &[], &mut random(seed)).unwrap();
        assert_eq!(name(&route), "near");
    }
}

#[test]
fn two_captured_pods_of_the_own_node_need_no_tunnel() {
    let (_writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    for destination in ["10.96.0.1:80", "10.0.0.1:8080"] {
        let route = route(&view, destination).unwrap();
        let Some(Route::Local { destination, upstream }) = route.handed_over(&view, &client(), ip("10.0.0.200")) else {
            panic!("not handed over")
        };
        assert_eq!((destination, upstream), (socket("10.0.0.1:8080"), route.upstream().unwrap().clone()));
    }
}

#[test]
fn everybody_else_keeps_the_tunnel() {
    let near = || pod("a", "one", "10.0.0.1");
    let handed_over = |source: &Workload, target: Workload, from: &str| {
        let (_writer, view) = world([target], []);
        let route = resolve(&view, source, socket("10.0.0.1:80"), &[], &mut random(1)).unwrap();
        route.handed_over(&view, source, ip(from)).is_some()
    };
    assert!(handed_over(&client(), near(), "10.0.0.200"));
    assert!(handed_over(&client(), near(), "::ffff:10.0.0.200"));
    for from in ["127.0.0.1", "10.0.0.201", "::1"] {
        assert!(!handed_over(&client(), near(), from), "what is not the source's address comes from {from}");
    }
    for target in [
        Workload { node: text("node-2"), ..near() },
        Workload { protocol: Protocol::Tcp, ..near() },
        Workload { native_tunnel: true, ..near() },
    ] {
        assert!(!handed_over(&client(), target.clone(), "10.0.0.200"), "{target:?}");
    }
    for source in [
        Workload { node: text("node-2"), ..client() },
        Workload { protocol: Protocol::Tcp, ..client() },
        Workload { network_mode: NetworkMode::HostNetwork, ..client() },
    ] {
        assert!(!handed_over(&source, near(), "10.0.0.200"), "{source:?}");
    }
    // A proxy that serves any node does not know its own.
    let mut writer = Writer::new("", None);
    writer.upsert_workload(near());
    let view = writer.view();
    let route = resolve(&view, &client(), socket("10.0.0.1:80"), &[], &mut random(1)).unwrap();
    assert_eq!(route.handed_over(&view, &client(), ip("10.0.0.200")), None);
}

mod entries;
mod gateways;
mod waypoints;
