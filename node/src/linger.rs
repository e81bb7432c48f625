//! What the sockets in a pod's network namespace tell: whether a pod that has left the mesh still has connections that
//! run through ztunnel, and whether anybody answers name lookups.

use std::io;
use std::net::IpAddr;

use linux::netns::NetNs;

use crate::rules::LOOKUP_PORT;

/// Ports on which ztunnel accepts inside a pod.
const PROXY_PORTS: [u16; 4] = [15001, 15006, 15008, LOOKUP_PORT];

/// Connection states of `/proc/net/tcp` in which no byte will move any more: TIME_WAIT, CLOSE, LISTEN.
const ENDED: [&str; 3] = ["06", "07", LISTEN];

/// The state of a listener.
const LISTEN: &str = "0A";

/// Counts the connections in a pod's network namespace that ztunnel accepted and that have not ended.
///
/// Each proxied connection has exactly one such socket: the accepted one.
/// A socket for name lookups over UDP counts as one: ztunnel closes it when it has answered the last lookup.
///
/// # Errors
/// The namespace cannot be entered, or its socket tables cannot be read.
pub fn proxied_connections(netns: &NetNs) -> io::Result<usize> {
    netns.run(|| {
        let streams = [false, true].map(|is_ipv6| sockets("tcp", is_ipv6, is_proxied));
        let datagrams = [false, true].map(|is_ipv6| sockets("udp", is_ipv6, |row| row.port == LOOKUP_PORT));
        streams.into_iter().chain(datagrams).sum()
    })?
}

/// Whether somebody answers name lookups on `loopback`, over both transports, in the current network namespace.
///
/// # Errors
/// The namespace's socket tables cannot be read.
pub fn answers_lookups(loopback: IpAddr) -> io::Result<bool> {
    let is_here = |row: &Row<'_>| row.port == LOOKUP_PORT && is_address(row.address, loopback);
    let datagrams = sockets("udp", loopback.is_ipv6(), is_here)?;
    let streams = sockets("tcp", loopback.is_ipv6(), |row| is_here(row) && row.state == LISTEN)?;
    Ok(datagrams > 0 && streams > 0)
}

/// One socket.
struct Row<'a> {
    /// Hexadecimal: 32-bit words, each in the machine's byte order.
    address: &'a str,
    port: u16,
    state: &'a str,
}

/// Counts sockets of the current network namespace.
fn sockets(protocol: &str, is_ipv6: bool, counts: impl Fn(&Row<'_>) -> bool) -> io::Result<usize> {
    let family = if is_ipv6 { "6" } else { "" };
    match std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}{family}")) {
        Ok(table) => Ok(count(&table, counts)),
        // Absent where IPv6 is not compiled in.
        Err(error) if is_ipv6 && error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn count(table: &str, counts: impl Fn(&Row<'_>) -> bool) -> usize {
    table.lines().skip(1).filter_map(row).filter(counts).count()
}

/// Fields of a row: slot, local address:port (hexadecimal), remote address:port, state.
fn row(line: &str) -> Option<Row<'_>> {
    let mut fields = line.split_whitespace().skip(1);
    let (address, port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    Some(Row { address, port: u16::from_str_radix(port, 16).ok()?, state })
}

fn is_proxied(row: &Row<'_>) -> bool {
    PROXY_PORTS.contains(&row.port) && !ENDED.contains(&row.state)
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
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0B01F40A:3A99 0B01F40A:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0B01F40A:3AA0 0C01F40A:D432 08 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0B01F40A:3A9E 0C01F40A:D433 06 00000000:00000000 00:00000000 00000000     0        0 4 1
   4: 0B01F40A:1F90 0C01F40A:D434 01 00000000:00000000 00:00000000 00000000     0        0 5 1
";

    #[test]
    fn listeners_ended_and_foreign_sockets_do_not_count() {
        assert_eq!(count(TABLE, is_proxied), 2);
    }

    #[test]
    fn malformed_rows_do_not_count() {
        assert_eq!(count("header\n\nx y\n 0: nonsense 0 01\n", is_proxied), 0);
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
