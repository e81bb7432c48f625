//! Rules in real network namespaces: what they redirect, and what they leave alone.
//!
//! Two namespaces joined by a link stand for a pod and a peer; a small relay on the proxy's ports stands for ztunnel.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod lookups;
mod reading;
mod world;

use std::sync::atomic::{AtomicUsize, Ordering};

use linux::{route, sysctl};
use node::rules::{MARK_MASK, ROUTE_TABLE, RULE_PRIORITY};
use world::{Over, Proxy, World, echo_works};

/// Makes the namespaces for each address family, or says why not.
pub(crate) fn worlds() -> Vec<World> {
    worlds_of(Proxy::Ours)
}

fn worlds_of(proxy: Proxy) -> Vec<World> {
    let mut worlds = Vec::new();
    for over in [Over::V4, Over::V6] {
        match World::new(over, proxy) {
            Ok(world) => worlds.push(world),
            Err(error) => println!("SKIPPED: network namespaces cannot be made here for {over:?}: {error}"),
        }
    }
    worlds
}

#[test]
fn a_connection_from_before_the_rules_lives_through_all_of_them() {
    for world in worlds() {
        let mut old = world.connect_out(world.echo());
        world.install();
        echo_works(&mut old);
        world.release();
        echo_works(&mut old);
        world.remove();
        echo_works(&mut old);
        assert_eq!(world.relayed(), 0);
    }
}

#[test]
fn new_outgoing_connections_are_redirected_and_outlive_the_release() {
    for world in worlds() {
        world.install();
        let mut redirected = world.connect_out(world.echo());
        echo_works(&mut redirected);
        assert_eq!(world.relayed(), 1);
        world.release();
        echo_works(&mut redirected);
        let mut direct = world.connect_out(world.echo());
        echo_works(&mut direct);
        assert_eq!(world.relayed(), 1, "a released pod's new connection went to the proxy");
        echo_works(&mut redirected);
    }
}

#[test]
fn new_incoming_connections_are_redirected_and_keep_the_callers_address() {
    for world in [Proxy::Ours, Proxy::Another].into_iter().flat_map(worlds_of) {
        let mut old = world.connect_in();
        world.install();
        echo_works(&mut old);
        let mut redirected = world.connect_in();
        echo_works(&mut redirected);
        assert_eq!(world.relayed(), 1);
        assert_eq!(world.last_caller(), Some(world.peer_ip()), "the application must see the caller, not the proxy");
        world.release();
        echo_works(&mut redirected);
        let mut direct = world.connect_in();
        echo_works(&mut direct);
        assert_eq!(world.relayed(), 1);
        echo_works(&mut old);
    }
}

#[test]
fn the_proxy_may_use_the_port_of_the_client_whose_address_it_keeps() {
    for world in worlds() {
        world.install();
        world.leave_one_port();
        let mut redirected = world.connect_in();
        echo_works(&mut redirected);
        assert_eq!(world.last_caller(), Some(world.peer_ip()));
    }
}

#[test]
fn what_an_agent_leaves_in_a_pod_is_found_by_the_next() {
    for world in worlds() {
        assert!(!world.has_rules());
        world.install();
        assert!(world.has_rules());
        world.release();
        assert!(world.has_rules());
        world.remove();
        assert!(!world.has_rules());
    }
}

#[test]
fn installing_twice_changes_nothing_for_redirected_connections() {
    for world in worlds() {
        world.install();
        let mut redirected = world.connect_out(world.echo());
        world.install();
        echo_works(&mut redirected);
        world.release();
        world.install();
        echo_works(&mut redirected);
        let mut another = world.connect_out(world.echo());
        echo_works(&mut another);
        assert_eq!(world.relayed(), 2);
    }
}

#[test]
fn a_pod_whose_options_change_gets_other_rules() {
    for world in worlds() {
        world.install_with("tap9");
        echo_works(&mut world.connect_in());
        assert_eq!(world.last_caller(), Some(world.peer_ip()));
        world.install_with("eth0");
        echo_works(&mut world.connect_in());
        assert_eq!(world.last_caller(), Some(world.pod_ip()), "what comes in there counts as outgoing now");
    }
}

#[test]
fn lingering_connections_are_counted_until_they_end() {
    for world in worlds() {
        world.install();
        let mut redirected = world.connect_out(world.echo());
        echo_works(&mut redirected);
        world.release();
        assert_eq!(world.lingering(), 1);
        drop(redirected);
        world.wait_until(|world| world.lingering() == 0);
        world.remove();
        assert_eq!(world.tables(), Vec::<String>::new());
    }
}

#[test]
fn no_connection_is_lost_while_a_busy_pod_is_captured_and_released() {
    for world in worlds() {
        let total = world.under_load(|made| {
            let more = |count: &AtomicUsize| {
                let goal = count.load(Ordering::SeqCst) + 60;
                world.wait_until(|_| count.load(Ordering::SeqCst) >= goal);
            };
            for _ in 0..3 {
                more(made);
                let before = world.relayed();
                world.install();
                world.wait_until(|world| world.relayed() >= before + 60);
                world.release();
                more(made);
                world.wait_until(|world| world.lingering() == 0);
                let relayed = world.relayed();
                world.remove();
                more(made);
                assert_eq!(world.relayed(), relayed, "nothing goes to the proxy any more");
            }
        });
        assert!(total >= 3 * 240, "{total}");
    }
}

#[test]
fn the_return_route_is_there_for_both_families_and_goes_with_the_rules() {
    for world in worlds() {
        world.install();
        for is_ipv6 in [false, true] {
            let (rules, routes) =
                world.in_pod(|| (route::rules(is_ipv6).unwrap(), route::list(is_ipv6, ROUTE_TABLE).unwrap()));
            let rules: Vec<_> = rules.iter().map(|rule| (rule.priority, rule.mark, rule.mask, rule.table)).collect();
            assert_eq!(rules, [(RULE_PRIORITY, 0x111, MARK_MASK, ROUTE_TABLE)]);
            assert_eq!(routes.len(), 1, "{routes:?}");
            assert_eq!((routes[0].kind, routes[0].destination.length()), (route::Kind::Local, 0));
        }
        world.remove();
        for is_ipv6 in [false, true] {
            world.in_pod(|| {
                assert!(route::rules(is_ipv6).unwrap().is_empty());
                assert!(route::list(is_ipv6, ROUTE_TABLE).unwrap().is_empty());
            });
        }
    }
}

#[test]
fn a_pod_in_which_ipv6_is_off_is_captured_all_the_same() {
    let Some(world) = worlds().into_iter().next() else { return };
    // A kernel without IPv6 has it off enough.
    world.in_pod(|| sysctl::write_where_known("net/ipv6/conf/all/disable_ipv6", "1")).unwrap();
    world.install();
    echo_works(&mut world.connect_out(world.echo()));
    echo_works(&mut world.connect_in());
    assert_eq!(world.relayed(), 2);
    world.release();
    world.remove();
    assert_eq!(world.tables(), Vec::<String>::new());
}
