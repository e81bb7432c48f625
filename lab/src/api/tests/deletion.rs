//! Deletion and what follows from it.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};

use super::*;

fn map(name: &str, metadata: Value) -> ConfigMap {
    let mut fields = json!({"namespace": "shop", "name": name});
    for (key, value) in metadata.as_object().unwrap() {
        fields[key] = value.clone();
    }
    object(json!({"metadata": fields}))
}

fn owned_by(owners: &[&ConfigMap]) -> Value {
    let reference = |owner: &&ConfigMap| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": owner.metadata.uid});
    json!({"ownerReferences": owners.iter().map(reference).collect::<Vec<_>>()})
}

fn delete<K: crate::api::Key>(client: &Client, name: &str, options: &DeleteOptions) -> Result<(), Status> {
    client.delete::<K>(Some("shop"), name, options)
}

fn has<K: crate::api::Key>(client: &Client, name: &str) -> bool {
    client.fetch::<K>(Some("shop"), name).is_ok()
}

#[test]
fn a_pod_on_a_node_stays_until_its_kubelet_has_ended_it() {
    let client = server().client();
    client.create(&pod("cart", Some("node-1"))).unwrap();
    delete::<Pod>(&client, "cart", &DeleteOptions::default()).unwrap();
    let ending: Pod = client.fetch(Some("shop"), "cart").unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(30));
    let left = ending.metadata.deletion_timestamp.unwrap().0.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((25..=30).contains(&left), "{left}");

    let sooner = DeleteOptions { grace_period: Some(Duration::from_secs(5)), ..DeleteOptions::default() };
    delete::<Pod>(&client, "cart", &sooner).unwrap();
    let ending: Pod = client.fetch(Some("shop"), "cart").unwrap();
    assert_eq!(ending.metadata.deletion_grace_period_seconds, Some(5));

    assert!(delete::<Pod>(&client, "cart", &DeleteOptions::now("another")).unwrap_err().is_conflict());
    let stale = DeleteOptions { resource_version: Some("1".into()), ..DeleteOptions::default() };
    assert!(delete::<Pod>(&client, "cart", &stale).unwrap_err().is_conflict());
    delete::<Pod>(&client, "cart", &DeleteOptions::now(ending.metadata.uid.unwrap())).unwrap();
    assert!(!has::<Pod>(&client, "cart"));
}

#[test]
fn a_pod_without_a_node_goes_at_once() {
    let client = server().client();
    client.create(&pod("cart", None)).unwrap();
    delete::<Pod>(&client, "cart", &DeleteOptions::default()).unwrap();
    assert!(!has::<Pod>(&client, "cart"));
    assert!(delete::<Pod>(&client, "cart", &DeleteOptions::default()).unwrap_err().is_not_found());
}

#[test]
fn finalizers_hold_an_object_until_they_are_removed() {
    let client = server().client();
    client.create(&map("held", json!({"finalizers": ["shop.example/a"]}))).unwrap();
    delete::<ConfigMap>(&client, "held", &DeleteOptions::default()).unwrap();
    let held: ConfigMap = client.fetch(Some("shop"), "held").unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    client.patch::<ConfigMap>(Some("shop"), "held", &release).unwrap();
    assert!(!has::<ConfigMap>(&client, "held"));
}

#[test]
fn owned_objects_go_with_their_last_owner() {
    let client = server().client();
    let (first, second) =
        (client.create(&map("first", json!({}))).unwrap(), client.create(&map("second", json!({}))).unwrap());
    let child = client.create(&map("child", owned_by(&[&first, &second]))).unwrap();
    client.create(&map("grandchild", owned_by(&[&child]))).unwrap();
    delete::<ConfigMap>(&client, "first", &DeleteOptions::default()).unwrap();
    assert!(has::<ConfigMap>(&client, "child"));
    delete::<ConfigMap>(&client, "second", &DeleteOptions::default()).unwrap();
    assert!(!has::<ConfigMap>(&client, "child") && !has::<ConfigMap>(&client, "grandchild"));
}

#[test]
fn orphans_stay_without_their_owner() {
    let client = server().client();
    let owner = client.create(&map("owner", json!({}))).unwrap();
    client.create(&map("child", owned_by(&[&owner]))).unwrap();
    delete::<ConfigMap>(&client, "owner", &DeleteOptions { orphan: true, ..DeleteOptions::default() }).unwrap();
    let child: ConfigMap = client.fetch(Some("shop"), "child").unwrap();
    assert_eq!(child.metadata.owner_references.unwrap_or_default(), []);
}

#[test]
fn an_object_whose_owner_is_gone_already_does_not_stay() {
    let client = server().client();
    let owner = client.create(&map("owner", json!({}))).unwrap();
    delete::<ConfigMap>(&client, "owner", &DeleteOptions::default()).unwrap();
    client.create(&map("child", owned_by(&[&owner]))).unwrap();
    assert!(!has::<ConfigMap>(&client, "child"));
}

#[test]
fn a_namespace_takes_nothing_new_and_goes_after_its_contents() {
    let client = server().client();
    client.create(&pod("running", Some("node-1"))).unwrap();
    client.create(&map("map", json!({}))).unwrap();
    client.delete::<Namespace>(None, "shop", &DeleteOptions::default()).unwrap();
    let ending: Namespace = client.fetch(None, "shop").unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let refused = client.create(&map("late", json!({}))).unwrap_err();
    assert!(refused.message.contains("because it is being terminated"), "{refused}");

    client.empty_namespace("shop").unwrap();
    assert!(!has::<ConfigMap>(&client, "map") && has::<Pod>(&client, "running"));
    let uid = client.fetch::<Pod>(Some("shop"), "running").unwrap().metadata.uid.unwrap();
    delete::<Pod>(&client, "running", &DeleteOptions::now(uid)).unwrap();
    assert!(client.fetch::<Namespace>(None, "shop").unwrap_err().is_not_found());
    let refused = client.delete::<Namespace>(None, "default", &DeleteOptions::default()).unwrap_err();
    assert_eq!(refused.reason, "Forbidden");
}
