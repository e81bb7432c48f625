//! Creating and changing objects.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service, ServiceAccount};

use super::*;

fn service(name: &str, spec: Value) -> Service {
    object(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}))
}

fn deployment() -> Deployment {
    object(json!({
        "metadata": {"namespace": "shop", "name": "cart"},
        "spec": {
            "selector": {"matchLabels": {"app": "cart"}},
            "template": {
                "metadata": {"labels": {"app": "cart"}},
                "spec": {"containers": [{"name": "app", "image": "aquifer"}]},
            },
        },
    }))
}

#[test]
fn a_namespace_comes_furnished() {
    let client = server().client();
    let namespace: Namespace = client.fetch(None, "shop").unwrap();
    assert_eq!(namespace.metadata.labels.unwrap()["kubernetes.io/metadata.name"], "shop");
    assert_eq!(namespace.status.unwrap().phase.as_deref(), Some("Active"));
    assert!(client.fetch::<ServiceAccount>(Some("shop"), "default").is_ok());
    let roots: ConfigMap = client.fetch(Some("shop"), "kube-root-ca.crt").unwrap();
    assert!(roots.data.unwrap()["ca.crt"].starts_with("-----BEGIN CERTIFICATE"));
}

#[test]
fn an_object_gets_a_uid_a_time_and_a_generated_name() {
    let client = server().client();
    let wanted: ConfigMap = object(json!({"metadata": {"namespace": "shop", "generateName": "map-"}}));
    let (first, second) = (client.create(&wanted).unwrap().metadata, client.create(&wanted).unwrap().metadata);
    assert!(first.name.as_deref().unwrap().starts_with("map-") && first.name != second.name);
    assert!(first.uid.as_deref().unwrap().len() == 36 && first.uid != second.uid);
    assert!(first.creation_timestamp.is_some() && first.resource_version < second.resource_version);
}

#[test]
fn refusals_say_what_kubectl_users_expect() {
    let client = server().client();
    let missing = client.fetch::<Deployment>(Some("shop"), "x").unwrap_err();
    assert_eq!((missing.code.as_u16(), missing.to_string()), (404, "deployments.apps \"x\" not found".into()));
    client.create(&deployment()).unwrap();
    let again = client.create(&deployment()).unwrap_err();
    assert_eq!((again.reason, again.to_string()), ("AlreadyExists", "deployments.apps \"cart\" already exists".into()));
    let elsewhere: ConfigMap = object(json!({"metadata": {"namespace": "nowhere", "name": "a"}}));
    assert_eq!(client.create(&elsewhere).unwrap_err().to_string(), "namespaces \"nowhere\" not found");
    let misnamed: Namespace = object(json!({"metadata": {"name": "Shop"}}));
    let refused = client.create(&misnamed).unwrap_err();
    assert_eq!(refused.reason, "Invalid");
    assert!(refused.message.starts_with("Namespace \"Shop\" is invalid: metadata.name: Invalid value"), "{refused}");
}

#[test]
fn a_pod_gets_its_account_and_token() {
    let client = server().client();
    let created = client.create(&pod("cart", None)).unwrap();
    let spec = created.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
    assert_eq!(mount.mount_path, "/var/run/secrets/kubernetes.io/serviceaccount");
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert_eq!(volume.name, mount.name);
    assert_eq!(volume.projected.as_ref().unwrap().sources.as_ref().unwrap().len(), 3);
    assert_eq!(created.status.unwrap().phase.as_deref(), Some("Pending"));

    let mut stranger = pod("stranger", None);
    stranger.spec.as_mut().unwrap().service_account_name = Some("nobody".into());
    let refused = client.create(&stranger).unwrap_err();
    assert!(refused.message.contains("serviceaccount \"nobody\" not found"), "{refused}");

    let mut plain = pod("plain", None);
    plain.spec.as_mut().unwrap().automount_service_account_token = Some(false);
    assert_eq!(client.create(&plain).unwrap().spec.unwrap().volumes, None);
}

