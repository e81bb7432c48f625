//! Who gets which address, and that they keep it.

use super::*;

fn ranges(v4: &str) -> Ranges {
    Ranges { v4: v4.parse().unwrap(), v6: "2001:2::/48".parse().unwrap() }
}

fn entry(name: &str, age: u32, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec,
        "metadata": {"namespace": "n", "name": name, "uid": name, "resourceVersion": "1",
            "creationTimestamp": format!("2026-01-01T00:{:02}:{:02}Z", age / 60, age % 60)}})
}

fn dns(host: &str) -> Value {
    json!({"hosts": [host], "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], "resolution": "DNS"})
}

/// Writes assignments back, as the API server would keep them.
fn written(mut entries: Vec<Value>, assignments: &[Assignment]) -> Vec<Value> {
    for assignment in assignments {
        let entry = entries.iter_mut().find(|entry| entry["metadata"]["name"] == *assignment.key.name).unwrap();
        entry["status"] = patch(assignment)["status"].clone();
    }
    entries
}

fn derived(entries: &[Value], ranges: &Ranges) -> Vec<Assignment> {
    let mut objects = Objects::default();
    for entry in entries {
        assert!(objects.add(entry.clone()).unwrap());
    }
    derive(&objects, ranges)
}

fn addresses(assignments: &[Assignment]) -> Vec<IpAddr> {
    assignments.iter().flat_map(|one| &one.addresses).map(|one| one.value.parse().unwrap()).collect()
}

#[test]
fn every_host_gets_one_address_of_each_family_once_and_for_all() {
    let ranges = ranges("240.240.0.0/16");
    let mut entries: Vec<Value> =
        (0..500_u32).map(|index| entry(&format!("e{index}"), index, &dns(&format!("h{index}.example.com")))).collect();
    let first = derived(&entries, &ranges);
    let all = addresses(&first);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 1000, "no two hosts share one");
    assert!(all.iter().all(|ip| ranges.v4.contains(*ip) || ranges.v6.contains(*ip)));
    assert_eq!(all.iter().filter(|ip| ip.is_ipv4()).count(), 500);
    assert_eq!(derived(&entries, &ranges), first, "the choice follows from the objects alone");
    entries = written(entries, &first);
    assert_eq!(derived(&entries, &ranges), [], "what is written is kept");
    // Others come and go; the rest stays.
    entries.remove(0);
    entries.insert(0, entry("aaa", 0, &dns("new.example.com")));
    let second = derived(&entries, &ranges);
    assert_eq!(second.iter().map(|one| &*one.key.name).collect::<Vec<_>>(), ["aaa"]);
}

#[test]
fn a_small_range_is_used_up_without_a_collision_and_then_nobody_gets_what_is_taken() {
    let ranges = ranges("240.240.0.0/29");
    let entries: Vec<Value> =
        (0..8_u32).map(|index| entry(&format!("e{index}"), index, &dns(&format!("h{index}.example.com")))).collect();
    let v4: Vec<IpAddr> = addresses(&derived(&entries, &ranges)).into_iter().filter(IpAddr::is_ipv4).collect();
    assert_eq!(v4.iter().collect::<BTreeSet<_>>().len(), 6);
    assert_eq!(v4.len(), 6, "neither the first nor the last address of the range is for hosts");
}

#[test]
fn of_two_that_hold_one_address_the_older_keeps_it() {
    let ranges = ranges("240.240.0.0/16");
    let mut entries = vec![entry("young", 9, &dns("a.example.com")), entry("zold", 1, &dns("b.example.com"))];
    for (index, host) in ["a.example.com", "b.example.com"].iter().enumerate() {
        entries[index]["status"] = json!({"addresses": [
            {"value": "240.240.0.7", "host": host}, {"value": format!("2001:2::{index}"), "host": host}]});
    }
    let due = derived(&entries, &ranges);
    assert_eq!(due.iter().map(|one| &*one.key.name).collect::<Vec<_>>(), ["young"]);
    assert_eq!(due[0].addresses[1].value, "2001:2::", "its other address was its own");
}

#[test]
fn only_those_who_may_have_addresses_get_some() {
    let ranges = ranges("240.240.0.0/16");
    let of = |spec: Value| addresses(&derived(&[entry("e", 0, &spec)], &ranges)).len();
    assert_eq!(of(dns("a.example.com")), 2);
    assert_eq!(of(json!({"hosts": ["a.b", "c.d", "a.b"], "resolution": "STATIC"})), 4, "each host once");
    assert_eq!(of(json!({"hosts": ["a.example.com"], "resolution": "NONE"})), 0);
    assert_eq!(of(json!({"hosts": ["a.example.com"]})), 0, "NONE is the default");
    assert_eq!(of(json!({"hosts": ["a.example.com"], "resolution": "DNS", "addresses": ["10.0.0.1"]})), 0);
    assert_eq!(of(json!({"hosts": ["*.example.com", "b.org"], "resolution": "STATIC"})), 2, "not the wildcard");
    assert_eq!(of(json!({"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS"})), 2);
    assert_eq!(of(json!({"hosts": ["a.example.com"], "resolution": "DNS", "exportTo": ["~"]})), 0);
    let mut refused = entry("e", 0, &dns("a.example.com"));
    refused["metadata"]["labels"] = json!({"networking.istio.io/enable-autoallocate-ip": "false"});
    refused["status"] = json!({"addresses": [{"value": "240.240.0.7", "host": "a.example.com"}]});
    let due = derived(&[refused], &ranges);
    assert_eq!(due.len(), 1, "what it had is taken back");
    assert_eq!(due[0].addresses, []);
}

#[test]
fn what_users_chose_in_the_range_is_not_given_out() {
    let ranges = ranges("240.240.0.0/29");
    let entries = [
        entry(
            "given",
            9,
            &json!({"hosts": ["x.example.com"], "addresses": ["240.240.0.0/30"], "resolution": "STATIC"}),
        ),
        entry("a", 0, &dns("a.example.com")),
        entry("b", 1, &dns("b.example.com")),
        entry("c", 2, &dns("c.example.com")),
    ];
    let mut v4: Vec<IpAddr> = addresses(&derived(&entries, &ranges)).into_iter().filter(IpAddr::is_ipv4).collect();
    v4.sort();
    let expected: Vec<IpAddr> = ["240.240.0.4", "240.240.0.5", "240.240.0.6"].map(|ip| ip.parse().unwrap()).into();
    assert_eq!(v4, expected);
}
