//! The families and addresses of Services.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::*;
use crate::families::Families;

fn client(families: Families) -> (Server, Client) {
    let server = Server::new(&Options { namespaces: vec!["shop".into()], families, ..Options::default() }).unwrap();
    let client = server.client();
    (server, client)
}

fn service(name: &str, mut spec: Value) -> Service {
    spec["ports"] = json!([{"port": 80}]);
    object(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}))
}

/// Policy, families and addresses.
fn summary(spec: &ServiceSpec) -> (String, String, String) {
    let joined = |list: &Option<Vec<String>>| list.clone().unwrap_or_default().join(",");
    assert_eq!(spec.cluster_ip.as_ref(), spec.cluster_ips.as_ref().and_then(|all| all.first()));
    (spec.ip_family_policy.clone().unwrap_or_default(), joined(&spec.ip_families), joined(&spec.cluster_ips))
}

#[track_caller]
fn assert_summary(service: Service, policy: &str, families: &str, addresses: &str) {
    let expected = (policy.to_owned(), families.to_owned(), addresses.to_owned());
    assert_eq!(summary(&service.spec.unwrap()), expected);
}

#[test]
fn a_service_has_the_families_that_its_policy_asks_for() {
    let (_server, client) = client(Families::Dual);
    let both = "10.96.1.1,fd00:a:2::100";
    for (name, asked, policy, families, addresses) in [
        ("plain", json!({}), "SingleStack", "IPv4", "10.96.1.0"),
        ("preferred", json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack", "IPv4,IPv6", both),
        (
            "required",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
            "RequireDualStack",
            "IPv6,IPv4",
            "fd00:a:2::101,10.96.1.2",
        ),
        ("six", json!({"ipFamilies": ["IPv6"]}), "SingleStack", "IPv6", "fd00:a:2::102"),
        ("named", json!({"ipFamilies": ["IPv6", "IPv4"]}), "RequireDualStack", "IPv6,IPv4", "fd00:a:2::103,10.96.1.3"),
        ("fixed", json!({"clusterIP": "fd00:a:2::9"}), "SingleStack", "IPv6", "fd00:a:2::9"),
        (
            "both-fixed",
            json!({"clusterIPs": ["10.96.0.9", "fd00:a:2::8"]}),
            "RequireDualStack",
            "IPv4,IPv6",
            "10.96.0.9,fd00:a:2::8",
        ),
        ("headless", json!({"clusterIP": "None", "selector": {"a": "b"}}), "SingleStack", "IPv4", "None"),
        ("unselective", json!({"clusterIP": "None"}), "RequireDualStack", "IPv4,IPv6", "None"),
    ] {
        assert_summary(client.create(&service(name, asked)).unwrap(), policy, families, addresses);
    }
}

#[test]
fn a_lab_of_one_family_gives_what_it_has_and_refuses_what_is_required() {
    for (families, own, foreign) in [(Families::Ipv4, "IPv4", "IPv6"), (Families::Ipv6, "IPv6", "IPv4")] {
        let (_server, client) = client(families);
        let preferred = service("preferred", json!({"ipFamilyPolicy": "PreferDualStack"}));
        let spec = client.create(&preferred).unwrap().spec.unwrap();
        assert_eq!(spec.ip_families, Some(vec![own.to_owned()]));
        let required = client.create(&service("r", json!({"ipFamilyPolicy": "RequireDualStack"}))).unwrap_err();
        assert!(required.message.contains("this cluster is not configured for dual-stack services"), "{required}");
        let other = client.create(&service("o", json!({"ipFamilies": [foreign]}))).unwrap_err();
        assert!(other.message.contains("not configured on this cluster"), "{other}");
        let unselective = client.create(&service("unselective", json!({"clusterIP": "None"}))).unwrap();
        assert_eq!(unselective.spec.unwrap().ip_families.unwrap().len(), 2, "its endpoints are somebody else's affair");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let (_server, client) = client(Families::Dual);
    client.create(&service("taken", json!({"clusterIP": "fd00:a:2::9"}))).unwrap();
    for (asked, why) in [
        (json!({"ipFamilyPolicy": "Both"}), "Unsupported value"),
        (json!({"ipFamilies": ["IPv5"]}), "Unsupported value"),
        (json!({"ipFamilies": ["IPv4", "IPv4"]}), "Duplicate value"),
        (json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4", "IPv6"]}), "when multiple IP families"),
        (json!({"clusterIPs": ["10.96.0.9", "10.96.0.8"]}), "no more than one IP for each IP family"),
        (json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv6"]}), "expected an IPv6 value"),
        (json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.8"]}), "first value must match"),
        (json!({"clusterIP": "fd00:a:2::9"}), "already allocated"),
        (json!({"clusterIP": "fd00:a:2:1::9"}), "not in the valid range fd00:a:2::/112"),
    ] {
        let refused = client.create(&service("c", asked.clone())).unwrap_err();
        assert!(refused.reason == "Invalid" && refused.message.contains(why), "{asked}: {refused}");
    }
}

#[test]
fn a_second_family_comes_and_goes_and_the_first_address_stays() {
    let (_server, client) = client(Families::Dual);
    client.create(&service("cart", json!({}))).unwrap();
    let patch = |spec: Value| client.patch::<Service>(Some("shop"), "cart", &Patch::Merge(json!({"spec": spec})));
    let gained = patch(json!({"ipFamilyPolicy": "PreferDualStack"})).unwrap();
    assert_summary(gained, "PreferDualStack", "IPv4,IPv6", "10.96.1.0,fd00:a:2::100");
    let unrelated = patch(json!({"sessionAffinity": "None"})).unwrap();
    assert_summary(unrelated, "PreferDualStack", "IPv4,IPv6", "10.96.1.0,fd00:a:2::100");
    let moved = patch(json!({"clusterIPs": ["10.96.1.0", "fd00:a:2::1000"]})).unwrap_err();
    assert!(moved.message.contains("field is immutable"), "{moved}");
    // Whoever replaces the object without naming addresses keeps them.
    let replaced = client.replace(&service("cart", json!({"selector": {"app": "cart"}}))).unwrap();
    assert_summary(replaced, "PreferDualStack", "IPv4,IPv6", "10.96.1.0,fd00:a:2::100");
    let lost = patch(json!({"ipFamilyPolicy": "SingleStack"})).unwrap();
    assert_summary(lost, "SingleStack", "IPv4", "10.96.1.0");
    let other = client.create(&service("other", json!({"ipFamilies": ["IPv6"]}))).unwrap();
    assert_summary(other, "SingleStack", "IPv6", "fd00:a:2::100");
}
