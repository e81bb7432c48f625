//! Everything that ends and comes back, once more in a user namespace: for an ordinary user the kernel decides otherwise
//! in many places, and what roots may do is not proof.

use std::time::Duration;

use tokio::time::sleep;

use crate::support::lab::{Lab, SYSTEM, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::processes::{Signal, send};
use crate::support::program::Caller;
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");
const WEB: &str = include_str!("../fixtures/rolling.yaml");
const NOT_PAYMENT: &str = include_str!("../fixtures/not-payment.yaml");

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// What was lost works again within this time, on a busy machine.
const RECOVERY: Duration = Duration::from_secs(15);

#[tokio::test]
async fn pods_and_components_of_an_ordinary_user_end_and_come_back_under_load() {
    let Some(lab) = Lab::start_as(Caller::ordinary(), &[]).await else { return };
    lab.open_shop(PODS).await;
    lab.apply(WEB).await;
    lab.kubectl("rollout status deployment/web -n shop --timeout=60s").await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;

    let load = Running::load(&lab, shop("frontend"), "http://web/").await;
    lab.kubectl("rollout restart deployment/web -n shop").await;
    lab.kubectl("rollout status deployment/web -n shop --timeout=60s").await;
    load.finish::<LoadReport>().await.assert_whole("while pods were replaced");

    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let agent = lab.component("node", "aquifer-node-node-2").await;
    send(agent, Signal::Kill);
    lab.component_after(agent, "node", "aquifer-node-node-2").await;
    control_plane(&lab).await;
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while the agent and the control plane were away");
    stream.finish::<StreamReport>().await.assert_whole("the stream through all of it");

    let ztunnel = lab.component("ztunnel", "ztunnel-node-1").await;
    send(ztunnel, Signal::Kill);
    lab.component_after(ztunnel, "ztunnel", "ztunnel-node-1").await;
    for (from, url) in [("frontend", "http://cart/"), ("cart", "http://frontend/")] {
        within(RECOVERY, &format!("{from} to {url} works again"), async || {
            let burst = burst(&lab, shop(from), url).await;
            (burst.ok == burst.sent).then_some(())
        })
        .await;
    }
    // Policy came back with the proxy, or payment would be let in now.
    let burst = burst(&lab, shop("payment"), "http://cart/").await;
    assert_eq!((burst.ok, burst.failed), (0, burst.sent), "{burst:?}");
}

/// Kills the control plane, changes a policy meanwhile, and waits until it is in force.
async fn control_plane(lab: &Lab) {
    let pods = lab.get(&format!("pods -n {SYSTEM} -l app=aquifer-controlplane")).await;
    let name = pods["items"][0]["metadata"]["name"].as_str().unwrap();
    let process = lab.component("controlplane", name).await;
    send(process, Signal::Kill);
    lab.apply(NOT_PAYMENT).await;
    lab.component_after(process, "controlplane", name).await;
    within(RECOVERY, "the policy of the meantime is in force", async || {
        let burst = burst(lab, shop("payment"), "http://cart/").await;
        (burst.failed == burst.sent).then_some(())
    })
    .await;
}
