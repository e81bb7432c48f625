//! One client, request by request.

use std::collections::HashMap;

use prost_types::Any;
use proto::google::rpc;

use super::*;
use crate::server::Entry;

mod convergence;
mod on_demand;

const KIND: &str = "type.googleapis.com/test.Kind";
const OTHER: &str = "type.googleapis.com/test.Other";

fn entry(content: &str) -> Entry {
    Entry {
        version: format!("v-{content}").into(),
        resource: Any { type_url: KIND.to_owned(), value: content.as_bytes().to_vec() },
        aliases: Vec::new(),
        node: None,
    }
}

fn resources(content: &[(&str, &str)]) -> Arc<Resources> {
    Arc::new(content.iter().map(|&(name, content)| (name, entry(content))).collect())
}

fn snapshot(version: u64, content: &[(&str, &str)]) -> Arc<Snapshot> {
    Arc::new(Snapshot { version, types: BTreeMap::from([(Arc::from(KIND), resources(content))]) })
}

fn first() -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest { type_url: KIND.to_owned(), ..Default::default() }
}

fn first_with(versions: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let initial_resource_versions: HashMap<_, _> =
        versions.iter().map(|&(name, version)| (name.to_owned(), version.to_owned())).collect();
    DeltaDiscoveryRequest { initial_resource_versions, ..first() }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|&name| name.to_owned()).collect()
}

fn subscribe(subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        ..first()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse, message: &str) -> DeltaDiscoveryRequest {
    let error_detail = Some(rpc::Status { message: message.to_owned(), ..Default::default() });
    DeltaDiscoveryRequest { error_detail, ..ack(response) }
}

fn sent(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|resource| &*resource.name).collect()
}

/// A session that subscribed with `request`, and its first response.
fn started(snapshot: Arc<Snapshot>, request: DeltaDiscoveryRequest) -> (Session, DeltaDiscoveryResponse) {
    let mut session = Session::new(snapshot, 1000);
    session.receive(request).unwrap();
    let response = session.push().expect("a first response");
    assert_eq!(response.type_url, KIND);
    (session, response)
}

#[test]
fn the_first_request_for_everything_is_answered_even_with_nothing() {
    for snapshot in [snapshot(3, &[]), Arc::new(Snapshot { version: 3, ..Default::default() })] {
        let (mut session, response) = started(snapshot, first());
        assert!(response.resources.is_empty() && response.removed_resources.is_empty());
        assert_eq!(session.told(), 0);
        session.receive(ack(&response)).unwrap();
        assert_eq!(session.push(), None);
        assert_eq!(session.told(), 3);
    }
}

#[test]
fn only_the_newest_of_several_snapshots_is_sent_once_the_client_has_answered() {
    let (mut session, response) = started(snapshot(1, &[("a", "1")]), first());
    for version in 2..5 {
        session.update(snapshot(version, &[("a", &version.to_string()), ("b", "1")]));
        assert_eq!(session.push(), None, "one response at a time");
    }
    session.receive(ack(&response)).unwrap();
    let response = session.push().unwrap();
    assert_eq!((sent(&response), &*response.system_version_info), (vec!["a", "b"], "4"));
    assert_eq!(response.resources[0].version, "v-4");
    assert_eq!(session.told(), 1);
    session.receive(ack(&response)).unwrap();
    assert_eq!((session.push(), session.told()), (None, 4));
}

#[test]
fn a_stale_nonce_is_ignored() {
    let (mut session, old) = started(snapshot(1, &[("a", "1")]), first());
    session.receive(ack(&old)).unwrap();
    session.update(snapshot(2, &[("a", "2")]));
    let current = session.push().unwrap();
    session.receive(ack(&old)).unwrap();
    session.receive(nack(&old, "a: late")).unwrap();
    session.update(snapshot(3, &[("a", "3")]));
    assert_eq!(session.push(), None);
    assert_eq!(session.told(), 1);
    assert!(session.status()[0].rejected.is_empty());
    session.receive(ack(&current)).unwrap();
    assert_eq!(sent(&session.push().unwrap()), ["a"]);
}

