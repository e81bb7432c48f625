//! Pods as a kubelet runs them: probes, restarts, the phases in which they end, files that containers share.

use std::time::Duration;

use serde_json::Value;

use crate::support::lab::{Lab, shop};
use crate::support::program::text;
use crate::support::{explained, within};

const PODS: &str = include_str!("../fixtures/restarts.yaml");

/// How soon each pod of the fixture must be as it should: the second restart of a container takes 10 s.
const SOON: Duration = Duration::from_secs(25);

/// The first container's status, once the pod is as wanted.
async fn pod(lab: &Lab, name: &str, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let look = async || Some(lab.get(&format!("pod -n shop {name}")).await).filter(|pod| is_wanted(pod));
    let found = explained(SOON, &format!("{name} {what}"), look, async || lab.pods_and_events("shop").await).await.0;
    found["status"]["containerStatuses"][0].clone()
}

fn phase_is(phase: &'static str) -> impl Fn(&Value) -> bool {
    move |pod| pod["status"]["phase"] == phase
}

/// The number of restarts of a pod's container.
fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"].as_i64().unwrap_or(-1)
}

async fn events(lab: &Lab, pod: &str, reason: &str) -> Vec<String> {
    let selector = format!("involvedObject.name={pod},reason={reason}");
    let all = lab.get(&format!("events -n shop --field-selector {selector}")).await;
    let messages = all["items"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap().to_owned());
    messages.collect()
}

#[tokio::test]
async fn pods_are_probed_restarted_and_ended_as_a_kubelet_does_it() {
    let Some(lab) = Lab::start(&["python3"]).await else { return };
    lab.kubectl("create namespace shop").await;
    lab.apply(PODS).await;

    let failed = pod(&lab, "failed", "has failed", phase_is("Failed")).await;
    assert_eq!((&failed["state"]["terminated"]["exitCode"], &failed["restartCount"]), (&5.into(), &0.into()));
    let done = pod(&lab, "done", "has succeeded", phase_is("Succeeded")).await;
    assert_eq!((&done["state"]["terminated"]["reason"], &done["restartCount"]), (&"Completed".into(), &1.into()));
    assert_eq!(done["lastState"]["terminated"]["exitCode"], 1);

    is_backing_off(&lab).await;
    files_are_shared(&lab).await;

    // The startup probe holds the others off, and what it waits for takes three seconds.
    let slow = pod(&lab, "slow", "has started", |pod| pod["status"]["containerStatuses"][0]["started"] == true).await;
    assert_eq!((&slow["ready"], &slow["restartCount"]), (&true.into(), &0.into()), "{slow}");
    assert!(events(&lab, "slow", "Killing").await.is_empty());
    let late = pod(&lab, "late", "is ready", |pod| pod["status"]["containerStatuses"][0]["ready"] == true).await;
    assert_eq!(late["restartCount"], 0, "it listens late, but in time: {late}");

    pod(&lab, "stuck", "was restarted", |pod| restarts(pod) >= 1).await;
    let why = events(&lab, "stuck", "Unhealthy").await;
    assert!(
        why.iter().any(|why| why.contains("Liveness probe failed: command") && why.contains("timed out after 1 s"))
    );
}

/// The first restart comes at once, the second one after ten seconds.
async fn is_backing_off(lab: &Lab) {
    let is_waiting = |pod: &Value| {
        let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        containers.into_iter().any(|container| container["state"]["waiting"]["reason"] == "CrashLoopBackOff")
    };
    let writer = pod(lab, "crashing", "waits", is_waiting).await;
    assert_eq!((&writer["restartCount"], &writer["lastState"]["terminated"]["exitCode"]), (&1.into(), &3.into()));
    let message = writer["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("back-off 10s restarting failed container=writer pod=crashing_shop("), "{message}");
    let table = lab.kubectl("get pods -n shop crashing").await;
    assert!(table.contains("CrashLoopBackOff") && table.contains("1 ("), "{table}");
    assert!(!events(lab, "crashing", "BackOff").await.is_empty());
}

/// What one container wrote in two runs is there for the other one, and a volume holds no more than its limit.
async fn files_are_shared(lab: &Lab) {
    let is_ready = |pod: &Value| pod["status"]["containerStatuses"][1]["ready"] == true;
    pod(lab, "crashing", "shares its files", is_ready).await;
    let in_reader = async |script: &str| {
        let arguments = ["crashing", "-n", "shop", "-c", "reader", "--", "sh", "-c", script];
        lab.run("exec", &arguments).await
    };
    let log = in_reader("cat /share/log; stat -f -c '%T' /share").await;
    assert_eq!(text(&log.stdout), "run\nrun\ntmpfs\n", "{log:?}");
    let fits = in_reader("head -c 1000000 /dev/zero > /memory/a").await;
    assert!(fits.status.success(), "{fits:?}");
    let full = in_reader("head -c 100000 /dev/zero > /memory/b").await;
    assert!(!full.status.success() && text(&full.stderr).contains("No space left"), "{full:?}");
    // The third run has come after the wait.
    within(SOON, "a third run", async || {
        let log = text(&in_reader("cat /share/log").await.stdout);
        (log.lines().count() >= 3).then_some(())
    })
    .await;
    let output = lab.exec(shop("late"), &["ls", "/share"]).await;
    assert!(!output.status.success(), "another pod has no such files: {output:?}");
}
