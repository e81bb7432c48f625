//! F9: the control plane is away. What is known goes on, policy included; what is new waits until it is back.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::cluster;
use super::lab::{Lab, Place};
use super::policy::{IN_FORCE, wait_until};
use super::report::Report;
use super::shop::{self, SHOP, SHOP_SECRET};
use super::traffic::{Load, Stream, check_nothing_lost, probe};

/// New connections per second; what is checked asks for at least 200.
const RATE: u32 = 220;

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };
const PAYMENT: Place<'static> = Place::Pod { namespace: SHOP, name: "payment" };
const TO_CART: &str = "http://cart.shop/";

/// Tells this part of the story, in which the shop is captured.
pub(super) async fn show(report: &mut Report, lab: &Lab, is_sabotaged: bool) -> Result<()> {
    report.section("F9  kubectl scale deployment aquifer-controlplane --replicas=0");
    let policy = shop::deny_payment();
    cluster::create(lab.client(), &policy).await?;
    report.progress("waiting until payment is denied");
    let denied = wait_until(lab, &PAYMENT, false).await?;
    report.check(denied.is_some(), "payment → cart denied by AuthorizationPolicy payment-may-not-look");
    let stream = Stream::open(lab, &FRONTEND, "cart.shop:9000").await?;
    report.progress("taking the control plane away");
    lab.remove_control_plane().await?;
    report.note("the control plane is gone; the policy is deleted, and nobody can hear of it");
    cluster::delete(lab.client(), &policy).await?;
    let start = Instant::now();
    let load = Load::start(lab, &FRONTEND, TO_CART, RATE, SHOP_SECRET)?;
    let mut tried = 0;
    let mut let_through = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        let probe = probe(lab, &PAYMENT, TO_CART).await?;
        (tried, let_through) = (tried + probe.sent, let_through + probe.ok);
    }
    report.check(
        tried > 0 && let_through == 0,
        &format!("payment → cart: {let_through} of {tried} new connections let through"),
    );
    check_nothing_lost(report, "frontend → cart, a new connection each", &load.finish().await?);

    if is_sabotaged {
        report.note("sabotage: the control plane stays away");
    } else {
        report.progress("bringing the control plane back");
        lab.restore_control_plane().await?;
        report.note(&format!("the control plane is back, after {:.1} s", start.elapsed().as_secs_f64()));
    }
    match wait_until(lab, &PAYMENT, true).await? {
        Some(took) => {
            report.check(true, &format!("the policy is gone: payment → cart allowed {} ms later", took.as_millis()))
        }
        None => report.check(false, &format!("payment → cart still denied after {} s", IN_FORCE.as_secs())),
    }
    let stream = stream.finish().await?;
    report.check(
        stream.whole && stream.received > 0,
        &format!("frontend → cart, a stream through all of it: {}", stream.summary()),
    );
    Ok(())
}
