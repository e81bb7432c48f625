//! Certificates that are revoked, of clients and of servers, before and while they are connected.

use std::path::Path;
use std::time::SystemTime;

use telemetry::traffic::Reporter;
use tokio::io::AsyncWriteExt;

use crate::world::{TestPod, World, cart, eventually, is_cut, ping, rest, service_key, within};

/// The pods' certificates as their peers see them, by a handshake with each.
async fn certificate(world: &World, asker: &TestPod, of: &TestPod) -> String {
    let own = world.certificate(&asker.identity());
    let stream = asker.connect(of.at(15008)).await.unwrap();
    let (_stream, peer) = within(tls::connect(stream, &own, &[of.identity()])).await.unwrap();
    peer.chain()[0].pem.clone()
}

fn publish(world: &World, path: &Path, revoked: &[&str]) {
    let list = world.authority().revocation_list(revoked, 1, SystemTime::now()).unwrap();
    // As a volume does it: the new file takes the old one's place at once.
    let next = path.with_extension("next");
    std::fs::write(&next, list).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn rejections(world: &World, node: usize, reporter: Reporter) -> u64 {
    let reporter = if reporter == Reporter::Source { "reporter=\"source\"" } else { "reporter=\"destination\"" };
    world.nodes[node].metric("istio_crl_policy_rejections_total", &[reporter])
}

#[tokio::test]
async fn a_revoked_server_is_not_talked_to_and_live_tunnels_to_it_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca-crl.pem");
    let Some(world) = World::with_config(&[("CRL_PATH", path.to_str().unwrap())]).await else { return };
    let (raw, client, server) = (world.stranger("raw"), world.pod(0, "frontend").await, world.pod(1, "cart").await);
    let other = world.pod(1, "other").await;
    server.echo(8080);
    other.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    assert_eq!(service_key("cart").namespace.as_ref(), "shop");
    // There is no file yet, and nothing is revoked.
    let mut stream = client.connect(server.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    let mut bystander = client.connect(other.at(8080)).await.unwrap();
    assert_eq!(ping(&mut bystander, "hello").await.unwrap(), "hello");

    let revoked = certificate(&world, &raw, &server).await;
    publish(&world, &path, &[&revoked]);
    assert!(within(rest(&mut stream)).await.is_err(), "the live connection is cut");
    let line = world.nodes[0].line(&["direction=\"outbound\"", "certificate was revoked"]).await;
    assert!(line.contains("dst.workload=\"cart\""), "{line}");
    assert!(is_cut(&client, server.at(8080)).await);
    world.nodes[0].line(&["the certificate of spiffe://cluster.local/ns/shop/sa/cart is revoked"]).await;
    assert!(rejections(&world, 0, Reporter::Source) >= 2);
    let flagged = ["response_flags=\"CERT_REVOKED\"", "reporter=\"source\""];
    eventually("both are counted", || world.nodes[0].metric("istio_tcp_connections_closed_total", &flagged) == 2).await;
    // Others go on.
    assert_eq!(ping(&mut bystander, "again").await.unwrap(), "again");

    // What cannot be read leaves in force what was read before; an empty file takes everything back.
    std::fs::write(&path, "nonsense").unwrap();
    assert!(is_cut(&client, server.at(8080)).await);
    std::fs::write(&path, "").unwrap();
    let back = async {
        loop {
            if let Ok(mut stream) = client.connect(server.at(8080)).await
                && ping(&mut stream, "hello").await.is_ok()
            {
                return;
            }
        }
    };
    within(back).await;
}

#[tokio::test]
async fn a_revoked_client_is_turned_away_and_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca-crl.pem");
    let Some(world) = World::with_config(&[("CRL_PATH", path.to_str().unwrap())]).await else { return };
    let (raw, server) = (world.stranger("raw"), world.pod(1, "cart").await);
    server.echo(8080);
    let identity = raw.identity();
    let own = world.certificate(&identity);
    let dial = async || {
        let stream = raw.connect(server.at(15008)).await.unwrap();
        let (stream, _peer) = within(tls::connect(stream, &own, &[server.identity()])).await.unwrap();
        let parameters = hbone::Parameters::default();
        let (client, driver) = within(Box::pin(hbone::client::handshake(stream, &parameters))).await.unwrap();
        let driver = tokio::spawn(driver);
        let request = hbone::client::Connect::new(server.at(8080).to_string().parse().unwrap());
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        (client.connect(&request, deadline).await, driver)
    };
    let (connected, driver) = dial().await;
    let mut stream = connected.unwrap().stream;
    stream.write_all(b"hello").await.unwrap();

    publish(&world, &path, &[&own.chain()[0].pem]);
    within(driver).await.unwrap().unwrap_err();
    world.nodes[1].line(&["direction=\"inbound\"", "certificate was revoked"]).await;
    let flagged = ["response_flags=\"CERT_REVOKED\"", "reporter=\"destination\""];
    eventually("it is counted", || world.nodes[1].metric("istio_tcp_connections_closed_total", &flagged) == 1).await;
    assert!(dial().await.0.is_err());
    world.nodes[1].line(&["the certificate of spiffe://cluster.local/ns/shop/sa/raw is revoked"]).await;
    assert_eq!(rejections(&world, 1, Reporter::Destination), 2);
}
