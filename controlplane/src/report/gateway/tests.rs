//! What is written about waypoints.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::objects::Objects;
use crate::report::write::status_patch;
use crate::report::{Report, derive};
use crate::translate::Options;

fn reports(objects: impl IntoIterator<Item = Value>) -> Vec<Report> {
    let mut all = Objects::default();
    for object in objects {
        assert!(all.add(object).unwrap());
    }
    derive(&all, &Options::default())
}

fn gateway(class: &str, status: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "status": status,
        "metadata": {"namespace": "shop", "name": "waypoint", "uid": "g", "resourceVersion": "7", "generation": 1},
        "spec": {"gatewayClassName": class, "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]}})
}

fn service(name: &str, gateway: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "8",
            "labels": {"gateway.networking.k8s.io/gateway-name": gateway}},
        "spec": {"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00:96::9"], "ports": [{"port": port}]}})
}

/// Applies what was reported, as the API server would.
fn written(gateway: &Value, reports: &[Report]) -> Value {
    let mut gateway = gateway.clone();
    for report in reports {
        let patch = status_patch(report, Timestamp::UNIX_EPOCH);
        for (key, value) in patch["status"].as_object().unwrap() {
            if key == "conditions" {
                let list = gateway["status"].as_object_mut().unwrap().entry(key).or_insert(json!([]));
                list.as_array_mut().unwrap().extend(value.as_array().unwrap().iter().cloned());
            } else {
                gateway["status"][key] = value.clone();
            }
        }
    }
    gateway
}

#[test]
fn a_waypoint_with_a_service_is_programmed_at_its_name_and_addresses() {
    for class in ["istio-waypoint", "aquifer-waypoint"] {
        let gateway = gateway(class, &json!({}));
        let objects = || [gateway.clone(), service("waypoint", "waypoint", 15008)];
        let found = reports(objects());
        let conditions: Vec<_> =
            found.iter().map(|report| (report.condition, report.verdict.clone().unwrap())).collect();
        let [(first, accepted), (second, programmed)] = conditions.as_slice() else { panic!("{conditions:?}") };
        assert_eq!((*first, accepted.is_accepted, accepted.message.as_str()), ("Accepted", true, "Resource accepted"));
        assert_eq!((*second, programmed.is_accepted, programmed.reason), ("Programmed", true, "Programmed"));
        let words = "Resource programmed, assigned to service(s) waypoint.shop.svc.cluster.local:15008";
        assert_eq!(programmed.message, words);
        let gateway = written(&gateway, &found);
        assert_eq!(
            gateway["status"]["addresses"],
            json!([
                {"type": "IPAddress", "value": "10.96.0.9"},
                {"type": "IPAddress", "value": "fd00:96::9"},
                {"type": "Hostname", "value": "waypoint.shop.svc.cluster.local"},
            ])
        );
        assert_eq!(reports([gateway, service("waypoint", "waypoint", 15008)]), [], "all is said");
    }
}

#[test]
fn a_waypoint_without_a_service_waits_for_one() {
    for other in [service("waypoint", "other", 15008), service("waypoint", "waypoint", 80)] {
        let gateway = gateway("istio-waypoint", &json!({}));
        let found = reports([gateway.clone(), other]);
        let programmed = found[1].verdict.clone().unwrap();
        assert_eq!((found[1].condition, programmed.is_accepted, programmed.reason), ("Programmed", false, "Pending"));
        assert!(programmed.message.contains("port 15008") && programmed.message.contains("shop"), "{programmed:?}");
        assert_eq!(written(&gateway, &found)["status"]["addresses"], Value::Null, "none are invented");
    }
}

#[test]
fn a_change_of_address_is_written_though_the_conditions_stay() {
    let before = gateway("istio-waypoint", &json!({}));
    let mut service = service("waypoint", "waypoint", 15008);
    let before = written(&before, &reports([before.clone(), service.clone()]));
    service["spec"]["clusterIPs"] = json!(["10.96.0.10"]);
    let found = reports([before, service]);
    assert_eq!(found.iter().map(|report| report.condition).collect::<Vec<_>>(), ["Programmed"]);
    assert_eq!(status_patch(&found[0], Timestamp::UNIX_EPOCH)["status"]["addresses"][0]["value"], "10.96.0.10");
}

#[test]
fn gateways_of_others_are_left_alone() {
    let addresses = json!({"addresses": [{"type": "Hostname", "value": "far.example"}]});
    assert_eq!(reports([gateway("istio-waypoint", &addresses)]), [], "somebody else gave it an address");
    assert_eq!(reports([gateway("istio", &json!({})), service("waypoint", "waypoint", 15008)]), []);
}
