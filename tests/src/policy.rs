//! Who may talk to whom: STRICT and its exceptions, a policy that changes while connections live, and what is said of
//! policies that cannot be honoured.

use std::time::Duration;

use crate::support::lab::{Lab, Place, shop};
use crate::support::load::{Running, StreamReport, burst};
use crate::support::{eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const STREET: &str = include_str!("../fixtures/street.yaml");
const STRICT: &str = include_str!("../fixtures/strict.yaml");
const PORT_LEVEL: &str = include_str!("../fixtures/strict-but-8080.yaml");
const NOT_PAYMENT: &str = include_str!("../fixtures/not-payment.yaml");
const NOT_PAYMENT_ANYWHERE: &str = include_str!("../fixtures/not-payment-anywhere.yaml");
const LAYER_7: &str = include_str!("../fixtures/layer-7.yaml");

const OUTSIDER: Place<'_> = Place::Pod("street", "outsider");

/// A policy is in force within this time.
const IN_FORCE: Duration = Duration::from_secs(5);

/// Connections that the node's probes have made to a pod, by the rule that lets them pass.
async fn probes(lab: &Lab, pod: &str) -> u64 {
    let listing = lab.must_exec(shop(pod), &["nft", "list", "ruleset"]).await;
    let rule = listing.lines().find(|line| line.contains("ip saddr 169.254.7.127")).expect("a rule for probes");
    let mut words = rule.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    words.next().unwrap().parse().unwrap()
}

async fn wait_for(lab: &Lab, from: Place<'_>, url: &str, allowed: bool) {
    let what = format!("{from:?} to {url}: {}", if allowed { "allowed" } else { "refused" });
    within(IN_FORCE, &what, async || {
        let burst = burst(lab, from, url).await;
        let all = if allowed { burst.ok } else { burst.failed };
        (burst.sent > 0 && all == burst.sent).then_some(())
    })
    .await;
}

#[tokio::test]
async fn strict_refuses_plaintext_and_spares_probes() {
    let Some(lab) = Lab::start(&["nft"]).await else { return };
    lab.open_shop(PODS).await;
    lab.apply(STREET).await;
    lab.pods_are_ready("street").await;
    lab.capture().await;
    wait_for(&lab, OUTSIDER, "http://cart.shop/", true).await;
    lab.apply(STRICT).await;
    wait_for(&lab, OUTSIDER, "http://cart.shop/", false).await;
    lab.wait_for_log("node-2", &["explicitly denied by: istio-system/istio_converted_static_strict"]).await;
    let cart = lab.address("cart").await;
    wait_for(&lab, OUTSIDER, &format!("http://{cart}:8080/"), false).await;
    wait_for(&lab, shop("frontend"), "http://cart/", true).await;
    // Both kinds of probe, several times, each of them enough to make the pod unready or to restart it.
    let before = probes(&lab, "cart").await;
    eventually("probes of both kinds", async || (probes(&lab, "cart").await >= before + 8).then_some(())).await;
    let pod = lab.get("pod cart -n shop").await;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!((&status["ready"], &status["restartCount"]), (&true.into(), &0.into()), "{status}");

    // The port is a number in YAML, as people write it.
    lab.apply(PORT_LEVEL).await;
    wait_for(&lab, OUTSIDER, &format!("http://{cart}:8080/"), true).await;
    wait_for(&lab, OUTSIDER, &format!("http://{cart}:8081/"), false).await;
    lab.kubectl("delete peerauthentication --all -n shop").await;
    wait_for(&lab, OUTSIDER, "http://cart.shop/", true).await;
}

#[tokio::test]
async fn a_new_policy_ends_the_connections_that_it_denies_and_no_others() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    lab.is_encrypted("payment", "cart", "node-2").await;
    let welcome = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let mut denied = Running::stream(&lab, shop("payment"), "cart:9000").await;
    lab.apply(NOT_PAYMENT).await;
    let (_, took) = within(IN_FORCE, "the denied stream ends", async || (!denied.goes_on()).then_some(())).await;
    assert!(took <= Duration::from_secs(2), "closed after {took:?}");
    lab.kubectl("delete authorizationpolicy not-payment -n shop").await;
    wait_for(&lab, shop("payment"), "http://cart/", true).await;

    let mut denied = Running::stream(&lab, shop("payment"), "cart:9000").await;
    lab.apply(NOT_PAYMENT_ANYWHERE).await;
    let (_, took) = within(IN_FORCE, "the denied stream ends", async || (!denied.goes_on()).then_some(())).await;
    assert!(took <= Duration::from_secs(2), "closed after {took:?}");
    let denied: StreamReport = denied.report().await;
    assert!(!denied.whole && denied.received > 0, "it was open and was cut: {denied:?}");
    lab.wait_for_log("node-2", &["src.workload=\"payment\"", "connection closed due to policy change"]).await;
    wait_for(&lab, shop("payment"), "http://cart/", false).await;
    wait_for(&lab, shop("frontend"), "http://cart/", true).await;
    lab.kubectl("delete authorizationpolicy not-payment-anywhere -n shop").await;
    wait_for(&lab, shop("payment"), "http://cart/", true).await;
    welcome.finish::<StreamReport>().await.assert_whole("the allowed stream");
}

#[tokio::test]
async fn a_policy_that_layer_4_cannot_honour_says_which_field() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.kubectl("create namespace shop").await;
    lab.apply(LAYER_7).await;
    let (condition, _) = within(IN_FORCE, "a condition", async || {
        let policy = lab.get("authorizationpolicy only-get -n shop").await;
        policy["status"]["conditions"].as_array()?.first().cloned()
    })
    .await;
    let message = condition["message"].as_str().unwrap();
    assert_eq!(condition["type"], "ZtunnelAccepted", "{condition}");
    assert!(message.contains("methods") && message.contains("spec.rules"), "{condition}");
    within(IN_FORCE, "an event that names the field", async || {
        let said = lab.kubectl("describe authorizationpolicy only-get -n shop").await;
        let events = said.split_once("Events:")?.1.to_owned();
        (events.contains("Warning") && events.contains("methods")).then_some(())
    })
    .await;
}
