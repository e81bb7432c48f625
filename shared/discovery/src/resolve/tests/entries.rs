//! Services without addresses, and services outside the mesh.

use super::*;
use crate::fixtures::key;
use crate::model::CidrVip;

const WAYPOINT: &str = "a/waypoint.example";

fn waypoint() -> (Workload, Service) {
    let pod = Workload { protocol: Protocol::Tcp, ..endpoint(WAYPOINT, "w", "10.0.0.50") };
    (pod, Service { ports: ports(&[(15008, 15008)]), ..service(WAYPOINT, "") })
}

/// An endpoint outside of the mesh that is known by its name alone.
fn external() -> Workload {
    let named = endpoint("a/db.example", "db", "10.0.0.1");
    Workload { addresses: vec![].into(), hostname: "db.example".into(), protocol: Protocol::Tcp, ..named }
}

#[test]
fn a_headless_service_is_its_workloads() {
    let (pod, of_the_service) = waypoint();
    let headless = Service { waypoint: Some(gateway(WAYPOINT)), ..service("a/x.example", "") };
    let one = endpoint("a/x.example", "one", "10.0.0.1");
    let (mut writer, view) = world([pod, one.clone()], [headless, of_the_service]);
    // Nobody can address the service, so that its waypoint has no say; the port is not translated either.
    let Ok(Route::Hbone { authority: asked, upstream, .. }) = route(&view, "10.0.0.1:4711") else {
        panic!("no tunnel")
    };
    assert_eq!((asked, upstream.service), (authority("10.0.0.1:4711"), None));
    writer.upsert_workload(Workload { waypoint: Some(gateway(WAYPOINT).into()), ..one });
    let found = route(&view, "10.0.0.1:4711").unwrap();
    assert!(matches!(&found, Route::Waypoint { service: None, .. }), "{found:?}");
}

#[test]
fn a_name_outside_the_mesh_is_resolved_and_reached_in_plaintext_at_the_target_port() {
    let (_writer, view) = world([external()], [service("a/db.example", "240.240.0.1")]);
    let Ok(Route::Unresolved(unresolved)) = route(&view, "240.240.0.1:80") else { panic!("resolved already") };
    let found = unresolved.resolved(&[ip("203.0.113.9")], &mut random(1)).unwrap();
    let Route::Tcp { destination, upstream } = found else { panic!("not in plaintext: {found:?}") };
    assert_eq!((destination, &*upstream.workload.name), (socket("203.0.113.9:8080"), "db"));
}

/// An endpoint of a ServiceEntry that lists it by address; `own` is the port map of the endpoint itself.
fn listed(name: &str, address: &str, own: &[(u16, u16)]) -> Workload {
    let uid = format!("Kubernetes/networking.istio.io/ServiceEntry/a/db/{address}");
    let services = vec![(key("a/db.example"), ports(own))];
    Workload { uid: uid.into(), services: services.into(), protocol: Protocol::Tcp, ..pod("a", name, address) }
}

#[test]
fn endpoints_that_an_entry_lists_are_reached_in_plaintext_each_at_its_own_port() {
    let entry = service("a/db.example", "240.240.0.1");
    let endpoints = [listed("one", "198.51.100.1", &[]), listed("two", "198.51.100.2", &[(80, 9090)])];
    let (mut writer, view) = world(endpoints, [entry]);
    let mut reached = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let found = resolve(&view, &client(), socket("240.240.0.1:80"), &[], &mut random(seed)).unwrap();
        let Route::Tcp { destination, upstream } = found else { panic!("not in plaintext: {found:?}") };
        assert_eq!(upstream.service.unwrap().hostname.as_str(), "db.example");
        reached.insert(destination);
    }
    assert_eq!(reached, [socket("198.51.100.1:8080"), socket("198.51.100.2:9090")].into());
    // One of them by its own address is itself, at any port.
    let found = route(&view, "198.51.100.2:7").unwrap();
    assert!(matches!(&found, Route::Tcp { destination, .. } if *destination == socket("198.51.100.2:7")), "{found:?}");
    writer.remove("Kubernetes/networking.istio.io/ServiceEntry/a/db/198.51.100.1");
    writer.remove("Kubernetes/networking.istio.io/ServiceEntry/a/db/198.51.100.2");
    assert!(matches!(route(&view, "240.240.0.1:80"), Err(ResolveError::NoEndpoint { .. })), "never gone around");
}

