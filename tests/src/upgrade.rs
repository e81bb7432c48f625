//! A ztunnel gives way to another one: replaced, told to end, or killed, each while traffic flows.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::lab::{Lab, SYSTEM, shop};
use crate::support::load::{LoadReport, Running, StreamReport};
use crate::support::processes::{Signal, send};
use crate::support::{eventually, within};

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// How long traffic goes on after a change.
const AFTERMATH: Duration = Duration::from_millis(700);

/// A killed ztunnel is missed for no longer.
const GAP: Duration = Duration::from_secs(1);

/// The two directions of traffic, over both nodes.
const WAYS: [(&str, &str); 2] = [("frontend", "http://cart/"), ("cart", "http://frontend/")];

async fn loads(lab: &Lab) -> Vec<(&'static str, Running)> {
    let mut loads = Vec::new();
    for (from, url) in WAYS {
        loads.push((url, Running::load(lab, shop(from), url).await));
    }
    loads
}

async fn assert_whole(loads: Vec<(&'static str, Running)>, what: &str) {
    for (url, load) in loads {
        let report = load.finish::<LoadReport>().await;
        println!("{what}, {url}: {} requests, {} failed", report.sent, report.failed);
        report.assert_whole(&format!("{what}, {url}"));
    }
}

/// The manifest of a ztunnel like `old`, under another name.
fn like(old: &Value, name: &str) -> String {
    let metadata = json!({"name": name, "namespace": SYSTEM, "labels": old["metadata"]["labels"]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": old["spec"]}).to_string()
}

/// Starts another ztunnel beside one of a node, and ends that one when the new one is ready, as a rollout does.
async fn replace(lab: &Lab, old: &str, new: &str) {
    let object = lab.get(&format!("pod -n {SYSTEM} {old}")).await;
    lab.apply(&like(&object, new)).await;
    lab.ready(&format!("pod -n {SYSTEM} {new}")).await;
    lab.kubectl(&format!("delete pod -n {SYSTEM} {old} --wait=false")).await;
}

async fn is_gone(lab: &Lab, pod: &str) {
    eventually(&format!("{pod} has ended"), async || {
        let found = lab.kubectl(&format!("get pod -n {SYSTEM} {pod} --ignore-not-found")).await;
        found.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn replacing_both_ztunnels_under_load_loses_nothing() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    // One direction: the other way is the same, and machines are small.
    let loads = vec![("http://cart/", Running::load(&lab, shop("frontend"), "http://cart/").await)];
    for node in ["node-1", "node-2"] {
        let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
        replace(&lab, &format!("ztunnel-{node}"), &format!("ztunnel-next-{node}")).await;
        sleep(AFTERMATH).await;
        // It lives in the one that drains, for as long as that may take.
        stream.finish::<StreamReport>().await.assert_whole("the stream through the old ztunnel");
        is_gone(&lab, &format!("ztunnel-{node}")).await;
    }
    // And once more, for one that was started beside another one.
    replace(&lab, "ztunnel-next-node-2", "ztunnel-node-2").await;
    is_gone(&lab, "ztunnel-next-node-2").await;
    sleep(AFTERMATH).await;
    assert_whole(loads, "while ztunnels were replaced").await;
}

/// How long a successor takes to start on a machine that has too much to do: longer than most drains.
const SLOW_START: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_successor_that_is_slow_to_start_costs_nothing() {
    let Some(lab) = Lab::start(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let mut object = lab.get(&format!("pod -n {SYSTEM} ztunnel-node-2")).await;
    let script = format!("sleep {}; exec {} ztunnel", SLOW_START.as_secs(), lab.caller.program().display());
    object["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
    object["spec"]["containers"][0]["args"] = json!([]);
    lab.apply(&like(&object, "ztunnel-slow")).await;
    // Both are asked on the same port of the node, so that the one that is there answers for the one that is not.
    lab.ready(&format!("pod -n {SYSTEM} ztunnel-slow")).await;
    let started = Instant::now();
    lab.kubectl(&format!("delete pod -n {SYSTEM} ztunnel-node-2 --wait=false")).await;
    is_gone(&lab, "ztunnel-node-2").await;
    println!("the old ztunnel has gone after {:?}", started.elapsed());
    sleep(AFTERMATH).await;
    load.finish::<LoadReport>().await.assert_whole("while the successor was slow to start");
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 requests")]
fn share(report: &LoadReport) -> f64 {
    report.failed as f64 / report.sent as f64
}

#[tokio::test]
async fn a_killed_ztunnel_is_missed_for_a_second_at_most() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let loads = loads(&lab).await;
    sleep(AFTERMATH).await;
    let process = lab.component("ztunnel", "ztunnel-node-2").await;
    send(process, Signal::Kill);
    lab.component_after(process, "ztunnel", "ztunnel-node-2").await;
    sleep(AFTERMATH).await;
    for (url, load) in loads {
        let report = load.finish::<LoadReport>().await;
        // At a steady rate, the number of failures tells for how long there were some.
        let gap = Duration::from_secs_f64(report.sending_seconds).mul_f64(share(&report));
        let slowest = Duration::from_secs_f64(report.latency_ms.max / 1000.0);
        println!(
            "killed, {url}: {} of {} requests failed, {gap:?} of them; the slowest of the others took {slowest:?}",
            report.failed, report.sent
        );
        assert!(report.failed > 0, "the test has killed nobody: {report:?}");
        assert!(gap <= GAP, "{url}: missed for {gap:?}: {report:?}");
    }
}

#[tokio::test]
async fn a_ztunnel_without_successor_accepts_until_its_deadline() {
    let Some(lab) = Lab::start_alone(&[]).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    let process = lab.component("ztunnel", "ztunnel-node-2").await;
    let load = Running::load(&lab, shop("frontend"), "http://cart/").await;
    let stream = Running::stream(&lab, shop("frontend"), "cart:9000").await;
    send(process, Signal::Terminate);
    // Longer than it waits where nobody needs it.
    sleep(Duration::from_secs(3)).await;
    load.finish::<LoadReport>().await.assert_whole("through a ztunnel that will end");
    stream.finish::<StreamReport>().await.assert_whole("the stream through a ztunnel that will end");
    // Nobody needs it any more: it need not wait for its deadline.
    lab.component_after(process, "ztunnel", "ztunnel-node-2").await;
    for (from, url) in WAYS {
        within(Duration::from_secs(10), &format!("{from} to {url} works again"), async || {
            let burst = crate::support::load::burst(&lab, shop(from), url).await;
            (burst.ok == burst.sent).then_some(())
        })
        .await;
    }
}
