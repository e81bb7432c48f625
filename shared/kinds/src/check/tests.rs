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
