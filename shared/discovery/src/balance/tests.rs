//! Shares, preferences and ports of the choice among endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::NetworkAddress;

use super::*;
use crate::fixtures::{balancing, endpoint, ip, key, pod, ports, random, service, text};
use crate::model::{ApplicationTunnel, Health, HealthPolicy, Locality, TunnelProtocol};

const SERVICE: &str = "a/x.example";

fn group(service: &Service, endpoints: Vec<Workload>) -> Group {
    let mut endpoints: Vec<_> = endpoints.into_iter().map(Arc::new).collect();
    endpoints.sort_by(|left, right| left.uid.cmp(&right.uid));
    Group { service: Some(Arc::new(service.clone())), endpoints: endpoints.into() }
}

/// How often each endpoint is chosen.
fn shares(service: &Service, source: &Workload, endpoints: Vec<Workload>, rounds: usize) -> BTreeMap<String, usize> {
    let group = group(service, endpoints);
    let wanted = Wanted { source, service, service_port: 80, part: Part::Destination, failed: &[] };
    let (mut counts, mut random) = (BTreeMap::new(), random(7));
    for _ in 0..rounds {
        if let Some((workload, _)) = pick(&group, &wanted, &mut random) {
            *counts.entry(workload.name.to_string()).or_insert(0) += 1;
        }
    }
    counts
}

fn chosen(service: &Service, source: &Workload, endpoints: Vec<Workload>) -> Vec<String> {
    shares(service, source, endpoints, 300).into_keys().collect()
}

fn port(service: &Service, endpoint: Workload) -> Option<u16> {
    let source = pod("a", "client", "10.0.0.200");
    let group = group(service, vec![endpoint]);
    let wanted = Wanted { source: &source, service, service_port: 80, part: Part::Destination, failed: &[] };
    pick(&group, &wanted, &mut random(1)).map(|(_, port)| port)
}

fn placed(name: &str, region: &str, zone: &str, node: &str) -> Workload {
    let locality = Locality { region: text(region), zone: text(zone), subzone: text("") };
    Workload { locality: locality.into(), node: text(node), ..endpoint(SERVICE, name, "10.0.0.1") }
}

fn preferring(mode: Mode, preference: &[Scope]) -> Service {
    Service { load_balancing: balancing(mode, preference), ..service(SERVICE, "10.96.0.1") }
}

#[test]
fn capacities_are_shares() {
    const ROUNDS: usize = 40_000;
    let capacities = [("a", 1_u32), ("b", 2), ("c", 0), ("d", 5), ("e", 2)];
    let endpoints = capacities.map(|(name, capacity)| Workload { capacity, ..endpoint(SERVICE, name, "10.0.0.1") });
    let client = pod("a", "client", "10.0.0.200");
    let counts = shares(&service(SERVICE, "10.96.0.1"), &client, endpoints.to_vec(), ROUNDS);
    assert!(!counts.contains_key("c"), "{counts:?}");
    // Chi-square with three degrees of freedom stays below 16.3 in 999 of 1000 fair runs; this run is always the same.
    let square: f64 = capacities
        .iter()
        .filter(|(_, capacity)| *capacity > 0)
        .map(|(name, capacity)| {
            let expected = ROUNDS as f64 * f64::from(*capacity) / 10.0;
            (counts[*name] as f64 - expected).powi(2) / expected
        })
        .sum();
    assert!(square < 16.3, "{square} {counts:?}");
}

#[test]
fn without_any_capacity_nobody_is_chosen() {
    let none = Workload { capacity: 0, ..endpoint(SERVICE, "a", "10.0.0.1") };
    assert!(chosen(&service(SERVICE, ""), &pod("a", "client", "10.0.0.200"), vec![none]).is_empty());
}

#[test]
fn capacities_may_be_huge() {
    let endpoints = ["a", "b", "c"].map(|name| Workload { capacity: u32::MAX, ..endpoint(SERVICE, name, "10.0.0.1") });
    let chosen = chosen(&service(SERVICE, ""), &pod("a", "client", "10.0.0.200"), endpoints.to_vec());
    assert_eq!(chosen, ["a", "b", "c"]);
}

#[test]
fn unhealthy_endpoints_are_chosen_only_if_all_are_allowed() {
    let sick = Workload { health: Health::Unhealthy, ..endpoint(SERVICE, "sick", "10.0.0.2") };
    let endpoints = vec![endpoint(SERVICE, "well", "10.0.0.1"), sick];
    let client = pod("a", "client", "10.0.0.200");
    for balancing in [None, balancing(Mode::Standard, &[]), balancing(Mode::Failover, &[])] {
        let service = Service { load_balancing: balancing, ..service(SERVICE, "") };
        assert_eq!(chosen(&service, &client, endpoints.clone()), ["well"]);
    }
    let all = LoadBalancing { health_policy: HealthPolicy::AllowAll, ..LoadBalancing::default() };
    let service = Service { load_balancing: Some(all), ..service(SERVICE, "") };
    assert_eq!(chosen(&service, &client, endpoints), ["sick", "well"]);
}

