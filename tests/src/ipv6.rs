//! The mesh over IPv6: joining, leaving, tunnels, and probes that go on where plaintext is refused.

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use crate::support::lab::{Lab, Place, SHOP, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::{eventually, skip, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const STREET: &str = include_str!("../fixtures/street.yaml");
const STRICT: &str = include_str!("../fixtures/strict.yaml");
const SERVICES: &str = include_str!("../fixtures/ipv6.yaml");

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// A change reaches every proxy within this time.
const PROMPT: Duration = Duration::from_secs(5);

/// A lab with the shop and its Services over IPv6; `None`, after saying so, where there is no IPv6.
async fn lab() -> Option<Lab> {
    let lab = Lab::start(&["curl"]).await?;
    let status = lab.run("status", &["-o", "json"]).await;
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    if status["families"] != "dual" {
        skip("this machine has no IPv6");
        return None;
    }
    lab.open_shop(PODS).await;
    lab.apply(SERVICES).await;
    for name in ["cart-six", "frontend-six"] {
        eventually(&format!("{name} answers"), async || {
            let answer = lab.curl(shop("payment"), &format!("http://{name}/")).await;
            answer.is_ok().then_some(())
        })
        .await;
    }
    Some(lab)
}

/// The IPv6 address of a pod, as URLs and logs write it.
async fn address(lab: &Lab, pod: &str) -> String {
    let pod = lab.get(&format!("pod -n {SHOP} {pod}")).await;
    let ips = pod["status"]["podIPs"].as_array().unwrap();
    let ip = ips.iter().filter_map(|ip| ip["ip"].as_str()).find(|ip| ip.contains(':')).unwrap();
    format!("[{ip}]")
}

#[tokio::test]
async fn joining_and_leaving_loses_no_connection_over_ipv6() {
    let Some(lab) = lab().await else { return };
    let there = Running::stream(&lab, shop("frontend"), "cart-six:9000").await;
    let loads = [
        ("frontend to cart", Running::load(&lab, shop("frontend"), "http://cart-six/").await),
        ("cart to frontend", Running::load(&lab, shop("cart"), "http://frontend-six/").await),
    ];
    sleep(AFTERMATH).await;
    lab.capture().await;
    sleep(AFTERMATH).await;
    let inside = Running::stream(&lab, shop("frontend"), "cart-six:9000").await;
    let cart = address(&lab, "cart").await;
    let identity = "src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\"";
    let tunnelled = [identity, &format!("dst.addr={cart}:15008"), "direction=\"inbound\""];
    lab.wait_for_log("node-2", &tunnelled).await;
    lab.release().await;
    sleep(AFTERMATH).await;
    inside.finish::<StreamReport>().await.assert_whole("the stream through the mesh");
    there.finish::<StreamReport>().await.assert_whole("the stream since before");
    for (direction, load) in loads {
        load.finish::<LoadReport>().await.assert_whole(direction);
    }
}

#[tokio::test]
async fn a_captured_client_keeps_its_address_on_the_way_to_an_ipv6_service() {
    let Some(lab) = lab().await else { return };
    lab.capture().await;
    let (frontend, cart) = (address(&lab, "frontend").await, address(&lab, "cart").await);
    let urls = ["http://cart-six/".to_owned(), "http://cart-both/".to_owned(), format!("http://{cart}:8080/")];
    for url in &urls {
        let start = lab.ztunnel_log("node-2").await.len();
        let arguments = ["curl", "-sS", "-6", "--fail", "--max-time", "10", url];
        let answer: Value = serde_json::from_str(&lab.must_exec(shop("frontend"), &arguments).await).unwrap();
        let source = answer["source"].as_str().unwrap();
        assert!(source.starts_with(&format!("{frontend}:")), "{url}: from {source}");
        within(PROMPT, &format!("{url} is in node-2's log with an identity"), async || {
            let log = lab.ztunnel_log("node-2").await;
            let tunnelled = |line: &str| {
                line.contains("src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\"")
                    && line.contains(&format!("dst.addr={cart}:15008 dst.hbone_addr={cart}:8080"))
            };
            log.get(start..)?.lines().any(tunnelled).then_some(())
        })
        .await;
    }
    // The same node: handed over, not tunnelled.
    let answer = lab.curl(shop("payment"), "http://cart-six/").await.unwrap();
    let payment = address(&lab, "payment").await;
    assert!(answer.contains(&format!("\"source\": \"{payment}:")), "{answer}");
}

#[tokio::test]
async fn probes_pass_and_plaintext_does_not_where_mtls_is_strict_over_ipv6() {
    let Some(lab) = lab().await else { return };
    lab.apply(STREET).await;
    lab.pods_are_ready("street").await;
    let outsider = Place::Pod("street", "outsider");
    let url = format!("http://{}:8080/", address(&lab, "cart").await);
    lab.curl(outsider, &url).await.unwrap();
    lab.capture().await;
    lab.curl(outsider, &url).await.expect("plaintext is taken while mTLS is not asked for");
    lab.apply(STRICT).await;
    within(PROMPT, "plaintext over IPv6 is refused", async || lab.curl(outsider, &url).await.is_err().then_some(()))
        .await;
    // A process of the node, as the kubelet is: it bypasses the mesh and is seen under the address of probes.
    let answer = lab.curl(Place::Node("node-2"), &url).await.expect("a probe over IPv6");
    assert!(answer.contains("\"source\": \"[fd16:9254:7127:1337:ffff:ffff:ffff:ffff]:"), "{answer}");
    // The node of somebody else has no such right.
    lab.curl(Place::Node("node-1"), &url).await.expect_err("plaintext of another node");
    let through = burst(&lab, shop("frontend"), "http://cart-six/").await;
    assert!(through.failed == 0 && through.ok > 0, "{through:?}");
    let cart = lab.get(&format!("pod -n {SHOP} cart")).await;
    let container = &cart["status"]["containerStatuses"][0];
    assert!(container["ready"] == true && container["restartCount"] == 0, "{cart}");
}
