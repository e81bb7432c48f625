//! Who is found, and in which order of preference.

use std::future;
use std::time::Duration;

use types::{Cidr, NetworkAddress};

use super::*;
use crate::fixtures::{address, ip, key, pod, service, text, world};
use crate::identities::IdentityChange;
use crate::model::{CidrVip, Health, NetworkMode, Protocol, Visibility, Workload};
use crate::writer::Writer;

const DEADLINE: Duration = Duration::from_secs(10);

fn namespace_at(view: &View, vip: &str, client: Option<&str>) -> Option<String> {
    view.service_by_vip(&text(""), ip(vip), client).map(|service| service.namespace.to_string())
}

fn ranged(name: &str, ranges: &[&str]) -> Service {
    let range = |range: &&str| CidrVip { network: text(""), cidr: range.parse::<Cidr>().unwrap() };
    Service { cidr_vips: ranges.iter().map(range).collect(), ..service(name, "") }
}

#[test]
fn of_several_workloads_at_an_address_a_captured_pod_wins() {
    let entry = |name: &str, protocol| Workload { uid: name.into(), protocol, ..pod("a", name, "10.0.0.1") };
    let pods = |name: &str, protocol| Workload { protocol, ..pod("a", name, "10.0.0.1") };
    let mut ranked = vec![
        pods("captured", Protocol::Hbone),
        pods("plain", Protocol::Tcp),
        entry("entry-captured", Protocol::Hbone),
        entry("entry-plain", Protocol::Tcp),
    ];
    while let Some(best) = ranked.first().cloned() {
        let (_writer, view) = world(ranked.iter().rev().cloned(), []);
        assert_eq!(view.workload_by_address(&address("/10.0.0.1")).unwrap().uid, best.uid);
        ranked.remove(0);
    }
}

#[test]
fn a_pod_that_reuses_the_address_of_one_that_is_going_wins() {
    let going = Workload { health: Health::Unhealthy, ..pod("a", "a-going", "10.0.0.1") };
    let (mut writer, view) = world([going, pod("a", "b-new", "10.0.0.1")], []);
    assert_eq!(&*view.workload_by_address(&address("/10.0.0.1")).unwrap().name, "b-new");
    writer.remove("Kubernetes//Pod/a/b-new");
    assert_eq!(&*view.workload_by_address(&address("/10.0.0.1")).unwrap().name, "a-going");
}

#[test]
fn workloads_on_the_hosts_network_are_not_found_by_address() {
    let host = Workload { network_mode: NetworkMode::HostNetwork, ..pod("a", "host", "172.30.0.11") };
    let (mut writer, view) = world([host.clone()], []);
    assert_eq!(view.workload_by_address(&address("/172.30.0.11")), None);
    assert!(view.workload(&host.uid).is_some());
    writer.upsert_workload(Workload { network_mode: NetworkMode::Standard, ..host.clone() });
    assert!(view.workload_by_address(&address("/172.30.0.11")).is_some());
    writer.upsert_workload(host);
    assert_eq!(view.workload_by_address(&address("/172.30.0.11")), None);
}

#[test]
fn networks_are_apart() {
    let remote = Workload { network: text("remote"), ..pod("a", "remote", "10.0.0.1") };
    let (_writer, view) = world([pod("a", "local", "10.0.0.1"), remote], []);
    assert_eq!(&*view.workload_by_address(&address("/10.0.0.1")).unwrap().name, "local");
    assert_eq!(&*view.workload_by_address(&address("remote/10.0.0.1")).unwrap().name, "remote");
    assert_eq!(view.workload_by_address(&address("other/10.0.0.1")), None);
}

