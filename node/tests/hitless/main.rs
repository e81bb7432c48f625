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
mod world;

use world::{PEER, World, echo_works};

/// Makes the namespaces, or says why not.
pub(crate) fn world() -> Option<World> {
    match World::new() {
        Ok(world) => Some(world),
        Err(error) => {
            println!("SKIPPED: network namespaces cannot be made here: {error}");
            None
        }
    }
}

#[test]
fn a_connection_from_before_the_rules_lives_through_all_of_them() {
    let Some(world) = world() else { return };
    let mut old = world.connect_out(PEER);
    world.install();
    echo_works(&mut old);
    world.release();
    echo_works(&mut old);
    world.remove();
    echo_works(&mut old);
    assert_eq!(world.relayed(), 0);
}

#[test]
fn new_outgoing_connections_are_redirected_and_outlive_the_release() {
    let Some(world) = world() else { return };
    world.install();
    let mut redirected = world.connect_out(PEER);
    echo_works(&mut redirected);
    assert_eq!(world.relayed(), 1);
    world.release();
    echo_works(&mut redirected);
    let mut direct = world.connect_out(PEER);
    echo_works(&mut direct);
    assert_eq!(world.relayed(), 1, "a released pod's new connection went to the proxy");
    echo_works(&mut redirected);
}

#[test]
fn new_incoming_connections_are_redirected_and_keep_the_callers_address() {
    let Some(world) = world() else { return };
    let mut old = world.connect_in();
    world.install();
    echo_works(&mut old);
    let mut redirected = world.connect_in();
    echo_works(&mut redirected);
    assert_eq!(world.relayed(), 1);
    assert_eq!(world.last_caller(), Some(world::PEER_IP), "the application must see the caller, not the proxy");
    world.release();
    echo_works(&mut redirected);
    let mut direct = world.connect_in();
    echo_works(&mut direct);
    assert_eq!(world.relayed(), 1);
    echo_works(&mut old);
}

#[test]
fn what_an_agent_leaves_in_a_pod_is_found_by_the_next() {
    let Some(world) = world() else { return };
    assert!(!world.has_rules());
    world.install();
    assert!(world.has_rules());
    world.release();
    assert!(world.has_rules());
    world.remove();
    assert!(!world.has_rules());
}

#[test]
fn installing_twice_changes_nothing_for_redirected_connections() {
    let Some(world) = world() else { return };
    world.install();
    let mut redirected = world.connect_out(PEER);
    world.install();
    echo_works(&mut redirected);
    world.release();
    world.install();
    echo_works(&mut redirected);
    let mut another = world.connect_out(PEER);
    echo_works(&mut another);
    assert_eq!(world.relayed(), 2);
}

#[test]
fn a_pod_whose_options_change_gets_other_rules() {
    let Some(world) = world() else { return };
    world.install_with("tap9");
    echo_works(&mut world.connect_in());
    assert_eq!(world.last_caller(), Some(world::PEER_IP));
    world.install_with("eth0");
    echo_works(&mut world.connect_in());
    assert_eq!(world.last_caller(), Some(world::POD_IP), "what comes in there counts as outgoing now");
}

#[test]
fn lingering_connections_are_counted_until_they_end() {
    let Some(world) = world() else { return };
    world.install();
    let mut redirected = world.connect_out(PEER);
    echo_works(&mut redirected);
    world.release();
    assert_eq!(world.lingering(), 1);
    drop(redirected);
    world.wait_until(|world| world.lingering() == 0);
    world.remove();
    assert_eq!(world.tables(), Vec::<String>::new());
}