#[test]
fn cluster_addresses_are_given_once() {
    let client = server().client();
    let port = json!([{"port": 80}]);
    let first = client.create(&service("a", json!({"ports": port}))).unwrap().spec.unwrap();
    let second = client.create(&service("b", json!({"ports": port}))).unwrap().spec.unwrap();
    assert_eq!(first.cluster_ip.as_deref(), Some("10.96.1.0"));
    assert_ne!(first.cluster_ip, second.cluster_ip);
    let ports = first.ports.unwrap();
    assert_eq!(serde_json::to_value(&ports).unwrap(), json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    let dns = client.create(&service("dns", json!({"ports": port, "clusterIP": "10.96.0.10"}))).unwrap();
    assert_eq!(dns.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.10"));
    let headless = client.create(&service("headless", json!({"ports": port, "clusterIP": "None"}))).unwrap();
    assert_eq!(headless.spec.unwrap().cluster_ips, Some(vec!["None".to_owned()]));
    for taken in ["10.96.0.1", "10.96.0.10", "10.97.0.1", "none", "fd00::1"] {
        let refused = client.create(&service("c", json!({"ports": port, "clusterIP": taken}))).unwrap_err();
        assert_eq!(refused.reason, "Invalid", "{taken}");
    }
    let moved = Patch::Merge(json!({"spec": {"clusterIP": "10.96.3.3"}}));
    assert!(client.patch::<Service>(Some("shop"), "a", &moved).unwrap_err().message.contains("field is immutable"));
    client.delete::<Service>(Some("shop"), "a", &DeleteOptions::default()).unwrap();
    let reused = client.create(&service("d", json!({"ports": port}))).unwrap();
    assert_eq!(reused.spec.unwrap().cluster_ip, first.cluster_ip);
}

#[test]
fn a_replacement_keeps_the_cluster_address_and_needs_the_current_version() {
    let client = server().client();
    let created = client.create(&service("a", json!({"ports": [{"port": 80}]}))).unwrap();
    let mut next = service("a", json!({"ports": [{"port": 81}]}));
    let replaced = client.replace(&next).unwrap();
    assert_eq!(replaced.spec.as_ref().unwrap().cluster_ip, created.spec.as_ref().unwrap().cluster_ip);
    assert_eq!(replaced.metadata.uid, created.metadata.uid);
    next.metadata.resource_version = created.metadata.resource_version;
    let conflict = client.replace(&next).unwrap_err();
    assert!(conflict.is_conflict(), "{conflict:?}");
    assert!(conflict.message.contains("the object has been modified"), "{conflict}");
}

#[test]
fn only_a_change_of_the_specification_counts_as_a_generation() {
    let client = server().client();
    assert_eq!(client.create(&deployment()).unwrap().metadata.generation, Some(1));
    let change =
        |patch: Value| client.patch::<Deployment>(Some("shop"), "cart", &Patch::Merge(patch)).unwrap().metadata;
    assert_eq!(change(json!({"metadata": {"labels": {"a": "b"}}})).generation, Some(1));
    assert_eq!(change(json!({"spec": {"replicas": 2}})).generation, Some(2));
    let status = Patch::Merge(json!({"status": {"replicas": 2}, "spec": {"replicas": 5}}));
    let after: Deployment = client.patch_status(Some("shop"), "cart", &status).unwrap();
    assert_eq!(after.metadata.generation, Some(2));
    assert_eq!((after.spec.unwrap().replicas, after.status.unwrap().replicas), (Some(2), Some(2)));
    let ignored: Deployment =
        client.patch(Some("shop"), "cart", &Patch::Merge(json!({"status": {"replicas": 9}}))).unwrap();
    assert_eq!(ignored.status.unwrap().replicas, Some(2));
}

#[test]
fn a_patch_that_changes_nothing_is_no_change() {
    let client = server().client();
    let created = client.create(&deployment()).unwrap();
    let same: Deployment =
        client.patch(Some("shop"), "cart", &Patch::Merge(json!({"spec": {"paused": null}}))).unwrap();
    assert_eq!(same.metadata.resource_version, created.metadata.resource_version);
}

#[test]
fn a_running_pod_cannot_be_changed_into_another() {
    let client = server().client();
    client.create(&pod("cart", None)).unwrap();
    let change = |patch: Value| client.patch::<Pod>(Some("shop"), "cart", &Patch::Strategic(patch));
    assert!(change(json!({"spec": {"nodeName": "node-1"}})).is_ok());
    assert!(change(json!({"spec": {"containers": [{"name": "app", "image": "other"}]}})).is_ok());
    for patch in [json!({"spec": {"nodeName": "node-2"}}), json!({"spec": {"hostNetwork": true}})] {
        assert_eq!(change(patch).unwrap_err().reason, "Invalid");
    }
}

#[test]
fn broken_objects_are_invalid_and_say_where() {
    let client = server().client();
    for (spec, expected) in [
        (json!({"containers": []}), "spec.containers: Required value"),
        (json!({"containers": [{"name": "a"}]}), "spec.containers[0].image: Required value"),
        (json!({"containers": [{"name": "a", "image": "b"}, {"name": "a", "image": "b"}]}), "Duplicate value: \"a\""),
        (
            json!({"containers": [{"name": "a", "image": "b", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}),
            "Not found: \"v\"",
        ),
    ] {
        let broken: Pod = object(json!({"metadata": {"namespace": "shop", "name": "p"}, "spec": spec}));
        let refused = client.create(&broken).unwrap_err();
        assert!(refused.reason == "Invalid" && refused.message.contains(expected), "{refused}");
    }
    let mut unmatched = deployment();
    unmatched.spec.as_mut().unwrap().selector.match_labels = Some([("app".to_owned(), "x".to_owned())].into());
    assert!(client.create(&unmatched).unwrap_err().message.contains("`selector` does not match template `labels`"));
    let two = service("two", json!({"ports": [{"port": 80}, {"port": 0}]}));
    let refused = client.create(&two).unwrap_err().message;
    assert!(
        refused.contains("spec.ports[0].name: Required value") && refused.contains("spec.ports[1].port"),
        "{refused}"
    );
}

#[test]
fn secrets_take_plain_text() {
    let client = server().client();
    let secret: Secret = object(json!({"metadata": {"namespace": "shop", "name": "s"}, "stringData": {"a": "plain"}}));
    let created = client.create(&secret).unwrap();
    assert_eq!(created.data.unwrap()["a"].0, b"plain");
    assert_eq!((created.string_data, created.type_.as_deref()), (None, Some("Opaque")));
}

#[test]
fn custom_resources_are_kept_once_and_shown_in_each_version() {
    let client = server().client();
    let policy = json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"}, "spec": {"mtls": {"mode": "STRICT"}},
    });
    client.apply_json(policy).unwrap();
    let kind = ("security.istio.io/v1", "PeerAuthentication");
    let found = client.fetch_json(kind, Some("shop"), "default").unwrap();
    assert_eq!((&found["apiVersion"], &found["spec"]["mtls"]["mode"]), (&json!(kind.0), &json!("STRICT")));
    assert_eq!(found["metadata"]["generation"], 1);
    client.delete_json(kind, Some("shop"), "default").unwrap();
    assert!(client.fetch_json(kind, Some("shop"), "default").unwrap_err().is_not_found());
    let unknown = json!({"apiVersion": "linkerd.io/v1", "kind": "Server", "metadata": {"name": "x"}});
    assert!(client.apply_json(unknown).unwrap_err().is_not_found());
}

#[test]
fn lists_are_selected() {
    let client = server().client();
    for (name, node) in [("a", None), ("b", Some("node-1")), ("c", Some("node-2"))] {
        client.create(&pod(name, node)).unwrap();
    }
    let names = |selection: Selection| -> Vec<String> {
        client.list::<Pod>(&selection).unwrap().into_iter().filter_map(|pod| pod.metadata.name).collect()
    };
    assert_eq!(names(Selection::default()), ["a", "b", "c"]);
    assert_eq!(names(Selection::node("node-2")), ["c"]);
    assert_eq!(names(Selection { labels: "app in (a,b)".into(), ..Selection::namespace("shop") }), ["a", "b"]);
    assert_eq!(names(Selection::namespace("default")), Vec::<String>::new());
    assert!(client.list::<Pod>(&Selection { labels: "a in b".into(), ..Selection::default() }).is_err());
}
