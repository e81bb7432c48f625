//! The peer: four listeners, one task per connection, all of them ended by one shutdown.
//!
//! An idle connection is cheap: whatever needs a buffer has it only while something is under way.

mod answer;
mod grpc;
mod http;
mod raw;
mod websocket;
mod wish;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::EchoError;

/// Connections that one listener serves at a time unless it is told otherwise.
pub const MAX_CONNECTIONS: usize = 16_384;

/// How long connections may go on after the shutdown before they are cut.
const DRAIN: Duration = Duration::from_secs(5);

/// Wait after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Where the peer listens and whom it says it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of all four listeners; without it, all addresses of both families, or of IPv4 where there is no IPv6.
    pub bind: Option<IpAddr>,
    /// Port of HTTP/1.1 and WebSocket; 0 lets the kernel choose, as for the others.
    pub http: u16,
    /// Port of HTTP/2 with prior knowledge and of gRPC.
    pub h2c: u16,
    /// Port that sends back each byte.
    pub tcp: u16,
    /// Port that speaks first, then sends back each byte.
    pub server_first: u16,
    /// Connections that each listener serves at a time, at least 1; more wait in the kernel's accept queue.
    pub max_connections: usize,
    /// What is reported about the pod.
    pub pod: Pod,
}

/// What the peer says about itself; empty where it was not told.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pod {
    /// Pod name, or the host's name.
    pub name: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Node the pod runs on.
    pub node: String,
    /// Address of the pod.
    pub ip: String,
    /// A word to tell versions of a workload apart.
    pub version: String,
}

/// The addresses that were bound.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Addresses {
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// HTTP/2 with prior knowledge.
    pub h2c: SocketAddr,
    /// TCP echo.
    pub tcp: SocketAddr,
    /// TCP echo that speaks first.
    pub server_first: SocketAddr,
}

/// A bound peer.
#[derive(Debug)]
pub struct Server {
    http: TcpListener,
    h2c: TcpListener,
    tcp: TcpListener,
    server_first: TcpListener,
    addresses: Addresses,
    max_connections: usize,
    pod: Arc<Pod>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What all connections share.
#[derive(Debug, Clone)]
struct Shared {
    pod: Arc<Pod>,
    grpc: grpc::Services,
}

#[derive(Debug, Clone, Copy)]
enum Protocol {
    Http1,
    H2c,
    Tcp,
    ServerFirst,
}

impl Server {
    /// Binds all four listeners.
    ///
    /// # Errors
    /// [`EchoError::Listen`] names the address that could not be bound.
    pub async fn bind(options: &Options) -> Result<Self, EchoError> {
        let (http, http_address) = listen(options.bind, options.http, "HTTP/1.1").await?;
        let (h2c, h2c_address) = listen(options.bind, options.h2c, "HTTP/2").await?;
        let (tcp, tcp_address) = listen(options.bind, options.tcp, "TCP").await?;
        let (server_first, first_address) = listen(options.bind, options.server_first, "server-first TCP").await?;
        let addresses =
            Addresses { http: http_address, h2c: h2c_address, tcp: tcp_address, server_first: first_address };
        let max_connections = options.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        let pod = Arc::new(options.pod.clone());
        Ok(Self { http, h2c, tcp, server_first, addresses, max_connections, pod })
    }

    /// Where the peer listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown` resolves; then accepts nothing more, lets what runs end, and cuts the rest after 5 s.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let (grpc, health) = grpc::Services::new(&self.pod, stopped.clone()).await;
        let shared = Shared { pod: self.pod, grpc };
        let mut listeners = JoinSet::new();
        for (listener, protocol) in [
            (self.http, Protocol::Http1),
            (self.h2c, Protocol::H2c),
            (self.tcp, Protocol::Tcp),
            (self.server_first, Protocol::ServerFirst),
        ] {
            let places = Semaphore::new(self.max_connections);
            listeners.spawn(accept(listener, protocol, shared.clone(), places, stopped.clone()));
        }
        shutdown.await;
        grpc::end(&health).await;
        // No receiver is left only when every listener has ended already.
        let _ = stop.send(true);
        while listeners.join_next().await.is_some() {}
    }
}

async fn listen(
    bind: Option<IpAddr>,
    port: u16,
    protocol: &'static str,
) -> Result<(TcpListener, SocketAddr), EchoError> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let address = SocketAddr::new(bind.unwrap_or(any), port);
    let failed = |source| EchoError::Listen { address, protocol, source };
    let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let listener = match TcpListener::bind(if bind.is_some() { address } else { both }).await {
        // A kernel without IPv6 does not even make the socket.
        Err(error) if bind.is_none() && error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(address).await,
        bound => bound,
    };
    let listener = listener.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Accepts until the shutdown, then waits for its connections as long as [`DRAIN`] allows.
async fn accept(
    listener: TcpListener,
    protocol: Protocol,
    shared: Shared,
    places: Semaphore,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(places);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let place = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, source)) => {
                let (shared, stopped, source) = (shared.clone(), stopped.clone(), canonical(source));
                connections.spawn(async move {
                    serve_one(stream, source, protocol, &shared, stopped).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, ?protocol, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, all).await.is_err() {
        tracing::warn!(?protocol, "connections still open after the drain are cut");
    }
}

/// IPv4 clients of an IPv6 socket are still IPv4 clients.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

async fn serve_one(
    stream: TcpStream,
    source: SocketAddr,
    protocol: Protocol,
    shared: &Shared,
    stopped: watch::Receiver<bool>,
) {
    // Small answers must not wait for an acknowledgement; failure only costs latency.
    let _ = stream.set_nodelay(true);
    let ended = match protocol {
        // Boxed, so that a connection pays for its own protocol only.
        Protocol::Http1 => Box::pin(http::serve_http1(stream, source, shared, stopped)).await,
        Protocol::H2c => Box::pin(http::serve_h2c(stream, source, shared, stopped)).await,
        Protocol::Tcp => raw::serve(stream, None, stopped).await.map_err(Into::into),
        Protocol::ServerFirst => raw::serve(stream, Some(raw::banner(&shared.pod)), stopped).await.map_err(Into::into),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %source, ?protocol, "connection ended early");
    }
}

#[cfg(test)]
mod tests;
