//! Pods join the mesh and leave it while they work: nothing is lost, nothing is restarted.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::support::lab::{Lab, SHOP, is_captured, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::{eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// A labelled namespace is captured within this time.
const CAPTURE_LIMIT: Duration = Duration::from_secs(2);

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// How often pods join and leave.
const ROUNDS: usize = 3;

#[tokio::test]
async fn joining_and_leaving_again_and_again_loses_no_connection() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    burst(&lab, shop("frontend"), "http://cart/").await;
    let there = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let back = Running::stream(&lab, shop("cart"), "frontend:9000").await;
    for round in 0..ROUNDS {
        let loads = [
            ("frontend to cart", Running::load(&lab, shop("frontend"), "http://cart/").await),
            ("cart to frontend", Running::load(&lab, shop("cart"), "http://frontend/").await),
        ];
        sleep(AFTERMATH).await;
        let captured = lab.capture().await;
        assert!(captured <= CAPTURE_LIMIT, "captured after {captured:?}");
        sleep(AFTERMATH).await;
        // Opened inside the mesh, and still there when its pods have left it.
        let inside = Running::stream(&lab, shop("frontend"), "cart:9000").await;
        lab.release().await;
        sleep(AFTERMATH).await;
        inside.finish::<StreamReport>().await.assert_whole(&format!("round {round}: the stream through the mesh"));
        for (direction, load) in loads {
            load.finish::<LoadReport>().await.assert_whole(&format!("round {round}: {direction}"));
        }
    }
    there.finish::<StreamReport>().await.assert_whole("the stream there since before");
    back.finish::<StreamReport>().await.assert_whole("the stream back since before");
    let pods = lab.get(&format!("pods -n {SHOP}")).await;
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{pod}");
    }
}

/// The names of the chains that the node agent has put into a pod; empty where there is no rule of ours.
async fn rules(lab: &Lab, pod: &str) -> String {
    let listing = lab.must_exec(shop(pod), &["nft", "list", "ruleset"]).await;
    if listing.contains("redirect to :15001") { listing } else { String::new() }
}

#[tokio::test]
async fn labels_of_pods_win_over_their_namespaces() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    lab.open_shop(PODS).await;
    lab.kubectl("label pod frontend -n shop istio.io/dataplane-mode=none").await;
    lab.kubectl("label namespace shop istio.io/dataplane-mode=ambient").await;
    lab.wait_for_redirection("pod cart", true).await;
    let out = lab.get("pod frontend -n shop").await;
    assert!(!is_captured(&out), "a pod that opted out was captured: {out}");
    assert_eq!(rules(&lab, "frontend").await, "");
    // It changes its mind, and later again.
    lab.kubectl("label pod frontend -n shop istio.io/dataplane-mode-").await;
    let took = lab.wait_for_redirection("pod frontend", true).await;
    assert!(took <= CAPTURE_LIMIT, "{took:?}");
    assert_ne!(rules(&lab, "frontend").await, "");
    lab.kubectl("label pod frontend -n shop istio.io/dataplane-mode=none").await;
    lab.wait_for_redirection("pod frontend", false).await;
    eventually("its rules are gone", async || rules(&lab, "frontend").await.is_empty().then_some(())).await;
    // Opting in, in a namespace that is not.
    lab.release().await;
    lab.kubectl("label pod cart -n shop istio.io/dataplane-mode=ambient").await;
    lab.wait_for_redirection("pod cart", true).await;
    assert!(!is_captured(&lab.get("pod payment -n shop").await));
    let burst = burst(&lab, shop("payment"), "http://cart/").await;
    assert_eq!(burst.failed, 0, "{burst:?}");
}

const LATE: &str = include_str!("../fixtures/late.yaml");

#[tokio::test]
async fn pods_that_come_later_are_captured_and_their_replacements_too() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.apply(LATE).await;
    lab.pods_are_ready(SHOP).await;
    lab.wait_for_redirection("pods -l app=late", true).await;
    let first = lab.pod_of("late").await;
    assert_ne!(rules(&lab, &first).await, "");
    let through = burst(&lab, shop("frontend"), "http://late/").await;
    assert!(through.failed == 0 && through.ok > 0, "{through:?}");
    let node = lab.get(&format!("pod -n {SHOP} {first}")).await["spec"]["nodeName"].as_str().unwrap().to_owned();
    lab.wait_for_log(&node, &["dst.workload=\"late", "src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\""])
        .await;
    // The replacement may get the same address.
    lab.kubectl(&format!("delete pod -n {SHOP} {first}")).await;
    let (second, _) = eventually("a replacement is captured", async || {
        let pods = lab.get(&format!("pods -n {SHOP} -l app=late")).await;
        let pods: Vec<&Value> = pods["items"].as_array().unwrap().iter().collect();
        let name = pods.first()?["metadata"]["name"].as_str()?.to_owned();
        (pods.len() == 1 && name != first && is_captured(pods[0])).then_some(name)
    })
    .await;
    assert_ne!(rules(&lab, &second).await, "");
    within(Duration::from_secs(10), "the replacement answers through the mesh", async || {
        let through = burst(&lab, shop("frontend"), "http://late/").await;
        (through.failed == 0 && through.ok > 0).then_some(())
    })
    .await;
}
