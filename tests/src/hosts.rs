//! Hosts that Kubernetes does not know: a name, an address of the mesh for it, and a connection to its endpoint.

use std::time::Duration;

use serde_json::Value;

use crate::support::lab::{Lab, Place, shop};
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");
const STREET: &str = include_str!("../fixtures/street.yaml");
const HOSTS: &str = include_str!("../fixtures/hosts.yaml");

/// Label, watch, assignment, discovery and lookup together take no longer.
const PROMPT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_captured_pod_resolves_a_service_entry_and_reaches_its_endpoint() {
    let Some(lab) = Lab::start(&["curl"]).await else { return };
    lab.open_shop(PODS).await;
    lab.apply(STREET).await;
    lab.pods_are_ready("street").await;
    lab.capture().await;
    let outsider = lab.get("pod outsider -n street").await["status"]["podIP"].as_str().unwrap().to_owned();
    lab.apply(&HOSTS.replace("ENDPOINT", &outsider)).await;
    let (assigned, _) = within(PROMPT, "addresses are assigned", async || {
        let entry = lab.get("serviceentry legacy -n shop").await;
        entry["status"]["addresses"][0]["value"].as_str().map(str::to_owned)
    })
    .await;
    assert!(assigned.starts_with("240.240."), "{assigned}");

    let program =
        ["curl", "-4", "-sS", "--fail", "--max-time", "5", "-w", "\n%{remote_ip}", "http://legacy.example.com/"];
    let (said, _) = within(PROMPT, "the name leads to the endpoint", async || {
        let output = lab.exec(shop("frontend"), &program).await;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    })
    .await;
    let (answer, address) = said.rsplit_once('\n').unwrap();
    assert_eq!(address, assigned, "the pod connected to the address of the mesh");
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["pod"]["name"], "outsider");
    lab.wait_for_log("node-1", &["dst.service=\"legacy.example.com\"", &format!("dst.addr={outsider}:8080")]).await;

    // Nobody outside of the mesh knows the name, and a port that the entry does not have leads nowhere.
    lab.curl(Place::Pod("street", "outsider"), "http://legacy.example.com/").await.unwrap_err();
    lab.curl(shop("frontend"), "http://legacy.example.com:8080/").await.unwrap_err();

    // As in a guide: no endpoints, the name itself is to be resolved. It has an address, and the author is told so.
    let condition = "{.status.conditions[?(@.type==\"ZtunnelAccepted\")].status}";
    let (status, _) = within(PROMPT, "the entry is reported on", async || {
        let said = lab.kubectl(&format!("get serviceentry mysql-external -n shop -o jsonpath={condition}")).await;
        (!said.is_empty()).then_some(said)
    })
    .await;
    assert_eq!(status, "True");
    let misspelt = lab.try_kubectl("apply -f -", &HOSTS.replace("resolution", "resolutoin")).await;
    assert!(!misspelt.status.success(), "{misspelt:?}");
    let said = String::from_utf8(misspelt.stderr).unwrap();
    assert!(said.contains("unknown field") && said.contains("resolution"), "{said}");
}
