//! What connections look like to applications, logs and metrics.

use std::time::Duration;

use discovery::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{World, cart, eventually, ipv6, is_cut, ping, rest, within};

#[tokio::test]
async fn a_connection_between_captured_pods_is_tunnelled_and_keeps_its_source() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let peers = cart.echo(8080);
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(peers.recv().unwrap().ip(), frontend.ip, "the application sees its client");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    let source = stream.local_addr().unwrap();

    let opened = world.nodes[0].line(&["debug\taccess\tconnection opened", &format!("src.addr={source}")]).await;
    assert!(opened.ends_with("direction=\"outbound\""), "{opened}");
    let outbound = world.nodes[0].line(&["connection complete", "direction=\"outbound\""]).await;
    let (ip, identity) = (cart.ip, cart.identity());
    let expected = format!(
        "info\taccess\tconnection complete\tsrc.addr={source} src.workload=\"frontend\" src.namespace=\"shop\" \
         src.identity=\"{}\" src.cluster=\"Kubernetes\" dst.addr={ip}:15008 dst.hbone_addr={ip}:8080 \
         dst.workload=\"cart\" dst.namespace=\"shop\" dst.identity=\"{identity}\" dst.cluster=\"Kubernetes\" \
         direction=\"outbound\" bytes_sent=5 bytes_recv=5 duration=",
        frontend.identity()
    );
    assert!(outbound.starts_with(&expected), "{outbound}\n{expected}");
    let inbound = world.nodes[1].line(&["connection complete", "direction=\"inbound\""]).await;
    for part in [
        "src.workload=\"frontend\"",
        &format!("src.identity=\"{}\"", frontend.identity()),
        &format!("dst.addr={ip}:15008 dst.hbone_addr={ip}:8080"),
        &format!("dst.identity=\"{identity}\""),
        "bytes_sent=5 bytes_recv=5",
    ] {
        assert!(inbound.contains(part), "{part} is not in {inbound}");
    }
    for (node, reporter) in world.nodes.iter().zip(["source", "destination"]) {
        let labels = [
            &format!("reporter=\"{reporter}\""),
            "source_workload=\"frontend-deployment\"",
            "destination_workload=\"cart-deployment\"",
            &format!("source_principal=\"{}\"", frontend.identity()),
            &format!("destination_principal=\"{identity}\""),
            "connection_security_policy=\"mutual_tls\"",
            "response_flags=\"-\"",
        ];
        for name in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
            assert_eq!(node.metric(name, &labels), 1, "{name} at {reporter}");
        }
        assert_eq!(node.metric("istio_tcp_received_bytes_total", &labels), 5);
        assert_eq!(node.metric("istio_tcp_sent_bytes_total", &labels), 5);
        assert_eq!(node.metric("istio_tcp_connections_failed_total", &[]), 0);
        assert_eq!(node.metric("istio_tcp_sockets_open", &[]), 0);
    }
}

#[tokio::test]
async fn many_connections_share_a_tunnel() {
    let Some(world) = World::with_config(&[("ZTUNNEL_WORKER_THREADS", "1")]).await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let peers = cart.echo(8080);
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(frontend.connect(cart.at(8080)).await.unwrap());
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let text = format!("connection {number}");
        assert_eq!(ping(stream, &text).await.unwrap(), text);
    }
    assert_eq!(peers.try_iter().count(), 20);
    assert_eq!(world.nodes[1].node.live_connections(), 20);
    drop(streams);
    eventually("all connections have ended", || world.nodes.iter().all(|node| node.node.live_connections() == 0)).await;
}

#[tokio::test]
async fn a_service_leads_to_an_endpoint_that_works() {
    let Some(world) = World::new().await else { return };
    let frontend = world.pod(0, "frontend").await;
    let alive = world.pod(1, "cart").await;
    alive.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    // An endpoint whose pod is there but whose proxy is not: refused at once, before a byte was sent.
    let dead = world.stranger("cart-2");
    world.publish(world.nodes[1].workload(&dead));
    for _ in 0..12 {
        let mut stream = frontend.connect("10.96.0.7:80".parse().unwrap()).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    }
    let line = world.nodes[0].line(&["connection complete", "bytes_sent=5"]).await;
    assert!(line.contains("dst.service=\"cart.shop.svc.cluster.local\" dst.workload=\"cart\""), "{line}");
    let inbound = world.nodes[1].line(&["connection complete", "bytes_sent=5"]).await;
    assert!(inbound.contains("dst.service=\"cart.shop.svc.cluster.local\""), "{inbound}");
}

