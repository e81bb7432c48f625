//! Connections that a waypoint must see.

use super::*;
use crate::model::{ApplicationTunnel, TunnelProtocol};

const WAYPOINT: &str = "a/waypoint.example";

/// A pod of the waypoint; its proxy is its own, so it is not captured.
fn waypoint_pod(name: &str, address: &str) -> Workload {
    let uncaptured =
        Workload { protocol: Protocol::Tcp, service_account: text("waypoint"), ..endpoint(WAYPOINT, name, address) };
    Workload { health: Health::Healthy, ..uncaptured }
}

fn waypoint_service() -> Service {
    Service { ports: ports(&[(15008, 15008)]), ..service(WAYPOINT, "10.96.0.50") }
}

/// Service `a/x.example` with one endpoint, behind the waypoint.
fn behind() -> Service {
    Service { waypoint: Some(gateway(WAYPOINT)), ..service("a/x.example", "10.96.0.1") }
}

fn shielded(waypoint: Option<GatewayAddress>) -> Workload {
    Workload { waypoint: waypoint.map(Arc::new), ..endpoint("a/y.example", "one", "10.0.0.1") }
}

fn at(place: &str) -> Option<GatewayAddress> {
    Some(GatewayAddress { destination: Destination::Address(address(place)), hbone_mtls_port: 15008 })
}

/// Destination, authority, expected identities and addressed service of a route through a waypoint.
fn through(view: &View, destination: &str) -> (SocketAddr, String, Vec<String>, Option<String>) {
    match route(view, destination).unwrap() {
        Route::Waypoint { destination, authority, expected, service, .. } => (
            destination,
            authority.to_string(),
            expected.iter().map(ToString::to_string).collect(),
            service.map(|service| service.hostname.to_string()),
        ),
        other => panic!("not through a waypoint: {other:?}"),
    }
}

#[test]
fn a_services_waypoint_is_asked_for_the_original_destination() {
    let other = "spiffe://cluster.local/ns/a/sa/other".parse().unwrap();
    let waypoint = Service { subject_alt_names: vec![other], ..waypoint_service() };
    let (_writer, view) =
        world([waypoint_pod("w", "10.0.0.50"), endpoint("a/x.example", "one", "10.0.0.1")], [behind(), waypoint]);
    // Any port: what the service listens on is the waypoint's business.
    for destination in ["10.96.0.1:80", "10.96.0.1:4711"] {
        let (tunnel, authority, expected, service) = through(&view, destination);
        assert_eq!((tunnel, &*authority), (socket("10.0.0.50:15008"), destination));
        assert_eq!(expected, ["spiffe://cluster.local/ns/a/sa/waypoint", "spiffe://cluster.local/ns/a/sa/other"]);
        assert_eq!(service.as_deref(), Some("x.example"));
    }
}

#[test]
fn a_workloads_waypoint_is_for_who_addresses_the_workload_itself() {
    let (_writer, view) = world(
        [waypoint_pod("w", "10.0.0.50"), shielded(Some(gateway(WAYPOINT)))],
        [service("a/y.example", "10.96.0.2"), waypoint_service()],
    );
    let (tunnel, authority, _, service) = through(&view, "10.0.0.1:9999");
    assert_eq!((tunnel, &*authority, service), (socket("10.0.0.50:15008"), "10.0.0.1:9999", None));
    assert_eq!(name(&route(&view, "10.96.0.2:80").unwrap()), "one");
}

#[test]
fn a_services_waypoint_is_binding_where_a_workload_has_the_same_address() {
    let shared = Service { waypoint: Some(gateway(WAYPOINT)), ..service("a/x.example", "10.0.0.1") };
    let one = endpoint("a/x.example", "one", "10.0.0.1");
    let (_writer, view) = world([waypoint_pod("w", "10.0.0.50"), one], [shared, waypoint_service()]);
    assert_eq!(through(&view, "10.0.0.1:80").0, socket("10.0.0.50:15008"));
}

#[test]
fn a_reference_may_be_an_address_of_the_service_or_of_the_waypoint_itself() {
    for place in ["/10.96.0.50", "/10.0.0.50"] {
        let (_writer, view) = world([waypoint_pod("w", "10.0.0.50"), shielded(at(place))], [waypoint_service()]);
        assert_eq!(through(&view, "10.0.0.1:80").0, socket("10.0.0.50:15008"), "{place}");
    }
}

