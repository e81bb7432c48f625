//! Applications that are told by a PROXY header who connects.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};

use discovery::{ApplicationTunnel, TunnelProtocol, Workload};
use linux::socket::ListenOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{TestNode, TestPod, World, is_cut, ping, rest, within};

/// Reads the header of each connection, as its specification describes it, then echoes.
fn application(pod: &TestPod, address: &str) -> Receiver<(SocketAddr, Vec<u8>)> {
    let address: SocketAddr = address.parse().unwrap();
    let listener = pod.netns.run(|| linux::socket::listen(address, &ListenOptions::default())).unwrap().unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let (headers, seen) = channel();
    tokio::spawn(async move {
        while let Ok((mut stream, peer)) = listener.accept().await {
            let headers = headers.clone();
            tokio::spawn(async move {
                let mut header = vec![0; 16];
                stream.read_exact(&mut header).await.unwrap();
                let length = u16::from_be_bytes([header[14], header[15]]);
                let mut rest = vec![0; length.into()];
                stream.read_exact(&mut rest).await.unwrap();
                headers.send((peer, [header, rest].concat())).unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    seen
}

/// The client as a header tells of it; behind a tunnel its port is that of the tunnel.
fn client_of(header: &[u8]) -> SocketAddr {
    let ip: [u8; 4] = header[16..20].try_into().unwrap();
    (ip, u16::from_be_bytes([header[24], header[25]])).into()
}

/// The header of a TCP connection over IPv4, written out.
fn expected(source: SocketAddr, destination: SocketAddr, identity: &str) -> Vec<u8> {
    let mut bytes = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A\x21\x11".to_vec();
    let (SocketAddr::V4(source), SocketAddr::V4(destination)) = (source, destination) else { panic!("not IPv4") };
    let length = u16::try_from(12 + 3 + identity.len()).unwrap();
    bytes.extend(length.to_be_bytes());
    bytes.extend(source.ip().octets());
    bytes.extend(destination.ip().octets());
    bytes.extend(source.port().to_be_bytes());
    bytes.extend(destination.port().to_be_bytes());
    bytes.push(0xd0);
    bytes.extend(u16::try_from(identity.len()).unwrap().to_be_bytes());
    bytes.extend(identity.as_bytes());
    bytes
}

fn tunnelled(node: &TestNode, pod: &TestPod, port: Option<u16>) -> Workload {
    let application_tunnel = Some(ApplicationTunnel { protocol: TunnelProtocol::Proxy, port });
    Workload { application_tunnel, ..node.workload(pod) }
}

#[tokio::test]
async fn an_application_is_told_who_connects_on_loopback() {
    let Some(world) = World::new().await else { return };
    let (near, far) = (world.pod(1, "near").await, world.pod(0, "far").await);
    let server = world.pod(1, "server").await;
    world.publish(tunnelled(&world.nodes[1], &server, Some(9090)));
    let headers = application(&server, "127.0.0.1:9090");
    // Through a tunnel, and handed over inside the process.
    for client in [&far, &near] {
        let mut stream = client.connect(server.at(8080)).await.unwrap();
        assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
        let source = stream.local_addr().unwrap();
        let (peer, header) = headers.recv().unwrap();
        assert_eq!(header, expected(client_of(&header), server.at(8080), &client.identity().to_string()));
        assert_eq!(client_of(&header).ip(), client.ip);
        assert!(client.name == "far" || client_of(&header) == source, "{source}");
        assert!(peer.ip().is_loopback(), "{peer}");
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await.unwrap(), b"");
        let from = format!("src.addr={}", client_of(&header));
        let line = world.nodes[1].line(&["connection complete", "direction=\"inbound\"", &from]).await;
        assert!(line.contains("bytes_sent=5 bytes_recv=5"), "the header is not the client's: {line}");
    }
    let local = world.nodes[1].metric("istio_tcp_connections_opened_total", &["\"same_node\""]);
    assert_eq!(local, 2, "both sides of one connection");
}

#[tokio::test]
async fn an_application_may_want_its_connections_on_the_pods_address() {
    let Some(world) = World::with_config(&[("LOCALHOST_APP_TUNNEL", "false")]).await else { return };
    let (client, server) = (world.pod(0, "client").await, world.pod(1, "server").await);
    world.publish(tunnelled(&world.nodes[1], &server, None));
    let headers = application(&server, &server.at(8080).to_string());
    let mut stream = client.connect(server.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");
    let (peer, header) = headers.recv().unwrap();
    assert_eq!(header, expected(client_of(&header), server.at(8080), &client.identity().to_string()));
    assert_eq!(peer.ip(), client.ip, "the client's address is kept");
}

#[tokio::test]
async fn a_port_without_header_needs_none_and_an_absent_application_is_unavailable() {
    let Some(world) = World::new().await else { return };
    let (client, server) = (world.pod(0, "client").await, world.pod(1, "server").await);
    let tunnel = ApplicationTunnel { protocol: TunnelProtocol::None, port: Some(9090) };
    let own = world.nodes[1].workload(&server);
    world.publish(Workload { application_tunnel: Some(tunnel), ..own });
    server.echo(9090);
    let mut stream = client.connect(server.at(8080)).await.unwrap();
    assert_eq!(ping(&mut stream, "hello").await.unwrap(), "hello");

    world.publish(tunnelled(&world.nodes[1], &server, Some(9191)));
    assert!(within(is_cut(&client, server.at(8080))).await);
    world.nodes[1].line(&["connecting to 127.0.0.1:9191 failed"]).await;
    world.nodes[0].line(&["http status: 503"]).await;
}
