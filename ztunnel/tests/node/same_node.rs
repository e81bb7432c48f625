//! Connections between two pods of one node: without a tunnel, and in everything else as with one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use discovery::{Health, Workload};
use policy::{Action, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use types::NamespacedName;
use zds::agent::Answer;

use crate::policy::{policy, principal, strict};
use crate::world::{TestPod, World, cart, eventually, ipv6, is_cut, ping, rest, within};

const LOCAL: &str = "connection_security_policy=\"same_node\"";
const TUNNELLED: &str = "connection_security_policy=\"mutual_tls\"";

/// A node with a client and a server.
async fn pair(world: &World) -> (TestPod, TestPod) {
    (world.pod(0, "frontend").await, world.pod(0, "cart").await)
}

fn opened(world: &World, labels: &[&str]) -> u64 {
    world.nodes.iter().map(|node| node.metric("istio_tcp_connections_opened_total", labels)).sum()
}

#[tokio::test]
async fn two_pods_of_a_node_need_no_tunnel_and_both_sides_report() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let node = &world.nodes[0];
    let peers = cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(peers.recv().unwrap().ip(), frontend.ip, "the application sees its client");
    assert_eq!(node.node.live_connections(), 2, "each side is a connection");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");

    let (source, ip) = (stream.local_addr().unwrap(), cart.ip);
    for direction in ["outbound", "inbound"] {
        let line = node.line(&["connection complete", &format!("direction=\"{direction}\"")]).await;
        let expected = format!(
            "info\taccess\tconnection complete\tsrc.addr={source} src.workload=\"frontend\" src.namespace=\"shop\" \
             src.identity=\"{}\" src.cluster=\"Kubernetes\" dst.addr={ip}:8080 dst.workload=\"cart\" \
             dst.namespace=\"shop\" dst.identity=\"{}\" dst.cluster=\"Kubernetes\" direction=\"{direction}\" \
             bytes_sent=5 bytes_recv=5 duration=",
            frontend.identity(),
            cart.identity()
        );
        assert!(line.starts_with(&expected), "{line}\n{expected}");
    }
    for reporter in ["source", "destination"] {
        let labels = [
            &format!("reporter=\"{reporter}\""),
            "source_workload=\"frontend-deployment\"",
            "destination_workload=\"cart-deployment\"",
            &format!("source_principal=\"{}\"", frontend.identity()),
            &format!("destination_principal=\"{}\"", cart.identity()),
            LOCAL,
            "response_flags=\"-\"",
        ];
        for name in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
            assert_eq!(node.metric(name, &labels), 1, "{name} at {reporter}");
        }
        assert_eq!(node.metric("istio_tcp_received_bytes_total", &labels), 5);
        assert_eq!(node.metric("istio_tcp_sent_bytes_total", &labels), 5);
    }
    assert_eq!(node.metric("istio_tcp_sockets_open", &[]), 0);
    eventually("both sides have ended", || node.node.live_connections() == 0).await;
}

#[tokio::test]
async fn a_service_and_ipv6_are_handed_over_too() {
    let Some(world) = World::new().await else { return };
    let (frontend, server) = pair(&world).await;
    let peers = server.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    for (target, client) in [("10.96.0.7:80".parse().unwrap(), frontend.ip), (server.at_ipv6(8080), ipv6(frontend.ip))]
    {
        let mut stream = frontend.connect(target).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        assert_eq!(peers.recv().unwrap().ip(), client);
    }
    let service = "destination_service=\"cart.shop.svc.cluster.local\"";
    assert_eq!(opened(&world, &[LOCAL, service, "reporter=\"destination\""]), 2);
    assert_eq!(opened(&world, &[LOCAL]), 4);
    assert_eq!(opened(&world, &[]), 4);
}

#[tokio::test]
async fn a_pod_may_talk_to_itself_through_a_service() {
    let Some(world) = World::new().await else { return };
    let own = world.pod(0, "cart").await;
    own.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    let mut stream = own.connect("10.96.0.7:80".parse().unwrap()).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(opened(&world, &[LOCAL]), 2);
}

#[tokio::test]
async fn the_knob_turns_it_off() {
    let Some(world) = World::with_config(&[("SAME_NODE_HANDOVER", "false")]).await else { return };
    let (frontend, cart) = pair(&world).await;
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!((opened(&world, &[LOCAL]), opened(&world, &[TUNNELLED])), (0, 2));
}

