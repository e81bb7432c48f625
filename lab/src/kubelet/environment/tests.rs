//! Environments as a Kubernetes user would write them.

use serde_json::{Value, json};

use super::*;

struct Fixed;

impl Sources for Fixed {
    fn config_map(&self, name: &str) -> Option<BTreeMap<String, String>> {
        (name == "settings").then(|| BTreeMap::from([("level".to_owned(), "debug".to_owned())]))
    }

    fn secret(&self, name: &str) -> Option<BTreeMap<String, String>> {
        (name == "keys").then(|| BTreeMap::from([("token".to_owned(), "t0p".to_owned())]))
    }
}

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "cart-1", "namespace": "shop", "uid": "u-1", "labels": {"app": "cart", "v": "1"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": "cart", "containers": []},
        "status": {
            "podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00:a:1:1::2"}],
            "hostIP": "172.30.0.11", "hostIPs": [{"ip": "172.30.0.11"}],
        },
    }))
    .unwrap()
}

fn resolve(env: Value) -> Result<Environment, ConfigError> {
    let container: Container = serde_json::from_value(json!({"name": "c", "env": env})).unwrap();
    let mut environment = Environment::new([("PATH".to_owned(), "/bin".to_owned())]);
    environment.extend(&container, &pod(), &Fixed)?;
    Ok(environment)
}

fn field_ref(path: &str) -> Result<Environment, ConfigError> {
    resolve(json!([{"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}]))
}

#[test]
fn fields_of_the_pod_are_resolved() {
    for (path, value) in [
        ("metadata.name", "cart-1"),
        ("metadata.namespace", "shop"),
        ("metadata.uid", "u-1"),
        ("metadata.labels['app']", "cart"),
        ("metadata.labels['absent']", ""),
        ("metadata.labels", "app=\"cart\"\nv=\"1\""),
        ("spec.nodeName", "node-1"),
        ("spec.serviceAccountName", "cart"),
        ("status.podIP", "10.244.1.2"),
        ("status.podIPs", "10.244.1.2,fd00:a:1:1::2"),
        ("status.hostIP", "172.30.0.11"),
        ("status.hostIPs", "172.30.0.11"),
    ] {
        assert_eq!(field_ref(path).unwrap().find("F"), Some(value), "{path}");
    }
}

#[test]
fn an_unknown_field_is_an_error_that_lists_the_known_ones() {
    let error = field_ref("metadata.nme").unwrap_err().to_string();
    assert!(error.starts_with("env \"F\": fieldPath \"metadata.nme\" is not one of metadata.name,"), "{error}");
}

#[test]
fn variables_may_use_earlier_ones_only() {
    let env = resolve(json!([
        {"name": "HOST", "value": "cart"},
        {"name": "URL", "value": "http://$(HOST):$(PORT)/$$(HOST)"},
        {"name": "PORT", "value": "80"},
    ]))
    .unwrap();
    assert_eq!(env.find("URL"), Some("http://cart:$(PORT)/$(HOST)"));
}

#[test]
fn odd_dollars_stay_as_they_are() {
    let env = Environment::new([("A".to_owned(), "1".to_owned())]);
    for (text, expanded) in [
        ("$", "$"),
        ("$$", "$"),
        ("a$b", "a$b"),
        ("$(A", "$(A"),
        ("$(A)$(A)", "11"),
        ("$$$(A)", "$1"),
        ("$(B)", "$(B)"),
        ("$()", "$()"),
    ] {
        assert_eq!(env.expand(text), expanded, "{text}");
    }
}

#[test]
fn keys_of_config_maps_and_secrets_are_resolved() {
    let env = resolve(json!([
        {"name": "L", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}},
        {"name": "T", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "level", "optional": true}}},
    ]))
    .unwrap();
    assert_eq!((env.find("L"), env.find("T"), env.find("O")), (Some("debug"), Some("t0p"), None));
}

#[test]
fn a_missing_reference_is_named() {
    let of = |source: Value| resolve(json!([{"name": "X", "valueFrom": source}])).unwrap_err().to_string();
    assert_eq!(
        of(json!({"configMapKeyRef": {"name": "absent", "key": "k"}})),
        "env \"X\": configmap \"absent\" not found"
    );
    assert_eq!(
        of(json!({"secretKeyRef": {"name": "keys", "key": "k"}})),
        "env \"X\": key \"k\" not found in secret \"keys\""
    );
}

#[test]
fn whole_config_maps_come_with_a_prefix_and_env_wins() {
    let container: Container = serde_json::from_value(json!({
        "name": "c",
        "envFrom": [{"prefix": "S_", "configMapRef": {"name": "settings"}}, {"secretRef": {"name": "x", "optional": true}}],
        "env": [{"name": "S_level", "value": "info"}, {"name": "PATH", "value": "/opt:$(PATH)"}],
    }))
    .unwrap();
    let mut env = Environment::new([("PATH".to_owned(), "/bin".to_owned())]);
    env.extend(&container, &pod(), &Fixed).unwrap();
    assert_eq!((env.find("S_level"), env.find("PATH")), (Some("info"), Some("/opt:/bin")));
}