#[test]
fn of_several_services_at_an_address_the_clients_own_wins_then_the_canonical_one() {
    let canonical = Service { is_canonical: true, ..service("c/x.example", "10.96.0.1") };
    let (_writer, view) =
        world([], [service("a/x.example", "10.96.0.1"), service("b/x.example", "10.96.0.1"), canonical]);
    assert_eq!(namespace_at(&view, "10.96.0.1", Some("b")).as_deref(), Some("b"));
    assert_eq!(namespace_at(&view, "10.96.0.1", Some("z")).as_deref(), Some("c"));
    assert_eq!(namespace_at(&view, "::ffff:10.96.0.1", None).as_deref(), Some("c"));
}

#[test]
fn a_tie_of_services_goes_to_the_smallest_key_whatever_came_first() {
    for names in [["b/x.example", "a/x.example"], ["a/x.example", "b/x.example"]] {
        let (_writer, view) = world([], names.map(|name| service(name, "10.96.0.1")));
        assert_eq!(namespace_at(&view, "10.96.0.1", Some("z")).as_deref(), Some("a"));
    }
}

#[test]
fn a_service_of_namespace_visibility_is_invisible_to_others() {
    let hidden =
        Service { visibility: Visibility::Namespace, is_canonical: true, ..service("a/x.example", "10.96.0.1") };
    let (_writer, view) = world([], [hidden, service("b/x.example", "10.96.0.1")]);
    assert_eq!(namespace_at(&view, "10.96.0.1", Some("a")).as_deref(), Some("a"));
    assert_eq!(namespace_at(&view, "10.96.0.1", Some("z")).as_deref(), Some("b"));
    assert_eq!(namespace_at(&view, "10.96.0.1", None).as_deref(), Some("a"));
    let by_name = |client| view.service_by_hostname("x.example", client, None).unwrap().namespace.to_string();
    assert_eq!(by_name(Some("a")), "a");
    assert_eq!(by_name(Some("z")), "b");
}

#[test]
fn ranges_are_asked_only_without_an_exact_address_and_the_longest_wins() {
    let (_writer, view) = world(
        [],
        [
            ranged("wide/w.example", &["10.0.0.0/8"]),
            ranged("narrow/n.example", &["10.1.0.0/16", "fd00::/8"]),
            service("exact/e.example", "10.1.0.1"),
        ],
    );
    assert_eq!(namespace_at(&view, "10.1.0.1", Some("z")).as_deref(), Some("exact"));
    assert_eq!(namespace_at(&view, "10.1.0.2", Some("z")).as_deref(), Some("narrow"));
    assert_eq!(namespace_at(&view, "10.2.0.2", Some("z")).as_deref(), Some("wide"));
    assert_eq!(namespace_at(&view, "10.1.0.2", Some("wide")).as_deref(), Some("wide"));
    assert_eq!(namespace_at(&view, "fd00::1", Some("z")).as_deref(), Some("narrow"));
    assert_eq!(namespace_at(&view, "11.0.0.1", Some("z")), None);
    assert!(view.service_by_vip(&text("remote"), ip("10.1.0.2"), None).is_none());
}

#[test]
fn ranges_follow_the_service() {
    let (mut writer, view) = world([], [ranged("a/x.example", &["10.0.0.0/8", "10.1.0.0/16"])]);
    writer.upsert_service(ranged("a/x.example", &["11.0.0.0/8"]));
    assert_eq!(namespace_at(&view, "10.1.0.2", None), None);
    assert_eq!(namespace_at(&view, "11.1.0.2", None).as_deref(), Some("a"));
    writer.remove("a/x.example");
    assert_eq!(namespace_at(&view, "11.1.0.2", None), None);
}

#[test]
fn of_several_services_with_a_host_name_the_preferred_namespace_comes_third() {
    let (mut writer, view) = world([], ["a/x.example", "b/x.example", "c/x.example"].map(|name| service(name, "")));
    let found =
        |client, preferred| view.service_by_hostname("X.example", client, preferred).unwrap().namespace.to_string();
    assert_eq!(found(None, None), "a");
    assert_eq!(found(Some("z"), Some("c")), "c");
    assert_eq!(found(Some("b"), Some("c")), "b");
    writer.upsert_service(Service { is_canonical: true, ..service("b/x.example", "") });
    assert_eq!(found(Some("z"), Some("c")), "b");
    assert_eq!(view.service_by_hostname("y.example", None, None), None);
}

