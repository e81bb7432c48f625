//! Whether a pod that has left the mesh still has connections that run through ztunnel.

use std::io;

use linux::netns::NetNs;

/// Ports on which ztunnel accepts inside a pod.
const PROXY_PORTS: [u16; 3] = [15001, 15006, 15008];

/// Connection states of `/proc/net/tcp` in which no byte will move any more: TIME_WAIT, CLOSE, LISTEN.
const ENDED: [&str; 3] = ["06", "07", "0A"];

/// Counts the connections in a pod's network namespace that ztunnel accepted and that have not ended.
///
/// Each proxied connection has exactly one such socket: the accepted one.
///
/// # Errors
/// The namespace cannot be entered, or its socket tables cannot be read.
pub fn proxied_connections(netns: &NetNs) -> io::Result<usize> {
    netns.run(|| {
        let v4 = std::fs::read_to_string("/proc/thread-self/net/tcp")?;
        // Absent where IPv6 is not compiled in.
        let v6 = std::fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default();
        Ok(count(&v4) + count(&v6))
    })?
}

fn count(table: &str) -> usize {
    table.lines().skip(1).filter(|line| is_proxied(line).unwrap_or(false)).count()
}

/// Fields of a row: slot, local address:port (hexadecimal), remote address:port, state.
fn is_proxied(row: &str) -> Option<bool> {
    let mut fields = row.split_whitespace().skip(1);
    let local = fields.next()?;
    let state = fields.nth(1)?;
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    Some(PROXY_PORTS.contains(&port) && !ENDED.contains(&state))
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
        assert_eq!(count(TABLE), 2);
    }

    #[test]
    fn malformed_rows_do_not_count() {
        assert_eq!(count("header\n\nx y\n 0: nonsense 0 01\n"), 0);
    }
}
