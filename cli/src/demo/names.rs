//! F7: a name that the mesh alone knows, looked up by a pod and answered by its node's ztunnel.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster;
use super::lab::{Lab, Place};
use super::report::Report;
use super::shop::{SHOP, STREET};
use super::traffic::{LoadReport, try_probe};

/// The name, and where it leads.
const HOST: &str = "till.example";
const TO_HOST: &str = "http://till.example/";
const TO_SERVICE: &str = "http://cart.shop/";

/// When to stop waiting for anything.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often to look.
const POLL: Duration = Duration::from_millis(20);

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };
const OUTSIDER: Place<'static> = Place::Pod { namespace: STREET, name: "outsider" };

/// Tells this part of the story, in which the shop is captured.
pub(super) async fn show(report: &mut Report, lab: &Lab) -> Result<()> {
    report.section("F7  A name that only the mesh knows");
    cluster::create(lab.client(), &service_entry()).await?;
    report.progress("waiting for its address");
    let address = assigned(lab).await?;
    report.note(&format!("ServiceEntry {HOST}, served by cart; the control plane gave it the address {address}"));
    let unknown = try_probe(lab, &OUTSIDER, TO_HOST).await?;
    report.check(unknown.is_none(), &format!("outside of the mesh nobody knows {HOST}"));
    // The node's ztunnel learns of the name a moment later.
    let deadline = Instant::now() + PATIENCE;
    while try_probe(lab, &FRONTEND, TO_HOST).await?.is_none() && Instant::now() < deadline {}
    look_up(report, lab, TO_HOST, Some(&address)).await?;
    look_up(report, lab, TO_SERVICE, None).await?;
    let parts = [
        "src.workload=\"frontend\"",
        "dst.service=\"till.example\"",
        "dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "direction=\"outbound\"",
    ];
    let line = cluster::wait_for_log(lab.client(), "ztunnel-node-1", Duration::from_secs(3), &parts).await?;
    report.check(line.is_some(), "the access log of node-1 names the host, and cart as who answered:");
    report.note(line.as_deref().unwrap_or("no such line"));
    cluster::delete(lab.client(), &service_entry()).await
}

/// One lookup and a few requests; the ztunnel's counters tell who has answered the lookup.
async fn look_up(report: &mut Report, lab: &Lab, url: &str, address: Option<&str>) -> Result<()> {
    let (asked, passed_on) = lab.lookups("node-1", "frontend").await?;
    let found = try_probe(lab, &FRONTEND, url).await?;
    let (asked_then, passed_on_then) = lab.lookups("node-1", "frontend").await?;
    let (asked, passed_on) = (asked_then.saturating_sub(asked), passed_on_then.saturating_sub(passed_on));
    let answered = asked.saturating_sub(passed_on);
    let name = url.trim_start_matches("http://").trim_end_matches('/');
    let Some(found) = found else {
        report.check(false, &format!("frontend finds no {name}"));
        return Ok(());
    };
    let leads_there = address.is_none_or(|address| found.leads_to(address));
    report.check(works(&found) && leads_there, &format!("frontend → {name} is {}: {}", found.target, found.summary()));
    report
        .check(answered > 0, &format!("of the {asked} lookups for it, {answered} were answered by the node's ztunnel"));
    Ok(())
}

fn works(probe: &LoadReport) -> bool {
    probe.ok > 0 && probe.failed == 0
}

/// Waits for the address that the control plane assigns.
async fn assigned(lab: &Lab) -> Result<String> {
    let entry = service_entry();
    let (api, deadline) = (cluster::api_of(lab.client(), &entry)?, Instant::now() + PATIENCE);
    let name = entry.pointer("/metadata/name").and_then(Value::as_str).context("an object without a name")?;
    loop {
        let address = api.get(name).await?.data.pointer("/status/addresses/0/value").cloned();
        if let Some(Value::String(address)) = address {
            return Ok(address);
        }
        if Instant::now() > deadline {
            bail!("{HOST} is given no address");
        }
        sleep(POLL).await;
    }
}

fn service_entry() -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "till", "namespace": SHOP},
        "spec": {
            "hosts": [HOST],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            "workloadSelector": {"labels": {"app": "cart"}},
        },
    })
}
