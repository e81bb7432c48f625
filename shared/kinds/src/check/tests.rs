//! Checks of whole objects, the guides' mistakes among them.

use serde_json::{Value, json};

use super::*;
use crate::manifest;

fn texts(yaml: &str) -> Vec<String> {
    manifest::read(yaml).unwrap().iter().flat_map(object).map(|finding| finding.to_string()).collect()
}

#[test]
fn a_misspelt_peer_authentication_is_explained() {
    let found = texts(
        "apiVersion: security.istio.io/v1beta1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: production}\n\
         spec:\n  mTLS:\n    mode: STRICT\n    portLevelMtls:\n      8080:\n        mode: DISABLE\n",
    );
    assert_eq!(
        found,
        [
            "PeerAuthentication production/default: spec.mTLS: unknown field \"mTLS\", did you mean \"mtls\"? \
             (expected one of mtls, portLevelMtls, selector)",
            "PeerAuthentication production/default: spec.mTLS.portLevelMtls: unknown field \"portLevelMtls\", did you \
             mean \"spec.portLevelMtls\"? (expected mode alone); portLevelMtls belongs at spec.portLevelMtls, beside \
             mtls, and needs a selector",
        ]
    );
}

fn peer_authentication(spec: Value) -> Vec<String> {
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    object_messages(&object)
}

fn policy(spec: Value) -> Vec<String> {
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    object_messages(&object)
}

fn object_messages(value: &Value) -> Vec<String> {
    object(value).iter().map(Finding::message).collect()
}

