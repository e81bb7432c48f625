//! What a CONNECT request may ask for, and how it is refused otherwise.

use std::sync::Arc;

use super::*;
use crate::fixtures::{address, authority, endpoint, gateway, key, pod, ports, service, socket, text, world};
use crate::model::{ApplicationTunnel, CidrVip, Destination, TunnelProtocol, WeightedWaypoint};

const LOCAL: &str = "10.0.0.1:15008";

fn target(view: &View, local: &Workload, asked: &str) -> Result<InboundTarget, InboundError> {
    inbound_target(view, local, &authority(asked), socket(LOCAL))
}

fn destination(view: &View, local: &Workload, asked: &str) -> String {
    target(view, local, asked).unwrap().destination.to_string()
}

fn status(view: &View, local: &Workload, asked: &str) -> u16 {
    target(view, local, asked).unwrap_err().status()
}

#[test]
fn the_own_address_is_reached_at_the_port_asked_for() {
    let local = pod("a", "one", "10.0.0.1");
    let (_writer, view) = world([local.clone()], []);
    let found = target(&view, &local, "10.0.0.1:8080").unwrap();
    let destination = socket("10.0.0.1:8080");
    assert_eq!(found, InboundTarget { destination, service: None, announced: None });
    let mapped = inbound_target(&view, &local, &authority("10.0.0.1:80"), socket("[::ffff:10.0.0.1]:15008"));
    assert_eq!(mapped.unwrap().destination, socket("10.0.0.1:80"));
}

