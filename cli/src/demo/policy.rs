//! F4: who may talk to whom, and the reason that the log gives.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tokio::time::Instant;

use super::lab::{Lab, Place};
use super::report::Report;
use super::shop::{self, SHOP, STREET};
use super::{cluster, traffic};

/// A policy is in force within this time, or it is not.
pub(super) const IN_FORCE: Duration = Duration::from_secs(5);

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };
const PAYMENT: Place<'static> = Place::Pod { namespace: SHOP, name: "payment" };
const OUTSIDER: Place<'static> = Place::Pod { namespace: STREET, name: "outsider" };
const TO_CART: &str = "http://cart.shop/";

/// One policy and what it does to whom.
struct Case {
    title: &'static str,
    policy: Value,
    denied: (&'static str, Place<'static>),
    allowed: Option<(&'static str, Place<'static>)>,
    /// What the access log of the destination's node gives as the reason.
    reason: &'static str,
}

fn cases() -> [Case; 4] {
    [
        Case {
            title: "AuthorizationPolicy payment-may-not-look: DENY principal payment",
            policy: shop::deny_payment(),
            denied: ("payment", PAYMENT),
            allowed: Some(("frontend", FRONTEND)),
            reason: "explicitly denied by: shop/payment-may-not-look",
        },
        Case {
            title: "AuthorizationPolicy only-frontend: ALLOW principal frontend",
            policy: shop::allow_frontend(),
            denied: ("payment", PAYMENT),
            allowed: Some(("frontend", FRONTEND)),
            reason: "allow policies exist, but none allowed: shop/only-frontend",
        },
        Case {
            title: "AuthorizationPolicy deny-all: spec {}",
            policy: shop::deny_all(),
            denied: ("frontend", FRONTEND),
            allowed: None,
            reason: "allow policies exist, but none allowed: shop/deny-all",
        },
        Case {
            title: "PeerAuthentication strict: mode STRICT",
            policy: shop::strict(),
            denied: ("outsider (plaintext)", OUTSIDER),
            allowed: Some(("frontend", FRONTEND)),
            reason: "explicitly denied by: istio-system/istio_converted_static_strict",
        },
    ]
}

/// Applies each policy, looks who gets through, and takes it away again.
pub(super) async fn show(report: &mut Report, lab: &Lab) -> Result<()> {
    report.section("F4  Policies");
    for case in cases() {
        report.note(case.title);
        report.progress("waiting for it to be in force");
        let shown = show_one(report, lab, &case).await;
        cluster::delete(lab.client(), &case.policy).await?;
        shown?;
        let (who, place) = &case.denied;
        let again = wait_until(lab, place, true).await?;
        report.check(again.is_some(), &format!("policy removed: {who} → cart allowed"));
    }
    Ok(())
}

async fn show_one(report: &mut Report, lab: &Lab, case: &Case) -> Result<()> {
    cluster::create(lab.client(), &case.policy).await?;
    let (who, place) = &case.denied;
    let Some(took) = wait_until(lab, place, false).await? else {
        report.check(false, &format!("{who} → cart still allowed after {} s", IN_FORCE.as_secs()));
        return Ok(());
    };
    report.check(true, &format!("{who} → cart denied after {} ms", took.as_millis()));
    let line = cluster::wait_for_log(lab.client(), "ztunnel-node-2", Duration::from_secs(3), &[case.reason]).await?;
    report.check(line.is_some(), &format!("logged: {}", case.reason));
    if let Some((who, place)) = &case.allowed {
        let probe = traffic::probe(lab, place, TO_CART).await?;
        report.check(probe.failed == 0 && probe.ok > 0, &format!("{who} → cart allowed: {}", probe.summary()));
    }
    Ok(())
}

/// Sends a few requests at a time until all of them succeed, or all of them fail; `None` when that does not happen.
pub(super) async fn wait_until(lab: &Lab, place: &Place<'_>, wanted: bool) -> Result<Option<Duration>> {
    let start = Instant::now();
    loop {
        let probe = traffic::probe(lab, place, TO_CART).await?;
        let all = if wanted { probe.ok } else { probe.failed };
        if probe.sent > 0 && all == probe.sent {
            return Ok(Some(start.elapsed()));
        }
        if start.elapsed() > IN_FORCE {
            return Ok(None);
        }
    }
}
