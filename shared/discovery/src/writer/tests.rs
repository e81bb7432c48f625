//! What updates do, to readers too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::fixtures::{address, endpoint, ip, key, pod, ports, service, text, world};
use crate::index::work;
use crate::model::{Health, PortMap};

fn names(view: &View, service: &str) -> Vec<String> {
    view.endpoints(&key(service)).iter().map(|workload| workload.name.to_string()).collect()
}

#[test]
fn endpoints_wait_for_their_service() {
    let (mut writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], []);
    assert_eq!(view.service(&key("a/x.example")), None);
    writer.upsert_service(service("a/x.example", "10.96.0.1"));
    assert_eq!(names(&view, "a/x.example"), ["one"]);
}

#[test]
fn a_replaced_service_keeps_its_endpoints() {
    let (mut writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    writer.upsert_service(service("a/x.example", "10.96.0.2"));
    assert_eq!(names(&view, "a/x.example"), ["one"]);
    assert!(view.service_by_vip(&text(""), ip("10.96.0.1"), None).is_none());
    assert!(view.service_by_vip(&text(""), ip("10.96.0.2"), None).is_some());
}

#[test]
fn a_service_that_comes_back_has_the_endpoints_that_still_name_it() {
    let (mut writer, view) = world([endpoint("a/x.example", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    writer.remove("a/x.example");
    assert_eq!(view.service(&key("a/x.example")), None);
    assert!(view.service_by_vip(&text(""), ip("10.96.0.1"), None).is_none());
    writer.upsert_service(service("a/x.example", "10.96.0.1"));
    assert_eq!(names(&view, "a/x.example"), ["one"]);
}

#[test]
fn a_workload_leaves_the_services_that_it_no_longer_names() {
    let both = Workload {
        services: vec![(key("a/x.example"), PortMap::default()), (key("a/y.example"), ports(&[(80, 81)]))].into(),
        ..pod("a", "one", "10.0.0.1")
    };
    let (mut writer, view) = world([both], [service("a/x.example", ""), service("a/y.example", "")]);
    writer.upsert_workload(endpoint("a/y.example", "one", "10.0.0.1"));
    assert_eq!(names(&view, "a/x.example"), Vec::<String>::new());
    assert_eq!(names(&view, "a/y.example"), ["one"]);
    assert!(view.endpoints(&key("a/y.example"))[0].ports(&key("a/y.example")).unwrap().is_empty());
    writer.remove("Kubernetes//Pod/a/one");
    assert_eq!(names(&view, "a/y.example"), Vec::<String>::new());
}

#[test]
fn endpoints_are_sorted_whatever_the_order_of_arrival() {
    let names_in = ["c", "a", "d", "b"];
    let (mut writer, view) = world([], [service("a/x.example", "")]);
    for (index, name) in names_in.iter().enumerate() {
        writer.upsert_workload(endpoint("a/x.example", name, &format!("10.0.0.{index}")));
    }
    assert_eq!(names(&view, "a/x.example"), ["a", "b", "c", "d"]);
    let mut batch = writer.batch();
    batch.remove("Kubernetes//Pod/a/b");
    batch.upsert_workload(endpoint("a/x.example", "bb", "10.0.0.9"));
    batch.upsert_workload(Workload { health: Health::Unhealthy, ..endpoint("a/x.example", "c", "10.0.0.0") });
    batch.upsert_workload(endpoint("a/x.example", "e", "10.0.0.8"));
    drop(batch);
    assert_eq!(names(&view, "a/x.example"), ["a", "bb", "c", "d", "e"]);
    assert_eq!(view.endpoints(&key("a/x.example"))[2].health, Health::Unhealthy);
}

#[test]
fn a_name_to_remove_is_a_uid_before_it_is_a_service() {
    // A uid without further slashes looks like the key of a service.
    let odd = Workload { uid: "a/x.example".into(), ..pod("a", "odd", "10.0.0.1") };
    let (mut writer, view) = world([odd], [service("a/x.example", "10.96.0.1")]);
    writer.remove("a/x.example");
    assert!(view.workloads().is_empty());
    assert_eq!(view.services().len(), 1);
    writer.remove("a/x.example");
    assert!(view.services().is_empty());
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let (mut writer, view) = world([pod("a", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    let version = *view.changes().borrow();
    for name in ["Kubernetes//Pod/a/two", "a/y.example", "", "/", "a/", "no-slash", "a/b/c"] {
        writer.remove(name);
    }
    assert_eq!((view.workloads().len(), view.services().len()), (1, 1));
    assert_eq!(*view.changes().borrow(), version);
}

#[test]
fn what_says_the_same_again_is_no_change() {
    let (mut writer, view) = world([pod("a", "one", "10.0.0.1")], [service("a/x.example", "10.96.0.1")]);
    let (version, before) = (*view.changes().borrow(), view.workloads()[0].clone());
    writer.upsert_workload(pod("a", "one", "10.0.0.1"));
    writer.upsert_service(service("a/x.example", "10.96.0.1"));
    assert_eq!(*view.changes().borrow(), version);
    assert!(Arc::ptr_eq(&before, &view.workloads()[0]));
}

#[test]
fn a_batch_is_one_change() {
    let (mut writer, view) = world([], []);
    let version = *view.changes().borrow();
    let mut batch = writer.batch();
    for number in 0..10 {
        batch.upsert_workload(pod("a", &format!("p-{number}"), &format!("10.0.0.{number}")));
    }
    drop(batch);
    assert_eq!(*view.changes().borrow(), version + 1);
}

#[test]
fn an_address_is_lost_with_its_workload_only() {
    let (mut writer, view) = world([pod("a", "one", "10.0.0.1"), pod("a", "two", "10.0.0.1")], []);
    writer.upsert_workload(pod("a", "one", "10.0.0.2"));
    assert_eq!(&*view.workload_by_address(&address("/10.0.0.1")).unwrap().name, "two");
    assert_eq!(&*view.workload_by_address(&address("/10.0.0.2")).unwrap().name, "one");
    writer.remove("Kubernetes//Pod/a/two");
    assert_eq!(view.workload_by_address(&address("/10.0.0.1")), None);
}

/// A reader on another thread looks for a workload and a service in every way, while both are replaced all the time.
#[test]
fn a_reader_never_misses_what_is_being_replaced() {
    let version = |number: u32| Workload {
        capacity: number,
        addresses: vec![ip("10.0.0.1"), ip(&format!("10.1.0.{}", number % 250))].into(),
        ..endpoint("a/x.example", "one", "10.0.0.1")
    };
    let (mut writer, view) = world([version(1)], [service("a/x.example", "10.96.0.1")]);
    let (is_over, name, uid) = (AtomicBool::new(false), version(1).local_name(), version(1).uid);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut rounds = 0_u64;
            while !is_over.load(Ordering::Relaxed) || rounds < 100 {
                assert!(view.workload(&uid).is_some());
                assert!(view.workload_by_address(&address("/10.0.0.1")).is_some());
                assert!(view.find_local(&name).is_some());
                assert_eq!(view.endpoints(&key("a/x.example")).len(), 1);
                assert!(view.service_by_vip(&text(""), ip("10.96.0.1"), None).is_some());
                assert!(view.service_by_hostname("x.example", None, None).is_some());
                rounds += 1;
            }
            rounds
        });
        for number in 2..20_000 {
            writer.upsert_workload(version(number));
            let mut service = service("a/x.example", "10.96.0.1");
            service.ports = ports(&[(80, u16::try_from(number).unwrap())]);
            writer.upsert_service(service);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() >= 100);
    });
}

/// Not a benchmark, but nothing that grows with the square of anything gets through here.
#[test]
fn a_large_mesh_loads() {
    const WORKLOADS: usize = 100_000;
    const SERVICES: usize = 10_000;
    let name = |number: usize| format!("ns-{}/svc-{number}.ns-{}.svc.cluster.local", number % 100, number % 100);
    let address = |block: u8, number: usize| {
        let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
        std::net::Ipv4Addr::new(block + high, middle, low, 1).to_string()
    };
    let start = tokio::time::Instant::now();
    let mut writer = Writer::new("", Some(text("node-1")));
    let view = writer.view();
    for first in (0..WORKLOADS).step_by(1000) {
        let mut batch = writer.batch();
        for number in first..first + 1000 {
            let pod = endpoint(&name(number % SERVICES), &format!("pod-{number}"), &address(10, number));
            batch.upsert_workload(Workload { node: text(&format!("node-{}", number % 1000)), ..pod });
        }
    }
    let workloads = start.elapsed();
    let mut batch = writer.batch();
    (0..SERVICES).for_each(|number| batch.upsert_service(service(&name(number), &address(100, number))));
    drop(batch);
    let all = start.elapsed();

    for number in (0..SERVICES).step_by(97) {
        assert_eq!(view.endpoints(&key(&name(number))).len(), WORKLOADS / SERVICES);
        assert!(view.service_by_vip(&text(""), ip(&address(100, number)), None).is_some());
    }
    assert_eq!((view.workloads().len(), view.services().len()), (WORKLOADS, SERVICES));

    let one = endpoint(&name(7), "pod-7", &address(10, 7));
    let start = tokio::time::Instant::now();
    for number in 0..1000 {
        writer.upsert_workload(Workload { capacity: number % 7, ..one.clone() });
    }
    let single = start.elapsed() / 1000;
    println!("{WORKLOADS} workloads in {workloads:?}, with {SERVICES} services {all:?}; one change {single:?}");
}

/// A mesh of that many services with ten endpoints each.
fn large(services: usize) -> (Writer, View) {
    let names = (0..services).map(|number| format!("a/x-{number}.example"));
    let endpoint = |number: usize| {
        let service = format!("a/x-{}.example", number / 10);
        endpoint(&service, &format!("pod-{number}"), &format!("10.{}.{}.1", number / 256, number % 256))
    };
    let vip = |number: usize| format!("10.96.{}.{}", number / 256, number % 256);
    world((0..services * 10).map(endpoint), names.enumerate().map(|(number, name)| service(&name, &vip(number))))
}

#[test]
fn one_change_touches_no_more_of_a_large_mesh_than_of_a_small_one() {
    let work = |services| {
        let (mut writer, view) = large(services);
        let before = view.workloads();
        let groups = || view.services().iter().map(|service| view.group(&service.key()).unwrap()).collect::<Vec<_>>();
        let groups_before = groups();
        work::take();
        writer.upsert_workload(endpoint("a/x-0.example", "pod-0", "10.250.0.1"));
        let done = work::take();
        writer.upsert_service(service("a/x-0.example", "10.97.0.1"));
        let done = (done, work::take());
        let is_new = |(before, after): &(&Arc<Workload>, &Arc<Workload>)| !Arc::ptr_eq(before, after);
        assert_eq!(before.iter().zip(&view.workloads()).filter(is_new).count(), 1);
        assert_eq!(groups_before.iter().zip(groups()).filter(|(before, after)| !Arc::ptr_eq(before, after)).count(), 1);
        done
    };
    let small = work(10);
    assert!(small.0 > 0 && small.1 > 0);
    assert_eq!(work(300), small);
}