#[test]
fn another_address_is_a_bad_request() {
    let local = pod("a", "one", "10.0.0.1");
    let (_writer, view) = world([local.clone(), pod("a", "two", "10.0.0.2")], [service("a/x.example", "10.96.0.1")]);
    for asked in ["10.0.0.2:80", "10.96.0.1:80", "203.0.113.9:80", "[fd00::1]:80", "127.0.0.1:80"] {
        let error = target(&view, &local, asked).unwrap_err();
        assert!(matches!(error, InboundError::WrongAddress { .. }), "{asked}: {error}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn a_malformed_authority_is_a_bad_request() {
    for text in ["10.0.0.1", "x.example", "x.example:", ":80", ""] {
        let error = InboundError::from(text.parse::<Authority>().unwrap_err());
        assert_eq!(error.status(), 400, "{text}");
    }
}

#[test]
fn an_unknown_local_workload_is_unavailable() {
    assert_eq!(InboundError::UnknownWorkload { address: socket(LOCAL) }.status(), 503);
}

#[test]
fn our_own_ports_are_unavailable() {
    let local =
        Workload { services: vec![(key("a/x.example"), ports(&[(80, 15006)]))].into(), ..pod("a", "one", "10.0.0.1") };
    let (_writer, view) = world([local.clone()], [service("a/x.example", "10.96.0.1")]);
    for asked in ["10.0.0.1:15001", "10.0.0.1:15006", "10.0.0.1:15008", "x.example:80"] {
        let error = target(&view, &local, asked).unwrap_err();
        assert!(matches!(error, InboundError::IllegalPort(_)), "{asked}: {error}");
        assert_eq!(error.status(), 503);
    }
    // The port of the service is not the one that is connected to.
    let harmless = Service { ports: ports(&[(15008, 8080)]), ..service("a/y.example", "10.96.0.2") };
    let (_writer, view) = world([local.clone()], [harmless]);
    assert_eq!(destination(&view, &local, "y.example:15008"), "10.0.0.1:8080");
}

#[test]
fn a_service_asked_for_by_name_leads_to_the_workloads_own_port() {
    let own = |pairs: &[(u16, u16)]| Workload {
        services: vec![(key("a/x.example"), ports(pairs))].into(),
        ..pod("a", "one", "10.0.0.1")
    };
    let named = Service { ports: ports(&[(80, 8080), (81, 0)]), ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([own(&[])], [named]);
    let found = target(&view, &own(&[(80, 9090)]), "x.example:80").unwrap();
    assert_eq!(found.destination, socket("10.0.0.1:9090"));
    assert_eq!(found.service.unwrap().key(), key("a/x.example"));
    assert_eq!(destination(&view, &own(&[]), "X.Example:80"), "10.0.0.1:8080");
    assert_eq!(destination(&view, &own(&[(81, 9091)]), "x.example:81"), "10.0.0.1:9091");
    assert!(matches!(target(&view, &own(&[]), "x.example:81").unwrap_err(), InboundError::NoPort { port: 81, .. }));
    assert_eq!(status(&view, &own(&[]), "x.example:81"), 503);
    assert_eq!(status(&view, &own(&[]), "x.example:82"), 503);
    assert_eq!(status(&view, &own(&[]), "x.example:0"), 503);
}

#[test]
fn an_unknown_name_is_unavailable() {
    let local = pod("a", "one", "10.0.0.1");
    let (_writer, view) = world([local.clone()], []);
    let error = target(&view, &local, "x.example:80").unwrap_err();
    assert!(matches!(&error, InboundError::UnknownHost(host) if host.as_str() == "x.example"), "{error}");
    assert_eq!(error.status(), 503);
}

#[test]
fn of_several_services_with_the_name_the_one_of_the_workloads_namespace_is_meant() {
    let to = |name: &str, target| Service { ports: ports(&[(80, target)]), ..service(name, "") };
    let local = pod("b", "one", "10.0.0.1");
    let (_writer, view) = world([local.clone()], [to("a/x.example", 8001), to("b/x.example", 8002)]);
    assert_eq!(destination(&view, &local, "x.example:80"), "10.0.0.1:8002");
}

#[test]
fn an_application_tunnel_takes_any_address_and_may_choose_the_port() {
    let tunnel = |port| Some(ApplicationTunnel { protocol: TunnelProtocol::Proxy, port });
    let with = |port| Workload { application_tunnel: tunnel(port), ..pod("a", "one", "10.0.0.1") };
    let (_writer, view) = world([], []);
    let found = target(&view, &with(Some(15088)), "203.0.113.9:443").unwrap();
    assert_eq!(found.destination, socket("10.0.0.1:15088"));
    assert_eq!(found.announced, Some(socket("203.0.113.9:443")), "as it was asked for, not as it is reached");
    assert_eq!(destination(&view, &with(None), "203.0.113.9:443"), "10.0.0.1:443");
    // What the client asks for is checked before the tunnel's port takes its place.
    assert_eq!(status(&view, &with(Some(15088)), "203.0.113.9:15008"), 503);
    assert_eq!(destination(&view, &with(Some(15008)), "203.0.113.9:443"), "10.0.0.1:15008");
}

#[test]
fn an_application_is_told_an_address_of_the_service_that_was_named() {
    let tunnel = |protocol| Some(ApplicationTunnel { protocol, port: None });
    let with = |protocol| Workload { application_tunnel: tunnel(protocol), ..pod("a", "one", "10.0.0.1") };
    let named =
        |vips: &[&str]| Service { vips: vips.iter().map(|vip| address(vip)).collect(), ..service("a/x.example", "") };
    let (mut writer, view) = world([], []);
    for (vips, expected) in [
        (&["remote/10.96.0.9", "/fd00::96", "/10.96.0.1"][..], "10.96.0.1:80"),
        (&["remote/10.96.0.9", "/fd00::96"], "[fd00::96]:80"),
        (&["remote/fd00::96", "remote/10.96.0.9"], "10.96.0.9:80"),
    ] {
        writer.upsert_service(named(vips));
        let found = target(&view, &with(TunnelProtocol::Proxy), "x.example:80").unwrap();
        assert_eq!((found.destination, found.announced), (socket("10.0.0.1:8080"), Some(socket(expected))));
    }
    writer.upsert_service(named(&[]));
    let error = target(&view, &with(TunnelProtocol::Proxy), "x.example:80").unwrap_err();
    assert_eq!((error.status(), &error), (503, &InboundError::NothingToAnnounce("x.example".into())));
    assert_eq!(target(&view, &with(TunnelProtocol::None), "x.example:80").unwrap().announced, None);
}

#[test]
fn a_waypoint_takes_the_addresses_that_it_serves() {
    let local = endpoint("a/waypoint.example", "one", "10.0.0.1");
    let waypoint = Some(gateway("a/waypoint.example"));
    let weighted = WeightedWaypoint { destination: gateway("a/waypoint.example"), weight: 0 };
    let at = |place: &str| {
        Some(GatewayAddress { destination: Destination::Address(address(place)), hbone_mtls_port: 15008 })
    };
    let range = CidrVip { network: text(""), cidr: "10.97.0.0/16".parse().unwrap() };
    let (_writer, view) = world(
        [
            local.clone(),
            Workload { waypoint: waypoint.clone().map(Arc::new), ..pod("a", "behind", "10.0.0.2") },
            Workload { waypoint: at("/10.0.0.1").map(Arc::new), ..pod("a", "behind-address", "10.0.0.3") },
            Workload { waypoint: Some(gateway("a/other.example").into()), ..pod("a", "elsewhere", "10.0.0.4") },
        ],
        [
            service("a/waypoint.example", "10.96.0.50"),
            service("a/other.example", "10.96.0.51"),
            Service { waypoint: waypoint.clone(), ..service("b/x.example", "10.96.0.1") },
            Service { weighted_waypoints: vec![weighted], ..service("c/canary.example", "10.96.0.2") },
            Service { waypoint: at("/10.96.0.50"), ..service("d/by-vip.example", "10.96.0.3") },
            Service { waypoint, cidr_vips: vec![range], ..service("e/range.example", "") },
            Service { waypoint: Some(gateway("a/other.example")), ..service("f/other.example", "10.96.0.4") },
            // A service that hides the one that is served from those who do not know which namespace asked.
            Service { is_canonical: true, ..service("a/first.example", "10.96.0.1") },
        ],
    );
    for asked in ["10.0.0.2:80", "10.0.0.3:80", "10.96.0.1:80", "10.96.0.2:80", "10.96.0.3:80", "10.97.1.1:80"] {
        assert_eq!(destination(&view, &local, asked), "10.0.0.1:80", "{asked}");
    }
    for asked in ["10.0.0.4:80", "10.96.0.4:80", "10.96.0.51:80", "10.98.0.1:80"] {
        assert_eq!(status(&view, &local, asked), 400, "{asked}");
    }
}

#[test]
fn a_workload_named_by_a_waypoint_reference_is_its_waypoint() {
    let local = Workload { hostname: "vm.example".into(), ..pod("a", "one", "10.0.0.1") };
    let behind = Workload { waypoint: Some(gateway("a/vm.example").into()), ..pod("b", "behind", "10.0.0.2") };
    let nameless = pod("a", "nameless", "10.0.0.1");
    let (_writer, view) = world([local.clone(), behind], []);
    assert_eq!(destination(&view, &local, "10.0.0.2:80"), "10.0.0.1:80");
    assert_eq!(status(&view, &nameless, "10.0.0.2:80"), 400);
}