#[test]
fn valid_objects_have_no_findings() {
    for spec in [
        json!({}),
        json!({"mtls": {"mode": "STRICT"}}),
        json!({"selector": {"matchLabels": {"app": "api"}}, "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"8080": {"mode": "DISABLE"}}}),
        json!({"selector": null, "mtls": {"mode": "UNSET"}}),
    ] {
        assert_eq!(peer_authentication(spec.clone()), Vec::<String>::new(), "{spec}");
    }
    for spec in [
        json!({}),
        json!({"action": "DENY", "rules": [{}]}),
        json!({"rules": [{"from": [{"source": {"principals": ["cluster.local/ns/a/sa/b"], "ipBlocks": ["10.0.0.0/8", "::1"]}}],
            "to": [{"operation": {"ports": ["80", "9090"]}}],
            "when": [{"key": "source.namespace", "notValues": ["c"]}]}]}),
        json!({"targetRefs": [{"kind": "Service", "name": "a"}], "rules": [{"to": [{"operation": {"paths": ["/"]}}]}]}),
    ] {
        assert_eq!(policy(spec.clone()), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn an_unknown_mode_is_named_with_the_nearest() {
    assert_eq!(
        peer_authentication(json!({"mtls": {"mode": "STRIKT"}})),
        ["spec.mtls.mode: invalid value \"STRIKT\", did you mean \"STRICT\"? (expected one of UNSET, DISABLE, \
          PERMISSIVE, STRICT)"]
    );
}

#[test]
fn port_level_settings_need_a_selector_and_a_port() {
    let found =
        peer_authentication(json!({"portLevelMtls": {"http": {"mode": "STRICT"}, "70000": {"mode": "STRICT"}}}));
    assert_eq!(found.len(), 3);
    assert!(found[0].contains("portLevelMtls needs a selector"), "{found:?}");
    assert!(found[1].starts_with("spec.portLevelMtls.70000: invalid value"), "{found:?}");
    assert!(found[2].starts_with("spec.portLevelMtls.http: invalid value"), "{found:?}");
}

#[test]
fn layer_seven_attributes_of_a_selector_policy_keep_the_known_wording() {
    let found = policy(json!({"selector": {"matchLabels": {"app": "backend"}},
        "rules": [{"to": [{"operation": {"methods": ["GET"], "paths": ["/api/*"]}}]},
                  {"when": [{"key": "request.headers[x]", "values": ["y"]}]}]}));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with(
            "spec.rules: ztunnel does not support HTTP attributes (found: methods, paths, request.headers[x]). In \
             ambient mode you must use a waypoint proxy to enforce HTTP rules. Within an ALLOW policy, rules matching \
             HTTP attributes are omitted."
        ),
        "{found:?}"
    );
    assert!(found[0].contains("targetRefs"), "{found:?}");
}

#[test]
fn bad_values_of_a_policy_are_named() {
    for (spec, expected) in [
        (json!({"action": "ALOW"}), "spec.action: invalid value \"ALOW\", did you mean \"ALLOW\"?"),
        (json!({"action": "CUSTOM"}), "spec.provider: missing"),
        (
            json!({"rules": [{"to": [{"operation": {"ports": ["http"]}}]}]}),
            "spec.rules[0].to[0].operation.ports[0]: invalid value \"http\" (expected a port from 1 to 65535)",
        ),
        (
            json!({"rules": [{"to": [{"operation": {"ports": [80]}}]}]}),
            "spec.rules[0].to[0].operation.ports[0]: found the number 80 (expected text); write \"80\" in quotes",
        ),
        (
            json!({"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.0/33"]}}]}]}),
            "spec.rules[0].from[0].source.ipBlocks[0]: invalid value \"10.0.0.0/33\"",
        ),
        (
            json!({"rules": [{"from": [{"source": {"principals": ["spiffe://td/ns/a/sa/b"]}}]}]}),
            "spec.rules[0].from[0].source.principals[0]: invalid value \"spiffe://td/ns/a/sa/b\", did you mean \
             \"td/ns/a/sa/b\"?",
        ),
        (
            json!({"rules": [{"from": [{"source": {"principal": ["x"]}}]}]}),
            "spec.rules[0].from[0].source.principal: unknown field \"principal\", did you mean \"principals\"?",
        ),
        (
            json!({"rules": [{"from": [{"principals": ["x"]}]}]}),
            "spec.rules[0].from[0].principals: unknown field \"principals\", did you mean \
             \"spec.rules[0].from[0].source.principals\"?",
        ),
        (
            json!({"rules": [{"when": [{"key": "source.namespaces", "values": ["x"]}]}]}),
            "spec.rules[0].when[0].key: invalid value \"source.namespaces\", did you mean \"source.namespace\"?",
        ),
        (
            json!({"selector": {"matchLabels": {"app": "a"}}, "targetRefs": [{"kind": "Service", "name": "a"}]}),
            "spec: invalid value \"selector and targetRefs\"",
        ),
        (json!({"targetRefs": [{"kind": "Service"}]}), "spec.targetRefs[0].name: missing"),
        (json!({"rules": "all"}), "spec.rules: found the text \"all\" (expected a list)"),
    ] {
        let found = policy(spec.clone());
        assert!(found.iter().any(|text| text.starts_with(expected)), "{spec}: {found:?}");
    }
}

#[test]
fn a_request_authentication_of_an_older_fashion_is_explained() {
    let found = texts(
        "apiVersion: security.istio.io/v1beta1\nkind: RequestAuthentication\nmetadata: {name: jwt}\nspec:\n  jwtRules:\n  \
         - issuer: accounts.google.com\n    headers: [Authorization]\n    claimToHeaders: [{claim: email, header: X}]\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("unknown field \"headers\", did you mean \"fromHeaders\"?"), "{found:#?}");
    assert!(found[1].contains("spec.jwtRules[0].headers[0]: found the text \"Authorization\" (expected an object)"));
    assert!(found[2].contains("unknown field \"claimToHeaders\", did you mean \"outputClaimToHeaders\"?"));
    assert!(found[3].contains("waypoints ignore policies that are bound by a selector"), "{found:#?}");
}

