//! Policy at the destination: when a connection comes, and while it lives.

use policy::{Action, Authorization, Clause, Match, Rule, Scope, StringMatch};
use std::sync::Arc;
use types::NamespacedName;

use crate::world::{World, is_cut, ping, rest};

pub(crate) fn policy(name: &str, scope: Scope, action: Action, condition: Option<Match>) -> Authorization {
    let rules = condition.map(|condition| Rule { clauses: vec![Clause { matches: vec![condition] }] });
    Authorization {
        key: NamespacedName::new("shop", name),
        scope,
        action,
        dry_run: false,
        rules: rules.into_iter().collect(),
    }
}

pub(crate) fn principal(name: &str) -> Match {
    let principal = StringMatch::Exact(Arc::from(format!("cluster.local/ns/shop/sa/{name}")));
    Match { principals: vec![principal], ..Match::default() }
}

pub(crate) fn strict() -> Authorization {
    let nobody = Match { not_principals: vec![StringMatch::Presence], ..Match::default() };
    policy("strict", Scope::Namespace, Action::Deny, Some(nobody))
}

#[tokio::test]
async fn a_client_is_judged_by_its_identity() {
    let Some(world) = World::new().await else { return };
    let cart = world.pod(1, "cart").await;
    let (frontend, payment) = (world.pod(0, "frontend").await, world.pod(0, "payment").await);
    cart.echo(8080);
    world.enforce(&[policy("only-frontend", Scope::Namespace, Action::Allow, Some(principal("frontend")))]);
    let mut allowed = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut allowed, "hello").await.unwrap(), "hello");
    assert!(is_cut(&payment, cart.at(8080)).await);

    let line = world.nodes[1].line(&["error\taccess\tconnection complete", "src.workload=\"payment\""]).await;
    let reason = "error=\"connection closed due to policy rejection: allow policies exist, but none allowed";
    assert!(line.contains(reason), "{line}");
    let labels = ["reporter=\"destination\"", "response_flags=\"DENY\"", "source_workload=\"payment-deployment\""];
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_closed_total", &labels), 1);
    // The client's side gives up after 401: a verdict holds for every endpoint.
    let line = world.nodes[0].line(&["error\taccess\tconnection complete", "src.workload=\"payment\""]).await;
    assert!(line.ends_with("error=\"http status: 401\""), "{line}");
    assert_eq!(ping(&mut allowed, "still").await.unwrap(), "still", "the tunnel of others goes on");
}

#[tokio::test]
async fn strict_mode_turns_plaintext_away_and_lets_the_mesh_in() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart, outside) = (world.pod(0, "frontend").await, world.pod(1, "cart").await, world.stranger("out"));
    let peers = cart.echo(8080);
    world.enforce(&[strict()]);
    assert!(is_cut(&outside, cart.at(8080)).await);
    let line = world.nodes[1].line(&["error\taccess\tconnection complete"]).await;
    assert!(line.contains("explicitly denied by: shop/strict"), "{line}");
    assert!(peers.try_recv().is_err(), "the application was not bothered");
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_policy_that_has_not_arrived_denies_until_it_does() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let named = NamespacedName::new("shop", "late");
    world.publish(discovery::Workload { authorization_policies: vec![named].into(), ..world.nodes[1].workload(&cart) });
    assert!(is_cut(&frontend, cart.at(8080)).await);
    world.nodes[1].line(&["policy not received yet: shop/late"]).await;
    world.enforce(&[policy("late", Scope::WorkloadSelector, Action::Deny, Some(principal("payment")))]);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_policy_change_closes_what_it_denies_at_once() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart, outside) = (world.pod(0, "frontend").await, world.pod(1, "cart").await, world.stranger("out"));
    let payment = world.pod(0, "payment").await;
    cart.echo(8080);
    let mut tunnelled = frontend.connect(cart.at(8080)).await.unwrap();
    let mut plain = outside.connect(cart.at(8080)).await.unwrap();
    let mut spared = payment.connect(cart.at(8080)).await.unwrap();
    for stream in [&mut tunnelled, &mut plain, &mut spared] {
        assert_eq!(ping(stream, "hello").await.unwrap(), "hello");
    }
    world.enforce(&[policy("no-frontend", Scope::Namespace, Action::Deny, Some(principal("frontend"))), strict()]);
    assert!(rest(&mut tunnelled).await.is_err(), "cut, not ended: the client must not take it for complete");
    assert!(rest(&mut plain).await.is_err());
    assert_eq!(ping(&mut spared, "still here").await.unwrap(), "still here");
    for source in [frontend.ip, outside.ip] {
        let line = world.nodes[1].line(&["error\taccess\tconnection complete", &format!("src.addr={source}:")]).await;
        assert!(line.contains("bytes_sent=5 bytes_recv=5"), "{line}");
        assert!(line.ends_with("error=\"connection closed due to policy change\""), "{line}");
    }
    let denied = ["reporter=\"destination\"", "response_flags=\"DENY\""];
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_closed_total", &denied), 2);
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_failed_total", &denied), 2);

    world.revoke("shop/no-frontend");
    let mut again = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut again, "hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_policy_that_comes_to_select_a_workload_closes_what_it_denies() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart, payment) =
        (world.pod(0, "frontend").await, world.pod(1, "cart").await, world.pod(0, "payment").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    let mut spared = payment.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(ping(&mut spared, "hello").await.unwrap(), "hello");
    // The workload names the policy before it arrives: new connections wait outside, live ones for the verdict.
    world.publish(discovery::Workload {
        authorization_policies: vec![NamespacedName::new("shop", "selected")].into(),
        ..world.nodes[1].workload(&cart)
    });
    assert!(is_cut(&frontend, cart.at(8080)).await);
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    world.enforce(&[policy("selected", Scope::WorkloadSelector, Action::Deny, Some(principal("frontend")))]);
    assert!(rest(&mut stream).await.is_err(), "cut, not ended");
    assert_eq!(ping(&mut spared, "still here").await.unwrap(), "still here");
}

#[tokio::test]
async fn the_order_in_which_policy_and_selection_arrive_does_not_matter() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    world.enforce(&[policy("selected", Scope::WorkloadSelector, Action::Deny, Some(principal("frontend")))]);
    assert_eq!(ping(&mut stream, "not selected yet").await.unwrap(), "not selected yet");
    world.publish(discovery::Workload {
        authorization_policies: vec![NamespacedName::new("shop", "selected")].into(),
        ..world.nodes[1].workload(&cart)
    });
    assert!(rest(&mut stream).await.is_err(), "cut, not ended");
}
