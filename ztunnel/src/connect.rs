//! Sockets inside a pod's network namespace, and connecting with them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use linux::socket::StreamOptions;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::error::ConnectionError;
use crate::lane::Lane;

/// Connects from inside the pod to `destination`, with a foreign source address if one is given.
///
/// A source address that cannot be used is given up with a warning: the connection matters more.
pub(crate) async fn tcp(
    lane: &Lane,
    destination: SocketAddr,
    source: Option<IpAddr>,
    deadline: Instant,
) -> Result<TcpStream, ConnectionError> {
    let failed = |source| ConnectionError::Connect { destination, source };
    let socket = match open(lane, destination, source) {
        Err(error) if source.is_some() => {
            if lane.shared.source_warnings.may() {
                tracing::warn!(%destination, %error, "cannot keep the addresses of clients");
            }
            open(lane, destination, None)
        }
        outcome => outcome,
    };
    let connecting = socket.map_err(failed)?.connect(destination);
    let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|_elapsed| Err(timed_out()));
    connected.map_err(failed)
}

/// As [`tcp`] for tunnels, whose failures a pool shares among those who wait.
pub(crate) async fn tunnel(lane: &Lane, destination: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let connecting = open(lane, destination, None)?.connect(destination);
    timeout_at(deadline, connecting).await.unwrap_or_else(|_elapsed| Err(timed_out()))
}

fn open(lane: &Lane, destination: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let settings = &lane.shared.settings;
    let options = StreamOptions {
        mark: Some(settings.mark),
        source,
        keepalive: settings.keepalive,
        no_delay: true,
        user_timeout: settings.user_timeout,
    };
    let socket = lane.pod.netns.run(|| linux::socket::stream(destination, &options))??;
    Ok(TcpSocket::from_std_stream(socket))
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

/// The client's address if the application shall see it: not when the pod talks to itself, where it is its own.
pub(crate) fn kept_source(lane: &Lane, client: SocketAddr, destination: SocketAddr) -> Option<IpAddr> {
    (lane.shared.settings.keeps_source && client.ip() != destination.ip()).then_some(client.ip())
}

/// Makes the peer see that the stream was cut: what it has received is not all there was.
pub(crate) fn cut(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = stream.set_zero_linger();
}
