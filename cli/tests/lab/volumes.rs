//! Files of pods: ConfigMaps that change, Secrets, tokens, fields, directories that the host does not have.

use serde_json::{Value, json};

use crate::support::{Caller, Lab, create, eventually, pod};

fn sleeper(name: &str, mounts: Value, volumes: Value) -> Value {
    let container = json!({"image": "host", "command": ["sleep", "infinity"], "volumeMounts": mounts});
    let mut pod = pod(name, "node-1", container);
    pod["spec"]["volumes"] = volumes;
    pod
}

#[tokio::test]
async fn a_changed_config_map_changes_the_files() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let map = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": value, "b": "2"}});
    create(&client, [map("1")]).await;
    let mounts = json!([{"name": "v", "mountPath": "/etc/settings/deep"}]);
    let volumes = json!([{"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "x/a"}]}}]);
    create(&client, [sleeper("p", mounts, volumes)]).await;
    lab.ready_pod(&client, "p").await;
    assert_eq!(lab.exec("p", &["cat", "/etc/settings/deep/x/a"]), "1");
    assert_eq!(lab.exec("p", &["ls", "/etc/settings/deep"]), "x\n", "only the chosen entry shows");
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::default_namespaced(client.clone());
    maps.patch("m", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(json!({"data": {"a": "new"}})))
        .await
        .unwrap();
    eventually("the file changes", async || (lab.exec("p", &["cat", "/etc/settings/deep/x/a"]) == "new").then_some(()))
        .await;
}

/// Directories that the host does not have, at the top, below `/etc` and below `/var/run`, and what comes in them.
async fn show_files(lab: &Lab) {
    let client = lab.client().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"key": "t0p"}});
    create(&client, [secret]).await;
    let mounts = json!([
        {"name": "secret", "mountPath": "/aquifer-test-top", "readOnly": true},
        {"name": "token", "mountPath": "/var/run/secrets/tokens"},
        {"name": "fields", "mountPath": "/etc/aquifer-test-fields"},
        {"name": "empty", "mountPath": "/var/lib/aquifer-test"},
        {"name": "host", "mountPath": "/opt/aquifer-test"},
    ]);
    let token =
        json!({"serviceAccountToken": {"path": "istio-token", "audience": "istio-ca", "expirationSeconds": 43200}});
    let volumes = json!([
        {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
        {"name": "token", "projected": {"sources": [token]}},
        {"name": "fields", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "empty", "emptyDir": {}},
        {"name": "host", "hostPath": {"path": "/var/lib/aquifer-test-host", "type": "DirectoryOrCreate"}},
    ]);
    create(&client, [sleeper("p", mounts.clone(), volumes.clone()), sleeper("q", mounts, volumes)]).await;
    lab.ready_pod(&client, "p").await;
    lab.ready_pod(&client, "q").await;
    assert_eq!(lab.exec("p", &["cat", "/aquifer-test-top/key"]), "t0p");
    assert_eq!(lab.exec("p", &["stat", "-L", "-c", "%a", "/aquifer-test-top/key"]), "400\n");
    assert_eq!(lab.exec("p", &["cat", "/etc/aquifer-test-fields/labels"]), "app=\"p\"");
    assert_eq!(lab.exec("p", &["cat", "/var/run/secrets/tokens/istio-token"]).split('.').count(), 3, "a JWT");
    assert!(lab.exec("p", &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"]).starts_with("-----BEGIN"));
    lab.exec("p", &["sh", "-c", "echo p > /var/lib/aquifer-test/f; echo p > /opt/aquifer-test/f"]);
    assert_eq!(lab.exec("q", &["ls", "/var/lib/aquifer-test"]), "", "an emptyDir is the pod's own");
    assert_eq!(lab.exec("q", &["cat", "/opt/aquifer-test/f"]), "p\n", "a hostPath is the node's");
    for path in ["/aquifer-test-top", "/etc/aquifer-test-fields", "/var/lib/aquifer-test-host", "/opt/aquifer-test"] {
        assert!(!crate::support::exists(path.as_ref()), "{path} is not on this machine");
    }
    let refused =
        lab.run("exec", &["p", "--", "sh", "-c", "echo x > /etc/aquifer-test-x || echo x > /usr/aquifer-test-x"]);
    assert!(!crate::support::exists("/etc/aquifer-test-x".as_ref()), "{refused:?}");
    assert!(!crate::support::exists("/usr/aquifer-test-x".as_ref()), "{refused:?}");
}

#[tokio::test]
async fn every_kind_of_volume_shows_where_it_is_asked_for_and_nowhere_else() {
    let Some(lab) = Lab::start() else { return };
    show_files(&lab).await;
}

#[tokio::test]
async fn an_ordinary_users_volumes_do_so_too() {
    let Some(lab) = Lab::start_as(Caller::ordinary()) else { return };
    show_files(&lab).await;
}

#[tokio::test]
async fn a_namespace_made_later_shows_in_a_pod_that_runs_already() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let mounts = json!([{"name": "netns", "mountPath": "/var/run/aquifer/netns"}]);
    let volumes = json!([{"name": "netns", "hostPath": {"path": "/var/run/aquifer/netns", "type": "Directory"}}]);
    create(&client, [sleeper("agent", mounts, volumes)]).await;
    lab.ready_pod(&client, "agent").await;
    create(&client, [sleeper("later", json!([]), json!([]))]).await;
    let later = lab.ready_pod(&client, "later").await;
    let path = format!("/var/run/aquifer/netns/{}", later["metadata"]["uid"].as_str().unwrap());
    assert_eq!(lab.exec("agent", &["stat", "-f", "-c", "%T", &path]), "nsfs\n");
}
