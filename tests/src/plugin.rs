//! New pods join the mesh through the CNI plugin before anything runs in them, and wait where they cannot.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::lab::{Lab, Place, SHOP, SYSTEM, is_captured, shop};
use crate::support::load::{Running, StreamReport};
use crate::support::processes::{Signal, send};
use crate::support::{eventually, skip, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const STRICT: &str = include_str!("../fixtures/strict.yaml");

/// Where Debian puts the CNI plugins of others.
const PLUGINS: &str = "/usr/lib/cni";

/// Rules that somebody has taken away are back within this time: the node agent looks every two seconds.
const REPAIR_LIMIT: Duration = Duration::from_secs(5);

/// A pod of echo on node 2.
fn pod(namespace: &str, name: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": "node-2", "terminationGracePeriodSeconds": 1, "containers": [
            {"name": "app", "image": "aquifer/echo"},
        ]},
    });
    pod.to_string()
}

/// A pod without what belongs to its life, to be made again.
fn anew(pod: &Value) -> String {
    let metadata = &pod["metadata"];
    let metadata = json!({"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}).to_string()
}

async fn ambient_shop(lab: &Lab) {
    lab.kubectl(&format!("create namespace {SHOP}")).await;
    lab.kubectl(&format!("label namespace {SHOP} istio.io/dataplane-mode=ambient")).await;
}

async fn is_running(lab: &Lab, namespace: &str, name: &str) -> bool {
    lab.get(&format!("pod {name} -n {namespace}")).await["status"]["phase"] == "Running"
}

async fn runs(lab: &Lab, namespace: &str, name: &str) {
    eventually(&format!("{name} runs"), async || is_running(lab, namespace, name).await.then_some(())).await;
}

/// The message of the Event that says why a pod does not start.
async fn refusal(lab: &Lab, name: &str) -> String {
    let look = async || {
        let events = lab.get(&format!("events -n {SHOP}")).await;
        let events = events["items"].as_array().unwrap();
        let refused =
            |event: &&Value| event["reason"] == "FailedCreatePodSandBox" && event["involvedObject"]["name"] == name;
        events.iter().find(refused).map(|event| event["message"].as_str().unwrap().to_owned())
    };
    eventually(&format!("an event says why {name} does not start"), look).await.0
}

/// The handles of a pod's table and of all its rules: others after each time that it is made.
async fn handles(lab: &Lab, name: &str) -> Vec<String> {
    let listing = lab.must_exec(shop(name), &["nft", "-a", "list", "table", "inet", "aquifer"]).await;
    listing.lines().filter_map(|line| Some(line.split_once("# handle ")?.1.trim().to_owned())).collect()
}

/// A pod that asks the cart once, at the first thing it does, and has failed where that does.
fn hasty(node: &str, name: &str) -> String {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": SHOP},
        "spec": {"nodeName": node, "restartPolicy": "Never", "containers": [
            {"name": "app", "image": "curl", "command": ["curl", "-sS", "--fail", "--max-time", "10", "http://cart.shop/"]},
        ]},
    });
    pod.to_string()
}

#[tokio::test]
async fn the_first_connection_that_a_pod_makes_is_in_the_mesh() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    ambient_shop(&lab).await;
    lab.apply(PODS).await;
    lab.pods_are_ready(SHOP).await;
    lab.apply(&pod("default", "outside")).await;
    runs(&lab, "default", "outside").await;
    let answers = async || lab.curl(Place::Pod("default", "outside"), "http://cart.shop/").await.is_ok();
    eventually("plaintext is answered", async || answers().await.then_some(())).await;
    lab.apply(STRICT).await;
    eventually("plaintext is refused", async || (!answers().await).then_some(())).await;
    let names: Vec<String> = (0..6).map(|number| format!("hasty-{number}")).collect();
    for (name, node) in names.iter().zip(["node-1", "node-2"].into_iter().cycle()) {
        lab.apply(&hasty(node, name)).await;
    }
    for name in names {
        let what = format!("{name} ends");
        let ended = eventually(&what, async || {
            let pod = lab.get(&format!("pod {name} -n {SHOP}")).await;
            matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")).then_some(pod)
        });
        let (pod, _) = ended.await;
        assert_eq!(pod["status"]["phase"], "Succeeded", "{}", lab.kubectl(&format!("logs {name} -n {SHOP}")).await);
    }
}

#[tokio::test]
async fn a_pod_waits_for_ztunnel_and_starts_when_it_is_there() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    ambient_shop(&lab).await;
    let ztunnel = lab.get(&format!("pod ztunnel-node-2 -n {SYSTEM}")).await;
    lab.kubectl(&format!("delete pod ztunnel-node-2 -n {SYSTEM} --wait=true --grace-period=1")).await;
    lab.apply(&pod(SHOP, "late")).await;
    lab.apply(&pod("default", "outside")).await;
    let outside = within(Duration::from_secs(3), "a pod outside the mesh waits for nobody", async || {
        is_running(&lab, "default", "outside").await.then_some(())
    });
    outside.await;
    let why = refusal(&lab, "late").await;
    let words = "pod shop/late cannot join the mesh on node node-2: no ztunnel connected on node node-2";
    assert!(why.starts_with("Failed to create pod sandbox: ") && why.ends_with(words), "{why}");
    assert!(!is_running(&lab, SHOP, "late").await, "it runs outside the mesh");
    lab.apply(&anew(&ztunnel)).await;
    runs(&lab, SHOP, "late").await;
    assert!(is_captured(&lab.get(&format!("pod late -n {SHOP}")).await));
    assert!(!handles(&lab, "late").await.is_empty());
}

