//! A packet sniffer: sees what really passes on a link.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A packet socket on one interface, or on all.
#[derive(Debug)]
pub struct Sniffer {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// A frame as it passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The interface that it passed on.
    pub interface: u32,
    /// Whether it was sent by this host, rather than received.
    pub is_outgoing: bool,
    /// The frame from its Ethernet header on.
    pub bytes: &'a [u8],
}

/// A TCP segment inside a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it goes to.
    pub destination: SocketAddr,
    /// Position of the payload's first byte in the stream.
    pub sequence: u32,
    /// Flags of the header, as bits.
    pub flags: u8,
    /// What it carries.
    pub payload: &'a [u8],
}

impl Sniffer {
    /// Opens a sniffer in the current network namespace, on one interface or on all. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The kernel's; `NotFound` when there is no such interface.
    pub fn open(interface: Option<&str>) -> io::Result<Self> {
        let _ = interface;
        todo!()
    }

    /// Waits for the next frame for at most `wait`; `None` when none came.
    ///
    /// # Errors
    /// The kernel's, such as the interface going down.
    pub fn recv(&mut self, wait: Duration) -> io::Result<Option<Frame<'_>>> {
        let _ = (wait, &mut self.buffer);
        todo!()
    }
}

impl AsFd for Sniffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> Frame<'a> {
    /// The TCP segment that the frame carries over IPv4 or IPv6; `None` when it carries anything else, a later
    /// fragment, or less than it claims.
    pub fn tcp(&self) -> Option<Segment<'a>> {
        todo!()
    }
}