#[test]
fn endpoints_that_failed_are_not_chosen_again() {
    let (service, client) = (preferring(Mode::Failover, &[Scope::Zone]), placed("client", "r", "z1", "n1"));
    let group = group(
        &service,
        vec![placed("a", "r", "z1", "n1"), placed("b", "r", "z1", "n1"), placed("far", "r", "z2", "n2")],
    );
    let (mut failed, mut order, mut random) = (Vec::new(), Vec::new(), random(3));
    loop {
        let wanted =
            Wanted { source: &client, service: &service, service_port: 80, part: Part::Destination, failed: &failed };
        let Some((workload, _)) = pick(&group, &wanted, &mut random) else { break };
        order.push(workload.name.to_string());
        failed.push(workload.uid.clone());
    }
    assert_eq!(order.len(), 3);
    // The next best comes after all of the best.
    assert_eq!(order[2], "far");
}

#[test]
fn strict_never_leaves_the_scope() {
    let service = preferring(Mode::Strict, &[Scope::Node]);
    let client = placed("client", "r", "z1", "n1");
    let (here, there) = (placed("here", "r", "z1", "n1"), placed("there", "r", "z1", "n2"));
    assert_eq!(chosen(&service, &client, vec![here, there.clone()]), ["here"]);
    assert!(chosen(&service, &client, vec![there]).is_empty());
}

#[test]
fn failover_takes_the_nearest_there_is() {
    let service = preferring(Mode::Failover, &[Scope::Region, Scope::Zone, Scope::Node]);
    let client = placed("client", "r1", "z1", "n1");
    let mut ranked = vec![
        placed("node", "r1", "z1", "n1"),
        placed("zone", "r1", "z1", "n2"),
        placed("region", "r1", "z2", "n3"),
        placed("world", "r2", "z9", "n4"),
    ];
    while let Some(best) = ranked.first() {
        assert_eq!(chosen(&service, &client, ranked.clone()), [best.name.to_string()]);
        ranked.remove(0);
    }
}

#[test]
fn the_first_mismatch_ends_the_count() {
    // The zone's name and the node match, but in another region that means nothing.
    let service = preferring(Mode::Failover, &[Scope::Region, Scope::Zone, Scope::Node]);
    let client = placed("client", "r1", "z1", "n1");
    let endpoints = vec![placed("same-names", "r2", "z1", "n1"), placed("region", "r1", "z2", "n2")];
    assert_eq!(chosen(&service, &client, endpoints.clone()), ["region"]);
    assert_eq!(chosen(&service, &client, vec![endpoints[0].clone(), placed("c", "r3", "z3", "n3")]).len(), 2);
}

#[test]
fn without_preferences_every_endpoint_is_as_good_as_any_other() {
    let client = placed("client", "r1", "z1", "n1");
    let endpoints = || vec![placed("a", "r1", "z1", "n1"), placed("b", "r2", "z2", "n2")];
    for mode in [Mode::Strict, Mode::Failover, Mode::Standard] {
        assert_eq!(chosen(&preferring(mode, &[]), &client, endpoints()), ["a", "b"], "{mode:?}");
    }
    let standard = preferring(Mode::Standard, &[Scope::Region, Scope::Zone]);
    assert_eq!(chosen(&standard, &client, endpoints()), ["a", "b"]);
}

#[test]
fn every_scope_is_compared() {
    let client = Workload {
        locality: Locality { region: text("r"), zone: text("z"), subzone: text("s") }.into(),
        cluster_id: text("c"),
        network: text("n"),
        ..pod("a", "client", "10.0.0.200")
    };
    let near = Workload { services: endpoint(SERVICE, "x", "10.0.0.1").services, ..client.clone() };
    let region =
        Workload { locality: Locality { region: text("-"), ..(*near.locality).clone() }.into(), ..near.clone() };
    let zone = Workload { locality: Locality { zone: text("-"), ..(*near.locality).clone() }.into(), ..near.clone() };
    let subzone =
        Workload { locality: Locality { subzone: text("-"), ..(*near.locality).clone() }.into(), ..near.clone() };
    let others = [
        (Scope::Region, region),
        (Scope::Zone, zone),
        (Scope::Subzone, subzone),
        (Scope::Node, Workload { node: text("-"), ..near.clone() }),
        (Scope::Cluster, Workload { cluster_id: text("-"), ..near.clone() }),
        (Scope::Network, Workload { network: text("-"), ..near }),
    ];
    for (scope, other) in &others {
        for (asked, _) in &others {
            let strict = preferring(Mode::Strict, &[*asked]);
            assert_eq!(chosen(&strict, &client, vec![other.clone()]).is_empty(), scope == asked, "{scope:?} {asked:?}");
        }
    }
}

