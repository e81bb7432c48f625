//! The controllers against the in-memory API server. There is no kubelet: the tests play it.

mod rollouts;

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::api::{DeleteOptions, Options, Patch, Selection, Server};

fn cluster(nodes: &[&str]) -> (Server, Client) {
    let server = Server::new(&Options { namespaces: vec!["shop".into()], ..Options::default() }).unwrap();
    let client = server.client();
    for name in nodes {
        client.apply_json(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
    }
    (server, client)
}

fn deploy(client: &Client, image: &str, replicas: i32) {
    let port = json!([{"name": "http", "containerPort": 8080}]);
    let spec = json!({
        "replicas": replicas, "selector": {"matchLabels": {"app": "cart"}},
        "template": {
            "metadata": {"labels": {"app": "cart"}},
            "spec": {"containers": [{"name": "app", "image": image, "ports": port}]},
        },
    });
    let metadata = json!({"name": "cart", "namespace": "shop"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec});
    client.apply_json(deployment).unwrap();
}

fn serve(client: &Client) {
    client
        .apply_json(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart", "namespace": "shop"},
            "spec": {"selector": {"app": "cart"}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}]},
        }))
        .unwrap();
}

/// Rounds until nothing changes any more.
fn settle(client: &Client) {
    let pods = || client.list::<Pod>(&Selection::default()).unwrap();
    let sets = || client.list::<ReplicaSet>(&Selection::default()).unwrap();
    for _ in 0..50 {
        let before = (pods(), sets());
        assert!(round(client));
        if before == (pods(), sets()) {
            return;
        }
    }
    panic!("the controllers do not come to rest");
}

/// Every pod on a node gets an address and becomes ready; one that is to go is gone.
fn play_kubelet(client: &Client) {
    for (index, pod) in client.list::<Pod>(&Selection::default()).unwrap().into_iter().enumerate() {
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref().unwrap());
        if pod.metadata.deletion_timestamp.is_some() {
            client.delete::<Pod>(namespace, name, &DeleteOptions::now(pod.metadata.uid.clone().unwrap())).unwrap();
        } else if pod.spec.as_ref().unwrap().node_name.is_some() && !is_ready(&pod) {
            set_ready(client, name, &format!("10.244.1.{index}"), true);
        }
    }
}

fn set_ready(client: &Client, name: &str, address: &str, is_ready: bool) {
    let ready = json!({"type": "Ready", "status": if is_ready { "True" } else { "False" }});
    let status = json!({"status": {"phase": "Running", "podIP": address, "conditions": [ready]}});
    client.patch_status::<Pod>(Some("shop"), name, &Patch::Strategic(status)).unwrap();
}

fn pods(client: &Client) -> Vec<Pod> {
    client.list(&Selection::namespace("shop")).unwrap()
}

fn status(client: &Client) -> Value {
    let deployment: Deployment = client.fetch(Some("shop"), "cart").unwrap();
    serde_json::to_value(deployment.status).unwrap()
}

#[test]
fn a_deployment_makes_pods_through_a_replica_set() {
    let (_server, client) = cluster(&["node-1", "node-2"]);
    deploy(&client, "v1", 4);
    settle(&client);
    let sets: Vec<ReplicaSet> = client.list(&Selection::default()).unwrap();
    let hash = &sets[0].metadata.labels.as_ref().unwrap()["pod-template-hash"];
    assert_eq!(sets[0].metadata.name.as_deref(), Some(format!("cart-{hash}").as_str()));
    let pods = pods(&client);
    assert_eq!(pods.len(), 4);
    for pod in &pods {
        let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("ReplicaSet", sets[0].metadata.uid.as_deref().unwrap()));
        assert_eq!(&pod.metadata.labels.as_ref().unwrap()["pod-template-hash"], hash);
    }
    let on = |node: &str| client.list::<Pod>(&Selection::node(node)).unwrap().len();
    assert_eq!((on("node-1"), on("node-2")), (2, 2));
    assert_eq!(status(&client)["unavailableReplicas"], 4);
    play_kubelet(&client);
    settle(&client);
    let status = status(&client);
    assert_eq!((&status["availableReplicas"], &status["observedGeneration"]), (&json!(4), &json!(1)));
    assert_eq!(status["conditions"][1]["reason"], "NewReplicaSetAvailable");
}

#[test]
fn a_rolling_update_ends_with_new_pods_only_and_never_has_too_few() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 4);
    settle(&client);
    play_kubelet(&client);
    settle(&client);
    deploy(&client, "v2", 4);
    for _ in 0..40 {
        assert!(round(&client));
        let ready =
            pods(&client).iter().filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none()).count();
        assert!(ready >= 3, "{ready}");
        assert!(pods(&client).iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).count() <= 5);
        play_kubelet(&client);
    }
    let images: BTreeSet<_> =
        pods(&client).into_iter().map(|pod| pod.spec.unwrap().containers[0].image.clone().unwrap()).collect();
    assert_eq!((pods(&client).len(), images), (4, BTreeSet::from(["v2".to_owned()])));
    let deployment: Deployment = client.fetch(Some("shop"), "cart").unwrap();
    assert_eq!(deployment.metadata.annotations.unwrap()["deployment.kubernetes.io/revision"], "2");
}

