//! The steps of the demo, in order.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::families::Family;
use tokio::time::sleep;

use super::lab::{Lab, Place};
use super::report::Report;
use super::sabotage::{self, Sabotage};
use super::shop::{PODS, SHOP, SHOP_SECRET, STREET, STREET_SECRET, manifests};
use super::traffic::{Load, Sniffer, Stream, check_nothing_lost};
use super::{absence, cluster, ipv6, names, policy, succession};

/// The rate of each load client, in new connections per second; the checks ask for at least 200.
const RATE: u32 = 220;
/// The street is quiet.
const STREET_RATE: u32 = 20;
/// A labelled namespace is captured within this time.
const CAPTURE_LIMIT: Duration = Duration::from_secs(2);
/// When to stop waiting for it.
const PATIENCE: Duration = Duration::from_secs(8);

const FRONTEND: Place<'static> = Place::Pod { namespace: SHOP, name: "frontend" };
const CART: Place<'static> = Place::Pod { namespace: SHOP, name: "cart" };
const OUTSIDER: Place<'static> = Place::Pod { namespace: STREET, name: "outsider" };

const TO_CART: &str = "http://cart.shop/";
const TO_FRONTEND: &str = "http://frontend.shop/";

/// Tells the whole story.
pub(super) async fn tell(report: &mut Report, lab: &Lab, sabotage: Option<Sabotage>) -> Result<()> {
    open_shop(report, lab).await?;
    let mut sniffer =
        Sniffer::start(lab, &Place::Node("node-1"), &[SHOP_SECRET, STREET_SECRET]).await.context("the eavesdropper")?;
    let steps = Steps { lab, sabotage };
    steps.strike(report, Sabotage::Plaintext).await?;
    before(report, lab, &mut sniffer).await?;
    steps.mend(report, Sabotage::Plaintext).await?;
    // Opened before the label is set, closed after it is gone: through all that happens between.
    let streams = [
        ("frontend → cart", Stream::start(lab, &FRONTEND, "cart.shop:9000")?),
        ("cart → frontend", Stream::start(lab, &CART, "frontend.shop:9000")?),
    ];
    steps.strike(report, Sabotage::Capture).await?;
    joining(report, lab).await?;
    steps.mend(report, Sabotage::Capture).await?;
    steps.strike(report, Sabotage::Encryption).await?;
    encrypted(report, lab, &mut sniffer).await?;
    steps.mend(report, Sabotage::Encryption).await?;
    steps.strike(report, Sabotage::Policy).await?;
    policy::show(report, lab).await?;
    steps.mend(report, Sabotage::Policy).await?;
    steps.strike(report, Sabotage::Release).await?;
    leaving(report, lab, &mut sniffer, streams).await?;
    steps.mend(report, Sabotage::Release).await?;
    drop(sniffer);
    Box::pin(steps.again(report)).await
}

/// The steps, and which of them is sabotaged.
struct Steps<'a> {
    lab: &'a Lab,
    sabotage: Option<Sabotage>,
}

impl Steps<'_> {
    /// The steps after the shop has been in the mesh and out of it: once more, and this time it stays.
    async fn again(&self, report: &mut Report) -> Result<()> {
        let lab = self.lab;
        self.strike(report, Sabotage::Ipv6).await?;
        ipv6::show(report, lab).await?;
        self.mend(report, Sabotage::Ipv6).await?;
        if !lab.has(Family::V6) {
            sabotage::join(lab).await?;
        }
        self.strike(report, Sabotage::Names).await?;
        names::show(report, lab).await?;
        self.mend(report, Sabotage::Names).await?;
        succession::show(report, lab, self.is(Sabotage::Drain)).await?;
        absence::show(report, lab, self.is(Sabotage::Absence)).await
    }

    fn is(&self, step: Sabotage) -> bool {
        self.sabotage == Some(step)
    }

    async fn strike(&self, report: &Report, step: Sabotage) -> Result<()> {
        if self.is(step) { Box::pin(step.strike(report, self.lab)).await } else { Ok(()) }
    }

    async fn mend(&self, report: &Report, step: Sabotage) -> Result<()> {
        if self.is(step) { Box::pin(step.mend(report, self.lab)).await } else { Ok(()) }
    }
}

async fn open_shop(report: &mut Report, lab: &Lab) -> Result<()> {
    report.section("A shop opens");
    for object in manifests() {
        cluster::create(lab.client(), &object).await?;
    }
    report.progress("waiting for its pods");
    for namespace in [SHOP, STREET] {
        cluster::wait_for_pods(lab.client(), namespace, Duration::from_secs(30), cluster::is_ready).await?;
    }
    for (name, node) in PODS {
        report.note(&format!("{SHOP}/{name:<9} on {node}"));
    }
    report.note(&format!("{STREET}/outsider on node-1, in a namespace that stays outside the mesh"));
    Ok(())
}

/// F1: whoever reads the link reads the secret.
async fn before(report: &mut Report, lab: &Lab, sniffer: &mut Sniffer) -> Result<()> {
    report.section("F1  Before: an eavesdropper reads the link between the nodes");
    let start = sniffer.totals().await?;
    let load = Load::start(lab, &FRONTEND, TO_CART, RATE, SHOP_SECRET)?;
    sleep(Duration::from_secs(1)).await;
    let sent = load.finish().await?;
    let end = sniffer.totals().await?;
    let seen = seen_between(&start, &end, SHOP_SECRET);
    report.check(
        seen > 0 && sent.failed == 0,
        &format!("{seen} packets showed \"{SHOP_SECRET}\" in {} requests to cart", sent.ok),
    );
    Ok(())
}