#[test]
fn core_kinds_are_checked_down_to_the_leaves() {
    let found = texts(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, lables: {a: b}}\nspec:\n  replica: 2\n  \
         selector: {matchLabels: {app: d}}\n  template:\n    metadata: {labels: {app: d}}\n    spec:\n      containers:\n      \
         - name: c\n        image: i\n        ports: [{containerPort: \"80\"}]\n        comand: [a]\n        resources: {limits: {cpu: 1}}\n",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    for (text, path) in found.iter().zip([
        "metadata.lables: unknown field \"lables\", did you mean \"labels\"?",
        "spec.replica: unknown field \"replica\", did you mean \"replicas\"?",
        "spec.template.spec.containers[0].ports[0].containerPort: found the text \"80\" (expected a whole number)",
        "spec.template.spec.containers[0].comand: unknown field \"comand\", did you mean \"command\"?",
    ]) {
        assert!(text.starts_with(&format!("Deployment d: {path}")), "{text}");
    }
}

#[test]
fn int_or_string_fields_and_free_maps_take_anything() {
    let found = texts(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s, annotations: {a.b/c: d}}\nspec:\n  selector: {x/y: z}\n  ports:\n  \
         - {port: 80, targetPort: http}\n  - {port: 81, targetPort: 8081, name: b}\nstatus: {loadBalancer: {}}\n",
    );
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn gateway_api_kinds_are_checked() {
    let found = texts(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: n}\nspec:\n  \
         gatewayClassName: istio-waypoint\n  listener:\n  - {name: mesh, port: 15008, protocol: HBONE}\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("did you mean \"listeners\"?"), "{found:?}");
}

#[test]
fn unknown_fields_alone_can_be_asked_for() {
    let object = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": {"name": "p"},
        "spec": {"action": "ALOW", "rule": []}});
    let found = unknown_fields("security.istio.io/v1", "AuthorizationPolicy", &object);
    assert_eq!(found.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["spec.rule"]);
}

#[test]
fn kinds_without_a_schema_are_told_apart() {
    assert!(has_schema("v1", "Pod") && has_schema("security.istio.io/v1beta1", "PeerAuthentication"));
    assert!(!has_schema("networking.istio.io/v1", "VirtualService"));
    assert!(!has_schema("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"));
}

fn service_entry(spec: Value) -> Vec<String> {
    let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": "e", "namespace": "n"}, "spec": spec});
    object_messages(&object)
}

#[test]
fn a_service_entry_with_every_field_has_no_findings() {
    for spec in [
        json!({"hosts": ["mysql.external.com"], "location": "MESH_EXTERNAL", "resolution": "DNS",
            "ports": [{"number": 3306, "name": "tcp", "protocol": "TCP"}]}),
        json!({"hosts": ["a.example.com", "b_c.example.com"], "addresses": ["10.0.0.1", "10.1.0.0/16", "fd00::1"],
            "ports": [{"number": 80, "name": "http", "protocol": "http2", "targetPort": 8080}],
            "location": "MESH_INTERNAL", "resolution": "STATIC", "exportTo": ["*"],
            "subjectAltNames": ["spiffe://cluster.local/ns/n/sa/a"],
            "endpoints": [{"address": "10.9.9.9", "ports": {"http": 9080}, "labels": {"a": "b"}, "network": "n1",
                "locality": "r/z/s", "weight": 3, "serviceAccount": "a"}, {"network": "n2"}]}),
        json!({"hosts": ["a.example.com"], "resolution": "STATIC", "workloadSelector": {"labels": {"app": "a"}},
            "ports": [{"number": 1, "name": "x"}], "exportTo": ["."]}),
        json!({"hosts": ["*.example.com"], "resolution": "DYNAMIC_DNS", "ports": [{"number": 1, "name": "x"}]}),
        json!({"hosts": ["*.example.com"], "addresses": ["10.0.0.0/8"], "ports": [{"number": 1, "name": "x"}]}),
    ] {
        assert_eq!(service_entry(spec.clone()), Vec::<String>::new(), "{spec}");
    }
    let object = json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "WorkloadEntry",
        "metadata": {"name": "e", "namespace": "n"}, "spec": {"address": "10.0.0.1", "ports": {"http": 80},
            "labels": {"app": "a"}, "network": "x", "locality": "r", "weight": 1, "serviceAccount": "sa"}});
    assert_eq!(object_messages(&object), Vec::<String>::new());
}

