//! The node agent's side: accept proxies, hear their hello, send requests and wait for each acknowledgement.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use linux::seqpacket;
use tokio::io::unix::AsyncFd;
use types::PodUid;

use crate::connection::{Connection, watched};
use crate::{Ack, Hello, Request, WorkloadInfo, ZdsError};

/// Where proxies connect.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<seqpacket::Listener>,
}

impl Listener {
    /// Listens at `path`, in place of a socket that an earlier agent left there; must be called inside a runtime.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self { socket: watched(seqpacket::Listener::bind(path)?)? })
    }

    /// Waits for the next proxy; without bound. May be cancelled.
    ///
    /// # Errors
    /// When the socket failed, for example because no more files can be opened.
    pub async fn accept(&self) -> io::Result<Connection> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) {
                return Connection::new(accepted?);
            }
        }
    }
}

/// A connected proxy.
///
/// Requests go strictly one after the other; a session that returned anything but [`Answer`] is of no further use.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    hello: Hello,
}

/// What the proxy made of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Acknowledged,
    /// It could not, for this reason; it will try again by itself.
    Refused(String),
}

impl Session {
    /// Hears the proxy's hello.
    ///
    /// # Errors
    /// When there is none within 5 s, or something else came.
    pub async fn start(connection: Connection) -> Result<Self, ZdsError> {
        let packet = connection.recv_soon().await?;
        if packet.descriptor.is_some() {
            return Err(ZdsError::Descriptor("a hello came with a descriptor"));
        }
        let hello = Hello::decode(&packet.bytes)?;
        Ok(Self { connection, hello })
    }

    /// What the proxy said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Hands a pod over.
    ///
    /// # Errors
    /// When the proxy went away, broke the protocol or did not answer within 5 s.
    pub async fn add(&mut self, uid: &PodUid, info: &WorkloadInfo, netns: impl AsFd) -> Result<Answer, ZdsError> {
        let netns: BorrowedFd<'_> = netns.as_fd();
        self.request(&Request::Add { uid: uid.clone(), info: info.clone(), netns }).await
    }

    /// Asks to keep a pod whose namespace the agent does not know.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn keep(&mut self, uid: &PodUid) -> Result<Answer, ZdsError> {
        self.request::<BorrowedFd<'_>>(&Request::Keep(uid.clone())).await
    }

    /// Takes a pod back.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn del(&mut self, uid: &PodUid) -> Result<Answer, ZdsError> {
        self.request::<BorrowedFd<'_>>(&Request::Del(uid.clone())).await
    }

    /// Ends the snapshot.
    ///
    /// # Errors
    /// As [`Session::add`].
    pub async fn snapshot_sent(&mut self) -> Result<Answer, ZdsError> {
        self.request::<BorrowedFd<'_>>(&Request::SnapshotSent).await
    }

    /// Waits, while no request is under way, until the proxy is gone or speaks out of turn. May be cancelled.
    pub async fn ended(&self) -> ZdsError {
        match self.connection.recv().await {
            Ok(_unasked) => ZdsError::Malformed("a message came that nobody asked for".to_owned()),
            Err(error) => error,
        }
    }

    async fn request<F: AsFd>(&mut self, request: &Request<F>) -> Result<Answer, ZdsError> {
        let (bytes, descriptor) = request.encode()?;
        self.connection.send(&bytes, descriptor).await?;
        let packet = self.connection.recv_soon().await?;
        if packet.descriptor.is_some() {
            return Err(ZdsError::Descriptor("an acknowledgement came with a descriptor"));
        }
        match Ack::decode(&packet.bytes)? {
            Ack(Ok(())) => Ok(Answer::Acknowledged),
            Ack(Err(reason)) => Ok(Answer::Refused(reason)),
        }
    }
}