#[tokio::test]
async fn when_no_endpoint_works_the_last_cause_is_told() {
    let Some(world) = World::new().await else { return };
    let frontend = world.pod(0, "frontend").await;
    world.publish_service(&cart("10.96.0.7", 8080));
    let dead = world.stranger("cart");
    world.publish(world.nodes[1].workload(&dead));
    assert!(is_cut(&frontend, "10.96.0.7:80".parse().unwrap()).await, "the connection is cut, not ended");
    let line = world.nodes[0].line(&["error\taccess\tconnection complete"]).await;
    assert!(line.contains("dst.workload=\"cart\"") && line.contains("refused"), "{line}");
    let failed = |name| world.nodes[0].metric(name, &["response_flags=\"CONNECT\"", "reporter=\"source\""]);
    assert_eq!(failed("istio_tcp_connections_failed_total"), 1);
    assert_eq!(failed("istio_tcp_connections_closed_total"), 1);

    world.publish(discovery::Workload { health: discovery::Health::Unhealthy, ..world.nodes[1].workload(&dead) });
    assert!(is_cut(&frontend, "10.96.0.7:80".parse().unwrap()).await);
    let line = world.nodes[0].line(&["connection failed", "no healthy upstream"]).await;
    assert!(line.starts_with("warn\taccess\t") && line.contains("dst.addr=10.96.0.7:80"), "{line}");
}

#[tokio::test]
async fn an_endpoint_that_left_the_mesh_while_one_waits_for_it_is_reached_in_plaintext() {
    let Some(world) = World::new().await else { return };
    let (frontend, leaving) = (world.pod(0, "frontend").await, world.stranger("leaving"));
    world.publish(world.nodes[1].workload(&leaving));
    leaving.echo(8080);
    let proxy = leaving.listen(15008);
    let mut stream = frontend.connect(leaving.at(8080)).await.unwrap();
    let (mut tunnel, _) = within(proxy.accept()).await.unwrap();
    world.publish(discovery::Workload { protocol: Protocol::Tcp, ..world.nodes[1].workload(&leaving) });
    // No interruption, which is worth another try anyway, but a refusal for good.
    tunnel.write_all(b"HTTP/1.1 421 Misdirected Request\r\n\r\n").await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    let again = tokio::time::timeout(Duration::from_millis(50), proxy.accept()).await;
    assert!(again.is_err(), "nobody tunnels to a pod that is known to be out");
}

#[tokio::test]
async fn an_endpoint_that_vanishes_without_a_word_is_not_waited_for() {
    let Some(world) = World::new().await else { return };
    let (frontend, vanishing) = (world.pod(0, "frontend").await, world.stranger("cart"));
    world.publish_service(&cart("10.96.0.7", 8080));
    world.publish(world.nodes[1].workload(&vanishing));
    // Takes the connection and never says anything.
    let proxy = vanishing.listen(15008);
    let mut stream = frontend.connect("10.96.0.7:80".parse().unwrap()).await.unwrap();
    let silent = within(proxy.accept()).await.unwrap();
    let other = world.pod(1, "cart-2").await;
    other.echo(8080);
    let withdrawn = discovery::Health::Unhealthy;
    world.publish(discovery::Workload { health: withdrawn, ..world.nodes[1].workload(&vanishing) });
    let answer = tokio::time::timeout(Duration::from_secs(3), ping(&mut stream, "hello")).await;
    assert_eq!(answer.expect("still waiting").unwrap(), "hello");
    drop(silent);
}

