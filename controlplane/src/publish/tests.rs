//! When and what is published.

use serde_json::{Value, json};

use super::*;

fn add(object: Value) -> Change {
    Box::new(move |objects| assert!(objects.add(object).unwrap()))
}

/// Every kind has been listed, with nothing in it.
fn listed() -> Change {
    Box::new(|objects| {
        objects.namespaces.replace([]);
        objects.nodes.replace([]);
        objects.pods.replace([]);
        objects.services.replace([]);
        objects.endpoint_slices.replace([]);
        objects.peer_authentications.replace([]);
        objects.authorization_policies.replace([]);
        objects.service_entries.replace([]);
        objects.workload_entries.replace([]);
        objects.gateways.replace([]);
        objects.gateway_classes.replace([]);
        objects.root_config_maps.replace([]);
        objects.revocation_config_maps.replace([]);
    })
}

fn pod(name: &str, labels: &Value) -> Change {
    add(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": name, "labels": labels},
        "spec": {"containers": []}, "status": {"podIP": "10.0.0.1"}}))
}

fn start() -> (mpsc::Sender<Change>, Published) {
    let debounce = Debounce { quiet: Duration::from_millis(10), longest: Duration::from_millis(100) };
    let (publisher, published) = Publisher::new(Options::default(), debounce);
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(publisher.run(receiver));
    (sender, published)
}

async fn next(published: &mut Published) -> Arc<Snapshot> {
    tokio::time::timeout(Duration::from_secs(5), published.snapshots.changed()).await.unwrap().unwrap();
    Arc::clone(&published.snapshots.borrow_and_update())
}

#[tokio::test]
async fn nothing_is_published_before_every_kind_was_listed() {
    let (changes, mut published) = start();
    changes.send(pod("a", &json!({}))).await.ok().unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), published.snapshots.changed()).await;
    assert!(early.is_err() && !*published.is_ready.borrow());
    changes.send(listed()).await.ok().unwrap();
    changes.send(pod("b", &json!({}))).await.ok().unwrap();
    let snapshot = next(&mut published).await;
    assert_eq!((snapshot.version, snapshot.types[ADDRESS_TYPE].entries().len()), (1, 1));
    assert!(*published.is_ready.borrow());
}

#[tokio::test]
async fn changes_that_follow_closely_are_published_together() {
    let (changes, mut published) = start();
    changes.send(listed()).await.ok().unwrap();
    for index in 0..200 {
        changes.send(pod(&format!("p{index}"), &json!({}))).await.ok().unwrap();
    }
    let snapshot = next(&mut published).await;
    assert_eq!((snapshot.version, snapshot.types[ADDRESS_TYPE].entries().len()), (1, 200));
}

#[tokio::test]
async fn what_did_not_change_is_shared_and_a_change_without_effect_makes_no_snapshot() {
    let (changes, mut published) = start();
    changes.send(listed()).await.ok().unwrap();
    changes.send(pod("a", &json!({}))).await.ok().unwrap();
    changes.send(pod("b", &json!({}))).await.ok().unwrap();
    let first = next(&mut published).await;
    changes.send(pod("a", &json!({"of no interest": "x"}))).await.ok().unwrap();
    changes.send(pod("b", &json!({"app": "b2"}))).await.ok().unwrap();
    let second = next(&mut published).await;
    let entry = |snapshot: &Snapshot, name: &str| {
        Arc::clone(&snapshot.types[ADDRESS_TYPE].entries()[format!("Kubernetes//Pod/n/{name}").as_str()])
    };
    assert!(Arc::ptr_eq(&entry(&first, "a"), &entry(&second, "a")));
    assert_ne!(entry(&first, "b"), entry(&second, "b"));
    assert!(Arc::ptr_eq(&first.types[AUTHORIZATION_TYPE], &second.types[AUTHORIZATION_TYPE]));
    changes.send(pod("a", &json!({"of no interest": "y"}))).await.ok().unwrap();
    changes.send(pod("c", &json!({}))).await.ok().unwrap();
    assert_eq!(next(&mut published).await.version, 3);
}
