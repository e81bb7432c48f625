//! What is said about policies, and how.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::write::{event, status_patch};
use super::*;

fn reports(objects: impl IntoIterator<Item = Value>) -> Vec<Report> {
    let mut all = Objects::default();
    for object in objects {
        assert!(all.add(object).unwrap());
    }
    derive(&all, &Options::default())
}

fn object(kind: &str, namespace: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": kind, "spec": spec,
        "metadata": {"namespace": namespace, "name": "p", "uid": "u", "resourceVersion": "7", "generation": 3}})
}

fn verdict_of(kind: &str, namespace: &str, spec: &Value) -> (&'static str, Verdict) {
    let report = reports([object(kind, namespace, spec)]).remove(0);
    (report.condition, report.verdict.unwrap())
}

#[test]
fn verdicts_say_whether_a_policy_is_in_force() {
    let policy = "AuthorizationPolicy";
    for (kind, namespace, spec, expected) in [
        (policy, "n", json!({}), ("ZtunnelAccepted", true, "Accepted")),
        (
            policy,
            "n",
            json!({"rules": [{"to": [{"operation": {"methods": ["GET"]}}]}]}),
            ("ZtunnelAccepted", true, "UnsupportedValue"),
        ),
        (policy, "n", json!({"action": "AUDIT"}), ("ZtunnelAccepted", false, "UnsupportedValue")),
        (policy, "n", json!({"rule": []}), ("ZtunnelAccepted", false, "PartiallyInvalid")),
        (policy, "n", json!({"action": "PERMIT"}), ("ZtunnelAccepted", false, "PartiallyInvalid")),
        (
            policy,
            "n",
            json!({"targetRefs": [{"kind": "Service", "name": "s"}]}),
            ("WaypointAccepted", false, "AncestorNotBound"),
        ),
        ("PeerAuthentication", "n", json!({"mtls": {"mode": "STRICT"}}), ("ZtunnelAccepted", true, "Accepted")),
        (
            "PeerAuthentication",
            "istio-system",
            json!({"selector": {"matchLabels": {"a": "b"}}}),
            ("ZtunnelAccepted", false, "UnsupportedValue"),
        ),
        (
            "PeerAuthentication",
            "n",
            json!({"portLevelMtls": {"80": {"mode": "STRICT"}}}),
            ("ZtunnelAccepted", false, "PartiallyInvalid"),
        ),
    ] {
        let (condition, verdict) = verdict_of(kind, namespace, &spec);
        let said = (condition, verdict.is_accepted, verdict.reason);
        assert_eq!(said, expected, "{spec}: {}", verdict.message);
        assert_eq!(verdict.is_complaint, verdict.reason != "Accepted", "{spec}");
    }
}

#[test]
fn messages_name_the_field() {
    let (_, verdict) = verdict_of("AuthorizationPolicy", "n", &json!({"rules": [{"form": []}]}));
    assert!(
        verdict.message.starts_with("spec.rules[0].form: unknown field \"form\", did you mean \"from\"?"),
        "{}",
        verdict.message
    );
    assert!(verdict.message.ends_with("enforced more restrictively than written"), "{}", verdict.message);
}

#[test]
fn what_is_said_already_is_not_said_again() {
    let mut policy = object("AuthorizationPolicy", "n", &json!({}));
    let condition = json!({"type": "ZtunnelAccepted", "status": "True", "reason": "Accepted",
        "message": "attached to ztunnel", "observedGeneration": "3", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    policy["status"] = json!({"conditions": [condition]});
    assert_eq!(reports([policy.clone()]), [], "a generation written as text counts too");
    policy["metadata"]["generation"] = json!(4);
    assert_eq!(reports([policy]).len(), 1);
}

#[test]
fn a_patch_keeps_other_conditions_and_the_time_of_the_last_change() {
    let mut policy = object("AuthorizationPolicy", "n", &json!({}));
    policy["status"] = json!({"conditions": [
        {"type": "Other", "status": "Unknown"},
        {"type": "ZtunnelAccepted", "status": "True", "reason": "Old", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]});
    let patch = status_patch(&reports([policy.clone()]).remove(0), Timestamp::UNIX_EPOCH);
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    let conditions = &patch["status"]["conditions"];
    assert_eq!((&conditions[0]["type"], &conditions[1]["reason"]), (&json!("Other"), &json!("Accepted")));
    assert_eq!(conditions[1]["lastTransitionTime"], "2026-01-01T00:00:00Z");
    policy["spec"] = json!({"action": "AUDIT"});
    let patch = status_patch(&reports([policy]).remove(0), Timestamp::UNIX_EPOCH);
    assert_eq!(patch["status"]["conditions"][1]["lastTransitionTime"], "1970-01-01T00:00:00Z");
}

#[test]
fn an_event_has_a_name_of_its_content_and_a_bounded_message() {
    let mut report = reports([object("AuthorizationPolicy", "n", &json!({"action": "AUDIT"}))]).remove(0);
    let mut verdict = report.verdict.clone().unwrap();
    let name = |report: &Report| event(report, &verdict, Timestamp::UNIX_EPOCH).metadata.name.unwrap();
    let first = name(&report);
    assert_eq!(name(&report), first);
    report.generation = Some(4);
    assert_ne!(name(&report), first);
    verdict.message = "ä".repeat(2000);
    let event = event(&report, &verdict, Timestamp::UNIX_EPOCH);
    assert_eq!(event.message.unwrap().len(), 1024);
    assert_eq!(event.involved_object.kind.as_deref(), Some("AuthorizationPolicy"));
}

fn service(name: &str, labels: &Value, status: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}, "status": status,
        "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "7", "labels": labels}})
}

fn gateway(name: &str, labels: &Value, spec: &Value, addresses: &Value) -> Value {
    json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": spec,
        "metadata": {"namespace": "infra", "name": name, "labels": labels}, "status": {"addresses": addresses}})
}

