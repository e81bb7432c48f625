//! Pods that are replaced by others of their Deployment while clients open a connection for each request, without
//! retries.

use crate::support::lab::{Lab, shop};
use crate::support::load::{LoadReport, Running};

const PODS: &str = include_str!("../fixtures/shop.yaml");
const WEB: &str = include_str!("../fixtures/rolling.yaml");

/// Opens the shop with the Deployment in it.
async fn open(lab: &Lab) {
    lab.open_shop(PODS).await;
    lab.apply(WEB).await;
    lab.kubectl("rollout status deployment/web -n shop --timeout=60s").await;
}

/// Replaces all pods of the Deployment under load from another pod.
async fn roll_under_load(lab: &Lab, what: &str) {
    let load = Running::load(lab, shop("frontend"), "http://web/").await;
    lab.kubectl("rollout restart deployment/web -n shop").await;
    lab.kubectl("rollout status deployment/web -n shop --timeout=60s").await;
    load.finish::<LoadReport>().await.assert_whole(what);
}

#[tokio::test]
async fn a_rolling_restart_in_the_mesh_loses_no_request() {
    let Some(lab) = Lab::start(&[]).await else { return };
    open(&lab).await;
    lab.capture().await;
    roll_under_load(&lab, "captured").await;
}

#[tokio::test]
async fn a_rolling_restart_without_the_mesh_loses_no_request() {
    let Some(lab) = Lab::start(&[]).await else { return };
    open(&lab).await;
    roll_under_load(&lab, "not captured").await;
}
