//! Connections that carry requests one after the other.

pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod tcp;

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::outcome::Failure;

/// Makes connections for lanes.
pub(crate) trait Dial: Send + Sync + 'static {
    type Client: Client;

    /// A client for lane number `lane`. Lanes may share a connection.
    fn dial(&self, lane: u32) -> impl Future<Output = Result<Self::Client, Failure>> + Send;
}

/// One lane's end of a connection.
pub(crate) trait Client: Send + 'static {
    /// Sends one request and reads its answer. After a failure the client is of no use any more.
    fn exchange(&mut self) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Waits until the peer has closed, where it is the peer's turn.
    fn closed(self) -> impl Future<Output = ()> + Send;
}

/// A whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// It says that the request went well.
    pub(crate) is_success: bool,
    /// The connection takes another request.
    pub(crate) is_kept: bool,
}

/// Connects. Small writes leave at once.
pub(crate) async fn connect(target: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(target).await.map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::TimedOut => Failure::Timeout,
        _ => Failure::Connect,
    })?;
    stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
    Ok(stream)
}

/// What a failed read or write tells.
pub(crate) fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::Timeout,
        ErrorKind::UnexpectedEof => Failure::Closed,
        _ => Failure::Reset,
    }
}

/// Reads until the peer closes.
pub(crate) async fn read_to_end(stream: &mut TcpStream) {
    use tokio::io::AsyncReadExt as _;
    let mut rest = [0; 64];
    while let Ok(1..) = stream.read(&mut rest).await {}
}
