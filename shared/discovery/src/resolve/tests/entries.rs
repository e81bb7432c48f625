//! Services without addresses, and services outside the mesh.

use super::*;
use crate::model::CidrVip;

const WAYPOINT: &str = "a/waypoint.example";

fn waypoint() -> (Workload, Service) {
    let pod = Workload { protocol: Protocol::Tcp, ..endpoint(WAYPOINT, "w", "10.0.0.50") };
    (pod, Service { ports: ports(&[(15008, 15008)]), ..service(WAYPOINT, "") })
}

/// An endpoint outside of the mesh that is known by its name alone.
fn external() -> Workload {
    let named = endpoint("a/db.example", "db", "10.0.0.1");
    Workload { addresses: vec![], hostname: "db.example".into(), protocol: Protocol::Tcp, ..named }
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
    writer.upsert_workload(Workload { waypoint: Some(gateway(WAYPOINT)), ..one });
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
