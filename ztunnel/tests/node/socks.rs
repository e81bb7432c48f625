//! SOCKS 5 on a pod's loopback.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{TestPod, World, cart, is_cut, ping, rest, within};

const SOCKS: &str = "127.0.0.1:15080";
const ON: [(&str, &str); 1] = [("UNSTABLE_ENABLE_SOCKS5", "true")];

/// Asks to be connected; gives the reply's code.
async fn ask(from: &TestPod, destination: &[u8]) -> (TcpStream, u8) {
    let mut stream = from.connect(SOCKS.parse().unwrap()).await.unwrap();
    stream.write_all(&[b"\x05\x01\0\x05\x01\0", destination].concat()).await.unwrap();
    let mut answer = [0; 12];
    within(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[..3], [5, 0, 5]);
    (stream, answer[3])
}

fn address(destination: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(destination) = destination else { panic!("not IPv4") };
    [&[1][..], &destination.ip().octets(), &destination.port().to_be_bytes()].concat()
}

fn name(name: &str, port: u16) -> Vec<u8> {
    [&[3, u8::try_from(name.len()).unwrap()][..], name.as_bytes(), &port.to_be_bytes()].concat()
}

#[tokio::test]
async fn a_client_is_connected_through_the_mesh_by_address_and_by_name() {
    let Some(world) = World::with_config(&ON).await else { return };
    let (client, server) = (world.pod(0, "client").await, world.pod(1, "cart").await);
    server.echo(8080);
    world.publish_service(&cart("10.96.0.7", 8080));
    for destination in [address(server.at(8080)), name("cart.shop.svc.cluster.local", 80), name("10.96.0.7", 80)] {
        let (mut stream, reply) = ask(&client, &destination).await;
        assert_eq!(reply, 0);
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), b"");
    }
    let line = world.nodes[0].line(&["connection complete", "direction=\"outbound\""]).await;
    assert!(line.contains("bytes_sent=5 bytes_recv=5"), "what is said to the proxy does not count: {line}");
    assert!(line.contains(&format!("src.identity=\"{}\"", client.identity())), "{line}");
    let tunnelled = ["connection_security_policy=\"mutual_tls\"", "reporter=\"destination\""];
    assert_eq!(world.nodes[1].metric("istio_tcp_connections_opened_total", &tunnelled), 3);
}

#[tokio::test]
async fn a_client_is_told_why_it_is_not_connected() {
    let Some(world) = World::with_config(&ON).await else { return };
    let (client, outside) = (world.pod(0, "client").await, world.stranger("outside"));
    for (destination, reply) in [
        (address(outside.at(9)), 5),
        (name("nobody.invalid", 80), 4),
        (address("127.0.0.1:15001".parse().unwrap()), 2),
        (address(SOCKS.parse().unwrap()), 2),
        (b"\x09".to_vec(), 8),
    ] {
        let (mut stream, answered) = ask(&client, &destination).await;
        assert_eq!(answered, reply, "{destination:?}");
        assert_eq!(rest(&mut stream).await.unwrap(), b"", "closed, not cut");
    }
    world.nodes[0].line(&["connection failed", "SOCKS: address type 9 is not known"]).await;
    // Nobody else gets there.
    assert!(is_cut(&outside, client.at(15080)).await);
}

#[tokio::test]
async fn there_is_none_unless_asked_for() {
    let Some(world) = World::new().await else { return };
    let client = world.pod(0, "client").await;
    assert!(client.connect(SOCKS.parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn clients_that_say_nothing_keep_others_out_no_longer_than_they_are_many() {
    let Some(world) = World::with_config(&ON).await else { return };
    let (client, server) = (world.pod(0, "client").await, world.pod(1, "cart").await);
    server.echo(8080);
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(client.connect(SOCKS.parse().unwrap()).await.unwrap());
    }
    let (mut stream, reply) = ask(&client, &address(server.at(8080))).await;
    assert_eq!((reply, ping(&mut stream, "hello").await.unwrap().as_str()), (0, "hello"));
}