#[test]
fn at_an_address_a_workload_comes_before_a_service() {
    let (mut writer, view) = world([pod("a", "w", "10.0.0.1")], [service("a/x.example", "10.0.0.1")]);
    assert!(matches!(view.resident(&text(""), ip("10.0.0.1"), None), Some(Resident::Workload(_))));
    writer.remove("Kubernetes//Pod/a/w");
    assert!(matches!(view.resident(&text(""), ip("10.0.0.1"), None), Some(Resident::Service(_))));
    assert_eq!(view.resident(&text(""), ip("10.0.0.2"), None), None);
}

#[test]
fn a_local_workload_is_found_by_name_on_its_own_node_only() {
    let elsewhere = Workload { node: text("node-2"), ..pod("a", "elsewhere", "10.0.0.2") };
    let (_writer, view) = world([pod("a", "here", "10.0.0.1"), elsewhere.clone()], []);
    let name = pod("a", "here", "10.0.0.1").local_name();
    assert!(view.find_local(&name).is_some());
    assert_eq!(view.find_local(&LocalName { service_account: text("other"), ..name }), None);
    assert_eq!(view.find_local(&elsewhere.local_name()), None);

    let mut anywhere = Writer::new("", None);
    anywhere.upsert_workload(elsewhere.clone());
    assert!(anywhere.view().find_local(&elsewhere.local_name()).is_some());
}

#[test]
fn a_local_workload_is_lost_when_it_moves_or_changes_its_name() {
    let before = pod("a", "here", "10.0.0.1");
    let (mut writer, view) = world([before.clone()], []);
    let renamed = Workload { service_account: text("other"), ..before.clone() };
    writer.upsert_workload(renamed.clone());
    assert_eq!(view.find_local(&before.local_name()), None);
    assert!(view.find_local(&renamed.local_name()).is_some());
    writer.upsert_workload(Workload { node: text("node-2"), ..renamed.clone() });
    assert_eq!(view.find_local(&renamed.local_name()), None);
}

