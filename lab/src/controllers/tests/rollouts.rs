//! Rollouts beyond the plain one: coming back, pausing, taking over, waiting, being late.

use k8s_openapi::api::apps::v1::Deployment;

use super::*;

fn change(client: &Client, patch: Value) {
    client.patch::<Deployment>(Some("shop"), "cart", &Patch::Merge(patch)).unwrap();
}

fn sets(client: &Client) -> Vec<ReplicaSet> {
    let mut sets: Vec<ReplicaSet> = client.list(&Selection::namespace("shop")).unwrap();
    sets.sort_by_key(|set| annotation(set, "deployment.kubernetes.io/revision").parse::<u32>().unwrap());
    sets
}

fn annotation(set: &ReplicaSet, name: &str) -> String {
    set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name)).cloned().unwrap_or_default()
}

/// Rounds and a kubelet until the rollout is over.
fn roll_out(client: &Client) {
    for _ in 0..6 {
        settle(client);
        play_kubelet(client);
    }
    settle(client);
    assert_eq!(reason(client), ("True".into(), "NewReplicaSetAvailable".into()));
}

fn reason(client: &Client) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let status = status(client);
    (text(&status["conditions"][1]["status"]), text(&status["conditions"][1]["reason"]))
}

fn images(client: &Client) -> Vec<String> {
    pods(client).into_iter().map(|pod| pod.spec.unwrap().containers[0].image.clone().unwrap()).collect()
}

#[test]
fn a_template_that_comes_back_uses_its_old_replica_set_as_the_newest_revision() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 2);
    roll_out(&client);
    let first = sets(&client)[0].metadata.name.clone();
    deploy(&client, "v2", 2);
    roll_out(&client);
    // As `kubectl rollout undo` sends it: without the hash, and with what Go adds and drops.
    let mut template = serde_json::to_value(&sets(&client)[0].spec.as_ref().unwrap().template).unwrap();
    template["metadata"]["labels"].as_object_mut().unwrap().shift_remove("pod-template-hash");
    template["metadata"]["creationTimestamp"] = Value::Null;
    template["spec"]["containers"][0]["resources"] = json!({});
    change(&client, json!({"spec": {"template": template}}));
    roll_out(&client);
    let sets = sets(&client);
    assert_eq!((sets.len(), &sets[1].metadata.name), (2, &first));
    assert_eq!(annotation(&sets[1], "deployment.kubernetes.io/revision"), "3");
    assert_eq!(images(&client), ["v1", "v1"]);
}

#[test]
fn a_replica_set_says_why_it_came_about() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 1);
    roll_out(&client);
    let applied = "kubectl.kubernetes.io/last-applied-configuration";
    change(&client, json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "first", applied: "x"}}}));
    roll_out(&client);
    let set = &sets(&client)[0];
    assert_eq!(
        (annotation(set, "kubernetes.io/change-cause").as_str(), annotation(set, applied).as_str()),
        ("first", "")
    );
    deploy(&client, "v2", 1);
    change(&client, json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "second"}}}));
    roll_out(&client);
    let causes: Vec<_> = sets(&client).iter().map(|set| annotation(set, "kubernetes.io/change-cause")).collect();
    assert_eq!(causes, ["first", "second"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 1);
    roll_out(&client);
    change(&client, json!({"spec": {"paused": true, "replicas": 3}}));
    deploy(&client, "v2", 3);
    settle(&client);
    play_kubelet(&client);
    settle(&client);
    assert_eq!(images(&client), ["v1", "v1", "v1"]);
    assert_eq!(reason(&client), ("Unknown".into(), "DeploymentPaused".into()));
    change(&client, json!({"spec": {"paused": false}}));
    roll_out(&client);
    assert_eq!(images(&client), ["v2", "v2", "v2"]);
}