#[test]
fn a_reference_may_be_the_host_name_of_a_workload() {
    let named =
        Workload { hostname: "waypoint.example".into(), services: vec![].into(), ..waypoint_pod("w", "10.0.0.50") };
    let (mut writer, view) = world([named.clone(), shielded(Some(gateway(WAYPOINT)))], []);
    assert_eq!(through(&view, "10.0.0.1:80").0, socket("10.0.0.50:15008"));

    // Without an address the name is resolved first, and the original destination is still what is asked for.
    writer.upsert_workload(Workload { addresses: vec![].into(), ..named.clone() });
    let Route::Unresolved(unresolved) = route(&view, "10.0.0.1:80").unwrap() else { panic!("resolved") };
    assert_eq!(unresolved.hostname().as_str(), "waypoint.example");
    match unresolved.resolved(&[ip("fd00::50"), ip("10.0.0.51")], &mut random(1)).unwrap() {
        Route::Waypoint { destination, authority: asked, .. } => {
            assert_eq!((destination, asked), (socket("10.0.0.51:15008"), authority("10.0.0.1:80")));
        }
        other => panic!("{other:?}"),
    }
    // It is forgotten under its old name.
    writer.upsert_workload(Workload { hostname: "elsewhere.example".into(), ..named });
    assert!(matches!(route(&view, "10.0.0.1:80").unwrap_err(), ResolveError::UnknownWaypoint { .. }));
}

#[test]
fn the_port_of_the_reference_leads_through_the_services_ports() {
    let shifted = Service { ports: ports(&[(15008, 25008)]), ..waypoint_service() };
    let (mut writer, view) = world([waypoint_pod("w", "10.0.0.50")], [behind(), shifted]);
    assert_eq!(through(&view, "10.96.0.1:80").0, socket("10.0.0.50:25008"));

    // A waypoint that is captured takes HBONE on the port itself, listed or not.
    writer.upsert_service(service(WAYPOINT, "10.96.0.50"));
    let error = route(&view, "10.96.0.1:80").unwrap_err();
    assert!(matches!(error, ResolveError::NoEndpoint { port: 15008, .. }), "{error}");
    let tunnel = Some(ApplicationTunnel { protocol: TunnelProtocol::Proxy, port: Some(15088) });
    writer.upsert_workload(Workload { application_tunnel: tunnel, ..waypoint_pod("w", "10.0.0.50") });
    assert_eq!(through(&view, "10.96.0.1:80").0, socket("10.0.0.50:15008"));
}

#[test]
fn waypoints_are_balanced_and_the_next_is_tried_until_there_is_none() {
    let (_writer, view) = world(
        [waypoint_pod("v", "10.0.0.50"), waypoint_pod("w", "10.0.0.51"), endpoint("a/x.example", "one", "10.0.0.1")],
        [behind(), waypoint_service()],
    );
    let (mut failed, mut random) = (Vec::new(), random(1));
    let last = loop {
        match resolve(&view, &client(), socket("10.96.0.1:80"), &failed, &mut random) {
            Ok(route) => failed.push(route.upstream().unwrap().workload.uid.clone()),
            Err(error) => break error,
        }
    };
    assert!(matches!(&last, ResolveError::NoEndpoint { service, port: 15008 } if service.to_string() == WAYPOINT));
    assert_eq!(failed.len(), 2);
    let near = Workload { node: text("node-2"), ..waypoint_pod("w", "10.0.0.51") };
    let local = Service { load_balancing: balancing(Mode::Strict, &[Scope::Node]), ..waypoint_service() };
    let (_writer, view) = world([waypoint_pod("v", "10.0.0.50"), near], [behind(), local]);
    for seed in 0..50 {
        let source = Workload { node: text("node-2"), ..client() };
        let route = resolve(&view, &source, socket("10.96.0.1:80"), &[], &mut crate::fixtures::random(seed)).unwrap();
        assert_eq!(name(&route), "w");
    }
}

