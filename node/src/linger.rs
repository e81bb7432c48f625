//! What the sockets in a pod's network namespace tell: whether a pod that has left the mesh still has connections that
//! run through ztunnel, and whether anybody answers name lookups.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use linux::netns::NetNs;
use linux::socket::{self, Listening};

use crate::rules::LOOKUP_PORT;

/// Ports on which ztunnel accepts inside a pod.
const PROXY_PORTS: [u16; 4] = [15001, 15006, 15008, LOOKUP_PORT];

/// Counts the connections in a pod's network namespace that ztunnel accepted and that have not ended.
///
/// Each proxied connection has exactly one such socket: the accepted one.
/// A socket for name lookups over UDP counts as one: ztunnel closes it when it has answered the last lookup.
///
/// # Errors
/// The namespace cannot be entered, or its sockets cannot be listed.
pub fn proxied_connections(netns: &NetNs) -> io::Result<usize> {
    netns.run(|| {
        let streams = socket::connected()?.iter().filter(|port| PROXY_PORTS.contains(port)).count();
        let datagrams = [false, true].map(|is_ipv6| bound(is_ipv6, |row| row.port == LOOKUP_PORT));
        datagrams.into_iter().try_fold(streams, |sum, sockets| Ok(sum + sockets?))
    })?
}

/// Whether somebody answers name lookups on `loopback`, over both transports, in the current network namespace.
///
/// # Errors
/// The namespace's sockets cannot be listed.
pub fn answers_lookups(loopback: IpAddr) -> io::Result<bool> {
    let wildcard: IpAddr = if loopback.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let is_here = |listener: &Listening| {
        listener.address.port() == LOOKUP_PORT && [loopback, wildcard].contains(&listener.address.ip())
    };
    Ok(socket::listening()?.iter().any(is_here)
        && bound(loopback.is_ipv6(), |row| row.port == LOOKUP_PORT && is_address(row.address, loopback))? > 0)
}

/// A socket for datagrams.
struct Row<'a> {
    /// Hexadecimal: 32-bit words, each in the machine's byte order.
    address: &'a str,
    port: u16,
}

/// Counts sockets for datagrams of the current network namespace; there are few, so their table is soon read.
fn bound(is_ipv6: bool, counts: impl Fn(&Row<'_>) -> bool) -> io::Result<usize> {
    let family = if is_ipv6 { "6" } else { "" };
    match std::fs::read_to_string(format!("/proc/thread-self/net/udp{family}")) {
        Ok(table) => Ok(count(&table, counts)),
        // Absent where IPv6 is not compiled in.
        Err(error) if is_ipv6 && error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn count(table: &str, counts: impl Fn(&Row<'_>) -> bool) -> usize {
    table.lines().skip(1).filter_map(row).filter(counts).count()
}

/// Fields of a row: slot, local address:port (hexadecimal), and more.
fn row(line: &str) -> Option<Row<'_>> {
    let (address, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
    Some(Row { address, port: u16::from_str_radix(port, 16).ok()? })
}

/// Whether a socket table's address is this one, or the wildcard.
fn is_address(text: &str, ip: IpAddr) -> bool {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).filter_map(|word| word.first_chunk::<4>());
    let expected: String = words.map(|word| format!("{:08X}", u32::from_ne_bytes(*word))).collect();
    text == expected || text.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 8703: 0100007F:3ACD 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 0
  123: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2 2 0 0
";

    #[test]
    fn sockets_of_other_ports_do_not_count() {
        assert_eq!(count(TABLE, |row| row.port == LOOKUP_PORT), 1);
    }

    #[test]
    fn malformed_rows_do_not_count() {
        assert_eq!(count("header\n\nx y\n 0: nonsense 0 01\n", |_| true), 0);
    }

    #[test]
    fn addresses_are_read_as_the_kernel_of_this_machine_writes_them() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(is_address(&format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 1])), loopback));
        assert!(is_address("00000000", loopback));
        assert!(!is_address(&format!("{:08X}", u32::from_ne_bytes([127, 0, 0, 2])), loopback));
        let last = format!("{:08X}", u32::from_ne_bytes([0, 0, 0, 1]));
        assert!(is_address(&format!("000000000000000000000000{last}"), "::1".parse().unwrap()));
    }
}
