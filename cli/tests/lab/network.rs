//! Pods reach each other by address, Service and name, across nodes; readiness decides who is behind a Service.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Caller, Lab, create, echo, eventually, fetch, list, pod};

/// Requests from a pod to a URL: how many were answered, and why others were not.
fn ask(lab: &Lab, from: &str, url: &str) -> (u64, Value) {
    let program =
        ["aquifer", "echo", "client", "load", "--rate", "50", "--for", "200ms", "--timeout", "5s", "--url", url];
    let output = lab.run("exec", &[&[from, "--"], program.as_slice()].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value =
        serde_json::from_str(text.lines().last().unwrap_or_else(|| panic!("{url}: {:?}", output.stderr))).unwrap();
    (report["ok"].as_u64().unwrap(), report["reasons"].clone())
}

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

async fn reach_each_other(lab: &Lab) {
    let client = lab.client().await;
    let mut on_host = pod("on-host", "node-1", json!({"image": "aquifer", "command": ["sleep", "infinity"]}));
    on_host["spec"]["hostNetwork"] = json!(true);
    create(&client, [echo("near", "node-1"), echo("far", "node-2"), on_host]).await;
    create(
        &client,
        [
            service("far", json!({"selector": {"app": "far"}, "ports": [{"port": 80, "targetPort": 8080}]})),
            service(
                "far-headless",
                json!({"clusterIP": "None", "selector": {"app": "far"}, "ports": [{"port": 8080}]}),
            ),
            service("mirror", json!({"selector": {"app": "near"}, "ports": [{"port": 80, "targetPort": 8080}]})),
        ],
    )
    .await;
    let far = lab.ready_pod(&client, "far").await;
    lab.ready_pod(&client, "near").await;
    lab.ready_pod(&client, "on-host").await;
    let far_service = fetch(&client, ("v1", "Service"), "far").await.unwrap();
    let address = format!("http://{}:8080/", far["status"]["podIP"].as_str().unwrap());
    let virtual_address = format!("http://{}/", far_service["spec"]["clusterIP"].as_str().unwrap());
    let mut urls = vec![address, virtual_address];
    urls.extend(
        ["http://far/", "http://far.default.svc.cluster.local/", "http://far-headless:8080/"].map(str::to_owned),
    );
    for from in ["near", "on-host"] {
        for url in &urls {
            // A Service's rules follow its endpoints, which follow readiness: all that within the deadline.
            eventually(&format!("{url} from {from}"), async || {
                let (ok, reasons) = ask(lab, from, url);
                (ok > 0 && reasons == json!({})).then_some(())
            })
            .await;
        }
    }
    eventually("a pod reaches itself through its Service", async || {
        let (ok, reasons) = ask(lab, "near", "http://mirror/");
        (ok > 0 && reasons == json!({})).then_some(())
    })
    .await;
}

#[tokio::test]
async fn pods_reach_each_other_by_address_service_and_name() {
    let Some(lab) = Lab::start() else { return };
    reach_each_other(&lab).await;
}

#[tokio::test]
async fn an_ordinary_users_pods_do_so_too() {
    let Some(lab) = Lab::start_as(Caller::ordinary()) else { return };
    reach_each_other(&lab).await;
}

#[tokio::test]
async fn a_service_without_endpoints_refuses_at_once() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    create(
        &client,
        [echo("asker", "node-1"), service("nobody", json!({"selector": {"app": "nobody"}, "ports": [{"port": 80}]}))],
    )
    .await;
    lab.ready_pod(&client, "asker").await;
    eventually("the Service refuses", async || {
        let (ok, reasons) = ask(&lab, "asker", "http://nobody/");
        assert_eq!(ok, 0);
        reasons.as_object().unwrap().keys().eq(["connect: connection refused"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_probe_and_endpoints_follow_readiness() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    let container = json!({
        "image": "aquifer/echo",
        "ports": [{"name": "gate", "containerPort": 7000}],
        "readinessProbe": {"tcpSocket": {"port": "gate"}, "periodSeconds": 1, "failureThreshold": 1},
    });
    create(
        &client,
        [
            pod("gated", "node-1", container),
            service("gated", json!({"selector": {"app": "gated"}, "ports": [{"port": 80, "targetPort": 8080}]})),
        ],
    )
    .await;
    let is_ready = async || {
        let slices = list(&client, ("discovery.k8s.io/v1", "EndpointSlice")).await;
        let slice = slices.iter().find(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "gated")?;
        slice["endpoints"][0]["conditions"]["ready"].as_bool()
    };
    eventually("the endpoint is known and not ready", async || (!is_ready().await?).then_some(())).await;
    eventually("the container runs", async || {
        let pod = fetch(&client, ("v1", "Pod"), "gated").await?;
        pod["status"]["containerStatuses"][0]["started"].as_bool()?.then_some(())
    })
    .await;
    // The port is open for as long as this program runs in the pod.
    let program =
        ["gated", "--", "aquifer", "echo", "--http", "0", "--h2c", "0", "--tcp", "7000", "--server-first", "0"];
    let mut gate = lab
        .caller
        .command(&[&["exec", "--name", &lab.name], program.as_slice()].concat())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the endpoint is ready", async || is_ready().await?.then_some(())).await;
    gate.kill().unwrap();
    gate.wait().unwrap();
    eventually("the endpoint is not ready again", async || (!is_ready().await?).then_some(())).await;
}

#[tokio::test]
async fn names_outside_the_cluster_fail_fast() {
    let Some(lab) = Lab::start() else { return };
    let client = lab.client().await;
    create(&client, [echo("asker", "node-1")]).await;
    lab.ready_pod(&client, "asker").await;
    let url = "http://example.com/";
    let program = ["aquifer", "echo", "client", "load", "--for", "1s", "--url", url];
    let output = lab.run("exec", &[&["asker", "--"], program.as_slice()].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot find an address of example.com:80"), "{said}");
}