#[test]
fn weighted_waypoints_are_followed_by_weight() {
    let weighted = |name: &str, weight| WeightedWaypoint { destination: gateway(name), weight };
    let shared = Service {
        waypoint: Some(gateway("a/nowhere.example")),
        weighted_waypoints: vec![weighted(WAYPOINT, 90), weighted("a/canary.example", 10)],
        ..service("a/x.example", "10.96.0.1")
    };
    let canary = Service { ports: ports(&[(15008, 15008)]), ..service("a/canary.example", "10.96.0.51") };
    let (_writer, view) = world(
        [waypoint_pod("w", "10.0.0.50"), endpoint("a/canary.example", "c", "10.0.0.51")],
        [shared, waypoint_service(), canary],
    );
    let mut random = random(5);
    let mut picked = || resolve(&view, &client(), socket("10.96.0.1:80"), &[], &mut random).unwrap();
    let canaries = (0..1000).filter(|_| name(&picked()) == "c").count();
    assert!((50..150).contains(&canaries), "{canaries}");
}

#[test]
fn without_a_waypoint_that_works_nothing_goes_through() {
    let sick = Workload { health: Health::Unhealthy, ..waypoint_pod("w", "10.0.0.50") };
    let one = || endpoint("a/x.example", "one", "10.0.0.1");
    let passthrough = Service { load_balancing: balancing(Mode::Passthrough, &[]), ..behind() };
    for service in [behind(), passthrough] {
        let (mut writer, view) = world([one(), shielded(Some(gateway(WAYPOINT)))], [service]);
        for destination in ["10.96.0.1:80", "10.96.0.1:4711"] {
            let error = route(&view, destination).unwrap_err();
            assert!(matches!(error, ResolveError::UnknownWaypoint { .. }), "{error}");
            assert!(error.to_string().contains(WAYPOINT), "{error}");
        }
        writer.upsert_service(waypoint_service());
        assert!(matches!(route(&view, "10.96.0.1:80").unwrap_err(), ResolveError::NoEndpoint { .. }));
        writer.upsert_workload(sick.clone());
        let error = route(&view, "10.96.0.1:80").unwrap_err();
        assert!(error.to_string().starts_with("no healthy upstream: a/waypoint.example"), "{error}");
        assert!(route(&view, "10.0.0.1:80").is_err());
        let all = LoadBalancing { health_policy: HealthPolicy::AllowAll, ..LoadBalancing::default() };
        writer.upsert_service(Service { load_balancing: Some(all), ..waypoint_service() });
        assert_eq!(through(&view, "10.96.0.1:80").0, socket("10.0.0.50:15008"));
    }
    // The port that the waypoint should have is not there.
    let (_writer, view) = world([waypoint_pod("w", "10.0.0.50")], [behind(), service(WAYPOINT, "10.96.0.50")]);
    assert!(matches!(route(&view, "10.96.0.1:80").unwrap_err(), ResolveError::NoEndpoint { .. }));
}

#[test]
fn a_waypoint_in_another_network_is_not_reached_around_the_gateway() {
    let remote = Workload {
        network: text("remote"),
        network_gateway: Some(gateway("a/gw.example").into()),
        ..waypoint_pod("w", "10.0.0.50")
    };
    let (_writer, view) = world([remote], [behind(), waypoint_service()]);
    assert!(matches!(route(&view, "10.96.0.1:80").unwrap_err(), ResolveError::UnknownGateway { .. }));
}

#[test]
fn a_waypoint_reaches_the_workload_that_it_serves() {
    let from = |view: &View, source: &Workload| resolve(view, source, socket("10.0.0.1:80"), &[], &mut random(1));
    let own = waypoint_pod("w", "10.0.0.50");
    for reference in [Some(gateway(WAYPOINT)), at("/10.96.0.50"), at("/10.0.0.50")] {
        let (_writer, view) = world([own.clone(), shielded(reference.clone())], [waypoint_service()]);
        let route = from(&view, &own).unwrap();
        assert!(matches!(route, Route::Hbone { .. }) && name(&route) == "one", "{reference:?}");
        assert!(matches!(from(&view, &client()).unwrap(), Route::Waypoint { .. }), "{reference:?}");
    }
}

#[test]
fn what_goes_through_a_waypoint_is_not_handed_over() {
    let captured = Workload { protocol: Protocol::Hbone, ..waypoint_pod("w", "10.0.0.50") };
    let (_writer, view) = world([captured, shielded(Some(gateway(WAYPOINT)))], [waypoint_service()]);
    let route = route(&view, "10.0.0.1:80").unwrap();
    assert!(matches!(route, Route::Waypoint { .. }));
    assert_eq!(route.handed_over(&view, &client(), ip("10.0.0.200")), None);
}