#[test]
fn a_service_says_whether_its_waypoint_takes_it() {
    let open =
        json!({"listeners": [{"port": 15008, "protocol": "HBONE", "allowedRoutes": {"namespaces": {"from": "All"}}}]});
    let address = json!([{"type": "Hostname", "value": "wp.infra.svc.cluster.local"}]);
    let gateways = [
        gateway("wp", &json!({}), &open, &address),
        gateway("closed", &json!({}), &json!({}), &address),
        gateway("waiting", &json!({}), &open, &json!([])),
        gateway("workloads", &json!({"istio.io/waypoint-for": "workload"}), &open, &address),
    ];
    for (waypoint, status, reason, text) in [
        ("wp", "True", "WaypointAccepted", "Successfully attached to waypoint infra/wp. Ingress traffic is not using"),
        ("gone", "False", "WaypointIsNotReady", "waypoint \"infra/gone\" does not exist"),
        ("waiting", "False", "WaypointIsNotReady", "waypoint \"infra/waiting\" is not ready: it has no address yet"),
        ("closed", "False", "AttachmentDenied", "not permitted to attach to waypoint \"infra/closed\""),
        ("workloads", "False", "UnsupportedTrafficType", "traffic type \"service\" which the waypoint"),
    ] {
        let labels = json!({"istio.io/use-waypoint": waypoint, "istio.io/use-waypoint-namespace": "infra"});
        let report = reports(gateways.iter().cloned().chain([service("s", &labels, &json!({}))])).remove(0);
        let patch = status_patch(&report, Timestamp::UNIX_EPOCH);
        let condition = &patch["status"]["conditions"][0];
        assert_eq!(condition["type"], "istio.io/WaypointBound");
        assert_eq!((condition["status"].as_str(), condition["reason"].as_str()), (Some(status), Some(reason)));
        assert!(condition["message"].as_str().unwrap().contains(text), "{condition}");
        assert_eq!(report.verdict.unwrap().is_complaint, status == "False");
    }
    let labels = json!({"istio.io/use-waypoint": "wp", "istio.io/use-waypoint-namespace": "infra",
        "istio.io/ingress-use-waypoint": "true"});
    let report = reports(gateways.into_iter().chain([service("s", &labels, &json!({}))])).remove(0);
    assert!(report.verdict.unwrap().message.ends_with("infra/wp. Ingress traffic will traverse the waypoint"));
}

#[test]
fn the_condition_goes_with_the_reference() {
    assert_eq!(reports([service("s", &json!({}), &json!({}))]), []);
    let status = json!({"conditions": [
        {"type": "Other", "status": "True", "reason": "r", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "istio.io/WaypointBound", "status": "True", "reason": "WaypointAccepted", "message": "m",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    let report = reports([service("s", &json!({"istio.io/use-waypoint": "none"}), &status)]).remove(0);
    let patch = status_patch(&report, Timestamp::UNIX_EPOCH);
    let conditions = patch["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.iter().map(|one| &one["type"]).collect::<Vec<_>>(), [&json!("Other")]);
}

fn entry(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec,
        "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "7", "generation": 1,
            "creationTimestamp": format!("2026-01-01T00:00:0{}Z", name.len())}})
}

#[test]
fn a_service_entry_says_which_of_its_fields_have_no_effect() {
    let port = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
    let spec = |change: Value| {
        let mut spec = json!({"hosts": ["a.example.com"], "ports": port, "resolution": "DNS"});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        spec
    };
    for (change, accepted, reason, text) in [
        (json!({}), true, "Accepted", "attached to ztunnel"),
        (json!({"exportTo": ["other"]}), true, "UnsupportedValue", "(spec.exportTo[0])"),
        (json!({"location": "INSIDE"}), false, "PartiallyInvalid", "spec.location: invalid value"),
        (json!({"hosts": ["s.shop.svc.cluster.local"]}), true, "UnsupportedValue", "spec.hosts[0]: a Service defines"),
        (
            json!({"hosts": ["older.example.com"]}),
            true,
            "UnsupportedValue",
            "spec.hosts[0]: the older ServiceEntry shop/o",
        ),
        (
            json!({"hosts": ["*.x.com"], "resolution": "DYNAMIC_DNS"}),
            true,
            "UnsupportedValue",
            "spec.resolution: names below",
        ),
    ] {
        let older = entry("o", &spec(json!({"hosts": ["older.example.com"]})));
        let all = [service("s", &json!({}), &json!({})), older, entry("late", &spec(change.clone()))];
        let reports = reports(all);
        let about: Vec<&Report> = reports.iter().filter(|report| &*report.key.name == "late").collect();
        assert_eq!(about.len(), 1, "{change}: nothing is said of a waypoint that it does not name");
        let verdict = about[0].verdict.as_ref().unwrap();
        assert_eq!((verdict.is_accepted, verdict.reason), (accepted, reason), "{change}: {}", verdict.message);
        assert!(verdict.message.contains(text), "{change}: {}", verdict.message);
        let event = event(about[0], verdict, Timestamp::UNIX_EPOCH);
        let about = event.involved_object;
        assert_eq!(about.api_version.as_deref(), Some("networking.istio.io/v1"));
        assert_eq!(about.kind.as_deref(), Some("ServiceEntry"));
    }
}
