//! Unix sockets that keep message boundaries (`SOCK_SEQPACKET`) and can carry one file descriptor per message.
//!
//! All sockets are non-blocking: an operation that would wait fails with [`io::ErrorKind::WouldBlock`], as
//! `tokio::io::unix::AsyncFd` expects.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen, sendmsg,
    socket, socketpair,
};

use crate::error::Named;

/// How many connections may wait to be accepted; peers are a handful of processes on this node.
const BACKLOG: i32 = 16;

/// Length of a control message's header: its length, level and type.
const CONTROL_HEADER: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// Room for as many descriptors as the kernel lets a message carry (`SCM_MAX_FD`), in words that align the headers.
const CONTROL_WORDS: usize = (CONTROL_HEADER + 253 * size_of::<RawFd>()).div_ceil(size_of::<usize>());

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
        let mut control = [0_usize; CONTROL_WORDS];
        let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all fields of the C structure are numbers and pointers, for which zero is a value.
        // WHY: the structure has private padding on some targets, so it cannot be written out.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the buffer, its description and the control words live until the call is over, and their lengths
        // are those given.
        // WHY: nix refuses to look at a message whose control data was truncated, and then leaks the descriptors that
        // the kernel has already handed over.
        let length = unsafe {
            libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT)
        };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut descriptors = descriptors(&control, message.msg_controllen);
        if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message was truncated"));
        }
        let descriptor = descriptors.pop();
        if !descriptors.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the message carries more than one descriptor"));
        }
        Ok(Received { length, descriptor })
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

impl From<OwnedFd> for Connection {
    /// Takes up a connection of another process of ours, which must have been made by this module.
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
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

/// Takes over the descriptors in the first `length` bytes of the control data; see cmsg(3).
fn descriptors(control: &[usize], length: usize) -> Vec<OwnedFd> {
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut rest = bytes.get(..length).unwrap_or(&bytes);
    let mut found = Vec::new();
    while let Some((header, _)) = rest.split_first_chunk::<CONTROL_HEADER>() {
        let (length, kind) = header.split_at(size_of::<usize>());
        let length = length.try_into().map_or(0, usize::from_ne_bytes);
        let Some(content) = rest.get(CONTROL_HEADER..length) else { break };
        let rights = [libc::SOL_SOCKET.to_ne_bytes(), libc::SCM_RIGHTS.to_ne_bytes()].concat();
        if kind == rights {
            let (numbers, _) = content.as_chunks();
            for number in numbers {
                // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
                // WHY: a descriptor arrives as a number.
                found.push(unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)) });
            }
        }
        rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
    found
}
