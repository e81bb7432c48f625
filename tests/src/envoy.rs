//! A proxy that others wrote at the other end of the tunnels: as client, as server, and as waypoint.

use crate::support::envoy::{Envoy, PROGRAMS, Plan, Relay};
use crate::support::lab::{Lab, Place, shop};
use crate::support::load::{Running, StreamReport, h2load};
use crate::support::{eventually, within};

use std::time::Duration;

const PODS: &str = include_str!("../fixtures/shop.yaml");
const NOT_GATEWAY: &str = include_str!("../fixtures/not-gateway.yaml");
const WAYPOINT: &str = include_str!("../fixtures/waypoint.yaml");

/// A policy, or a waypoint, is in force within this time.
const IN_FORCE: Duration = Duration::from_secs(10);

/// Requests of a load: enough for many tunnels to be open at once all the time.
const REQUESTS: u32 = 3000;

fn identity(account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
}

fn relay(from: &str, to: String) -> Relay {
    Relay { from: from.to_owned(), to }
}

/// Sends some bytes there and back, closes one half, and sees the other one closed.
async fn stream(lab: &Lab, from: Place<'_>, to: &str) {
    let stream = Running::stream(lab, from, to).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stream.finish::<StreamReport>().await.assert_whole(&format!("{from:?} to {to}"));
}

/// Asks until the answer is there, or until it fails.
async fn wait_for(lab: &Lab, from: Place<'_>, url: &str, answered: bool) {
    let what = format!("{url} {}", if answered { "answers" } else { "fails" });
    within(IN_FORCE, &what, async || (lab.curl(from, url).await.is_ok() == answered).then_some(())).await;
}

#[tokio::test]
async fn envoy_reaches_captured_pods_through_tunnels_of_its_own() {
    let Some(lab) = Lab::start(&PROGRAMS).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    let cart = lab.address("cart").await;
    let listeners = [("127.0.0.1:20000", 8080), ("127.0.0.1:20001", 9000), ("127.0.0.1:20002", 4444)];
    let listeners = listeners.map(|(from, port)| relay(from, format!("{cart}:{port}"))).to_vec();
    let envoy = Envoy::start(&lab, "gateway", &[], &Plan { listeners, ..Plan::default() }).await;
    let url = "http://127.0.0.1:20000/";

    // The application sees the address of Envoy's pod, and the node proxy its identity.
    let answer = lab.curl(envoy.place(), url).await.unwrap();
    assert!(answer.contains(&format!("\"source\": \"{}:", envoy.address)), "{answer}");
    let client = format!("src.identity=\"{}\"", identity("gateway"));
    let target = format!("dst.hbone_addr={cart}:8080");
    let line = lab.wait_for_log("node-2", &["connection complete", &client, &target]).await;
    assert!(line.contains("src.workload=\"gateway\"") && line.contains("direction=\"inbound\""), "{line}");
    envoy.wait_for_log(&["originate:", &format!("server={}", identity("cart")), "flags=-"]).await;
    stream(&lab, envoy.place(), "127.0.0.1:20001").await;

    // Many tunnels at once share connections: as many as the node proxy permits on one.
    assert_eq!(envoy.count("cluster.connect_originate.upstream_cx_total").await, 1);
    h2load(&lab, envoy.place(), &["--h1", "-c", "250"], url, REQUESTS).await;
    assert!(envoy.count("cluster.connect_originate.upstream_rq_total").await >= 250);
    let connections = envoy.count("cluster.connect_originate.upstream_cx_total").await;
    assert!((1..=3).contains(&connections), "{connections} connections for 250 tunnels");

    // Nobody listens there.
    lab.curl(envoy.place(), "http://127.0.0.1:20002/").await.unwrap_err();
    envoy.wait_for_log(&["originate:", &format!("local={cart}:4444"), "failure=tunnel_response:503"]).await;

    // A policy cuts what lives and refuses what is new; the connection that they share stays.
    let resets = envoy.count("cluster.connect_originate.http2.rx_reset").await;
    let mut denied = Running::stream(&lab, envoy.place(), "127.0.0.1:20001").await;
    lab.apply(NOT_GATEWAY).await;
    eventually("the stream is cut", async || (!denied.goes_on()).then_some(())).await;
    let denied: StreamReport = denied.report().await;
    // Envoy tells its own client less than it was told.
    assert!(!denied.whole && denied.received > 0, "{denied:?}");
    assert!(envoy.count("cluster.connect_originate.http2.rx_reset").await > resets, "ended in order, not reset");
    lab.wait_for_log("node-2", &[&client, "connection closed due to policy change"]).await;
    wait_for(&lab, envoy.place(), url, false).await;
    envoy.wait_for_log(&["originate:", &format!("local={cart}:8080"), "failure=tunnel_response:401"]).await;
    lab.wait_for_log("node-2", &[&client, "explicitly denied by: shop/not-gateway"]).await;
    lab.kubectl("delete authorizationpolicy not-gateway -n shop").await;
    wait_for(&lab, envoy.place(), url, true).await;
    assert_eq!(envoy.count("cluster.connect_originate.upstream_cx_total").await, connections);
}

