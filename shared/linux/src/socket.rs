//! Sockets as a transparent proxy needs them: marked, spoofing a source address, telling where a redirected connection
//! wanted to go.
//!
//! Sockets belong to the network namespace in which they are made; see [`NetNs::run`](crate::NetNs::run).

mod datagram;
mod listening;
mod round_trip;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

pub use datagram::{datagram, receiver, retire};
pub use listening::{Listening, connected, inode, listening};
pub use round_trip::round_trip;

use crate::error::Named;

/// How a listener is made; the default is what a listener of the proxy wants when nothing is said.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Lets several listeners, also of a successor process, share the port. Default: false.
    pub reuse_port: bool,
    /// The firewall mark of the listener, inherited by accepted connections. Default: none.
    pub mark: Option<u32>,
    /// How many connections may wait to be accepted; the kernel caps it at `net.core.somaxconn`. Default: 1024.
    pub backlog: u32,
    /// Accepts connections to addresses that are not of this host; needs `CAP_NET_ADMIN` or `CAP_NET_RAW`.
    /// Default: false.
    pub transparent: bool,
    /// An IPv6 listener does not take IPv4 connections. Default: false.
    pub only_v6: bool,
    /// What accepted connections inherit. Default: nothing.
    pub accepted: Tuning,
}

impl Default for ListenOptions {
    fn default() -> Self {
        let accepted = Tuning::default();
        Self { reuse_port: false, mark: None, backlog: 1024, transparent: false, only_v6: false, accepted }
    }
}

/// How a connection behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Keep-alive probing; none leaves it off.
    pub keepalive: Option<Keepalive>,
    /// Sends small segments at once.
    pub no_delay: bool,
    /// The peer is on this machine: nothing is paced, whatever the machine does with other connections.
    ///
    /// A congestion control that paces (BBR) spends a timer on every few segments, to spare a network that is not there.
    pub is_local: bool,
    /// How many bytes may wait in the kernel before they are sent; none leaves it to the machine, which allows megabytes.
    ///
    /// For connections that carry the streams of many: what waits in the kernel goes before whatever comes later.
    pub unsent: Option<u32>,
}

/// When an idle connection is probed, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds.
    pub time: Duration,
    /// Time between probes; whole seconds.
    pub interval: Duration,
    /// Unanswered probes until the connection is dead.
    pub retries: u32,
}

/// How an outgoing connection is made.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// The firewall mark; needs `CAP_NET_ADMIN` in the namespace.
    pub mark: Option<u32>,
    /// The source address to send from even when it is not of this host (`IP_TRANSPARENT`), with a port of the kernel's
    /// choice.
    pub source: Option<IpAddr>,
    /// How it behaves.
    pub tuning: Tuning,
    /// How long sent data may stay unacknowledged before the connection is dead.
    pub user_timeout: Option<Duration>,
}

/// Opens a non-blocking listener on `address`, in the calling thread's network namespace.
///
/// `[::]` takes IPv4 connections too unless [`ListenOptions::only_v6`] says otherwise.
/// The address can be bound again at once after a restart (`SO_REUSEADDR`).
///
/// # Errors
/// The kernel's, named with the address.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let open = || -> io::Result<TcpListener> {
        let socket = tcp_socket(address)?;
        if address.is_ipv6() {
            socket.set_only_v6(options.only_v6)?;
        }
        socket.set_reuse_address(true)?;
        // Before bind: the kernel decides there whether the port is shared.
        socket.set_reuse_port(options.reuse_port)?;
        if let Some(mark) = options.mark {
            socket.set_mark(mark)?;
        }
        if options.transparent {
            set_transparent(&socket, address.ip())?;
        }
        tune(&socket, options.accepted)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    open().named(|| format!("listening on {address}"))
}

/// Accepts a connection that waits, as a non-blocking one, whether or not anybody was woken for it.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when none waits, otherwise the kernel's.
pub fn accept(listener: &impl AsFd) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = SockRef::from(listener).accept()?;
    stream.set_nonblocking(true)?;
    let peer = peer.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((stream.into(), peer))
}

/// Makes a non-blocking socket that is ready to be connected to `target`; made for
/// `tokio::net::TcpSocket::from_std_stream`.
///
/// # Errors
/// The kernel's: `EPERM` for a mark or a foreign source without the capability.
pub fn stream(target: SocketAddr, options: &StreamOptions) -> io::Result<TcpStream> {
    let open = || -> io::Result<TcpStream> {
        let socket = tcp_socket(target)?;
        if let Some(mark) = options.mark {
            socket.set_mark(mark)?;
        }
        if let Some(source) = options.source {
            bind_source(&socket, target, source)?;
        }
        tune(&socket, options.tuning)?;
        if options.user_timeout.is_some() {
            socket.set_tcp_user_timeout(options.user_timeout)?;
        }
        Ok(socket.into())
    };
    open().named(|| match options.source {
        Some(source) => format!("opening a socket from {source} to {target}"),
        None => format!("opening a socket to {target}"),
    })
}

