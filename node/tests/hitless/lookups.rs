//! Name lookups: redirected where somebody answers them, and never lost on the way in or out of the mesh.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use crate::world::World;
use crate::worlds;

/// A name server outside the pod.
fn server_of(world: &World) -> SocketAddr {
    SocketAddr::new(world.peer_ip(), 53)
}

/// Where the proxy answers inside the pod.
fn proxy_of(world: &World) -> SocketAddr {
    SocketAddr::new(world.loopback(), 15053)
}

fn client(world: &World) -> UdpSocket {
    let socket = world.datagrams(true, SocketAddr::new(world.pod_ip(), 0));
    socket.connect(server_of(world)).unwrap();
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
    for world in worlds() {
        let server = world.datagrams(false, server_of(&world));
        // Half of what it takes is not enough.
        let _half = world.datagrams(true, proxy_of(&world));
        world.install_with_lookups();
        let client = client(&world);
        client.send(b"query").unwrap();
        assert_eq!(answer(&server, "server"), b"query");
        assert_eq!(receive(&client).0, b"server");
    }
}

#[test]
fn lookups_are_redirected_in_and_out_of_the_mesh_without_one_being_lost() {
    for world in worlds() {
        let server = world.datagrams(false, server_of(&world));
        let (proxy, _streams) = (world.datagrams(true, proxy_of(&world)), world.listen(proxy_of(&world)));
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
        assert_eq!(
            receive(&during),
            (b"proxy".to_vec(), server_of(&world)),
            "the client sees the server that it asked"
        );
        during.send(b"under way").unwrap();
        let (query, from_during) = receive(&proxy);
        assert_eq!(query, b"under way");

        world.release();
        proxy.send_to(b"late", from_during).unwrap();
        assert_eq!(
            receive(&during),
            (b"late".to_vec(), server_of(&world)),
            "a lookup under way is answered after the release"
        );
        let after = client(&world);
        after.send(b"after").unwrap();
        assert_eq!(answer(&server, "server"), b"after");
        assert_eq!(receive(&after).0, b"server");
    }
}

#[test]
fn the_proxys_own_lookups_reach_the_server_and_come_back_even_across_the_release() {
    for world in worlds() {
        let server = world.datagrams(false, server_of(&world));
        let (proxy, _streams) = (world.datagrams(true, proxy_of(&world)), world.listen(proxy_of(&world)));
        world.install_with_lookups();
        let forwarding = world.marked(server_of(&world));
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
}

#[test]
fn lookups_over_tcp_are_redirected() {
    for world in worlds() {
        let (_datagrams, streams) = (world.datagrams(true, proxy_of(&world)), world.listen(proxy_of(&world)));
        world.install_with_lookups();
        let _client = world.connect_out(server_of(&world));
        let (_accepted, from) = streams.accept().unwrap();
        assert_eq!(from.ip(), world.pod_ip());
        assert_eq!(world.relayed(), 0);
    }
}

#[test]
fn a_server_of_the_pods_own_is_left_alone() {
    for world in worlds() {
        let _sockets = (world.datagrams(true, proxy_of(&world)), world.listen(proxy_of(&world)));
        // IPv6 has but one loopback address.
        let own = if world.loopback().is_ipv4() { Ipv4Addr::new(127, 0, 0, 53).into() } else { world.loopback() };
        let own = world.datagrams(true, SocketAddr::new(own, 53));
        world.install_with_lookups();
        let client = world.datagrams(true, SocketAddr::new(world.loopback(), 0));
        client.connect(own.local_addr().unwrap()).unwrap();
        client.send(b"query").unwrap();
        assert_eq!(answer(&own, "own"), b"query");
        assert_eq!(receive(&client).0, b"own");
    }
}

#[test]
fn a_pod_lingers_while_lookups_may_be_under_way() {
    for world in worlds() {
        let (proxy, streams) = (world.datagrams(true, proxy_of(&world)), world.listen(proxy_of(&world)));
        world.install_with_lookups();
        world.release();
        assert_eq!(world.lingering(), 1);
        drop((proxy, streams));
        assert_eq!(world.lingering(), 0);
    }
}