#[test]
fn captured_pods_that_an_entry_selects_are_reached_through_a_tunnel() {
    let selected = endpoint("a/db.example", "selected", "10.0.0.1");
    let outside = listed("outside", "198.51.100.1", &[]);
    let (_writer, view) = world([selected, outside], [service("a/db.example", "240.240.0.1")]);
    for seed in 0..20 {
        let found = resolve(&view, &client(), socket("240.240.0.1:80"), &[], &mut random(seed)).unwrap();
        match (name(&found), &found) {
            ("selected", Route::Hbone { authority: asked, .. }) => assert_eq!(*asked, authority("10.0.0.1:8080")),
            ("outside", Route::Tcp { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn hosts_below_a_wildcard_are_reached_through_their_waypoint_or_not_at_all() {
    let (waypoint, of_the_service) = waypoint();
    // DYNAMIC_DNS: whoever ends the tunnel finds out which host is meant, so there are no endpoints here.
    let dynamic = service("a/*.wild.example", "240.240.0.9");
    let behind = Service { waypoint: Some(gateway(WAYPOINT)), ..dynamic.clone() };
    let (mut writer, view) = world([waypoint], [behind, of_the_service]);
    let Ok(Route::Waypoint { authority: asked, service: Some(found), .. }) = route(&view, "240.240.0.9:80") else {
        panic!("not through the waypoint")
    };
    assert_eq!((asked, found.hostname.as_str()), (authority("240.240.0.9:80"), "*.wild.example"));
    writer.upsert_service(dynamic);
    assert!(matches!(route(&view, "240.240.0.9:80"), Err(ResolveError::NoEndpoint { .. })));
}

#[test]
fn what_leaves_the_mesh_through_a_waypoint_is_asked_for_by_its_address() {
    let (pod, of_the_service) = waypoint();
    let behind = Service { waypoint: Some(gateway(WAYPOINT)), ..service("a/db.example", "240.240.0.1") };
    let (_writer, view) = world([pod, external()], [behind, of_the_service]);
    let Ok(Route::Waypoint { destination, authority: asked, .. }) = route(&view, "240.240.0.1:80") else {
        panic!("not through the waypoint")
    };
    assert_eq!((destination, asked), (socket("10.0.0.50:15008"), authority("240.240.0.1:80")));
}

#[test]
fn a_range_of_addresses_keeps_the_original_destination_unless_there_is_a_waypoint() {
    let range = CidrVip { network: text(""), cidr: "203.0.113.0/24".parse().unwrap() };
    let none = Service {
        cidr_vips: vec![range],
        load_balancing: balancing(Mode::Passthrough, &[]),
        ..service("a/x.example", "")
    };
    let (pod, of_the_service) = waypoint();
    let (mut writer, view) = world([pod], [none.clone(), of_the_service]);
    // Any port, and no endpoint is needed.
    let found = route(&view, "203.0.113.9:4711").unwrap();
    let Route::Passthrough { destination, service: Some(found) } = found else { panic!("not left alone: {found:?}") };
    assert_eq!((destination, found.hostname.as_str()), (socket("203.0.113.9:4711"), "x.example"));
    writer.upsert_service(Service { waypoint: Some(gateway(WAYPOINT)), ..none });
    let found = route(&view, "203.0.113.9:4711").unwrap();
    assert!(matches!(&found, Route::Waypoint { .. }), "{found:?}");
}

#[test]
fn a_service_of_the_node_stays_on_the_node() {
    let elsewhere = Workload { node: text("node-2"), ..endpoint("a/x.example", "far", "10.0.0.2") };
    let local =
        Service { load_balancing: balancing(Mode::Strict, &[Scope::Node]), ..service("a/x.example", "10.96.0.1") };
    let (mut writer, view) = world([elsewhere], [local]);
    assert!(matches!(route(&view, "10.96.0.1:80"), Err(ResolveError::NoEndpoint { .. })));
    writer.upsert_workload(endpoint("a/x.example", "near", "10.0.0.1"));
    for seed in 0..20 {
        let found = resolve(&view, &client(), socket("10.96.0.1:80"), &[], &mut random(seed)).unwrap();
        assert_eq!(name(&found), "near");
    }
}

#[test]
fn an_endpoint_comes_and_goes_with_its_health() {
    let all = LoadBalancing { health_policy: HealthPolicy::AllowAll, ..LoadBalancing::default() };
    let one = endpoint("a/x.example", "one", "10.0.0.1");
    let sick = Workload { health: Health::Unhealthy, ..one.clone() };
    let (mut writer, view) = world([one.clone()], [service("a/x.example", "10.96.0.1")]);
    let mut is_reached = |workload: &Workload, load_balancing: Option<LoadBalancing>| {
        writer.upsert_workload(workload.clone());
        writer.upsert_service(Service { load_balancing, ..service("a/x.example", "10.96.0.1") });
        route(&view, "10.96.0.1:80").is_ok()
    };
    assert!(is_reached(&one, None));
    assert!(!is_reached(&sick, None));
    assert!(is_reached(&sick, Some(all)), "it is published although it is not ready");
    assert!(is_reached(&one, None));
}

#[test]
fn a_workload_that_ends_tunnels_itself_is_reached_as_any_other() {
    let native = Workload { native_tunnel: true, ..pod("a", "one", "10.0.0.1") };
    let (_writer, view) = world([native], []);
    let found = route(&view, "10.0.0.1:80").unwrap();
    assert!(
        matches!(&found, Route::Hbone { destination, .. } if *destination == socket("10.0.0.1:15008")),
        "{found:?}"
    );
}
