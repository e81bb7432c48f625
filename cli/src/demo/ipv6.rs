//! F6: the same over IPv6, which has addresses, routes and rules of its own.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::families::Family;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::cluster;
use super::lab::{Lab, Place};
use super::report::Report;
use super::shop::SHOP;
use super::traffic::{Load, LoadReport, Sniffer, try_probe};

/// What the requests of this step carry: the other steps' must not be taken for it.
const SECRET: &str = "card-over-ipv6=5500-0000-0000-0004";

/// Cart once more, with an IPv6 address and no other.
const SERVICE: &str = "cart-over-ipv6";
const TO_CART: &str = "http://cart-over-ipv6.shop/";

/// New connections per second.
const RATE: u32 = 100;

/// When to stop waiting for anything.
const PATIENCE: Duration = Duration::from_secs(8);

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };

/// Tells this part of the story, from before the shop is captured.
pub(super) async fn show(report: &mut Report, lab: &Lab) -> Result<()> {
    if !lab.has(Family::V6) {
        report.note("F6  Over IPv6: skipped, for this machine has no IPv6");
        return Ok(());
    }
    report.section("F6  The same over IPv6");
    cluster::create(lab.client(), &service()).await?;
    answers(lab).await?;
    let mut sniffer =
        Sniffer::start(lab, &Place::Node("node-1"), &[SECRET]).await.context("the eavesdropper of IPv6")?;
    let (seen, missed, load) = listen(lab, &mut sniffer).await?;
    report.check(
        seen > 0 && load.failed == 0,
        &format!("before: {seen} packets showed \"{SECRET}\" in {} requests", load.ok),
    );
    report.note(&format!("{missed} passed unseen"));

    cluster::label(lab.client(), SHOP, Some("ambient")).await?;
    report.progress("waiting for capture");
    let captured = cluster::wait_for_pods(lab.client(), SHOP, PATIENCE, cluster::is_captured).await;
    if let Err(error) = captured {
        report.failure(&error.context("not captured"));
    }
    // Every ztunnel hears that there is a tunnel to cart now.
    sleep(Duration::from_secs(1)).await;
    let (seen, missed, load) = listen(lab, &mut sniffer).await?;
    report.check(
        seen == 0 && missed == 0 && load.ok > 0 && load.failed == 0,
        &format!("captured: {seen} packets showed it, in {} requests; {missed} passed unseen", load.summary()),
    );
    let parts = [
        "src.addr=[fd00:a:",
        "dst.addr=[fd00:a:",
        "src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\"",
        "dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "direction=\"inbound\"",
    ];
    let line = cluster::wait_for_log(lab.client(), "ztunnel-node-2", Duration::from_secs(3), &parts).await?;
    report.check(line.is_some(), "the access log of node-2 names both identities at IPv6 addresses:");
    report.note(line.as_deref().unwrap_or("no such line"));

    cluster::delete(lab.client(), &service()).await
}

/// A second of requests: packets that showed the secret, packets that passed unseen, and how the requests went.
async fn listen(lab: &Lab, sniffer: &mut Sniffer) -> Result<(u64, u64, LoadReport)> {
    let start = sniffer.totals().await?;
    let load = Load::start(lab, &FRONTEND, TO_CART, RATE, SECRET)?;
    sleep(Duration::from_secs(1)).await;
    let load = load.finish().await?;
    let end = sniffer.totals().await?;
    let count = |totals: &crate::sniff::Totals| totals.markers.get(SECRET).copied().unwrap_or(0);
    Ok((count(&end).saturating_sub(count(&start)), end.dropped.saturating_sub(start.dropped), load))
}

/// Waits until the Service has its name, its rules and its endpoint.
async fn answers(lab: &Lab) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_probe(lab, &FRONTEND, TO_CART).await? {
            Some(report) if report.failed == 0 && report.ok > 0 => return Ok(()),
            outcome if Instant::now() > deadline => {
                let seen = outcome.map_or_else(|| format!("nobody knows {SERVICE}"), |report| report.summary());
                bail!("cart does not answer over IPv6: {seen}");
            }
            _ => {}
        }
    }
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": SHOP},
        "spec": {
            "ipFamilies": ["IPv6"],
            "selector": {"app": "cart"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        },
    })
}