#[test]
fn what_is_wrong_with_a_service_entry_is_named() {
    let ports = json!([{"number": 80, "name": "http", "protocol": "HTTP"}]);
    let with = |change: Value| {
        let mut spec = json!({"hosts": ["a.example.com"], "ports": ports, "resolution": "DNS"});
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        service_entry(spec)
    };
    for (change, expected) in [
        (json!({"resolutoin": "DNS"}), "spec.resolutoin: unknown field \"resolutoin\", did you mean \"resolution\"?"),
        (json!({"workloadSelector": {"matchLabels": {"a": "b"}}}), "spec.workloadSelector.matchLabels: unknown field"),
        (
            json!({"endpoints": [{"addres": "10.0.0.1"}]}),
            "spec.endpoints[0].addres: unknown field \"addres\", did you mean \"address\"?",
        ),
        (json!({"location": "EXTERNAL"}), "spec.location: invalid value \"EXTERNAL\""),
        (json!({"resolution": "DSN"}), "spec.resolution: invalid value \"DSN\", did you mean \"DNS\"?"),
        (json!({"hosts": []}), "spec.hosts: missing"),
        (json!({"hosts": ["*"]}), "spec.hosts[0]: invalid value \"*\""),
        (json!({"hosts": ["10.0.0.1"]}), "spec.hosts[0]: invalid value \"10.0.0.1\""),
        (json!({"hosts": ["a.*.com"]}), "spec.hosts[0]: invalid value \"a.*.com\""),
        (
            json!({"hosts": ["*.example.com"]}),
            "spec.hosts[0]: invalid value \"*.example.com\" (expected a name without wildcard",
        ),
        (
            json!({"hosts": ["*.example.com"], "resolution": "NONE"}),
            "spec.hosts[0]: no address is assigned to the wildcard",
        ),
        (
            json!({"addresses": ["10.0.0.0/8"]}),
            "spec.addresses[0]: invalid value \"10.0.0.0/8\" (expected single addresses",
        ),
        (json!({"addresses": ["x"]}), "spec.addresses[0]: invalid value \"x\""),
        (json!({"ports": [{"number": 0, "name": "a"}]}), "spec.ports[0].number: invalid value \"0\""),
        (json!({"ports": [{"number": 80}]}), "spec.ports[0].name: missing"),
        (
            json!({"ports": [{"number": 1, "name": "a"}, {"number": 1, "name": "a"}]}),
            "spec.ports[1].name: invalid value \"a\"",
        ),
        (
            json!({"ports": [{"number": 1, "name": "a", "protocol": "HTPP"}]}),
            "spec.ports[0].protocol: invalid value \"HTPP\", did you mean \"HTTP\"?",
        ),
        (
            json!({"ports": [{"number": 1, "name": "a", "protocol": "UDP"}]}),
            "spec.ports[0].protocol: the mesh carries TCP alone",
        ),
        (json!({"endpoints": [{"address": "a.b"}], "resolution": "NONE"}), "spec.endpoints: invalid value"),
        (
            json!({"endpoints": [{"address": "a.b"}], "resolution": "STATIC"}),
            "spec.endpoints[0].address: invalid value \"a.b\" (expected an IP address",
        ),
        (
            json!({"endpoints": [{"address": "unix:///x"}]}),
            "spec.endpoints[0].address: ztunnel does not connect to unix sockets",
        ),
        (json!({"endpoints": [{}]}), "spec.endpoints[0].address: missing"),
        (
            json!({"endpoints": [{"address": "10.0.0.1", "ports": {"htpp": 1}}]}),
            "spec.endpoints[0].ports.htpp: invalid value \"htpp\", did you mean \"http\"?",
        ),
        (
            json!({"endpoints": [{"address": "10.0.0.1", "locality": "a/b/c/d"}]}),
            "spec.endpoints[0].locality: invalid value",
        ),
        (json!({"exportTo": ["other"]}), "spec.exportTo[0]: ztunnel knows everybody and the own namespace alone"),
        (
            json!({"subjectAltNames": ["a.example.com"]}),
            "spec.subjectAltNames[0]: ztunnel does not compare the DNS name",
        ),
    ] {
        let found = with(change.clone());
        assert!(found.iter().any(|text| text.starts_with(expected)), "{change}: {found:?}");
    }
}