#[tokio::test]
async fn captured_pods_reach_an_envoy_that_ends_their_tunnels() {
    let Some(lab) = Lab::start(&PROGRAMS).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    let plan = Plan { denied: Some("spiffe://cluster.local/ns/shop/sa/payment"), ..Plan::default() };
    let envoy = Envoy::start(&lab, "terminal", &[("networking.istio.io/tunnel", "http")], &plan).await;
    let url = format!("http://{}:8080/", envoy.address);
    let peer = format!("peer={}", identity("frontend"));

    // Discovery may be a moment behind, and then the connection would be plaintext.
    let look = async || {
        lab.curl(shop("frontend"), &url).await.unwrap();
        envoy.log().await.contains(&peer).then_some(())
    };
    within(IN_FORCE, "a tunnel to Envoy", look).await;
    let line = envoy.wait_for_log(&["terminate:", &peer, &format!("authority={}:8080", envoy.address)]).await;
    assert!(line.contains("code=200") && line.contains("k8s.pod.name=frontend"), "{line}");
    assert!(line.contains("forwarded=for="), "{line}");
    let server = format!("dst.identity=\"{}\"", identity("terminal"));
    let target = format!("dst.hbone_addr={}:8080", envoy.address);
    let line = lab.wait_for_log("node-1", &["connection complete", &server, &target]).await;
    assert!(line.contains(&format!("src.identity=\"{}\"", identity("frontend"))), "{line}");
    stream(&lab, shop("frontend"), &format!("{}:9000", envoy.address)).await;

    // Envoy takes a hundred tunnels on a connection; more take another one, and none is lost.
    h2load(&lab, shop("frontend"), &["--h1", "-c", "250"], &url, REQUESTS).await;
    assert!(envoy.count("http.connect_terminate.downstream_rq_total").await >= 250);
    let connections = envoy.count("listener.0.0.0.0_15008.ssl.handshake").await;
    assert!((3..=8).contains(&connections), "{connections} connections for 250 tunnels");

    // Envoy's refusal is a refusal, and says so on our side.
    lab.curl(shop("payment"), &url).await.unwrap_err();
    envoy.wait_for_log(&["terminate:", &format!("peer={}", identity("payment")), "code=403", "rbac"]).await;
    lab.wait_for_log("node-2", &[&server, "http status: 403"]).await;

    // Its end is seen at once, and so is that it is back.
    let mut cut = Running::stream(&lab, shop("frontend"), &format!("{}:9000", envoy.address)).await;
    envoy.quit().await;
    eventually("the stream is cut", async || (!cut.goes_on()).then_some(())).await;
    let cut: StreamReport = cut.report().await;
    assert!(!cut.whole && cut.received > 0, "{cut:?}");
    wait_for(&lab, shop("frontend"), &url, true).await;
    envoy.wait_for_log(&["terminate:", &peer, "code=200"]).await;
}