#[tokio::test]
async fn policy_is_never_gone_around() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let payment = world.pod(0, "payment").await;
    let node = &world.nodes[0];
    let peers = cart.echo(8080);
    let only_frontend = policy("only-frontend", Scope::Namespace, Action::Allow, Some(principal("frontend")));
    world.enforce(&[strict(), only_frontend]);
    let mut allowed = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut allowed, "hello").await.unwrap(), "hello", "who is proven is no plaintext client");
    peers.recv().unwrap();
    assert!(is_cut(&payment, cart.at(8080)).await);
    assert!(peers.try_recv().is_err(), "the application was not bothered");
    for (direction, reporter) in [("inbound", "destination"), ("outbound", "source")] {
        let direction = format!("direction=\"{direction}\"");
        let line = node.line(&["error\taccess\tconnection complete", "src.workload=\"payment\"", &direction]).await;
        let reason = "error=\"connection closed due to policy rejection: allow policies exist, but none allowed";
        assert!(line.contains(reason), "{line}");
        let labels = [LOCAL, &format!("reporter=\"{reporter}\""), "response_flags=\"DENY\""];
        assert_eq!(node.metric("istio_tcp_connections_failed_total", &labels), 1);
    }

    let named = NamespacedName::new("shop", "late");
    world.publish(Workload { authorization_policies: vec![named].into(), ..node.workload(&cart) });
    assert!(is_cut(&frontend, cart.at(8080)).await);
    node.line(&["policy not received yet: shop/late", "direction=\"inbound\""]).await;
    assert_eq!(ping(&mut allowed, "still").await.unwrap(), "still");
}

#[tokio::test]
async fn a_policy_change_closes_both_sides_at_once() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let (told, hears) = std::sync::mpsc::channel();
    let _peers = cart.serve(8080, move |mut stream| {
        let told = told.clone();
        async move {
            let mut bytes = [0; 5];
            let _ = stream.read_exact(&mut bytes).await;
            let _ = stream.write_all(&bytes).await;
            let _ = told.send(stream.read(&mut bytes).await.map_err(|error| error.kind()));
        }
    });
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    world.enforce(&[policy("no-frontend", Scope::Namespace, Action::Deny, Some(principal("frontend")))]);
    assert!(rest(&mut stream).await.is_err(), "cut, not ended");
    let outcome = std::cell::RefCell::new(None);
    eventually("the server hears of it", || hears.try_recv().map(|heard| outcome.replace(Some(heard))).is_ok()).await;
    assert_eq!(outcome.into_inner().unwrap(), Err(std::io::ErrorKind::ConnectionReset));
    for direction in ["inbound", "outbound"] {
        let line = world.nodes[0].line(&["connection complete", &format!("direction=\"{direction}\"")]).await;
        assert!(line.contains("bytes_sent=5 bytes_recv=5"), "{line}");
        assert!(line.ends_with("error=\"connection closed due to policy change\""), "{line}");
    }
    assert_eq!(world.nodes[0].metric("istio_tcp_connections_failed_total", &["response_flags=\"DENY\"", LOCAL]), 2);
    assert!(is_cut(&frontend, cart.at(8080)).await);
}

#[tokio::test]
async fn a_pod_that_another_process_serves_is_reached_through_the_tunnel() {
    let Some(world) = World::new().await else { return };
    let frontend = world.pod(0, "frontend").await;
    let cart = world.captured("cart");
    cart.echo(8080);
    world.publish(world.nodes[0].workload(&cart));
    let successor = world.successor(0).await;
    assert_eq!(successor.add(&cart).await, Answer::Acknowledged);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(opened(&world, &[TUNNELLED, "reporter=\"source\""]), 1);
    assert_eq!(successor.metric("istio_tcp_connections_opened_total", &[TUNNELLED]), 1);

    // Nobody serves it any more: nothing is sent in plaintext instead.
    successor.del(&cart).await;
    assert!(is_cut(&frontend, cart.at(8081)).await);
    assert_eq!(opened(&world, &[LOCAL]), 0);
}

