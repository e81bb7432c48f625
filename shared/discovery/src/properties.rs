//! What holds for every mesh: random updates and connections, compared with naive models.
//!
//! Everything is drawn from a few values, so that collisions of addresses, names and keys are common.

mod mesh;
mod model;
mod outcome;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use types::{Identity, WorkloadUid};

use crate::balance::{Part, Wanted, pick};
use crate::fixtures::{balancing, endpoint, ip, key, pod, random, service, text};
use crate::identities::IdentityChange;
use crate::index::Group;
use crate::model::{Mode, Service, Workload};
use crate::resolve::{ResolveError, resolve};
use crate::route::{HBONE_PORT, Route};
use crate::view::View;
use crate::writer::Writer;
use mesh::{Update, updates};
use model::Model;
use outcome::Case;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Applies updates to a writer, in batches, and to the model.
fn apply(updates: &[Update]) -> (Writer, View, Model) {
    let mut writer = Writer::new("", Some(text("node-1")));
    let (view, mut model) = (writer.view(), Model::default());
    for batch in updates.split(|update| matches!(update, Update::Publish)) {
        let mut open = writer.batch();
        for update in batch {
            match update.clone() {
                Update::Workload(workload) => open.upsert_workload(*workload),
                Update::Service(service) => open.upsert_service(*service),
                Update::Remove(name) => open.remove(&name),
                Update::Publish => {}
            }
            model.apply(update);
        }
    }
    (writer, view, model)
}