/// Sets on a connection what it has not inherited from a listener.
///
/// # Errors
/// The kernel's, which only happens on something that is not a TCP socket.
pub fn tuned(socket: &impl AsFd, tuning: Tuning) -> io::Result<()> {
    tune(&SockRef::from(socket), tuning).named(|| "tuning a connection".into())
}

/// Where a redirected connection wanted to go, with an IPv4-mapped address as IPv4.
///
/// A connection that arrived on a dual-stack listener is looked up in the family that it came in by.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] when the kernel does not track the connection, which then was not redirected.
pub fn original_destination(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let socket = SockRef::from(socket);
    let lookup = || -> io::Result<SocketAddr> {
        let local = socket.local_addr()?.as_socket().map(|address| address.ip().to_canonical());
        let found = match local {
            Some(IpAddr::V6(_)) => socket.original_dst_v6(),
            _ => socket.original_dst_v4(),
        }?;
        let found = found.as_socket().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(SocketAddr::new(found.ip().to_canonical(), found.port()))
    };
    lookup().named(|| "looking up the original destination".into())
}

/// Sets the firewall mark of any socket.
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN` in the socket's network namespace.
pub fn set_mark(socket: &impl AsFd, mark: u32) -> io::Result<()> {
    SockRef::from(socket).set_mark(mark).named(|| format!("setting mark {mark:#x}"))
}

/// Whether an address belongs to the calling thread's network namespace, as opposed to being reached through it.
///
/// The kernel tells it by letting a socket be bound to the address; where `ip_nonlocal_bind` is on it lets everything.
///
/// # Errors
/// The kernel's, other than that the address is not of this host.
pub fn is_own(ip: IpAddr) -> io::Result<bool> {
    let address = SocketAddr::new(ip, 0);
    let bind = || -> io::Result<()> {
        let socket = tcp_socket(address)?;
        // No port is taken: only the address is looked at.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&address.into())
    };
    match bind() {
        Ok(()) => Ok(!ip.is_unspecified() && !ip.is_multicast()),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error).named(|| format!("looking for {ip} among the own addresses")),
    }
}

/// Whether sockets of this process, in this namespace, may carry a mark.
///
/// # Errors
/// When no socket can be made at all.
pub fn can_set_mark() -> io::Result<bool> {
    allowed(Socket::new(Domain::IPV4, Type::STREAM, None)?.set_mark(1))
}

/// Whether sockets of this process, in this namespace, may use foreign addresses.
///
/// # Errors
/// When no socket can be made at all.
pub fn can_be_transparent() -> io::Result<bool> {
    allowed(Socket::new(Domain::IPV4, Type::STREAM, None)?.set_ip_transparent_v4(true))
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))
}

fn bind_source(socket: &Socket, target: SocketAddr, source: IpAddr) -> io::Result<()> {
    let source = match (target, source.to_canonical()) {
        (SocketAddr::V6(_), IpAddr::V4(source)) => IpAddr::V6(source.to_ipv6_mapped()),
        (_, source) => source,
    };
    set_transparent(socket, target.ip())?;
    // The port is chosen at connect, by destination: many sources' worth of ports instead of one.
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))
}

/// A dual-stack socket needs the IPv4 option too, for connections from and to mapped addresses.
fn set_transparent(socket: &Socket, address: IpAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_ip_transparent_v6(true)?;
    }
    socket.set_ip_transparent_v4(true)
}

fn tune(socket: &Socket, tuning: Tuning) -> io::Result<()> {
    if let Some(Keepalive { time, interval, retries }) = tuning.keepalive {
        let parameters = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
        socket.set_tcp_keepalive(&parameters)?;
    }
    if tuning.no_delay {
        socket.set_tcp_nodelay(true)?;
    }
    if tuning.is_local {
        // The one that every kernel has and every process may choose.
        socket.set_tcp_congestion(b"reno")?;
    }
    if let Some(unsent) = tuning.unsent {
        socket.set_tcp_notsent_lowat(unsent)?;
    }
    Ok(())
}

fn allowed(attempt: io::Result<()>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(error),
    }
}