/// F2: captured within the limit, and nothing lost meanwhile.
async fn joining(report: &mut Report, lab: &Lab) -> Result<()> {
    report.section("F2  kubectl label namespace shop istio.io/dataplane-mode=ambient");
    let there = Load::start(lab, &FRONTEND, TO_CART, RATE, SHOP_SECRET)?;
    let back = Load::start(lab, &CART, TO_FRONTEND, RATE, SHOP_SECRET)?;
    sleep(Duration::from_millis(700)).await;
    cluster::label(lab.client(), SHOP, Some("ambient")).await?;
    report.progress("waiting for capture");
    match cluster::wait_for_pods(lab.client(), SHOP, PATIENCE, cluster::is_captured).await {
        Ok(took) => report.check(took <= CAPTURE_LIMIT, &format!("captured after {} ms, no restart", took.as_millis())),
        Err(error) => report.failure(&error.context("not captured")),
    }
    sleep(Duration::from_millis(1500)).await;
    report.note("Meanwhile, a new connection for each request, without retries:");
    check_nothing_lost(report, "frontend → cart", &there.finish().await?);
    check_nothing_lost(report, "cart → frontend", &back.finish().await?);
    Ok(())
}

/// F3: the same eavesdropper reads nothing of the shop, and still reads the street.
async fn encrypted(report: &mut Report, lab: &Lab, sniffer: &mut Sniffer) -> Result<()> {
    report.section("F3  The same eavesdropper, now");
    let start = sniffer.totals().await?;
    let there = Load::start(lab, &FRONTEND, TO_CART, RATE, SHOP_SECRET)?;
    let back = Load::start(lab, &CART, TO_FRONTEND, RATE, SHOP_SECRET)?;
    let street = Load::start(lab, &OUTSIDER, TO_CART, STREET_RATE, STREET_SECRET)?;
    sleep(Duration::from_millis(1500)).await;
    let (there, back, street) = (there.finish().await?, back.finish().await?, street.finish().await?);
    let end = sniffer.totals().await?;

    let shop = seen_between(&start, &end, SHOP_SECRET);
    let outside = seen_between(&start, &end, STREET_SECRET);
    let delivered = there.ok + back.ok;
    // An eavesdropper that missed packets proves nothing by what it did not see.
    let missed = end.dropped - start.dropped;
    report.check(
        shop == 0 && missed == 0 && delivered > 0 && there.failed + back.failed == 0,
        &format!("{shop} packets showed the shop's secret, in {delivered} requests; {missed} passed unseen"),
    );
    report.check(outside > 0, &format!("{outside} packets showed the outsider's, in {} requests", street.ok));
    let hello = end.server_hello;
    let agreed =
        hello.as_ref().map_or_else(|| "nothing".to_owned(), |hello| format!("{}, {}", hello.version, hello.group));
    let is_strong = hello.is_some_and(|hello| hello.version == "TLS 1.3" && hello.group == "X25519MLKEM768");
    report.check(is_strong, &format!("the ServerHello on port 15008 agreed on {agreed}"));

    let parts = [
        "src.identity=\"spiffe://cluster.local/ns/shop/sa/frontend\"",
        "dst.identity=\"spiffe://cluster.local/ns/shop/sa/cart\"",
        "direction=\"inbound\"",
    ];
    let line = cluster::wait_for_log(lab.client(), "ztunnel-node-2", Duration::from_secs(3), &parts).await?;
    report.check(line.is_some(), "the access log of node-2 names both identities:");
    report.note(line.as_deref().unwrap_or("no such line"));
    Ok(())
}

/// F5: plaintext again, and nothing lost, not even on the streams from the beginning.
async fn leaving(report: &mut Report, lab: &Lab, sniffer: &mut Sniffer, streams: [(&str, Stream); 2]) -> Result<()> {
    report.section("F5  kubectl label namespace shop istio.io/dataplane-mode-");
    let there = Load::start(lab, &FRONTEND, TO_CART, RATE, SHOP_SECRET)?;
    let back = Load::start(lab, &CART, TO_FRONTEND, RATE, SHOP_SECRET)?;
    sleep(Duration::from_millis(700)).await;
    cluster::label(lab.client(), SHOP, None).await?;
    report.progress("waiting for release");
    let is_free = |pod: &_| !cluster::is_captured(pod);
    match cluster::wait_for_pods(lab.client(), SHOP, PATIENCE, is_free).await {
        Ok(took) => report.check(true, &format!("no longer announced as captured after {} ms", took.as_millis())),
        Err(error) => report.failure(&error),
    }
    // Leaving waits until every client is told, two seconds at most; the load goes on through all of it.
    sleep(Duration::from_millis(2500)).await;
    let start = sniffer.totals().await?;
    sleep(Duration::from_millis(500)).await;
    let (there, back) = (there.finish().await?, back.finish().await?);
    let end = sniffer.totals().await?;
    report.note("Meanwhile, a new connection for each request, without retries:");
    check_nothing_lost(report, "frontend → cart", &there);
    check_nothing_lost(report, "cart → frontend", &back);
    let seen = seen_between(&start, &end, SHOP_SECRET);
    report.check(seen > 0, &format!("plaintext again: {seen} packets showed the shop's secret"));
    report.note("Two streams that were opened before F2, their checksums compared:");
    for (direction, stream) in streams {
        let stream = stream.finish().await?;
        report.check(stream.whole && stream.received > 0, &format!("{direction}: {}", stream.summary()));
    }
    Ok(())
}

fn seen_between(start: &crate::sniff::Totals, end: &crate::sniff::Totals, marker: &str) -> u64 {
    let count = |totals: &crate::sniff::Totals| totals.markers.get(marker).copied().unwrap_or(0);
    count(end).saturating_sub(count(start))
}
