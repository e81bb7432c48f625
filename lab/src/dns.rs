//! The cluster's DNS: Services by name, over UDP and TCP.
//!
//! Other names are refused at once: the lab has no uplink, and a quick refusal is kinder than a time-out.

mod answer;
mod zone;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use answer::{MAX_DATAGRAM, Transport, answer};
pub(crate) use zone::Zone;

/// The port of DNS.
pub(crate) const PORT: u16 = 53;

/// TCP connections served at a time; further ones wait.
const MAX_CONNECTIONS: usize = 64;

/// A TCP client must send its next query, and take the answer, within this time.
const TCP_DEADLINE: Duration = Duration::from_secs(10);

/// A receiver of this size takes any query a resolver sends.
const BUFFER: usize = 4096;

/// Wait after a failed receive or accept, so that the loop does not spin.
const PAUSE: Duration = Duration::from_millis(20);

/// What one address needs to be served on.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds `address` for both transports, in the current network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { udp: UdpSocket::bind(address).await?, tcp: TcpListener::bind(address).await? })
    }
}

/// Answers for `domain` on all sockets; ends only when its task is ended.
///
/// # Errors
/// When the domain is no DNS name.
pub(crate) async fn serve(sockets: Vec<Sockets>, domain: &str, zone: watch::Receiver<Arc<Zone>>) -> io::Result<()> {
    let mut name = Name::from_ascii(domain).map_err(io::Error::other)?;
    name.set_fqdn(true);
    let mut tasks = JoinSet::new();
    for Sockets { udp, tcp } in sockets {
        tasks.spawn(serve_udp(udp, name.clone(), zone.clone()));
        tasks.spawn(serve_tcp(tcp, name.clone(), zone.clone()));
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

async fn serve_udp(socket: UdpSocket, domain: Name, zone: watch::Receiver<Arc<Zone>>) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a DNS query could not be received");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let now = Arc::clone(&zone.borrow());
        let Some(response) = answer(&now, &domain, buffer.get(..length).unwrap_or_default(), Transport::Udp) else {
            continue;
        };
        debug_assert!(response.len() <= usize::from(MAX_DATAGRAM));
        if let Err(error) = socket.send_to(&response, source).await {
            tracing::debug!(%error, %source, "a DNS answer could not be sent");
        }
    }
}

async fn serve_tcp(listener: TcpListener, domain: Name, zone: watch::Receiver<Arc<Zone>>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, source)) => {
                let (domain, zone) = (domain.clone(), zone.clone());
                connections.spawn(async move {
                    if let Err(error) = serve_stream(stream, &domain, &zone).await {
                        tracing::debug!(%error, %source, "a DNS connection ended early");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a DNS connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_stream(mut stream: TcpStream, domain: &Name, zone: &watch::Receiver<Arc<Zone>>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let exchange = async {
            let length = match stream.read_u16().await {
                Ok(length) => usize::from(length),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            };
            let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the query is longer than 4096 bytes");
            let query = buffer.get_mut(..length).ok_or_else(too_long)?;
            stream.read_exact(query).await?;
            let now = Arc::clone(&zone.borrow());
            let Some(response) = answer(&now, domain, query, Transport::Tcp) else { return Ok(false) };
            let Ok(length) = u16::try_from(response.len()) else { return Ok(false) };
            stream.write_u16(length).await?;
            stream.write_all(&response).await?;
            Ok(true)
        };
        let goes_on = tokio::time::timeout(TCP_DEADLINE, exchange).await.unwrap_or(Ok(false))?;
        if !goes_on {
            return Ok(());
        }
    }
}
