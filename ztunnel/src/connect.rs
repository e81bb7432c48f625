//! Sockets inside a pod's network namespace, and connecting with them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use discovery::InboundTarget;
use linux::socket::{StreamOptions, Tuning};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use crate::error::ConnectionError;
use crate::lane::{Lane, Pod};
use crate::shared::{Settings, Shared};

/// How many bytes of a tunnel may wait in the kernel: what HTTP/2 still holds, it sends in turns, so that a request does
/// not wait behind megabytes of its neighbour. A fraction of a millisecond at 4 Gbit/s.
pub(crate) const TUNNEL_UNSENT: u32 = 128 * 1024;

/// What a connection from inside a pod leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Other {
    /// Somebody elsewhere.
    Elsewhere,
    /// Another proxy, by a connection for the streams of many.
    Proxy,
    /// The pod's own application, which sees this source address, if there is one, instead of the pod's.
    Application(Option<IpAddr>),
}

/// Connects from inside the pod.
///
/// A source address that cannot be used is given up with a warning: the connection matters more.
pub(crate) async fn tcp(
    shared: &Shared,
    pod: &Pod,
    destination: SocketAddr,
    other: Other,
    deadline: Instant,
) -> Result<TcpStream, ConnectionError> {
    let failed = |source| ConnectionError::Connect { destination, source };
    let socket = match open(&shared.settings, pod, destination, other) {
        Err(error) if matches!(other, Other::Application(Some(_))) => {
            if shared.source_warnings.may() {
                tracing::warn!(%destination, %error, "cannot keep the addresses of clients");
            }
            open(&shared.settings, pod, destination, Other::Application(None))
        }
        outcome => outcome,
    };
    let connecting = socket.map_err(failed)?.connect(destination);
    let connected = timeout_at(deadline, connecting).await.unwrap_or_else(|_elapsed| Err(timed_out()));
    connected.map_err(failed)
}

/// Connects to the application that an arriving connection is for.
///
/// One that is told addresses in a header takes its connections on loopback, unless configured otherwise.
pub(crate) async fn application(
    shared: &Shared,
    pod: &Pod,
    client: SocketAddr,
    target: &InboundTarget,
    deadline: Instant,
) -> Result<TcpStream, ConnectionError> {
    let destination = target.destination;
    if target.announced.is_some() && shared.settings.local_application_tunnel {
        let loopback: IpAddr =
            if destination.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        let destination = SocketAddr::new(loopback, destination.port());
        return tcp(shared, pod, destination, Other::Application(None), deadline).await;
    }
    tcp(shared, pod, destination, own_application(&shared.settings, client, destination), deadline).await
}

/// As [`tcp`] for tunnels, whose failures a pool shares among those who wait.
pub(crate) async fn tunnel(lane: &Lane, destination: SocketAddr, deadline: Instant) -> io::Result<TcpStream> {
    let connecting = open(&lane.shared.settings, &lane.pod, destination, Other::Proxy)?.connect(destination);
    timeout_at(deadline, connecting).await.unwrap_or_else(|_elapsed| Err(timed_out()))
}

fn open(settings: &Settings, pod: &Pod, destination: SocketAddr, other: Other) -> io::Result<TcpSocket> {
    let source = if let Other::Application(source) = other { source } else { None };
    let tuning = Tuning {
        keepalive: settings.keepalive,
        no_delay: true,
        is_local: matches!(other, Other::Application(_)),
        unsent: matches!(other, Other::Proxy).then_some(TUNNEL_UNSENT),
    };
    let mark = if matches!(other, Other::Application(_)) { pod.application_mark } else { settings.mark };
    let options = StreamOptions { mark: Some(mark), source, tuning, user_timeout: settings.user_timeout };
    let socket = pod.netns.run(|| linux::socket::stream(destination, &options))??;
    Ok(TcpSocket::from_std_stream(socket))
}

fn timed_out() -> io::Error {
    io::Error::from(io::ErrorKind::TimedOut)
}

/// The application, with the client's address if it shall see it: not when the pod talks to itself, where it is its own.
pub(crate) fn own_application(settings: &Settings, client: SocketAddr, destination: SocketAddr) -> Other {
    Other::Application((settings.keeps_source && client.ip() != destination.ip()).then_some(client.ip()))
}

/// A connection to an application; cut, so that the application notices, unless it came to its own end.
pub(crate) struct ToApplication {
    pub(crate) stream: TcpStream,
    is_whole: bool,
}

impl ToApplication {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, is_whole: false }
    }

    /// Both directions have come to their own end.
    pub(crate) fn complete(&mut self) {
        self.is_whole = true;
    }
}

impl Drop for ToApplication {
    fn drop(&mut self) {
        if !self.is_whole {
            cut(&self.stream);
        }
    }
}

/// The own end of a connection; nothing for a socket that is gone already, on which whatever comes next fails.
pub(crate) fn local_address(stream: &TcpStream) -> SocketAddr {
    const NOTHING: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let local = stream.local_addr().unwrap_or(NOTHING);
    SocketAddr::new(local.ip().to_canonical(), local.port())
}

/// Makes the peer see that the stream was cut: what it has received is not all there was.
pub(crate) fn cut(stream: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = stream.set_zero_linger();
}