#[test]
fn what_was_refused_is_named_and_not_sent_again_until_it_changes() {
    let (mut session, response) = started(snapshot(1, &[("a", "1"), ("b", "1"), ("c", "1")]), first());
    let rejection = session.receive(nack(&response, "b: field: is bad; c: too")).unwrap().unwrap();
    assert_eq!(rejection.names, ["b".into(), "c".into()] as [Arc<str>; 2]);
    session.update(snapshot(2, &[("a", "2"), ("b", "1"), ("c", "1")]));
    let response = session.push().unwrap();
    assert_eq!(sent(&response), ["a"]);
    session.receive(ack(&response)).unwrap();
    assert_eq!(session.status()[0].rejected, ["b".into(), "c".into()] as [Arc<str>; 2]);
    assert_eq!(session.status()[0].last_error.as_deref(), Some("b: field: is bad; c: too"));
    session.update(snapshot(3, &[("a", "2"), ("b", "2")]));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), response.removed_resources.clone()), (vec!["b"], names(&["c"])));
    assert!(session.status()[0].rejected.is_empty());
}

#[test]
fn a_refusal_in_foreign_words_is_about_all_that_was_sent() {
    let (mut session, response) = started(snapshot(1, &[("a", "1"), ("b", "1")]), first());
    let rejection = session.receive(nack(&response, "Internal error, sorry")).unwrap().unwrap();
    assert_eq!(rejection.names.len(), 2);
}

#[test]
fn a_client_that_comes_back_gets_only_what_it_does_not_hold() {
    let current = snapshot(9, &[("same", "1"), ("changed", "2"), ("new", "1"), ("unversioned", "1")]);
    let held = [("same", "v-1"), ("changed", "v-1"), ("gone", "v-1"), ("unversioned", "")];
    let (_, response) = started(current, first_with(&held));
    assert_eq!(sent(&response), ["changed", "new", "unversioned"]);
    assert_eq!(response.removed_resources, ["gone"]);
}

#[test]
fn a_snapshot_that_changes_nothing_for_a_client_counts_as_told() {
    let (mut session, response) = started(snapshot(1, &[("a", "1")]), first());
    session.receive(ack(&response)).unwrap();
    session.update(snapshot(2, &[("a", "1")]));
    assert_eq!((session.push(), session.told()), (None, 2));
}

#[test]
fn told_is_the_lowest_of_all_types() {
    let types = |version, kind: &[(&str, &str)]| {
        let types = BTreeMap::from([(Arc::from(KIND), resources(kind)), (Arc::from(OTHER), resources(&[]))]);
        Arc::new(Snapshot { version, types })
    };
    let (mut session, kind) = started(types(1, &[("a", "1")]), first());
    session.receive(DeltaDiscoveryRequest { type_url: OTHER.to_owned(), ..Default::default() }).unwrap();
    let other = session.push().unwrap();
    assert_eq!(other.type_url, OTHER);
    session.receive(ack(&kind)).unwrap();
    assert_eq!(session.told(), 0);
    session.receive(ack(&other)).unwrap();
    assert_eq!(session.told(), 1);
    session.update(types(2, &[("a", "2")]));
    let kind = session.push().unwrap();
    assert_eq!((session.push(), session.told()), (None, 1));
    session.receive(ack(&kind)).unwrap();
    assert_eq!(session.told(), 2);
}