#[test]
fn what_was_orphaned_is_taken_over_and_what_was_relabelled_is_let_go() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 2);
    roll_out(&client);
    let names =
        |client: &Client| -> BTreeSet<_> { pods(client).into_iter().map(|pod| pod.metadata.name.unwrap()).collect() };
    let before = names(&client);
    let orphan = DeleteOptions { orphan: true, ..DeleteOptions::default() };
    client.delete::<Deployment>(Some("shop"), "cart", &orphan).unwrap();
    settle(&client);
    deploy(&client, "v1", 2);
    roll_out(&client);
    assert_eq!((names(&client), sets(&client).len()), (before.clone(), 1));
    let deployment: Deployment = client.fetch(Some("shop"), "cart").unwrap();
    assert_eq!(sets(&client)[0].metadata.owner_references.as_ref().unwrap()[0].uid, deployment.metadata.uid.unwrap());

    let suspect = before.first().unwrap();
    let relabel = Patch::Merge(json!({"metadata": {"labels": {"app": "suspect"}}}));
    let freed: Pod = client.patch(Some("shop"), suspect, &relabel).unwrap();
    assert_eq!(freed.metadata.owner_references.unwrap().len(), 1);
    settle(&client);
    assert_eq!(client.fetch::<Pod>(Some("shop"), suspect).unwrap().metadata.owner_references.unwrap_or_default(), []);
    assert_eq!(client.list::<Pod>(&Selection { labels: "app=cart".into(), ..Selection::default() }).unwrap().len(), 2);
    let back = Patch::Merge(json!({"metadata": {"labels": {"app": "cart"}}}));
    client.patch::<Pod>(Some("shop"), suspect, &back).unwrap();
    settle(&client);
    assert_eq!(client.fetch::<Pod>(Some("shop"), suspect).unwrap().metadata.owner_references.unwrap().len(), 1);
}

#[test]
fn pods_count_as_available_only_after_their_time() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 1);
    change(&client, json!({"spec": {"minReadySeconds": 30}}));
    settle(&client);
    let name = pods(&client)[0].metadata.name.clone().unwrap();
    let ready = |ago: i64| {
        let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago);
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
        let status = json!({"status": {"phase": "Running", "podIP": "10.244.1.7", "conditions": [ready]}});
        client.patch_status::<Pod>(Some("shop"), &name, &Patch::Merge(status)).unwrap();
    };
    ready(0);
    assert!(!round(&client), "another round must follow when the time has come");
    assert!(!round(&client));
    let counts =
        |client: &Client| (status(client)["readyReplicas"].clone(), status(client)["availableReplicas"].clone());
    assert_eq!(counts(&client), (json!(1), json!(0)));
    ready(31);
    settle(&client);
    assert_eq!(counts(&client), (json!(1), json!(1)));
}

#[test]
fn a_rollout_that_does_not_move_is_told_to_be_late_and_recovers() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 1);
    roll_out(&client);
    deploy(&client, "v2", 1);
    settle(&client);
    assert_eq!(reason(&client), ("True".into(), "ReplicaSetUpdated".into()));
    change(&client, json!({"spec": {"progressDeadlineSeconds": 10}}));
    settle(&client);
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(11);
    let mut conditions = status(&client)["conditions"].clone();
    conditions[1]["lastUpdateTime"] = json!(then);
    client
        .patch_status::<Deployment>(Some("shop"), "cart", &Patch::Merge(json!({"status": {"conditions": conditions}})))
        .unwrap();
    settle(&client);
    assert_eq!(reason(&client), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert_eq!(images(&client).iter().filter(|image| *image == "v1").count(), 1, "the old pod must stay");
    roll_out(&client);
    assert_eq!(images(&client), ["v2"]);
}

#[test]
fn a_pod_that_fails_after_the_rollout_is_no_lack_of_progress() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 2);
    roll_out(&client);
    let name = pods(&client)[0].metadata.name.clone().unwrap();
    set_ready(&client, &name, "10.244.1.9", false);
    settle(&client);
    assert_eq!(reason(&client), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(status(&client)["unavailableReplicas"], 1);
}

#[test]
fn the_cheapest_pod_goes_first() {
    let (_server, client) = cluster(&["node-1"]);
    deploy(&client, "v1", 3);
    roll_out(&client);
    let cheap = pods(&client)[1].metadata.name.clone().unwrap();
    let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}});
    client.patch::<Pod>(Some("shop"), &cheap, &Patch::Merge(cost)).unwrap();
    deploy(&client, "v1", 2);
    roll_out(&client);
    assert!(pods(&client).iter().all(|pod| pod.metadata.name.as_ref() != Some(&cheap)));
}
