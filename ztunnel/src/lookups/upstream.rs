//! Asking other servers, from inside the pod.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dns::{Forwarding, Query, Transport, Verdict};
use linux::socket::{StreamOptions, Tuning};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::streams;
use crate::lane::Lane;

/// How long a lookup may take over all servers: less than the 5 s after which resolvers ask again.
const DEADLINE: Duration = Duration::from_millis(4500);

/// How long one server has before the next one is asked.
const ATTEMPT: Duration = Duration::from_millis(1500);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// The size that most servers keep to, whatever the query said, in bytes.
const USUAL_DATAGRAM: usize = 4096;

/// The port of name servers.
const PORT: u16 = 53;

/// The name servers of a resolver's configuration, such as `/etc/resolv.conf`.
///
/// Those on loopback or of one link alone cannot be reached from inside pods, and are left out.
pub(crate) fn name_servers(configuration: &str) -> Vec<SocketAddr> {
    let servers = configuration.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let is_reachable = |ip: &IpAddr| match ip.to_canonical() {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    servers.filter(is_reachable).map(|ip| SocketAddr::new(ip, PORT)).collect()
}

/// Asks the servers in turn, by the transport that the client has chosen; one that failed over TCP by UDP as well.
///
/// # Errors
/// Why the last server gave no answer at all.
pub(super) async fn ask(lane: &Lane, servers: &[SocketAddr], bytes: &[u8], query: &Query) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + DEADLINE;
    let mut poor = None;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no name server");
    for round in 0..ROUNDS {
        for server in servers {
            let until = deadline.min(Instant::now() + ATTEMPT);
            let forwarding = Forwarding::new(bytes, rand::random()).ok_or(io::ErrorKind::InvalidData)?;
            let attempt = async {
                match query.transport() {
                    Transport::Tcp if round == 0 => by_stream(lane, *server, &forwarding).await,
                    _ => by_datagram(lane, *server, &forwarding, query.limit()).await,
                }
            };
            match timeout_at(until, attempt).await {
                Ok(Ok((answer, false))) => return Ok(answer),
                Ok(Ok((answer, true))) => poor = Some(answer),
                Ok(Err(error)) => failure = error,
                Err(_elapsed) => failure = io::ErrorKind::TimedOut.into(),
            }
            if Instant::now() >= deadline {
                return poor.ok_or(failure);
            }
        }
        if let Some(answer) = poor {
            return Ok(answer);
        }
    }
    Err(failure)
}

/// A truncated answer is one: the client then asks again over TCP, and so do we.
/// Servers that send more than the `limit` of the query are not held to it: without the proxy the client would get it.
async fn by_datagram(
    lane: &Lane,
    server: SocketAddr,
    forwarding: &Forwarding,
    limit: usize,
) -> io::Result<(Vec<u8>, bool)> {
    let mark = Some(lane.shared.settings.mark);
    let socket = lane.pod.netns.run(|| linux::socket::datagram(server, mark))??;
    let socket = UdpSocket::from_std(socket)?;
    socket.send(forwarding.bytes()).await?;
    let mut buffer = vec![0; limit.max(USUAL_DATAGRAM)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Verdict::Answer { bytes, is_poor } = forwarding.judge(buffer.get(..length).unwrap_or_default()) {
            return Ok((bytes, is_poor));
        }
    }
}

async fn by_stream(lane: &Lane, server: SocketAddr, forwarding: &Forwarding) -> io::Result<(Vec<u8>, bool)> {
    let options = StreamOptions {
        mark: Some(lane.shared.settings.mark),
        tuning: Tuning { no_delay: true, ..Tuning::default() },
        ..StreamOptions::default()
    };
    let socket = lane.pod.netns.run(|| linux::socket::stream(server, &options))??;
    let mut stream = TcpSocket::from_std_stream(socket).connect(server).await?;
    let message = streams::framed(forwarding.bytes()).ok_or(io::ErrorKind::InvalidData)?;
    stream.write_all(&message).await?;
    let answer = streams::receive(&mut stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    match forwarding.judge(&answer) {
        Verdict::Answer { bytes, is_poor } => Ok((bytes, is_poor)),
        Verdict::Foreign => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is to another query")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_that_pods_can_reach_are_read() {
        let text = "# made by hand\nsearch a.b\nnameserver 10.96.0.10\nnameserver  127.0.0.53\nnameserver ::1\n\
                    nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver 2001:db8::1 # six\noptions ndots:5\nnameserver";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.96.0.10:53", "[2001:db8::1]:53"]);
    }
}