#[tokio::test]
async fn what_nobody_knows_is_left_alone() {
    let Some(world) = World::new().await else { return };
    let (frontend, outside) = (world.pod(0, "frontend").await, world.stranger("outside"));
    let peers = outside.echo(7);
    let mut stream = frontend.connect(outside.at(7)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(peers.recv().unwrap().ip(), frontend.ip);
    drop(stream);
    let line = world.nodes[0].line(&["connection complete"]).await;
    assert!(line.contains(&format!("dst.addr={} direction=", outside.at(7))), "{line}");
    assert!(!line.contains("identity"), "{line}");
    let labels = ["destination_workload=\"unknown\"", "connection_security_policy=\"unknown\""];
    assert_eq!(world.nodes[0].metric("istio_tcp_connections_opened_total", &labels), 1);
}

#[tokio::test]
async fn plaintext_from_outside_reaches_the_application_with_its_source() {
    let Some(world) = World::new().await else { return };
    let (outside, cart) = (world.stranger("outside"), world.pod(1, "cart").await);
    let peers = cart.echo(8080);
    let mut stream = outside.connect(cart.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!(peers.recv().unwrap().ip(), outside.ip);
    drop(stream);
    let line = world.nodes[1].line(&["connection complete", "direction=\"inbound\""]).await;
    assert!(line.contains(&format!("dst.addr={} dst.workload=\"cart\"", cart.at(8080))), "{line}");
    assert!(!line.contains("identity") && !line.contains("hbone"), "{line}");
}

#[tokio::test]
async fn ipv6_works_as_ipv4_does() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let outside = world.stranger("outside");
    let peers = cart.echo(8080);
    for client in [&frontend, &outside] {
        let mut stream = client.connect(cart.at_ipv6(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        assert_eq!(peers.recv().unwrap().ip(), ipv6(client.ip));
    }
    let tunnelled = world.nodes[1].line(&["connection complete", "src.workload=\"frontend\""]).await;
    let (ip, source) = (ipv6(cart.ip), ipv6(frontend.ip));
    assert!(tunnelled.contains(&format!("src.addr=[{source}]:")), "{tunnelled}");
    assert!(tunnelled.contains(&format!("dst.addr=[{ip}]:15008 dst.hbone_addr=[{ip}]:8080")), "{tunnelled}");
    let plain = world.nodes[1].line(&["connection complete", &format!("src.addr=[{}]:", ipv6(outside.ip))]).await;
    assert!(!plain.contains("hbone"), "{plain}");
}

#[tokio::test]
async fn a_workload_outside_the_mesh_is_reached_in_plaintext() {
    let Some(world) = World::new().await else { return };
    let (frontend, legacy) = (world.pod(0, "frontend").await, world.stranger("legacy"));
    world.publish(discovery::Workload { protocol: Protocol::Tcp, ..world.nodes[1].workload(&legacy) });
    legacy.echo(8080);
    let mut stream = frontend.connect(legacy.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    drop(stream);
    let line = world.nodes[0].line(&["connection complete"]).await;
    assert!(line.contains("dst.workload=\"legacy\"") && !line.contains("identity"), "{line}");
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let Some(world) = World::new().await else { return };
    let (frontend, mail) = (world.pod(0, "frontend").await, world.pod(1, "mail").await);
    let _peers = mail.serve(25, |mut stream| async move {
        let _ = stream.write_all(b"220 ready\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    });
    let mut stream = frontend.connect(mail.at(25)).await.unwrap();
    let mut greeting = [0; 11];
    within(stream.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
}

#[tokio::test]
async fn each_direction_ends_on_its_own() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    // Answers only when the client has ended, and then ends.
    let _peers = cart.serve(8080, |mut stream| async move {
        let mut question = Vec::new();
        let _ = stream.read_to_end(&mut question).await;
        let _ = stream.write_all(&question).await;
    });
    // Ends at once, and reads on.
    let (told, hears) = std::sync::mpsc::channel();
    let _peers = cart.serve(8081, move |mut stream| {
        let told = told.clone();
        async move {
            let _ = stream.shutdown().await;
            let mut question = Vec::new();
            let _ = stream.read_to_end(&mut question).await;
            let _ = told.send(question);
        }
    });
    let question = vec![7; 3_000_000];
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    within(stream.write_all(&question)).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), question);

    let mut stream = frontend.connect(cart.at(8081)).await.unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), b"");
    within(stream.write_all(&question)).await.unwrap();
    stream.shutdown().await.unwrap();
    eventually("the server has read everything", || hears.try_recv().is_ok_and(|heard| heard == question)).await;
    assert!(!world.nodes[0].line(&["connection complete", "bytes_sent=3000000"]).await.contains("error"));
}

#[tokio::test]
async fn a_reset_of_either_side_reaches_the_other() {
    let Some(world) = World::new().await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let (told, hears) = std::sync::mpsc::channel();
    let _peers = cart.serve(8080, move |mut stream| {
        let told = told.clone();
        async move {
            let mut first = [0; 1];
            let _ = stream.read_exact(&mut first).await;
            if first == *b"r" {
                let _ = stream.set_zero_linger();
            } else {
                let _ = told.send(stream.read(&mut first).await.map_err(|error| error.kind()));
            }
        }
    });
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    stream.write_all(b"r").await.unwrap();
    assert!(rest(&mut stream).await.is_err(), "the server's reset is seen");

    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    // The byte must be through: a reset overtakes what waits.
    eventually("the byte has arrived", || {
        world.nodes[1].metric("istio_tcp_received_bytes_total", &["reporter=\"destination\""]) == 2
    })
    .await;
    stream.set_zero_linger().unwrap();
    drop(stream);
    let outcome = std::cell::RefCell::new(None);
    eventually("the server hears of the end", || hears.try_recv().map(|heard| outcome.replace(Some(heard))).is_ok())
        .await;
    assert_eq!(outcome.into_inner().unwrap(), Err(std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_peer_that_stops_reading_does_not_hold_up_others() {
    let Some(world) = World::with_config(&[("ZTUNNEL_WORKER_THREADS", "1")]).await else { return };
    let (frontend, cart) = (world.pod(0, "frontend").await, world.pod(1, "cart").await);
    cart.echo(8080);
    let _peers = cart.serve(8081, |stream| async move {
        // Reads nothing, for as long as anybody cares.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        drop(stream);
    });
    let mut stuck = frontend.connect(cart.at(8081)).await.unwrap();
    let flood = tokio::spawn(async move {
        let chunk = vec![0; 1 << 20];
        for _ in 0..64 {
            stuck.write_all(&chunk).await?;
        }
        Ok::<_, std::io::Error>(())
    });
    let mut stream = frontend.connect(cart.at(8080)).await.unwrap();
    for number in 0..50 {
        let text = format!("still here {number}");
        assert_eq!(ping(&mut stream, &text).await.unwrap(), text);
    }
    assert!(!flood.is_finished(), "nobody reads 64 MiB");
    flood.abort();
}