#[test]
fn scaling_down_takes_pods_that_are_not_ready_first() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 3);
    settle(&client);
    play_kubelet(&client);
    let spared = pods(&client)[1].metadata.name.clone().unwrap();
    for pod in pods(&client).iter().filter(|pod| pod.metadata.name.as_ref() != Some(&spared)) {
        set_ready(&client, pod.metadata.name.as_deref().unwrap(), "10.244.1.9", false);
    }
    deploy(&client, "v1", 1);
    settle(&client);
    play_kubelet(&client);
    settle(&client);
    let left: Vec<_> = pods(&client).into_iter().filter_map(|pod| pod.metadata.name).collect();
    assert_eq!(left, [spared]);
}

#[test]
fn deleting_a_deployment_takes_its_pods_along() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 2);
    settle(&client);
    client.delete::<Deployment>(Some("shop"), "cart", &DeleteOptions::default()).unwrap();
    play_kubelet(&client);
    settle(&client);
    assert_eq!(pods(&client), []);
    assert_eq!(client.list::<ReplicaSet>(&Selection::default()).unwrap(), []);
}

#[test]
fn pods_wait_for_a_node_that_suits_them() {
    let (_server, client) = cluster(&[]);
    deploy(&client, "v1", 1);
    settle(&client);
    let told = pods(&client)[0].status.clone().unwrap().conditions.unwrap();
    assert_eq!((told[0].status.as_str(), told[0].reason.as_deref()), ("False", Some("Unschedulable")));
    let ready = json!([{"type": "Ready", "status": "False"}]);
    client
        .apply_json(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": ready}}),
        )
        .unwrap();
    settle(&client);
    assert_eq!(pods(&client)[0].spec.as_ref().unwrap().node_name, None);
    let ready = Patch::Strategic(json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    client.patch_status::<k8s_openapi::api::core::v1::Node>(None, "n", &ready).unwrap();
    settle(&client);
    assert_eq!(pods(&client)[0].spec.as_ref().unwrap().node_name.as_deref(), Some("n"));
}

#[test]
fn slices_follow_readiness_and_ports() {
    let (_server, client) = cluster(&["node-1"]);
    serve(&client);
    deploy(&client, "v1", 1);
    settle(&client);
    let slice = || -> Value {
        settle(&client);
        let slices: Vec<EndpointSlice> = client.list(&Selection::namespace("shop")).unwrap();
        assert_eq!(slices.len(), 1, "{slices:?}");
        serde_json::to_value(&slices[0]).unwrap()
    };
    assert_eq!(slice()["endpoints"], json!([]));
    let name = pods(&client)[0].metadata.name.clone().unwrap();
    set_ready(&client, &name, "10.244.1.7", false);
    assert_eq!(slice()["endpoints"][0]["conditions"], json!({"ready": false, "serving": false, "terminating": false}));
    set_ready(&client, &name, "10.244.1.7", true);
    let ready = slice();
    assert_eq!(ready["metadata"]["labels"]["kubernetes.io/service-name"], "cart");
    assert_eq!(ready["ports"], json!([{"name": "web", "port": 8080, "protocol": "TCP"}]));
    let endpoint = &ready["endpoints"][0];
    assert_eq!((&endpoint["addresses"], &endpoint["nodeName"]), (&json!(["10.244.1.7"]), &json!("node-1")));
    assert_eq!((&endpoint["targetRef"]["kind"], &endpoint["targetRef"]["name"]), (&json!("Pod"), &json!(name)));
    assert_eq!(endpoint["conditions"], json!({"ready": true, "serving": true, "terminating": false}));

    client.delete::<Pod>(Some("shop"), &name, &DeleteOptions::default()).unwrap();
    let endings: Vec<_> =
        slice()["endpoints"].as_array().unwrap().iter().map(|end| end["conditions"].clone()).collect();
    assert_eq!(endings, [json!({"ready": false, "serving": true, "terminating": true})]);
    client.delete::<k8s_openapi::api::core::v1::Service>(Some("shop"), "cart", &DeleteOptions::default()).unwrap();
    assert_eq!(client.list::<EndpointSlice>(&Selection::namespace("shop")).unwrap(), []);
}

#[tokio::test]
async fn a_deleted_namespace_is_emptied_and_goes() {
    let (server, client) = cluster(&[]);
    let running = tokio::spawn(run(client.clone()));
    deploy(&client, "v1", 2);
    let mut namespaces = client.watch::<Namespace>(&Selection::default()).unwrap();
    client.delete::<Namespace>(None, "shop", &DeleteOptions::default()).unwrap();
    let gone = async {
        while let Some(event) = namespaces.next().await {
            if matches!(event, crate::api::Event::Deleted(_)) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the namespace must go");
    assert_eq!(pods(&client), []);
    server.stop().await;
    running.await.unwrap();
}
