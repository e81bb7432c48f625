//! Messages over a socket that keeps their boundaries, without blocking.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use linux::seqpacket::Connection;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::{Announcement, MAX_CONTENT, Message};

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Channel {
    connection: AsyncFd<Connection>,
}

impl Channel {
    /// Needs a Tokio runtime.
    pub(crate) fn new(connection: Connection) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(Self { connection: watched(connection, interest)? })
    }

    /// Sends one message. Cancel safe: it is sent whole or not at all.
    pub(crate) async fn send(&self, message: &Message, descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let packet = message.encode();
        let send = |connection: &Connection| connection.send(&packet, descriptor.map(AsFd::as_fd));
        self.connection.async_io(Interest::WRITABLE, send).await
    }

    /// Receives one message; `None` when the other side is gone. Cancel safe.
    pub(crate) async fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_CONTENT + 1];
        let received = self.connection.async_io(Interest::READABLE, |connection| connection.recv(&mut buffer)).await;
        let received = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(error) => return Err(error),
        };
        let packet = buffer.get(..received.length).unwrap_or_default();
        if packet.is_empty() {
            return Ok(None);
        }
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "a message that this version does not know");
        Ok(Some((Message::decode(packet).ok_or_else(unknown)?, received.descriptor)))
    }

    /// Receives news of a lab that comes up; `None` when it is gone. Cancel safe.
    pub(crate) async fn announcement(&self) -> io::Result<Option<Announcement>> {
        match self.receive().await? {
            Some((Message::Announcement(announcement), _)) => Ok(Some(announcement)),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "the lab said something out of turn")),
            None => Ok(None),
        }
    }

    /// Sends a text of any length in pieces.
    pub(crate) async fn send_data(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(MAX_CONTENT) {
            self.send(&Message::Data(piece.to_vec()), None).await?;
        }
        Ok(())
    }
}

/// Registers a descriptor with the Tokio runtime.
#[expect(
    deprecated,
    reason = "every type used here owns its descriptor and never changes it, which is all that the unsafe successor asks for"
)]
pub(crate) fn watched<T: AsRawFd>(file: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(file, interest)
}