fn published(view: &View) -> BTreeSet<Identity> {
    view.index.identities.borrow().as_ref().clone()
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn any_history_gives_the_answers_of_the_model(updates in updates(40)) {
        let (_writer, view, model) = apply(&updates);
        let workloads: Vec<_> = view.workloads().iter().map(|workload| (**workload).clone()).collect();
        prop_assert_eq!(workloads, model.workloads.values().cloned().collect::<Vec<_>>());
        let services: Vec<_> = view.services().iter().map(|service| (**service).clone()).collect();
        prop_assert_eq!(services, model.services.values().cloned().collect::<Vec<_>>());
        for key in mesh::keys() {
            let endpoints: Vec<_> = view.endpoints(&key).iter().map(|workload| workload.uid.clone()).collect();
            prop_assert_eq!(endpoints, model.endpoints(&key));
        }
        prop_assert_eq!(view.staged_services(), model.staged());
        for address in mesh::addresses() {
            let found = view.workload_by_address(&address).map(|workload| workload.uid.clone());
            prop_assert_eq!(found, model.workload_at(&address), "{}", address);
            for client in mesh::clients() {
                let found = view.service_by_vip(&address.network, address.address, client).map(|found| found.key());
                prop_assert_eq!(found, model.service_at(&address, client), "{} for {:?}", address, client);
            }
        }
        for client in mesh::clients() {
            for hostname in mesh::HOSTNAMES {
                let found = view.service_by_hostname(hostname, client, None).map(|found| found.key());
                prop_assert_eq!(found, model.service_named(hostname, client));
            }
        }
        for workload in mesh::workload_names() {
            prop_assert_eq!(view.find_local(&workload).map(|found| found.uid.clone()), model.local(&workload));
        }
        prop_assert_eq!(published(&view), model.identities());
    }

    #[test]
    fn any_history_gives_the_answers_of_a_mesh_built_from_scratch(
        updates in updates(40),
        destinations in prop::collection::vec(mesh::destination(), 20),
        seed: u64,
    ) {
        let (_writer, view, model) = apply(&updates);
        // Services first, then workloads backwards, each published by itself.
        let mut fresh = Writer::new("", Some(text("node-1")));
        model.services.values().rev().for_each(|service| fresh.upsert_service(service.clone()));
        model.workloads.values().rev().for_each(|workload| fresh.upsert_workload(workload.clone()));
        let fresh = fresh.view();
        for source in model.workloads.values() {
            for destination in &destinations {
                let route = |view: &View| resolve(view, source, *destination, &[], &mut random(seed));
                prop_assert_eq!(route(&view), route(&fresh));
            }
        }
    }

    #[test]
    fn every_route_keeps_what_was_promised(
        updates in updates(40),
        destinations in prop::collection::vec(mesh::destination(), 20),
        failed in prop::collection::vec(mesh::uid(), 0..3),
        seed: u64,
    ) {
        let (_writer, view, model) = apply(&updates);
        for source in model.workloads.values() {
            for destination in &destinations {
                let address = types::NetworkAddress { network: source.network.clone(), address: destination.ip() };
                let service = model.service_at(&address, Some(&source.namespace)).map(|key| &model.services[&key]);
                let workload = model.workload_at(&address).map(|uid| &model.workloads[&uid]);
                let outcome = resolve(&view, source, *destination, &failed, &mut random(seed));
                let case = Case { model: &model, source, destination: *destination, service, workload };
                case.check(&outcome);
                if let Some(upstream) = outcome.as_ref().ok().and_then(Route::upstream) {
                    prop_assert!(!failed.contains(&upstream.workload.uid));
                    if let Ok(Route::DoubleHbone(crossing)) = &outcome {
                        prop_assert!(!failed.contains(&crossing.remote.upstream.workload.uid));
                    }
                }
            }
        }
    }

    #[test]
    fn inbound_targets_are_the_local_address_and_never_our_own_ports(
        updates in updates(30),
        asked in prop::collection::vec(mesh::authority(), 20),
    ) {
        let (_writer, view, model) = apply(&updates);
        for local in model.workloads.values() {
            let address = std::net::SocketAddr::new(ip("10.0.0.1"), HBONE_PORT);
            for authority in &asked {
                match crate::inbound_target(&view, local, authority, address) {
                    Ok(target) => {
                        prop_assert_eq!(target.destination.ip(), address.ip());
                        prop_assert!(!crate::is_illegal_port(target.destination.port()));
                    }
                    Err(error) => prop_assert!(matches!(error.status(), 400 | 503)),
                }
            }
        }
    }

    #[test]
    fn shares_follow_capacities(capacities in prop::collection::vec(0_u32..8, 1..7), seed: u64) {
        const ROUNDS: u32 = 3000;
        let name = "a/x.example";
        let endpoints = capacities.iter().enumerate().map(|(index, capacity)| {
            Workload { capacity: *capacity, ..endpoint(name, &format!("p-{index}"), "10.0.0.1") }
        });
        let (service, source) = (service(name, "10.96.0.1"), pod("a", "client", "10.0.0.200"));
        let group = Group { service: None, endpoints: endpoints.map(std::sync::Arc::new).collect() };
        let wanted = Wanted { source: &source, service: &service, service_port: 80, part: Part::Destination, failed: &[] };
        let (mut counts, mut random) = (vec![0_u32; capacities.len()], random(seed));
        for _ in 0..ROUNDS {
            match pick(&group, &wanted, &mut random) {
                Some((workload, _)) => counts[workload.name[2..].parse::<usize>().unwrap()] += 1,
                None => prop_assert_eq!(capacities.iter().sum::<u32>(), 0),
            }
        }
        let total: u32 = capacities.iter().sum();
        for (capacity, count) in capacities.iter().zip(&counts).filter(|_| total > 0) {
            let share = f64::from(*capacity) / f64::from(total);
            // Seven standard deviations: a fair choice does not get there in the life of this test.
            let bound = 7.0 * (f64::from(ROUNDS) * share * (1.0 - share)).sqrt();
            let distance = (f64::from(*count) - f64::from(ROUNDS) * share).abs();
            prop_assert!(distance <= bound, "{:?} of {:?}", counts, capacities);
        }
    }
}

#[test]
fn failover_picks_the_highest_rank_only() {
    proptest!(config(200), |(updates in updates(40), scopes in mesh::scopes(), seed: u64)| {
        let (_writer, _view, model) = apply(&updates);
        let key = key("a/x.example");
        for mode in [Mode::Failover, Mode::Strict, Mode::Standard] {
            let preferring = Service { load_balancing: balancing(mode, &scopes), ..service("a/x.example", "10.96.0.1") };
            let endpoints = || model.workloads.values().filter(|workload| workload.ports(&key).is_some());
            let group = Group { service: None, endpoints: endpoints().cloned().map(std::sync::Arc::new).collect() };
            for source in model.workloads.values() {
                let wanted = Wanted { source, service: &preferring, service_port: 80, part: Part::Destination, failed: &[] };
                let picked = pick(&group, &wanted, &mut random(seed)).map(|(workload, _)| workload);
                let usable = endpoints().filter(|endpoint| preferring.accepts(endpoint) && mesh::is_reachable(source, endpoint));
                let ranks = usable.filter_map(|endpoint| Some((model::rank(&preferring, source, endpoint)?, endpoint)));
                let ranks: Vec<_> = ranks.collect();
                let best = ranks.iter().map(|(rank, _)| *rank).max();
                let candidates = ranks.iter().filter(|(rank, endpoint)| Some(*rank) == best && endpoint.capacity > 0);
                let candidates: BTreeSet<&WorkloadUid> = candidates.map(|(_, endpoint)| &endpoint.uid).collect();
                match picked {
                    Some(picked) => prop_assert!(candidates.contains(&picked.uid)),
                    None => prop_assert!(candidates.is_empty(), "{:?}", candidates),
                }
            }
        }
    });
}