#[tokio::test]
async fn an_envoy_waypoint_gets_what_is_meant_for_its_services() {
    let Some(lab) = Lab::start(&PROGRAMS).await else { return };
    lab.open_shop(PODS).await;
    lab.capture().await;
    lab.apply(WAYPOINT).await;
    let clusters = lab.get("service waypoint cart -n shop").await;
    let [waypoint, vip] =
        [0, 1].map(|index| clusters["items"][index]["spec"]["clusterIP"].as_str().unwrap().to_owned());
    let (cart, denied) = (lab.address("cart").await, Some("spiffe://cluster.local/ns/shop/sa/payment"));
    let services = vec![
        relay(&format!("{vip}:80"), format!("{cart}:8080")),
        relay(&format!("{vip}:9000"), format!("{cart}:9000")),
    ];
    let labels = [("gateway.networking.k8s.io/gateway-name", "waypoint")];
    let envoy = Envoy::start(&lab, "waypoint", &labels, &Plan { services, denied, ..Plan::default() }).await;
    // The control plane has found the Service and says where the waypoint is.
    lab.kubectl("wait gateway/waypoint -n shop --for=condition=Programmed --timeout=10s").await;
    let status = lab.get("gateway waypoint -n shop").await["status"].clone();
    let addresses = status["addresses"].as_array().unwrap();
    for expected in [waypoint.as_str(), "waypoint.shop.svc.cluster.local"] {
        assert!(addresses.iter().any(|address| address["value"] == expected), "{status}");
    }
    lab.kubectl("label service cart -n shop istio.io/use-waypoint=waypoint").await;

    let peer = format!("peer={}", identity("frontend"));
    let look = async || {
        lab.curl(shop("frontend"), "http://cart/").await.unwrap();
        envoy.log().await.contains(&peer).then_some(())
    };
    within(IN_FORCE, "the waypoint is asked", look).await;
    // It is asked for what the application dialled, and for which service.
    let line = envoy.wait_for_log(&["terminate:", &peer, &format!("authority={vip}:80")]).await;
    assert!(line.contains("code=200") && line.contains("host=cart.shop.svc.cluster.local"), "{line}");
    // The node proxy of the destination sees the waypoint, and so does the application.
    let client = format!("src.identity=\"{}\"", identity("waypoint"));
    lab.wait_for_log("node-2", &["connection complete", &client, &format!("dst.hbone_addr={cart}:8080")]).await;
    let answer = lab.curl(shop("frontend"), "http://cart/").await.unwrap();
    assert!(answer.contains(&format!("\"source\": \"{}:", envoy.address)), "{answer}");
    let line = lab.wait_for_log("node-1", &["dst.workload=\"waypoint\"", &format!("dst.hbone_addr={vip}:80")]).await;
    assert!(line.contains("dst.service=\"cart.shop.svc.cluster.local\""), "{line}");
    stream(&lab, shop("frontend"), "cart:9000").await;
    h2load(&lab, shop("frontend"), &["--h1", "-c", "80"], "http://cart/", REQUESTS).await;

    // Whom the waypoint refuses gets no further, although their node could reach the pod.
    lab.curl(shop("payment"), "http://cart/").await.unwrap_err();
    envoy.wait_for_log(&["terminate:", &format!("peer={}", identity("payment")), "code=403"]).await;
    lab.wait_for_log("node-2", &["dst.workload=\"waypoint\"", "http status: 403"]).await;
    // The pod's own address has no waypoint.
    lab.curl(shop("payment"), &format!("http://{cart}:8080/")).await.unwrap();
    // Without waypoint the service has none again.
    lab.kubectl("label service cart -n shop istio.io/use-waypoint-").await;
    wait_for(&lab, shop("payment"), "http://cart/", true).await;
}