#[tokio::test]
async fn waiting_for_a_local_workload_ends_when_it_arrives() {
    let (mut writer, view) = world([], []);
    let wanted = pod("a", "late", "10.0.0.1");
    let name = wanted.local_name();
    let waiting = tokio::spawn(async move { view.wait_local(&name, tokio::time::sleep(DEADLINE)).await });
    for number in 0..10 {
        writer.upsert_workload(pod("a", &format!("other-{number}"), "10.0.0.2"));
        tokio::task::yield_now().await;
    }
    writer.upsert_workload(wanted.clone());
    assert_eq!(waiting.await.unwrap().unwrap().uid, wanted.uid);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_local_workload_ends_at_the_deadline() {
    let (_writer, view) = world([], []);
    let name = pod("a", "never", "10.0.0.1").local_name();
    assert_eq!(view.wait_local(&name, tokio::time::sleep(DEADLINE)).await, None);
}

#[tokio::test]
async fn waiting_for_a_local_workload_ends_with_the_writer() {
    let (writer, view) = world([], []);
    drop(writer);
    let name = pod("a", "never", "10.0.0.1").local_name();
    assert_eq!(view.wait_local(&name, future::pending()).await, None);
}

#[tokio::test]
async fn a_local_workload_that_is_there_is_found_even_after_the_deadline() {
    let (_writer, view) = world([pod("a", "here", "10.0.0.1")], []);
    let name = pod("a", "here", "10.0.0.1").local_name();
    assert!(view.wait_local(&name, future::ready(())).await.is_some());
}

#[tokio::test]
async fn identities_of_the_own_node_come_and_go() {
    let account = |name: &str, account: &str, address: &str| Workload {
        service_account: text(account),
        ..pod("a", name, address)
    };
    let plain = Workload { protocol: Protocol::Tcp, ..account("plain", "plain", "10.0.0.3") };
    let elsewhere = Workload { node: text("node-2"), ..account("far", "far", "10.0.0.4") };
    let native = Workload { native_tunnel: true, ..Workload { uid: "native".into(), ..plain.clone() } };
    let native = Workload { service_account: text("native"), ..native };
    let (mut writer, view) = world([account("one", "shared", "10.0.0.1"), plain.clone(), elsewhere, native], []);
    let mut changes = view.local_identities();
    let identity = |name: &str| account("any", name, "10.0.0.9").identity();
    let first = changes.next().await.unwrap();
    assert_eq!(first, ["native", "shared"].map(|name| IdentityChange::Appeared(identity(name))));

    // A second workload with the same identity changes nothing, nor does the end of the first one.
    writer.upsert_workload(account("two", "shared", "10.0.0.2"));
    writer.remove("Kubernetes//Pod/a/one");
    writer.upsert_workload(Workload { protocol: Protocol::Hbone, ..plain });
    assert_eq!(changes.next().await.unwrap(), [IdentityChange::Appeared(identity("plain"))]);
    writer.remove("Kubernetes//Pod/a/two");
    assert_eq!(changes.next().await.unwrap(), [IdentityChange::Vanished(identity("shared"))]);
    drop(writer);
    assert_eq!(changes.next().await, None);
}

#[tokio::test]
async fn an_identity_that_came_and_went_unseen_is_no_change() {
    let (mut writer, view) = world([], []);
    let mut changes = view.local_identities();
    writer.upsert_workload(pod("a", "brief", "10.0.0.1"));
    writer.remove("Kubernetes//Pod/a/brief");
    writer.upsert_workload(pod("b", "lasting", "10.0.0.2"));
    let lasting = pod("b", "lasting", "10.0.0.2").identity();
    assert_eq!(changes.next().await.unwrap(), [IdentityChange::Appeared(lasting)]);
}

#[test]
fn lists_are_sorted_and_tell_what_is_staged() {
    let stray =
        Workload { services: vec![(key("x/y.example"), Default::default())].into(), ..pod("a", "stray", "10.0.0.9") };
    let (_writer, view) = world(
        [pod("b", "w", "10.0.0.2"), stray, pod("a", "w", "10.0.0.1")],
        [service("b/x.example", "10.96.0.2"), service("a/x.example", "10.96.0.1")],
    );
    let uids: Vec<_> = view.workloads().iter().map(|workload| workload.uid.to_string()).collect();
    assert_eq!(uids, ["Kubernetes//Pod/a/stray", "Kubernetes//Pod/a/w", "Kubernetes//Pod/b/w"]);
    let keys: Vec<_> = view.services().iter().map(|service| service.key().to_string()).collect();
    assert_eq!(keys, ["a/x.example", "b/x.example"]);
    assert_eq!(view.staged_services(), [key("x/y.example")]);
    assert_eq!(view.endpoints(&key("x/y.example")).len(), 1);
    assert_eq!(view.endpoints(&key("a/x.example")).len(), 0);
}

#[test]
fn several_addresses_of_a_service_lead_to_it() {
    let network = |network: &str| NetworkAddress { network: text(network), address: ip("10.96.0.1") };
    let vips = vec![network(""), network("remote"), NetworkAddress { network: text(""), address: ip("fd00::1") }];
    let (mut writer, view) = world([], [Service { vips, ..service("a/x.example", "") }]);
    let is_found = |network: &str, vip| view.service_by_vip(&text(network), ip(vip), None).is_some();
    assert!(is_found("", "10.96.0.1") && is_found("remote", "10.96.0.1") && is_found("", "fd00::1"));
    writer.upsert_service(Service { vips: vec![network("remote")], ..service("a/x.example", "") });
    assert!(!is_found("", "10.96.0.1") && is_found("remote", "10.96.0.1") && !is_found("", "fd00::1"));
}
