//! Components that end at the worst moment: killed or told to end while traffic flows.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::lab::{Lab, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::processes::{Signal, send};
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");
const NOT_PAYMENT: &str = include_str!("../fixtures/not-payment.yaml");

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// The name of the control plane's pod.
async fn control_plane(lab: &Lab) -> String {
    let pods = lab.get("pods -n aquifer-system -l app=aquifer-controlplane").await;
    pods["items"][0]["metadata"]["name"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_killed_node_agent_costs_no_connection_and_comes_back() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let agent = lab.component("node", "aquifer-node-node-2").await;
    send(agent, Signal::Kill);
    // Nobody is there to hear it.
    lab.kubectl("label pod payment -n shop istio.io/dataplane-mode=none").await;
    lab.component_after(agent, "node", "aquifer-node-node-2").await;
    lab.wait_for_redirection("pod payment", false).await;
    lab.wait_for_redirection("pod cart", true).await;
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while the agent was away");
    stream.finish::<StreamReport>().await.assert_whole("the stream from before");
    let again = burst(&lab, shop("payment"), "http://cart/").await;
    assert_eq!(again.failed, 0, "{again:?}");
    lab.kubectl("label pod payment -n shop istio.io/dataplane-mode-").await;
    lab.wait_for_redirection("pod payment", true).await;
}

#[tokio::test]
async fn a_killed_control_plane_costs_no_connection_and_later_policies_apply() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    let name = control_plane(&lab).await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let process = lab.component("controlplane", &name).await;
    send(process, Signal::Kill);
    lab.apply(NOT_PAYMENT).await;
    lab.component_after(process, "controlplane", &name).await;
    within(Duration::from_secs(15), "the policy of the meantime is in force", async || {
        let burst = burst(&lab, shop("payment"), "http://cart/").await;
        (burst.failed == burst.sent).then_some(())
    })
    .await;
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while the control plane was away");
    // Whoever comes now needs a certificate of the same authority.
    lab.kubectl("delete authorizationpolicy not-payment -n shop").await;
    within(Duration::from_secs(10), "payment is allowed again", async || {
        let burst = burst(&lab, shop("payment"), "http://cart/").await;
        (burst.ok == burst.sent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_ztunnel_comes_back_and_its_pods_work_again() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    let process = lab.component("ztunnel", "ztunnel-node-1").await;
    send(process, Signal::Kill);
    lab.component_after(process, "ztunnel", "ztunnel-node-1").await;
    for (from, url) in [("frontend", "http://cart/"), ("cart", "http://frontend/")] {
        within(Duration::from_secs(15), &format!("{from} to {url} works again"), async || {
            let burst = burst(&lab, shop(from), url).await;
            (burst.ok == burst.sent).then_some(())
        })
        .await;
    }
}
