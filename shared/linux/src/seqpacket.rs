//! Unix sockets that keep message boundaries (`SOCK_SEQPACKET`) and can carry one file descriptor per message.
//!
//! All sockets are non-blocking: an operation that would wait fails with [`io::ErrorKind::WouldBlock`], as
//! `tokio::io::unix::AsyncFd` expects.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect,
    listen, recvmsg, sendmsg, socket, socketpair,
};

use crate::error::Named;

/// How many connections may wait to be accepted; peers are a handful of processes on this node.
const BACKLOG: i32 = 16;

/// How many descriptors there is room for in one message: enough to see that a peer sent more than one.
const MAX_DESCRIPTORS: usize = 4;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: OwnedFd,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

/// A message that was received.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it fills; 0 is the end of the stream.
    pub length: usize,
    /// The descriptor that came with it, closed on exec.
    pub descriptor: Option<OwnedFd>,
}

impl Listener {
    /// Listens at `path`, after removing a socket that an earlier process left there.
    ///
    /// # Errors
    /// The kernel's, named with the path; a file at `path` that is not a socket is left alone and is an error.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let open = || -> io::Result<Self> {
            match std::fs::symlink_metadata(path) {
                Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
                _ => {}
            }
            let socket = new_socket()?;
            bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            listen(&socket, Backlog::new(BACKLOG)?)?;
            Ok(Self { socket })
        };
        open().named(|| format!("listening on {}", path.display()))
    }

    /// Takes the next connection.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; otherwise the kernel's.
    pub fn accept(&self) -> io::Result<Connection> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let accepted = nix::sys::socket::accept4(self.socket.as_raw_fd(), flags)?;
        // SAFETY: accept4 has just returned this descriptor and nobody else knows it.
        // WHY: nix returns the raw number.
        let socket = unsafe { OwnedFd::from_raw_fd(accepted) };
        Ok(Connection { socket })
    }
}

impl Connection {
    /// Connects to the listener at `path`. A unix socket connects at once or fails.
    ///
    /// # Errors
    /// The kernel's, named with the path: `NotFound` or `ConnectionRefused` when nobody listens, `WouldBlock` when
    /// too many connections wait to be accepted.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let open = || -> io::Result<Self> {
            let socket = new_socket()?;
            connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(Self { socket })
        };
        open().named(|| format!("connecting to {}", path.display()))
    }

    /// Two connected ends.
    ///
    /// # Errors
    /// When no more files can be opened.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self { socket: one }, Self { socket: other }))
    }

    /// Sends one message, whole or not at all. An empty message cannot be told from the end of the stream, so do not
    /// send one.
    ///
    /// # Errors
    /// `WouldBlock` when the peer reads too slowly, `BrokenPipe` when it is gone.
    pub fn send(&self, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let number: Option<[RawFd; 1]> = descriptor.map(|descriptor| [descriptor.as_raw_fd()]);
        let rights = number.as_ref().map(|numbers| ControlMessage::ScmRights(numbers));
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(message)],
            rights.as_slice(),
            MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; `InvalidData` when the message does not fit in `buffer`, or carries more than
    /// one descriptor (all are closed).
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let mut slices = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
        let mut descriptors: Vec<OwnedFd> = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just made these descriptors for us; nobody else owns them.
                // WHY: nix returns raw numbers.
                descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message was truncated"));
        }
        let descriptor = descriptors.pop();
        if !descriptors.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message carries more than one descriptor"));
        }
        Ok(Received { length: message.bytes, descriptor })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.socket
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}