#[tokio::test]
async fn a_pod_that_leaves_keeps_what_was_handed_over() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let node = &world.nodes[0];
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    node.del(&cart).await;
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    // No longer served: the tunnel is tried, and finds no listener once that is gone.
    let refused = async {
        while let Ok(mut late) = frontend.connect(cart.at(8080)).await {
            if ping(&mut late, "late").await.is_err() {
                return;
            }
        }
    };
    within(refused).await;
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    assert_eq!(node.add(&cart).await, Answer::Acknowledged);
    let mut again = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut again, "back").await.unwrap(), "back");
}

#[tokio::test]
async fn a_drain_waits_for_what_was_handed_over_and_ends_it_at_the_deadline() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let node = &world.nodes[0];
    cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    node.drain.start(Duration::from_secs(1));
    assert_eq!(ping(&mut stream, "still here").await.unwrap(), "still here");
    assert!(rest(&mut stream).await.is_err(), "cut at the deadline");
    for direction in ["inbound", "outbound"] {
        let line = node.line(&["connection complete", &format!("direction=\"{direction}\"")]).await;
        assert!(line.ends_with("error=\"connection closed due to connection drain\""), "{line}");
    }
    assert_eq!(within(node.drain.finished()).await, ::drain::Drained::Complete);
}

#[tokio::test]
async fn who_does_not_come_from_the_pods_own_address_is_not_taken_for_somebody_else() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let peers = cart.echo(8080);
    let socket = frontend.netns.run(|| {
        linux::link::add_address("eth0", "10.244.7.7/32".parse().unwrap())?;
        let socket = TcpSocket::new_v4()?;
        socket.bind("10.244.7.7:0".parse().unwrap())?;
        std::io::Result::Ok(socket)
    });
    let mut stream = within(socket.unwrap().unwrap().connect(cart.at(8080))).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(peers.recv().unwrap().ip(), frontend.ip, "an address of its own choice counts for nothing");
    assert_eq!((opened(&world, &[LOCAL]), opened(&world, &[TUNNELLED])), (0, 2));
}

#[tokio::test]
async fn an_application_that_refuses_is_passed_over() {
    let Some(world) = World::new().await else { return };
    let (frontend, alive) = pair(&world).await;
    // Captured and served, but nothing listens in it.
    let dead = world.pod(0, "cart-2").await;
    alive.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    let service: SocketAddr = "10.96.0.7:80".parse().unwrap();
    for _ in 0..12 {
        let mut stream = frontend.connect(service).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    world.nodes[0].line(&["error\taccess", "direction=\"inbound\"", "dst.workload=\"cart-2\"", "refused"]).await;
    world.publish(Workload { health: Health::Unhealthy, ..world.nodes[0].workload(&alive) });
    assert!(is_cut(&frontend, service).await);
    let line = world.nodes[0].line(&["error\taccess", "direction=\"outbound\"", "dst.workload=\"cart-2\""]).await;
    assert!(line.contains("refused"), "{line}");
    drop(dead);
}

#[tokio::test]
async fn a_successor_of_the_same_name_is_told_from_its_predecessor() {
    let Some(world) = World::new().await else { return };
    let (frontend, old) = pair(&world).await;
    old.echo(8080);
    // The same name at another address, before the old one is taken back.
    let new = world.pod(0, "cart").await;
    let peers = new.echo(8080);
    for _ in 0..4 {
        let mut stream = frontend.connect(new.at(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    assert_eq!(peers.try_iter().count(), 4);
    assert_eq!(opened(&world, &[LOCAL, "reporter=\"destination\""]), 4);
}

#[tokio::test]
async fn each_direction_ends_on_its_own_without_a_tunnel_too() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = pair(&world).await;
    let _peers = cart.serve(8080, |mut stream| async move {
        let mut question = Vec::new();
        let _ = stream.read_to_end(&mut question).await;
        let _ = stream.write_all(&question).await;
    });
    let question = Arc::new(vec![7; 3_000_000]);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    within(stream.write_all(&question)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), *question);
    for direction in ["inbound", "outbound"] {
        let line = world.nodes[0].line(&["connection complete", &format!("direction=\"{direction}\"")]).await;
        assert!(line.contains("bytes_sent=3000000 bytes_recv=3000000") && !line.contains("error"), "{line}");
    }
}
