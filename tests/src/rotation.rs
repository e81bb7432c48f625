//! Certificates that live for thirty seconds, replaced again and again while traffic flows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::eventually;
use crate::support::lab::{Lab, Place, SYSTEM, shop};
use crate::support::load::{LoadReport, Running, StreamReport, burst};
use crate::support::processes::Turns;
use crate::support::program::Caller;

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// What the ztunnels are told: short certificates, and connections between nodes that go as soon as they are idle, so
/// that there are handshakes with every certificate.
const SETTINGS: [(&str, &str); 2] = [("SECRET_TTL", "30s"), ("POOL_UNUSED_RELEASE_TIMEOUT", "1s")];

/// Half of thirty seconds, three times, and what busy machines take.
const THREE_ROTATIONS: Duration = Duration::from_secs(60);

/// Each of the three pods has its first certificate and three more.
const CERTIFICATES: usize = 4;

const NODES: [&str; 2] = ["node-1", "node-2"];

/// Puts a ztunnel with these settings in the place of each one.
async fn with_settings(lab: &Lab) {
    for node in NODES {
        let name = format!("ztunnel-{node}");
        let mut object = lab.get(&format!("pod -n {SYSTEM} {name}")).await;
        let environment = object["spec"]["containers"][0]["env"].as_array_mut().unwrap();
        environment.extend(SETTINGS.map(|(name, value)| json!({"name": name, "value": value})));
        let metadata = json!({"name": name, "namespace": SYSTEM, "labels": object["metadata"]["labels"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": object["spec"]});
        lab.kubectl(&format!("delete pod -n {SYSTEM} {name} --now")).await;
        eventually(&format!("{name} is gone"), async || {
            let found = lab.kubectl(&format!("get pod -n {SYSTEM} {name} --ignore-not-found")).await;
            found.is_empty().then_some(())
        })
        .await;
        lab.apply(&pod.to_string()).await;
        lab.ready(&format!("pod -n {SYSTEM} {name}")).await;
    }
}

/// Adds the serial numbers of the certificates in use to those seen before, by identity.
async fn look(lab: &Lab, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    for node in NODES {
        let program = ["aquifer", "fetch", "127.0.0.1:15000", "/config_dump"];
        let dump: Value = serde_json::from_str(&lab.must_exec(Place::Node(node), &program).await).unwrap();
        for certificate in dump["certificates"].as_array().unwrap() {
            let identity = certificate["identity"].as_str().unwrap();
            let serial = certificate["certChain"][0]["serialNumber"].as_str();
            if let Some(serial) = serial
                && identity.contains("/ns/shop/")
            {
                seen.entry(identity.to_owned()).or_default().insert(serial.to_owned());
            }
        }
    }
}

/// The processor time of both ztunnels.
async fn turns(lab: &Lab) -> [Turns; 2] {
    let [first, second] = NODES.map(|node| format!("ztunnel-{node}"));
    [Turns::of(lab.component("ztunnel", &first).await), Turns::of(lab.component("ztunnel", &second).await)]
}

#[tokio::test]
async fn three_rotations_of_thirty_second_certificates_under_load_lose_nothing() {
    // The load takes two thirds of two processors. With another lab beside they are too few, requests queue in the
    // ztunnels for seconds, and the bursts, which may take five, measure that.
    let Some(lab) = Lab::start_alone_as(Caller::ordinary(), &[]).await else { return };
    with_settings(&lab).await;
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let there = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let back = Running::load(&lab, shop("cart"), "http://frontend/").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    let (start, mut seen) = (Instant::now(), BTreeMap::<String, BTreeSet<String>>::new());
    let mut bursts = 0;
    while seen.len() < 3 || seen.values().any(|serials| serials.len() < CERTIFICATES) {
        assert!(start.elapsed() < THREE_ROTATIONS, "three rotations take longer: {seen:?}");
        // Payment has no connection between the nodes by now: it makes one with the certificate of the moment.
        let before = turns(&lab).await;
        let burst = burst(&lab, shop("payment"), "http://frontend/").await;
        if (burst.failed, burst.ok) != (0, burst.sent) {
            let [first, second] = turns(&lab).await;
            let (since, turns) = (start.elapsed(), [first.since(before[0]), second.since(before[1])]);
            // Whether requests on tunnels that stood already were as slow tells new tunnels from a machine that is busy.
            let (there, back) = (there.finish::<LoadReport>().await, back.finish::<LoadReport>().await);
            panic!("after {since:?}: {burst:?}\nmeanwhile the ztunnels {turns:?}\n{there:?}\n{back:?}");
        }
        bursts += burst.sent;
        look(&lab, &mut seen).await;
        sleep(Duration::from_millis(1500)).await;
    }
    println!("{:?}: {seen:?}; {bursts} requests on new tunnels", start.elapsed());
    for (what, load) in [("frontend → cart", there), ("cart → frontend", back)] {
        let report = load.finish::<LoadReport>().await;
        println!("{what}: {} requests, {} failed", report.sent, report.failed);
        report.assert_whole(what);
    }
    stream.finish::<StreamReport>().await.assert_whole("the stream with the first certificate");
}
