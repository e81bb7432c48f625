//! What kubectl prints and does as objects change.

use std::process::Stdio;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use lab::api::{DeleteOptions, Patch};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::{Kubectl, with_each};
use crate::support::{DEADLINE, wait_until};

/// A kubectl that goes on printing.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(kubectl: &Kubectl, words: &str) -> Self {
        let mut child = kubectl.command(words).stdin(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        tokio::time::timeout(DEADLINE, self.lines.next_line()).await.expect("a line must come").unwrap().unwrap()
    }

    /// The next line about something, without what changes from run to run.
    async fn columns(&mut self, about: &str) -> Vec<String> {
        loop {
            let line = self.line().await;
            let columns: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            if columns.contains(&about.to_owned()) {
                return columns;
            }
        }
    }

    async fn end(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn set_phase(kubectl: &Kubectl, phase: &str, ready: bool) {
    let container = json!({"name": "p", "ready": ready, "restartCount": 0, "image": "a", "imageID": "a"});
    let status = json!({"status": {"phase": phase, "podIP": "10.244.1.9", "containerStatuses": [container]}});
    kubectl.lab.client.patch_status::<Pod>(Some("shop"), "p", &Patch::Strategic(status)).unwrap();
}

#[tokio::test]
async fn a_watch_prints_rows_as_they_change() {
    with_each(async |kubectl| {
        let mut watch = Running::start(kubectl, "get namespaces -w -L istio.io/dataplane-mode");
        watch.columns("shop").await;
        kubectl.run("label namespace shop istio.io/dataplane-mode=ambient").await;
        assert_eq!(watch.columns("shop").await.last().unwrap(), "ambient");
        watch.end().await;

        kubectl.run("-n shop run first --image=aquifer").await;
        let mut pods = Running::start(kubectl, "-n shop get pods -w -o wide");
        let mut events = Running::start(kubectl, "-n shop get pods -w --output-watch-events");
        let mut names = Running::start(kubectl, "-n shop get pods -w -o name");
        let mut documents = Running::start(kubectl, "-n shop get pods --watch-only -o jsonpath={.status.phase}{'\\n'}");
        for running in [&mut pods, &mut events] {
            running.columns("first").await;
        }
        assert_eq!(names.line().await, "pod/first");
        // Nobody tells when this one has begun to watch, so the pod is touched until it shows.
        let touch = async {
            for count in 0_u32.. {
                let label = Patch::Merge(json!({"metadata": {"labels": {"touched": count.to_string()}}}));
                kubectl.lab.client.patch::<Pod>(Some("shop"), "first", &label).unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            line = documents.line() => assert_eq!(line, "Pending"),
            () = touch => {}
        }
        kubectl.run("-n shop run p --image=aquifer").await;
        wait_until("a node", async || {
            kubectl.lab.client.fetch::<Pod>(Some("shop"), "p").unwrap().spec.unwrap().node_name.is_some()
        })
        .await;
        set_phase(kubectl, "Running", true);
        let uid = kubectl.lab.client.fetch::<Pod>(Some("shop"), "p").unwrap().metadata.uid.unwrap();
        kubectl.lab.client.delete::<Pod>(Some("shop"), "p", &DeleteOptions::now(uid)).unwrap();

        let mut row = pods.columns("p").await;
        assert_eq!(row[..4], ["p", "0/1", "Pending", "0"]);
        while row[2] != "Running" {
            row = pods.columns("p").await;
        }
        assert_eq!((row[1].as_str(), row[5].as_str()), ("1/1", "10.244.1.9"));
        assert_eq!(events.columns("p").await[0], "ADDED");
        while events.columns("p").await[0] != "DELETED" {}
        while names.line().await != "pod/p" {}
        while documents.line().await != "Running" {}
        for running in [pods, events, names, documents] {
            running.end().await;
        }
    })
    .await;
}

fn signal(name: &str, child: &Child) {
    let pid = child.id().expect("it must still run").to_string();
    assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// kubectl sleeps while more changes than the server remembers; what it had been told before ends with 410.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubectl_that_fell_behind_begins_again() {
    with_each(async |kubectl| {
        let client = &kubectl.lab.client;
        kubectl.run("-n shop create configmap a --from-literal=k=0").await;
        let mut waiting =
            Running::start(kubectl, "-n shop wait configmap/a --for=jsonpath={.data.k}=last --timeout=20s");
        let mut seen = Running::start(kubectl, "-n shop get configmap a -w -o jsonpath={.data.k}{'\\n'}");
        assert_eq!(seen.line().await, "0");
        seen.end().await;
        signal("-STOP", &waiting.child);
        let filler = "x".repeat(20_000);
        for count in 0..4500 {
            let patch = Patch::Merge(json!({"data": {"k": count.to_string(), "filler": filler}}));
            client.patch::<ConfigMap>(Some("shop"), "a", &patch).unwrap();
        }
        let last = Patch::Merge(json!({"data": {"k": "last", "filler": null}}));
        client.patch::<ConfigMap>(Some("shop"), "a", &last).unwrap();
        signal("-CONT", &waiting.child);
        assert_eq!(waiting.line().await, "configmap/a condition met");
        assert!(waiting.child.wait().await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn a_long_list_is_read_in_pages() {
    with_each(async |kubectl| {
        for index in 0..7 {
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "shop", "name": format!("m{index}")}});
            kubectl.lab.client.apply_json(map).unwrap();
        }
        let table = kubectl.run("-n shop get configmaps --chunk-size=3").await;
        assert_eq!((table.lines().count(), table.matches("NAME").count()), (9, 1), "{table}");
        let names = kubectl.run("-n shop get configmaps --chunk-size=3 -o name").await;
        assert_eq!(names.lines().count(), 8);
        let raw = kubectl.run("get --raw /api/v1/namespaces/shop/configmaps?limit=3").await;
        assert!(raw.contains("\"remainingItemCount\":5"), "{raw}");
    })
    .await;
}

#[tokio::test]
async fn events_are_found_by_what_they_are_about() {
    with_each(async |kubectl| {
        kubectl.run("-n shop run p --image=aquifer").await;
        let pod = kubectl.lab.client.fetch::<Pod>(Some("shop"), "p").unwrap();
        kubectl.lab.client.record(&pod, lab::api::EventType::Warning, "Tested", "as expected");
        let mut other = pod;
        other.metadata.name = Some("q".into());
        other.metadata.uid = Some("another".into());
        kubectl.lab.client.record(&other, lab::api::EventType::Normal, "Elsewhere", "not this one");
        for words in ["describe pod p", "events --for pod/p", "get events --field-selector involvedObject.name=p"] {
            let shown = kubectl.run(&format!("-n shop {words}")).await;
            assert!(shown.contains("as expected") && !shown.contains("not this one"), "{words}: {shown}");
        }
        let warnings = kubectl.run("-n shop events --types=Warning").await;
        assert!(warnings.contains("Tested") && !warnings.contains("Elsewhere"), "{warnings}");
        let selector = "involvedObject.kind=Pod,involvedObject.namespace=shop,involvedObject.apiVersion=v1,type=Normal";
        let shown = kubectl.run(&format!("-n shop get events --field-selector {selector}")).await;
        assert!(shown.contains("Elsewhere") && !shown.contains("Tested"), "{shown}");
        let source = "source=aquifer-lab,reportingComponent!=x";
        assert!(kubectl.run(&format!("-n shop get events --field-selector {source}")).await.contains("Elsewhere"));
        let refused = kubectl.fail("-n shop get events --field-selector involvedObject.color=red", "").await;
        assert!(refused.contains("field label not supported: involvedObject.color"), "{refused}");
    })
    .await;
}
