//! The built command as a CNI plugin, called by a scripted kubelet after the plugins ptp and host-local of others, in
//! network namespaces that the test makes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod kubelet;

use kubelet::{Agent, Kubelet};
use serde_json::{Value, json};

const NO_ZTUNNEL: &str = "no ztunnel connected on node n";

#[test]
fn a_chain_of_others_ends_with_ours_in_every_version() {
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let Some(kubelet) = Kubelet::new(version) else { return };
        let agent = Agent::answering(&kubelet, 200, "captured");
        let added = kubelet.add("shop", "cart").unwrap();
        let results = kubelet.results();
        assert_eq!(results.len(), 2, "{results:?}");
        assert_eq!(results[0], results[1], "ours changes nothing of what ptp has made");
        assert_eq!(added["cniVersion"], version);
        let announced = agent.announced();
        let address = added["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        assert_eq!(announced["IPs"][0]["Address"]["IP"], json!(address));
        assert_eq!(announced["IPs"][0]["Gateway"], "10.77.0.1");
        assert_eq!((&announced["PodName"], &announced["PodNamespace"]), (&json!("cart"), &json!("shop")));
        assert_eq!(announced["PodUID"], "uid-of-cart");
        assert_eq!(announced["Netns"], json!(kubelet.netns()));
        assert!(kubelet.pod_addresses().contains(&address), "the pod has what was announced");
        if version != "0.3.1" {
            kubelet.check(&added).unwrap();
        }
        kubelet.delete(Some(added)).unwrap();
        assert_eq!(kubelet.leases(), 0);
    }
}

#[test]
fn a_pod_that_is_refused_is_tried_again_and_leaves_nothing() {
    let Some(kubelet) = Kubelet::new("1.0.0") else { return };
    let agent = Agent::answering(&kubelet, 503, NO_ZTUNNEL);
    let refused = kubelet.add("shop", "cart").unwrap_err();
    drop(agent);
    let expected =
        format!("plugin type=\"aquifer-cni\" failed (add): pod shop/cart cannot join the mesh on node n: {NO_ZTUNNEL}");
    assert_eq!(refused, expected);
    kubelet.delete(None).unwrap();
    assert_eq!(kubelet.leases(), 0);
    // It is back.
    let agent = Agent::answering(&kubelet, 200, "captured");
    kubelet.add("shop", "cart").unwrap();
    agent.announced();
}

#[test]
fn without_the_agent_only_pods_that_may_have_to_be_captured_wait() {
    let Some(kubelet) = Kubelet::new("1.0.0") else { return };
    let refused = kubelet.add("shop", "cart").unwrap_err();
    assert!(refused.contains("pod shop/cart cannot join the mesh on node n: the node agent is away"), "{refused}");
    kubelet.delete(None).unwrap();
    kubelet.add("kube-system", "dns").unwrap();
    kubelet.delete(None).unwrap();
}

#[test]
fn a_network_that_is_a_single_plugin_is_chained_too() {
    let Some(kubelet) = Kubelet::new("1.0.0") else { return };
    kubelet.make_single();
    let agent = Agent::answering(&kubelet, 200, "captured");
    let added = kubelet.add("shop", "cart").unwrap();
    agent.announced();
    kubelet.delete(Some(added)).unwrap();
    assert_eq!(kubelet.leases(), 0, "host-local knows the network by the name that it had");
}

#[test]
fn versions_are_told_without_a_network() {
    let answer: Value = serde_json::from_str(&kubelet::versions()).unwrap();
    assert_eq!(answer["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
}
