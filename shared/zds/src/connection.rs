//! A connection that keeps packet boundaries, as futures.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use linux::seqpacket;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::{MAX_MESSAGE, ZdsError};

/// How long a peer may take to read a message or to answer one.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// One end of a connection between agent and proxy.
#[derive(Debug)]
pub struct Connection {
    socket: AsyncFd<seqpacket::Connection>,
}

/// A packet and what came with it.
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Connection {
    /// Takes over a non-blocking socket; must be called inside a runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(socket: seqpacket::Connection) -> io::Result<Self> {
        Ok(Self { socket: watched(socket)? })
    }

    /// Connects to the agent that listens at `path`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Self::new(seqpacket::Connection::connect(path)?)
    }

    /// Two connected ends, for tests.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = seqpacket::Connection::pair()?;
        Ok((Self::new(one)?, Self::new(other)?))
    }

    /// Sends one packet, within the deadline that a peer has to read.
    pub(crate) async fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), ZdsError> {
        let sending = async {
            loop {
                let mut ready = self.socket.writable().await?;
                match ready.try_io(|socket| socket.get_ref().send(bytes, descriptor)) {
                    Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Err(ZdsError::Closed),
                    Ok(result) => return result.map_err(ZdsError::Socket),
                    Err(_would_block) => {}
                }
            }
        };
        timeout(DEADLINE, sending).await.unwrap_or(Err(ZdsError::Timeout("read")))
    }

    /// Receives one packet; without bound, because a quiet peer is a healthy one. May be cancelled.
    pub(crate) async fn recv(&self) -> Result<Packet, ZdsError> {
        // One byte more than allowed, so that a packet of exactly the limit can be told from a longer one.
        let mut buffer = vec![0; MAX_MESSAGE + 1];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = match ready.try_io(|socket| socket.get_ref().recv(&mut buffer)) {
                Ok(result) => result,
                Err(_would_block) => continue,
            };
            return match received {
                Ok(seqpacket::Received { length: 0, .. }) => Err(ZdsError::Closed),
                Ok(seqpacket::Received { length, .. }) if length > MAX_MESSAGE => Err(ZdsError::TooLong(length)),
                Ok(seqpacket::Received { length, descriptor }) => {
                    buffer.truncate(length);
                    Ok(Packet { bytes: buffer, descriptor })
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    Err(ZdsError::Descriptor("a message was truncated or came with more than one descriptor"))
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(ZdsError::Closed),
                Err(error) => Err(ZdsError::Socket(error)),
            };
        }
    }

    /// Receives one packet that the peer owes.
    pub(crate) async fn recv_soon(&self) -> Result<Packet, ZdsError> {
        timeout(DEADLINE, self.recv()).await.unwrap_or(Err(ZdsError::Timeout("answer")))
    }
}

/// Lets the runtime watch a socket of `linux::seqpacket`.
#[expect(deprecated, reason = "the successor is unsafe; these sockets own their descriptor until they are dropped")]
pub(crate) fn watched<T: AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::new(socket)
}