#[test]
fn identity_changes_add_up_to_the_set() {
    proptest!(config(100), |(updates in updates(40))| {
        let mut writer = Writer::new("", Some(text("node-1")));
        let (mut changes, mut seen) = (writer.view().local_identities(), BTreeSet::new());
        for update in &updates {
            match update.clone() {
                Update::Workload(workload) => writer.upsert_workload(*workload),
                Update::Service(service) => writer.upsert_service(*service),
                Update::Remove(name) => writer.remove(&name),
                Update::Publish => {
                    let waker = std::task::Waker::noop();
                    let mut context = std::task::Context::from_waker(waker);
                    let next = std::pin::pin!(changes.next()).poll(&mut context);
                    if let std::task::Poll::Ready(Some(changes)) = next {
                        for change in changes {
                            match change {
                                IdentityChange::Appeared(identity) => prop_assert!(seen.insert(identity)),
                                IdentityChange::Vanished(identity) => prop_assert!(seen.remove(&identity)),
                            }
                        }
                    }
                    prop_assert_eq!(&seen, &published(&writer.view()));
                }
            }
        }
    });
}

/// The properties above mean little if the meshes are so random that nothing is ever found.
#[test]
fn random_meshes_reach_every_outcome() {
    let mut runner = TestRunner::deterministic();
    let mut counts = BTreeMap::new();
    for seed in 0..400 {
        let updates = updates(40).new_tree(&mut runner).unwrap().current();
        let destinations = prop::collection::vec(mesh::destination(), 20).new_tree(&mut runner).unwrap().current();
        let (_writer, view, model) = apply(&updates);
        for (source, destination) in
            model.workloads.values().flat_map(|source| destinations.iter().map(move |to| (source, to)))
        {
            let outcome = match resolve(&view, source, *destination, &[], &mut random(seed)) {
                Ok(Route::Passthrough { service: None, .. }) => "unknown",
                Ok(Route::Passthrough { .. }) => "passthrough",
                Ok(Route::Tcp { upstream, .. }) if upstream.service.is_some() => "service in plaintext",
                Ok(Route::Tcp { .. }) => "workload in plaintext",
                Ok(Route::Hbone { upstream, .. }) if upstream.service.is_some() => "service through a tunnel",
                Ok(Route::Hbone { .. }) => "workload through a tunnel",
                Ok(Route::Waypoint { service: Some(_), .. }) => "service through a waypoint",
                Ok(Route::Waypoint { .. }) => "workload through a waypoint",
                Ok(Route::DoubleHbone(_)) => "through a gateway",
                Ok(Route::Unresolved(_)) => "name to resolve",
                Ok(Route::Local { .. }) => unreachable!("only for who asks"),
                Err(ResolveError::Loop { .. }) => "loop",
                Err(ResolveError::UnknownPort { .. }) => "unknown port",
                Err(ResolveError::NoEndpoint { .. }) => "no endpoint",
                Err(ResolveError::UnknownWaypoint { .. }) => "unknown waypoint",
                Err(ResolveError::UnknownGateway { .. }) => "unknown gateway",
                Err(ResolveError::OtherNetwork { .. }) => "other network",
                Err(ResolveError::NoAlternative { .. }) => "no alternative",
                Err(ResolveError::NoAddress { .. }) => "no address",
            };
            *counts.entry(outcome).or_insert(0) += 1;
        }
    }
    println!("{counts:?}");
    // Nothing has failed here, so that something else must be tried.
    assert_eq!(counts.len(), 17, "{counts:?}");
    assert!(counts.values().all(|count| *count >= 20), "{counts:?}");
}