#[tokio::test]
async fn a_pod_waits_for_the_node_agent_and_others_do_not() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    ambient_shop(&lab).await;
    let agent = lab.get(&format!("pod aquifer-node-node-2 -n {SYSTEM}")).await;
    lab.kubectl(&format!("delete pod aquifer-node-node-2 -n {SYSTEM} --wait=true --grace-period=1")).await;
    lab.apply(&pod(SHOP, "late")).await;
    lab.apply(&pod("default", "outside")).await;
    // The plugin asks the Kubernetes API about it.
    within(Duration::from_secs(5), "a pod outside the mesh waits for nobody", async || {
        is_running(&lab, "default", "outside").await.then_some(())
    })
    .await;
    let why = refusal(&lab, "late").await;
    assert!(why.contains("pod shop/late cannot join the mesh on node node-2: the node agent is away"), "{why}");
    assert!(!is_running(&lab, SHOP, "late").await, "it runs outside the mesh");
    lab.apply(&anew(&agent)).await;
    runs(&lab, SHOP, "late").await;
    assert!(is_captured(&lab.get(&format!("pod late -n {SHOP}")).await));
}

#[tokio::test]
async fn an_agent_that_starts_again_touches_no_live_pod() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    ambient_shop(&lab).await;
    lab.apply(PODS).await;
    lab.pods_are_ready(SHOP).await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let before = handles(&lab, "cart").await;
    let agent = lab.component("node", "aquifer-node-node-2").await;
    send(agent, Signal::Kill);
    lab.component_after(agent, "node", "aquifer-node-node-2").await;
    // It has looked at every pod once it lets a new one in.
    lab.apply(&pod(SHOP, "late")).await;
    runs(&lab, SHOP, "late").await;
    sleep(REPAIR_LIMIT).await;
    assert_eq!(handles(&lab, "cart").await, before, "the rules were made anew");
    stream.finish::<StreamReport>().await.assert_whole("the stream from before");
    let cart = lab.get(&format!("pod cart -n {SHOP}")).await;
    assert_eq!(cart["status"]["containerStatuses"][0]["restartCount"], 0, "{cart}");
}

#[tokio::test]
async fn rules_that_somebody_deletes_come_back() {
    let Some(lab) = Lab::start(&["nft", "curl"]).await else { return };
    ambient_shop(&lab).await;
    lab.apply(PODS).await;
    lab.pods_are_ready(SHOP).await;
    let rules = async |what: &str| lab.must_exec(shop("cart"), &["nft", "list", what]).await;
    let whole = rules("ruleset").await.matches("redirect to :15001").count();
    let damages: [&[&str]; 3] = [
        &["nft", "delete", "table", "inet", "aquifer"],
        &["nft", "flush", "chain", "inet", "aquifer", "nat-output"],
        &["ip", "rule", "delete", "priority", "32764"],
    ];
    for damage in damages {
        lab.must_exec(shop("cart"), damage).await;
        within(REPAIR_LIMIT, &format!("what {damage:?} took is back"), async || {
            let redirects = rules("ruleset").await.matches("redirect to :15001").count();
            let routing = lab.must_exec(shop("cart"), &["ip", "rule"]).await;
            (redirects == whole && routing.contains("32764:")).then_some(())
        })
        .await;
    }
    let node = Place::Node("node-2");
    let probes = async || lab.exec(node, &["nft", "list", "set", "inet", "aquifer-host", "probes-v4"]).await;
    let address = lab.address("cart").await;
    lab.must_exec(node, &["nft", "delete", "table", "inet", "aquifer-host"]).await;
    within(REPAIR_LIMIT, "the node's own rules are back", async || {
        String::from_utf8_lossy(&probes().await.stdout).contains(&address).then_some(())
    })
    .await;
    let events = lab.kubectl(&format!("get events -n {SHOP}")).await;
    assert!(events.contains("RulesRepaired"), "{events}");
    let metrics = lab.curl(node, "http://127.0.0.1:15014/metrics").await.unwrap();
    for line in [
        "istio_cni_install_ready 1",
        "istio_cni_plugin_requests_total{response_code=\"200\"}",
        "istio_cni_repair_pods_repaired_total{result=\"SUCCESS\",type=\"rules\"}",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn pods_of_networks_that_others_make_join_too() {
    if !["ptp", "host-local"].iter().all(|plugin| Path::new(PLUGINS).join(plugin).exists()) {
        skip("ptp is not installed; install it with: sudo apt-get install containernetworking-plugins");
        return;
    }
    let Some(lab) = Lab::start_with(&["--cni-plugins", PLUGINS], &["nft"]).await else { return };
    ambient_shop(&lab).await;
    lab.apply(PODS).await;
    lab.pods_are_ready(SHOP).await;
    let addresses = lab.must_exec(shop("cart"), &["ip", "-4", "address", "show", "eth0"]).await;
    assert!(addresses.contains("/24 brd"), "not made by ptp: {addresses}");
    lab.is_encrypted("frontend", "cart", "node-2").await;
    lab.kubectl(&format!("delete pod cart -n {SHOP} --wait=true")).await;
}
