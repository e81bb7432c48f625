//! Which TCP sockets there are in a network namespace, of whatever process, as the kernel knows them.
//!
//! The tables below `/proc/net` tell the same, but they are printed a page at a time from a table of all namespaces of
//! the machine: beside a few thousand connections that ended lately, reading them takes a second.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use crate::error::Named;
use crate::netlink::{DUMP, HEADER, REQUEST, dump_with, malformed};

/// `SOCK_DIAG_BY_FAMILY`; see sock_diag(7).
const BY_FAMILY: u16 = 20;
/// The bit of state LISTEN.
const LISTEN: u32 = 1 << 10;
/// The bits of the states in which bytes may still move: ESTABLISHED to FIN_WAIT2, CLOSE_WAIT to LAST_ACK, CLOSING and
/// NEW_SYN_RECV; not TIME_WAIT, CLOSE and LISTEN.
const LIVE: u32 = (0b11_1111 << 1 | 0b11 << 8 | 0b11 << 11) & !(1 << 6);
/// Length of `struct inet_diag_req_v2`.
const REQUEST_LENGTH: usize = 56;
/// Length of `struct inet_diag_msg`.
const ANSWER_LENGTH: usize = 72;

/// A TCP listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listening {
    /// Where it listens; `[::]` may take IPv4 connections too.
    pub address: SocketAddr,
    /// How many connections wait to be accepted.
    pub waiting: u32,
    /// How many may wait.
    pub backlog: u32,
    /// What tells sockets of this machine apart; see [`inode`].
    pub inode: u64,
}

/// All TCP listeners in the calling thread's network namespace.
///
/// # Errors
/// The kernel's; `NotFound` when it was built without socket diagnosis.
pub fn listening() -> io::Result<Vec<Listening>> {
    in_states(LISTEN).named(|| "listing listeners".into())
}

/// The ports on this side of all TCP connections in the calling thread's network namespace by which bytes may still
/// move: one for each socket, in no order.
///
/// # Errors
/// The kernel's; `NotFound` when it was built without socket diagnosis.
pub fn connected() -> io::Result<Vec<u16>> {
    let found = in_states(LIVE).named(|| "listing connections".into())?;
    Ok(found.iter().map(|socket| socket.address.port()).collect())
}

fn in_states(states: u32) -> io::Result<Vec<Listening>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        all.extend(dump_with(NETLINK_SOCK_DIAG, &request(family, states)?, |message| {
            if message.kind == BY_FAMILY { decode(message.payload).map(Some) } else { Ok(None) }
        })?);
    }
    Ok(all)
}

/// What [`Listening::inode`] says of a socket of this process.
///
/// # Errors
/// The kernel's, which an open socket does not cause.
pub fn inode(socket: &impl AsFd) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(socket.as_fd())?.st_ino)
}

/// The request for all sockets of a family in these states.
fn request(family: libc::c_int, states: u32) -> io::Result<Vec<u8>> {
    let family = u8::try_from(family).map_err(|_| malformed("an address family"))?;
    let tcp = u8::try_from(libc::IPPROTO_TCP).map_err(|_| malformed("a protocol"))?;
    let length = HEADER + REQUEST_LENGTH;
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).map_err(|_| malformed("a length"))?.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend((REQUEST | DUMP).to_ne_bytes());
    // Sequence number, and the port that the kernel fills in.
    request.extend(1_u32.to_ne_bytes());
    request.extend(0_u32.to_ne_bytes());
    request.extend([family, tcp, 0, 0]);
    request.extend(states.to_ne_bytes());
    // Whatever the addresses and ports.
    request.resize(length, 0);
    Ok(request)
}

/// Reads `struct inet_diag_msg`.
fn decode(payload: &[u8]) -> io::Result<Listening> {
    let payload: &[u8; ANSWER_LENGTH] =
        payload.first_chunk().ok_or_else(|| malformed("a socket that is shorter than its structure"))?;
    // After family, state, timer and retransmissions come the ports, which are in network byte order, and the addresses.
    let [family, _, _, _, high, low, _, _, address @ ..] = *payload;
    let octets: [u8; 16] = *address.first_chunk().ok_or_else(|| malformed("a socket without address"))?;
    let ip = if libc::c_int::from(family) == libc::AF_INET {
        let [first, second, third, fourth, ..] = octets;
        IpAddr::V4(Ipv4Addr::new(first, second, third, fourth))
    } else {
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    // At the end: expiry, both queues, owner, inode.
    let number =
        |at: usize| payload.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes));
    Ok(Listening {
        address: SocketAddr::new(ip, u16::from_be_bytes([high, low])),
        waiting: number(56),
        backlog: number(60),
        inode: number(68).into(),
    })
}
