//! Routes, rules and kernel parameters.

use std::io;

use linux::route::{self, Route, Rule};
use linux::{NetNs, Prefix, link, sysctl};

use super::support::in_namespace;

const TABLE: u32 = 100;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn connected_pair() {
    link::add_veth("a", "b", &NetNs::current().unwrap()).unwrap();
    link::set_up("a").unwrap();
    link::set_up("b").unwrap();
}

#[test]
fn a_pods_routes_lead_through_its_gateway() {
    in_namespace(|| {
        connected_pair();
        link::add_address("a", prefix("10.244.1.2/32")).unwrap();
        let gateway = Route::on_link(prefix("10.244.1.1/32"), "a");
        let default = Route::via(Prefix::ANY_V4, "10.244.1.1".parse().unwrap());
        for _ in 0..2 {
            route::add(&gateway).unwrap();
            route::add(&default).unwrap();
        }
        let found = route::list(false, route::MAIN_TABLE).unwrap();
        assert!(found.contains(&gateway), "{found:?}");
        for _ in 0..2 {
            route::delete(&default).unwrap();
        }
        assert!(found.contains(&Route { device: Some("a".into()), ..default }), "{found:?}");
        assert_eq!(route::list(false, route::MAIN_TABLE).unwrap(), [gateway]);
    });
}

#[test]
fn everything_can_be_made_local_in_a_table_of_its_own() {
    in_namespace(|| {
        for any in [Prefix::ANY_V4, Prefix::ANY_V6] {
            let local = Route::local(any, "lo", TABLE);
            let is_ipv6 = any.address().is_ipv6();
            route::add(&local).unwrap();
            route::add(&local).unwrap();
            assert_eq!(route::list(is_ipv6, TABLE).unwrap(), std::slice::from_ref(&local));
            route::delete(&local).unwrap();
            route::delete(&local).unwrap();
            assert_eq!(route::list(is_ipv6, TABLE).unwrap(), []);
        }
    });
}

#[test]
fn tables_beyond_one_byte_are_kept_apart() {
    in_namespace(|| {
        connected_pair();
        let mut far = Route::on_link(prefix("10.7.0.0/16"), "a");
        far.table = 70_000;
        route::add(&far).unwrap();
        assert_eq!(route::list(false, 70_000).unwrap(), [far]);
        assert_eq!(route::list(false, 70_001).unwrap(), []);
    });
}

#[test]
fn a_route_that_cannot_be_is_refused_by_name() {
    in_namespace(|| {
        let unreachable = Route::via(prefix("10.9.0.0/16"), "10.8.0.1".parse().unwrap());
        let error = route::add(&unreachable).unwrap_err();
        assert!(error.to_string().starts_with("adding route 10.9.0.0/16 via 10.8.0.1: "), "{error}");
        let absent = Route::on_link(prefix("10.9.0.0/16"), "nope");
        assert_eq!(route::add(&absent).unwrap_err().kind(), io::ErrorKind::NotFound);
        route::delete(&absent).unwrap();
    });
}

#[test]
fn rules_by_mark_come_and_go() {
    in_namespace(|| {
        for is_ipv6 in [false, true] {
            let rule = Rule { is_ipv6, mark: 0x111, mask: 0xfff, priority: 32764, table: TABLE };
            route::add_rule(&rule).unwrap();
            route::add_rule(&rule).unwrap();
            assert_eq!(route::rules(is_ipv6).unwrap(), [rule]);
            route::delete_rule(&rule).unwrap();
            route::delete_rule(&rule).unwrap();
            assert_eq!(route::rules(is_ipv6).unwrap(), []);
        }
    });
}

#[test]
fn parameters_belong_to_the_namespace() {
    in_namespace(|| {
        let other = NetNs::create().unwrap();
        sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        other.run(|| sysctl::write("net/ipv4/ip_forward", "0").unwrap()).unwrap();
        assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), "1");
        assert_eq!(other.run(|| sysctl::read("net/ipv4/ip_forward").unwrap()).unwrap(), "0");
    });
}

#[test]
fn names_that_leave_the_tree_are_refused() {
    for name in ["../kernel/core_pattern", "net/../../x", "/etc/passwd", ""] {
        assert_eq!(sysctl::write(name, "1").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
    }
    let missing = sysctl::read("net/ipv4/no_such_parameter").unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert!(missing.to_string().contains("net/ipv4/no_such_parameter"), "{missing}");
}
