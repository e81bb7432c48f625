//! The control plane is away: what worked goes on, what is new fails closed, and leaving comes to its end.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::lab::{Lab, SHOP, SYSTEM, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::processes::{Signal, send};
use crate::support::{eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const LATE: &str = include_str!("../fixtures/late.yaml");

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// Takes the control plane away, or brings it back.
async fn scale_control_plane(lab: &Lab, replicas: u32) {
    let patch =
        format!("patch deployment aquifer-controlplane -n {SYSTEM} -p {{\"spec\":{{\"replicas\":{replicas}}}}}");
    lab.kubectl(&patch).await;
    eventually(&format!("{replicas} control planes"), async || {
        let pods = lab.get(&format!("pods -n {SYSTEM} -l app=aquifer-controlplane")).await;
        (pods["items"].as_array()?.len() == replicas as usize).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_control_plane_old_pods_work_and_new_ones_fail_closed() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    scale_control_plane(&lab, 0).await;
    lab.apply(LATE).await;
    lab.wait_for_redirection("pods -l app=late", true).await;
    let late = lab.pod_of("late").await;
    let address = lab.address("cart").await;
    // Nobody knows who it is: nothing of it leaves in plaintext.
    let lost = burst(&lab, shop(&late), &format!("http://{address}:8080/")).await;
    assert!(lost.ok == 0 && lost.failed > 0, "a pod that nobody knows was let out: {lost:?}");
    let node = lab.get(&format!("pod -n {SHOP} {late}")).await["spec"]["nodeName"].as_str().unwrap().to_owned();
    lab.wait_for_log(&node, &["failed to fetch information about local workload"]).await;
    load.finish::<LoadReport>().await.assert_whole("without a control plane");
    scale_control_plane(&lab, 1).await;
    within(Duration::from_secs(20), "the new pod works", async || {
        let found = burst(&lab, shop(&late), &format!("http://{address}:8080/")).await;
        (found.failed == 0 && found.ok > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pods_whose_agent_is_killed_while_they_leave_have_left_in_the_end() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    // Nobody says that everybody is told: each agent waits for two seconds, half-way.
    scale_control_plane(&lab, 0).await;
    lab.kubectl(&format!("label namespace {SHOP} istio.io/dataplane-mode-")).await;
    eventually("the pods are leaving", async || {
        let pods = lab.get(&format!("pods -n {SHOP}")).await;
        let leaving =
            |pod: &serde_json::Value| !pod["metadata"]["annotations"]["ambient.aquifer.dev/leaving"].is_null();
        pods["items"].as_array()?.iter().all(leaving).then_some(())
    })
    .await;
    for name in ["aquifer-node-node-1", "aquifer-node-node-2"] {
        let agent = lab.component("node", name).await;
        send(agent, Signal::Kill);
        lab.component_after(agent, "node", name).await;
    }
    lab.wait_for_redirection("pods", false).await;
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while pods left");
    stream.finish::<StreamReport>().await.assert_whole("the stream that ran through the mesh");
    for pod in ["frontend", "cart", "payment"] {
        eventually(&format!("nothing is left of the mesh in {pod}"), async || {
            lab.must_exec(shop(pod), &["nft", "list", "ruleset"]).await.trim().is_empty().then_some(())
        })
        .await;
    }
    scale_control_plane(&lab, 1).await;
}

#[tokio::test]
async fn an_agent_is_upgraded_without_touching_a_live_pod() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    for name in ["aquifer-node-node-1", "aquifer-node-node-2"] {
        let agent = lab.component("node", name).await;
        send(agent, Signal::Terminate);
        lab.component_after(agent, "node", name).await;
        lab.wait_for_redirection("pods", true).await;
    }
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while agents were exchanged");
    stream.finish::<StreamReport>().await.assert_whole("the stream from before");
}
