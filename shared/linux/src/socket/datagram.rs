//! UDP sockets: some receive from anybody, others talk to one peer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Named;

/// Opens a non-blocking socket that receives datagrams for `address`, in the calling thread's network namespace.
///
/// With `reuse_port` several sockets, also of a successor process, share the port; the kernel spreads peers over them.
/// An IPv6 socket receives IPv6 alone.
///
/// # Errors
/// The kernel's, named with the address.
pub fn receiver(address: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = udp_socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Before bind: the kernel decides there whether the port is shared.
        socket.set_reuse_port(reuse_port)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    open().named(|| format!("receiving datagrams on {address}"))
}

/// Opens a non-blocking socket that talks to `peer` alone, from an address and port of the kernel's choice.
///
/// The kernel drops what comes from elsewhere, and reports when nobody listens there.
///
/// # Errors
/// The kernel's: `EPERM` for a mark without `CAP_NET_ADMIN`, unreachable when there is no route.
pub fn datagram(peer: SocketAddr, mark: Option<u32>) -> io::Result<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = udp_socket(peer)?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        socket.connect(&peer.into())?;
        Ok(socket.into())
    };
    open().named(|| format!("opening a datagram socket to {peer}"))
}

/// Takes a receiver out of the port that it shares: new datagrams go to the other sockets of the port from now on, what
/// is in the queue can still be received, and answers can still be sent.
///
/// # Errors
/// The kernel's.
pub fn retire(socket: &UdpSocket) -> io::Result<()> {
    // A connected socket is passed over unless the datagram comes from its peer; nobody sends from port 1 (tcpmux).
    let nobody = match socket.local_addr()?.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    socket.connect(SocketAddr::new(nobody, 1)).named(|| "retiring a datagram socket".into())
}

fn udp_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receive(socket: &UdpSocket) -> io::Result<(Vec<u8>, SocketAddr)> {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer)?;
        Ok((buffer[..length].to_vec(), from))
    }

    fn patient(socket: &UdpSocket) {
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }

    #[test]
    fn a_retired_receiver_leaves_new_datagrams_to_others_and_still_answers() {
        let first = receiver("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        let client = datagram(address, None).unwrap();
        patient(&first);
        patient(&client);
        client.send(b"one").unwrap();
        let mut peeked = [0; 8];
        first.peek(&mut peeked).unwrap();

        let second = receiver(address, true).unwrap();
        patient(&second);
        retire(&first).unwrap();
        for _ in 0..16 {
            client.send(b"two").unwrap();
            assert_eq!(receive(&second).unwrap().0, b"two");
        }
        let (datagram, from) = receive(&first).unwrap();
        assert_eq!(datagram, b"one", "what was in the queue is not lost");
        first.send_to(b"answer", from).unwrap();
        assert_eq!(receive(&client).unwrap().0, b"answer");
        first.set_nonblocking(true).unwrap();
        assert_eq!(receive(&first).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn datagrams_of_others_do_not_reach_a_socket_with_a_peer() {
        let server = receiver("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let other = receiver("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let client = datagram(server.local_addr().unwrap(), None).unwrap();
        let address = client.local_addr().unwrap();
        other.send_to(b"forged", address).unwrap();
        server.send_to(b"true", address).unwrap();
        patient(&client);
        assert_eq!(receive(&client).unwrap().0, b"true");
    }
}
