//! What connections see of the mesh: protocols, addresses, balancing, and loops that end.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::support::lab::{Lab, Place, shop};
use crate::support::load::{Running, StreamReport};
use crate::support::processes::{open_files, ticks};
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");
const STREET: &str = include_str!("../fixtures/street.yaml");
const TWINS: &str = include_str!("../fixtures/twins.yaml");

/// A loop is refused within this time.
const PROMPT: Duration = Duration::from_secs(5);

/// The address that the answering application saw.
fn source(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["source"].as_str().unwrap().rsplit_once(':').unwrap().0.to_owned()
}

/// How many connections to cart's HTTP port were not in a tunnel, by the log of its node.
async fn plaintext(lab: &Lab, cart: &str) -> usize {
    lab.ztunnel_log("node-2").await.matches(&format!("dst.addr={cart}:8080 ")).count()
}

#[tokio::test]
async fn protocols_and_addresses_come_through_as_they_are() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    lab.open_shop(PODS).await;
    lab.apply(STREET).await;
    lab.pods_are_ready("street").await;
    lab.capture().await;
    let (frontend, cart) = (lab.address("frontend").await, lab.address("cart").await);
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let identity = "src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\"";

    // The server speaks first, as in SMTP and MySQL.
    let mail = Running::server_first(&lab, shop("frontend"), "cart:25").await;
    sleep(Duration::from_millis(300)).await;
    mail.finish::<StreamReport>().await.assert_whole("server-first");
    lab.wait_for_log("node-2", &[identity, &format!("dst.hbone_addr={cart}:9001")]).await;

    // By Service, by headless Service, by the pod's address: always encrypted, and the application sees who asks.
    let before = plaintext(&lab, &cart).await;
    let direct = format!("http://{cart}:8080/");
    for url in ["http://cart/", "http://cart.shop.svc.cluster.local/", "http://cart-headless:8080/", &direct] {
        let answer = lab.curl(shop("frontend"), url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(source(&answer), frontend, "{url}");
    }
    // Not one of them was plaintext, which would have come in without an identity.
    assert_eq!(plaintext(&lab, &cart).await, before, "something came in plaintext");

    // HTTP/2 without TLS, a large answer, and an answer that takes its time.
    let h2 = ["curl", "-sS", "--http2-prior-knowledge", "--max-time", "10", &format!("http://{cart}:8081/")];
    assert!(lab.must_exec(shop("frontend"), &h2).await.contains("HTTP/2"));
    let large =
        ["curl", "-sS", "--max-time", "30", "-o", "/dev/null", "-w", "%{size_download}", "http://cart/?size=20m"];
    assert_eq!(lab.must_exec(shop("frontend"), &large).await, (20 << 20).to_string());
    lab.curl(shop("frontend"), "http://cart/?delay=2s").await.unwrap();

    // From outside in plaintext, which PERMISSIVE allows, and from inside to an outsider.
    let answer = lab.curl(Place::Pod("street", "outsider"), "http://cart.shop/").await.unwrap();
    let outsider = lab.get("pod outsider -n street").await["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(source(&answer), outsider);
    let answer = lab.curl(shop("frontend"), &format!("http://{outsider}:8080/")).await.unwrap();
    assert_eq!(source(&answer), frontend);
    // Nobody listens there: the client must learn it soon.
    let begun = Instant::now();
    lab.curl(shop("frontend"), &format!("http://{cart}:4444/")).await.unwrap_err();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// How many of the answers of a Service came from each pod, a new connection for each.
async fn answers(lab: &Lab, url: &str) -> BTreeMap<String, usize> {
    let close = "Connection: close";
    let program = ["curl", "-sS", "--fail", "--max-time", "20", "-H", close, &format!("{url}?n=[1-30]")];
    let said = lab.must_exec(shop("frontend"), &program).await;
    let mut counts = BTreeMap::new();
    for answer in serde_json::Deserializer::from_str(&said).into_iter::<Value>() {
        *counts.entry(answer.unwrap()["pod"]["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn connections_are_spread_over_ready_endpoints_and_no_others() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    lab.open_shop(PODS).await;
    lab.apply(TWINS).await;
    lab.kubectl("wait -n shop --for=condition=Ready pod/twin-1 pod/twin-2 --timeout=30s").await;
    lab.capture().await;
    let is_spread = |counts: &BTreeMap<String, usize>, over: &[&str]| {
        counts.keys().eq(over.iter()) && counts.values().all(|count| *count >= 3)
    };
    let (counts, _) = within(Duration::from_secs(10), "both twins answer", async || {
        let counts = answers(&lab, "http://twin/").await;
        (counts.len() == 2).then_some(counts)
    })
    .await;
    assert!(is_spread(&counts, &["twin-1", "twin-2"]), "{counts:?}");
    // The third one's readiness is a port that somebody opens and closes again.
    let gate = ["aquifer", "echo", "--http", "0", "--h2c", "0", "--tcp", "7000", "--server-first", "0"];
    let mut gate = lab.exec_command(shop("twin-3"), &gate).stdout(Stdio::null()).spawn().unwrap();
    within(Duration::from_secs(15), "the third answers too", async || {
        is_spread(&answers(&lab, "http://twin/").await, &["twin-1", "twin-2", "twin-3"]).then_some(())
    })
    .await;
    gate.kill().await.unwrap();
    within(Duration::from_secs(15), "the third gets nothing any more", async || {
        is_spread(&answers(&lab, "http://twin/").await, &["twin-1", "twin-2"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn loops_end_at_once_and_without_a_storm() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.curl(shop("frontend"), "http://cart/").await.unwrap();
    let hosts = [lab.address("frontend").await, lab.address("cart").await, "127.0.0.1".to_owned()];
    let proxies = [lab.component("ztunnel", "ztunnel-node-1").await, lab.component("ztunnel", "ztunnel-node-2").await];
    let files = proxies.map(open_files);
    let begun_ticks = proxies.map(ticks);
    for host in &hosts {
        for port in [15001, 15006, 15008] {
            let begun = Instant::now();
            let said = lab.curl(shop("frontend"), &format!("http://{host}:{port}/")).await;
            assert!(said.is_err(), "{host}:{port} answered {said:?}");
            assert!(begun.elapsed() < PROMPT, "{host}:{port} took {:?}: {said:?}", begun.elapsed());
        }
    }
    // Nine attempts cost a few hundredths of a second each; a storm would take all that it can get.
    for (proxy, before) in proxies.iter().zip(begun_ticks) {
        assert!(ticks(*proxy) - before < 200, "process {proxy} used {} ticks", ticks(*proxy) - before);
    }
    let quiet = proxies.map(ticks);
    sleep(Duration::from_secs(1)).await;
    for ((proxy, before), files) in proxies.iter().zip(quiet).zip(files) {
        assert!(ticks(*proxy) - before < 30, "process {proxy} is busy with nothing to do");
        assert!(
            open_files(*proxy) <= files + 10,
            "process {proxy} keeps {} files open, had {files}",
            open_files(*proxy)
        );
    }
    lab.curl(shop("frontend"), "http://cart/").await.unwrap();
}
