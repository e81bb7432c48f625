//! Policies that cannot be read, and have no good version that could stay.

use policy::Connection;
use prost::Message;
use proto::AUTHORIZATION_TYPE;
use proto::envoy::service::discovery::v3::Resource;
use proto::istio::security::{Action, Authorization, Scope};
use tokio::sync::watch;

use crate::support::{Fed, Scripted, Wire, policy, policy_resource, resource, response, start_client};

const OPEN: &str = "no allow policy applies";

/// What becomes of connections to workloads of a namespace that name no policy.
fn verdict(fed: &Fed, namespace: &str) -> String {
    let connection = Connection {
        source_ip: "10.0.0.1".parse().unwrap(),
        identity: Some("spiffe://cluster.local/ns/shop/sa/front".parse().unwrap()),
        destination: "10.0.0.2:80".parse().unwrap(),
    };
    fed.policies.borrow().evaluate(namespace, &[], &connection).decision.to_string()
}

/// A DENY policy with a condition that means nothing.
fn spoilt(name: &str, scope: Scope, dry_run: bool) -> Resource {
    let (scope, action) = (scope.into(), Action::Deny.into());
    let message = Authorization { scope, action, dry_run, ..policy(name, None) };
    resource(AUTHORIZATION_TYPE, &format!("shop/{name}"), "", message.encode_to_vec())
}

#[tokio::test]
async fn a_policy_that_never_was_good_denies_where_its_scope_says() {
    let mut server = Scripted::start().await;
    let fed = start_client(server.address, watch::channel("secret").1);
    let mut stream = server.stream().await;
    stream.opening().await;
    for (scope, dry_run, shop, bank) in [
        (Scope::Namespace, true, OPEN, OPEN),
        (Scope::WorkloadSelector, false, OPEN, OPEN),
        (Scope::Namespace, false, "policy cannot be read: shop/d", OPEN),
        (Scope::Global, false, "policy cannot be read: shop/d", "policy cannot be read: shop/d"),
    ] {
        stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![spoilt("d", scope, dry_run)], &[])).await;
        let found = (verdict(&fed, "shop"), verdict(&fed, "bank"));
        assert_eq!((&*found.0, &*found.1), (shop, bank), "{scope:?}, dry run: {dry_run}");
        stream.exchange(response(AUTHORIZATION_TYPE, "2", vec![], &["shop/d"])).await;
        assert_eq!((&*verdict(&fed, "shop"), &*verdict(&fed, "bank")), (OPEN, OPEN), "removed: {scope:?}");
    }
}

#[tokio::test]
async fn nonsense_instead_of_a_policy_denies_in_its_namespace_until_it_is_mended() {
    let mut server = Scripted::start().await;
    let fed = start_client(server.address, watch::channel("secret").1);
    let mut stream = server.stream().await;
    stream.opening().await;
    let empty = Resource { name: "shop/front".to_owned(), ..Resource::default() };
    let junk = resource(AUTHORIZATION_TYPE, "shop/front", "", vec![0xff]);
    // What calls itself another is not asked whether it would be enforced.
    let other = Resource { name: "shop/front".to_owned(), ..spoilt("other", Scope::WorkloadSelector, true) };
    for nonsense in [empty, junk, other] {
        stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![nonsense], &[])).await;
        assert_eq!(verdict(&fed, "shop"), "policy cannot be read: shop/front");
        assert_eq!(verdict(&fed, "bank"), OPEN);
        let good = policy_resource("front", Some("cluster.local/ns/shop/sa/front"));
        stream.exchange(response(AUTHORIZATION_TYPE, "2", vec![good], &[])).await;
        assert_eq!(verdict(&fed, "shop"), "allowed by: shop/front");
        stream.exchange(response(AUTHORIZATION_TYPE, "3", vec![], &["shop/front"])).await;
    }
}

#[tokio::test]
async fn a_spoilt_policy_that_goes_while_the_control_plane_is_away_denies_no_longer() {
    let mut server = Scripted::start().await;
    let wire = Wire::to(server.address).await;
    let fed = start_client(wire.address, watch::channel("secret").1);
    let mut stream = server.stream().await;
    stream.opening().await;
    stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![spoilt("d", Scope::Namespace, false)], &[])).await;
    wire.cut();
    let mut stream = server.stream().await;
    let [_, policies] = stream.opening().await;
    // Named, or the server would not say that it is gone; without a version, or the server might not send it again.
    assert_eq!(policies.initial_resource_versions, [("shop/d".to_owned(), String::new())].into());
    assert_eq!(verdict(&fed, "shop"), "policy cannot be read: shop/d");
    stream.exchange(response(AUTHORIZATION_TYPE, "1", vec![], &["shop/d"])).await;
    assert_eq!(verdict(&fed, "shop"), OPEN);
}
