//! Name lookups: redirected where somebody answers them, and never lost on the way in or out of the mesh.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::world;
use crate::world::{PEER_IP, POD_IP, World};

const SERVER: SocketAddr = SocketAddr::new(PEER_IP, 53);
const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15053);

fn client(world: &World) -> UdpSocket {
    let socket = world.datagrams(true, SocketAddr::new(POD_IP, 0));
    socket.connect(SERVER).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

/// Answers one datagram, and tells what it said.
fn answer(server: &UdpSocket, text: &str) -> Vec<u8> {
    let (query, from) = receive(server);
    server.send_to(text.as_bytes(), from).unwrap();
    query
}

#[test]
fn without_a_listener_lookups_are_left_alone() {
    let Some(world) = world() else { return };
    let server = world.datagrams(false, SERVER);
    // Half of what it takes is not enough.
    let _half = world.datagrams(true, PROXY);
    world.install_with_lookups();
    let client = client(&world);
    client.send(b"query").unwrap();
    assert_eq!(answer(&server, "server"), b"query");
    assert_eq!(receive(&client).0, b"server");
}

#[test]
fn lookups_are_redirected_in_and_out_of_the_mesh_without_one_being_lost() {
    let Some(world) = world() else { return };
    let server = world.datagrams(false, SERVER);
    let (proxy, _streams) = (world.datagrams(true, PROXY), world.listen(PROXY));
    let before = client(&world);
    before.send(b"before").unwrap();
    let (query, from_before) = receive(&server);
    assert_eq!(query, b"before");

    world.install_with_lookups();
    server.send_to(b"late", from_before).unwrap();
    assert_eq!(receive(&before).0, b"late", "a lookup from before the rules is answered after");
    let during = client(&world);
    during.send(b"during").unwrap();
    assert_eq!(answer(&proxy, "proxy"), b"during");
    assert_eq!(receive(&during), (b"proxy".to_vec(), SERVER), "the client sees the server that it asked");
    during.send(b"under way").unwrap();
    let (query, from_during) = receive(&proxy);
    assert_eq!(query, b"under way");

    world.release();
    proxy.send_to(b"late", from_during).unwrap();
    assert_eq!(receive(&during), (b"late".to_vec(), SERVER), "a lookup under way is answered after the release");
    let after = client(&world);
    after.send(b"after").unwrap();
    assert_eq!(answer(&server, "server"), b"after");
    assert_eq!(receive(&after).0, b"server");
}

#[test]
fn the_proxys_own_lookups_reach_the_server_and_come_back_even_across_the_release() {
    let Some(world) = world() else { return };
    let server = world.datagrams(false, SERVER);
    let (proxy, _streams) = (world.datagrams(true, PROXY), world.listen(PROXY));
    world.install_with_lookups();
    let forwarding = world.marked(SERVER);
    forwarding.send(b"forwarded").unwrap();
    assert_eq!(answer(&server, "one"), b"forwarded");
    assert_eq!(receive(&forwarding).0, b"one");
    forwarding.send(b"again").unwrap();
    let (_, from) = receive(&server);
    world.release();
    server.send_to(b"two", from).unwrap();
    assert_eq!(receive(&forwarding).0, b"two");
    drop(proxy);
}

#[test]
fn lookups_over_tcp_are_redirected() {
    let Some(world) = world() else { return };
    let (_datagrams, streams) = (world.datagrams(true, PROXY), world.listen(PROXY));
    world.install_with_lookups();
    let _client = world.connect_out(SERVER);
    let (_accepted, from) = streams.accept().unwrap();
    assert_eq!(from.ip(), POD_IP);
    assert_eq!(world.relayed(), 0);
}

#[test]
fn a_server_of_the_pods_own_is_left_alone() {
    let Some(world) = world() else { return };
    let _sockets = (world.datagrams(true, PROXY), world.listen(PROXY));
    let own = world.datagrams(true, SocketAddr::new(Ipv4Addr::new(127, 0, 0, 53).into(), 53));
    world.install_with_lookups();
    let client = world.datagrams(true, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    client.connect(own.local_addr().unwrap()).unwrap();
    client.send(b"query").unwrap();
    assert_eq!(answer(&own, "own"), b"query");
    assert_eq!(receive(&client).0, b"own");
}

#[test]
fn a_pod_lingers_while_lookups_may_be_under_way() {
    let Some(world) = world() else { return };
    let (proxy, streams) = (world.datagrams(true, PROXY), world.listen(PROXY));
    world.install_with_lookups();
    world.release();
    assert_eq!(world.lingering(), 1);
    drop((proxy, streams));
    assert_eq!(world.lingering(), 0);
}
