//! F8: a ztunnel gives way to another one, and a connection lives through all of it.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::cluster;
use super::lab::{Lab, Place};
use super::report::Report;
use super::shop::{SHOP, SHOP_SECRET};
use super::traffic::{Load, Stream, check_nothing_lost};

/// New connections per second; what is checked asks for at least 200.
const RATE: u32 = 220;

/// How long the stream goes on after the old ztunnel was told to end.
const DRAINING: Duration = Duration::from_millis(1200);

/// A stream that is silent for longer has been interrupted.
const LONGEST_PAUSE_MS: u64 = 1000;

/// The node of the callers.
const NODE: &str = "node-1";

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };

/// Tells this part of the story, in which the shop is captured.
pub(super) async fn show(report: &mut Report, lab: &Lab, is_sabotaged: bool) -> Result<()> {
    report.section("F8  The ztunnel of node-1 is replaced by another one");
    let old = format!("ztunnel-{NODE}");
    let stream = Stream::open(lab, &FRONTEND, "cart.shop:9000").await?;
    // With its name looked up: a ztunnel that is killed answers no lookups, and load that cannot begin has no report.
    let load = Load::open(lab, &FRONTEND, "http://cart.shop/", RATE, SHOP_SECRET).await?;
    report.progress("starting its successor");
    let start = Instant::now();
    let new = lab.start_successor(NODE).await?;
    report.note(&format!("{new} is ready beside it after {} ms", start.elapsed().as_millis()));

    if is_sabotaged {
        report.note(&format!("sabotage: {old} is killed"));
    }
    lab.end_ztunnel(&old, is_sabotaged).await?;
    let told = Instant::now();
    sleep(DRAINING).await;
    let carries = lab.has_component(&old).await?;
    report.check(
        carries,
        &format!("{old} was told to end {} ms ago and still carries the old stream", told.elapsed().as_millis()),
    );
    let stream = stream.finish().await?;
    let is_unbroken = stream.whole && stream.received > 0 && stream.longest_gap_ms < LONGEST_PAUSE_MS;
    report.check(is_unbroken, &format!("that stream, opened before: {}", stream.summary()));
    match lab.wait_for_end(&old).await {
        Ok(took) => report.check(carries, &format!("{old} ended {} ms after the stream", took.as_millis())),
        Err(error) => report.failure(&error),
    }
    check_nothing_lost(report, "frontend → cart, a new connection each", &load.finish().await?);
    let parts = ["src.workload=\"frontend\"", "dst.workload=\"cart\"", "direction=\"outbound\""];
    let line = cluster::wait_for_log(lab.client(), &new, Duration::from_secs(3), &parts).await?;
    report.check(line.is_some(), &format!("{new} has logged such connections as its own"));
    Ok(())
}