#[test]
fn an_explicit_subscription_gets_its_names_and_aliases_and_learns_what_does_not_exist() {
    let pod = |content: &str, aliases: &[&str]| entry(content).with_aliases(names(aliases));
    let with = |version, entries: Vec<(&str, Entry)>| {
        let types = BTreeMap::from([(Arc::from(KIND), Arc::new(entries.into_iter().collect::<Resources>()))]);
        Arc::new(Snapshot { version, types })
    };
    let initial =
        vec![("uid-1", pod("1", &["/10.0.0.1"])), ("uid-2", pod("1", &["/10.0.0.2"])), ("svc", pod("1", &[]))];
    let mut session = Session::new(with(1, initial), 1000);
    session.receive(subscribe(&["*"], &["*"])).unwrap();
    assert_eq!((session.push(), session.told()), (None, 1), "a subscription to nothing has no answer");

    session.receive(subscribe(&["/10.0.0.1", "svc", "absent"], &[])).unwrap();
    let response = session.push().unwrap();
    assert_eq!((sent(&response), response.removed_resources.clone()), (vec!["svc", "uid-1"], names(&["absent"])));
    assert_eq!(response.resources[1].aliases, ["/10.0.0.1"]);
    session.receive(ack(&response)).unwrap();

    // The address moves to another pod; a resource of a name that was absent appears; an unrelated one changes.
    let moved = vec![
        ("uid-1", pod("2", &["/10.0.0.9"])),
        ("uid-2", pod("2", &["/10.0.0.1"])),
        ("svc", pod("1", &[])),
        ("absent", pod("1", &[])),
        ("uid-3", pod("1", &[])),
    ];
    session.update(with(2, moved.clone()));
    let response = session.push().unwrap();
    assert_eq!((sent(&response), response.removed_resources.clone()), (vec!["absent", "uid-2"], names(&["uid-1"])));
    session.receive(ack(&response)).unwrap();

    // Names that are no longer wanted are not kept up to date.
    session.receive(subscribe(&[], &["svc", "absent"])).unwrap();
    session.update(with(3, vec![("uid-2", moved[1].1.clone())]));
    assert_eq!((session.push(), session.told()), (None, 3));
    assert_eq!(session.status()[0].resources, 1);
}

#[test]
fn a_name_that_is_subscribed_to_again_is_sent_again() {
    let mut session = Session::new(snapshot(1, &[("a", "1"), ("b", "1")]), 1000);
    session.receive(subscribe(&["a"], &[])).unwrap();
    let response = session.push().unwrap();
    session.receive(ack(&response)).unwrap();
    session.receive(subscribe(&["a"], &[])).unwrap();
    assert_eq!(sent(&session.push().unwrap()), ["a"]);
}

#[test]
fn names_held_from_an_earlier_stream_are_subscribed_to() {
    let request = DeltaDiscoveryRequest {
        initial_resource_versions: first_with(&[("a", "v-1"), ("gone", "v-1"), ("asked", "")])
            .initial_resource_versions,
        ..subscribe(&["*"], &["*"])
    };
    let (mut session, response) = started(snapshot(1, &[("a", "1"), ("b", "1"), ("asked", "1")]), request);
    assert_eq!((sent(&response), response.removed_resources.clone()), (vec!["asked"], names(&["gone"])));
    session.receive(ack(&response)).unwrap();
    session.update(snapshot(2, &[("a", "2"), ("b", "2"), ("asked", "1")]));
    assert_eq!(sent(&session.push().unwrap()), ["a"]);
}

#[test]
fn clients_that_want_too_much_are_refused() {
    let mut session = Session::new(snapshot(1, &[]), 2);
    assert_eq!(session.receive(DeltaDiscoveryRequest::default()), Err(Violation::NoType));
    assert_eq!(session.receive(subscribe(&["a", "b", "c"], &[])), Err(Violation::TooManyNames(2)));
    let mut session = Session::new(snapshot(1, &[]), 2);
    let of_type = |index: usize| DeltaDiscoveryRequest { type_url: format!("type-{index}"), ..Default::default() };
    assert!((0..MAX_TYPES).all(|index| session.receive(of_type(index)).is_ok()));
    assert_eq!(session.receive(of_type(MAX_TYPES)), Err(Violation::TooManyTypes));
}