#[test]
fn any_endpoint_of_the_own_network_outranks_all_others() {
    let preference = [Scope::Network, Scope::Region, Scope::Zone];
    let remote = |name: &str, region: &str, zone: &str| {
        let gateway = crate::fixtures::gateway("istio/gateway.example");
        Workload {
            network: text("remote"),
            addresses: vec![].into(),
            network_gateway: Some(gateway.into()),
            ..placed(name, region, zone, "n9")
        }
    };
    let client = placed("client", "r1", "z1", "n1");
    let failover = preferring(Mode::Failover, &preference);
    let (near, nearer) = (remote("near", "r1", "z2"), remote("nearer", "r1", "z1"));
    let (far, farthest) = (placed("far", "r1", "z9", "n9"), placed("farthest", "r9", "z9", "n9"));
    assert_eq!(chosen(&failover, &client, vec![nearer.clone(), farthest.clone()]), ["farthest"]);
    assert_eq!(chosen(&failover, &client, vec![nearer.clone(), far.clone(), farthest]), ["far"]);
    // Another network does not end the count, so the nearest of the remote ones is found.
    assert_eq!(chosen(&failover, &client, vec![near.clone(), nearer.clone()]), ["nearer"]);
    let strict = preferring(Mode::Strict, &preference);
    assert!(chosen(&strict, &client, vec![nearer, near, far]).is_empty());
    assert_eq!(chosen(&strict, &client, vec![placed("same", "r1", "z1", "n5")]), ["same"]);
}

#[test]
fn an_endpoint_without_address_and_name_is_chosen_only_behind_a_gateway() {
    let (service, client) = (service(SERVICE, ""), pod("a", "client", "10.0.0.200"));
    let bare = Workload { addresses: vec![].into(), ..endpoint(SERVICE, "bare", "10.0.0.1") };
    let gateway = Some(Arc::new(crate::fixtures::gateway("istio/gateway.example")));
    let remote = Workload { network: text("remote"), ..bare.clone() };
    assert!(chosen(&service, &client, vec![bare.clone()]).is_empty());
    assert!(chosen(&service, &client, vec![remote.clone()]).is_empty());
    let same_network = Workload { network_gateway: gateway.clone(), ..bare.clone() };
    assert!(chosen(&service, &client, vec![same_network]).is_empty());
    assert_eq!(chosen(&service, &client, vec![Workload { network_gateway: gateway, ..remote }]), ["bare"]);
    let named = Workload { hostname: "bare.example".into(), ..bare };
    assert_eq!(chosen(&service, &client, vec![named]), ["bare"]);
}

#[test]
fn the_endpoints_own_port_comes_before_the_services() {
    let service_to = |target| Service { ports: ports(&[(80, target)]), ..service(SERVICE, "") };
    let own = |pairs: &[(u16, u16)]| Workload {
        services: vec![(key(SERVICE), ports(pairs))].into(),
        ..pod("a", "one", "10.0.0.1")
    };
    assert_eq!(port(&service_to(8080), own(&[(80, 9090)])), Some(9090));
    assert_eq!(port(&service_to(8080), own(&[(81, 9090)])), Some(8080));
    assert_eq!(port(&service_to(8080), own(&[])), Some(8080));
    // A named target port is known to the endpoint alone.
    assert_eq!(port(&service_to(0), own(&[(80, 9090)])), Some(9090));
    assert_eq!(port(&service_to(0), own(&[(81, 9090)])), None);
    let tunnel = Some(ApplicationTunnel { protocol: TunnelProtocol::Proxy, port: Some(15088) });
    assert_eq!(port(&service_to(0), Workload { application_tunnel: tunnel, ..own(&[]) }), None);
}

#[test]
fn endpoints_of_both_families_are_candidates() {
    let addresses = |text: &str| vec![ip(text)];
    let six = Workload { addresses: addresses("fd00::1").into(), ..endpoint(SERVICE, "six", "10.0.0.1") };
    let service =
        Service { vips: vec![NetworkAddress { network: text(""), address: ip("10.96.0.1") }], ..service(SERVICE, "") };
    let chosen = chosen(&service, &pod("a", "client", "10.0.0.200"), vec![six, endpoint(SERVICE, "four", "10.0.0.2")]);
    assert_eq!(chosen, ["four", "six"]);
}
