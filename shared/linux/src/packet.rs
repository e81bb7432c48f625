//! A packet sniffer: sees what really passes on a link.

mod segment;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, recvfrom, setsockopt, socket, sockopt};

use crate::error::Named;
use crate::link;

/// All protocols (`ETH_P_ALL`), in network byte order as packet(7) wants it.
const ALL_PROTOCOLS: u16 = 0x0003_u16.to_be();

/// Longest frame: 64 KiB of an IP packet that the network card would have cut, and its Ethernet header.
const LONGEST_FRAME: usize = 66_000;

/// Frames that wait to be looked at, in bytes; beyond that they are dropped and counted.
const QUEUE: usize = 8 << 20;

/// A packet socket on one interface, or on all.
///
/// It sees Ethernet frames, also on `lo` and veth pairs; interfaces without Ethernet headers make no sense to it.
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
        let open = || -> io::Result<Self> {
            let index = interface.map(link::index).transpose()?.unwrap_or_default();
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            // Without a protocol, so that nothing is received before the interface is chosen.
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            if setsockopt(&socket, sockopt::RcvBufForce, &QUEUE).is_err() {
                setsockopt(&socket, sockopt::RcvBuf, &QUEUE)?;
            }
            bind(&socket, index)?;
            Ok(Self { socket, buffer: vec![0; LONGEST_FRAME] })
        };
        open().named(|| format!("watching packets on {}", interface.unwrap_or("all interfaces")))
    }

    /// Waits for the next frame for at most `wait`; `None` when none came.
    ///
    /// # Errors
    /// The kernel's, such as the interface going down.
    #[expect(clippy::disallowed_methods, reason = "the wait is the kernel's, which no test can pause")]
    pub fn recv(&mut self, wait: Duration) -> io::Result<Option<Frame<'_>>> {
        let deadline = Instant::now().checked_add(wait);
        let (length, address) = loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut self.buffer) {
                Ok(received) => break received,
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).named(|| "receiving a frame".into()),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            wait_for(&self.socket, left).named(|| "waiting for a frame".into())?;
        };
        let is_outgoing = address.is_some_and(|address| address.pkttype() == libc::PACKET_OUTGOING);
        let interface = address.and_then(|address| address.ifindex().try_into().ok()).unwrap_or_default();
        Ok(Some(Frame { interface, is_outgoing, bytes: self.buffer.get(..length).unwrap_or_default() }))
    }

    /// How many frames passed unseen because too many waited, since this was last asked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dropped(&self) -> io::Result<u32> {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = libc::socklen_t::try_from(size_of_val(&statistics)).map_err(io::Error::other)?;
        // SAFETY: the structure is as long as `length` says, and both outlive the call.
        // WHY: nix does not wrap PACKET_STATISTICS.
        let outcome = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        Errno::result(outcome).named(|| "counting dropped frames".into())?;
        Ok(statistics.tp_drops)
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
        segment::parse(self.bytes)
    }
}

fn wait_for(socket: &OwnedFd, left: Option<Duration>) -> Result<(), Errno> {
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let timeout = left.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout) {
        Err(Errno::EINTR) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn bind(socket: &OwnedFd, index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: ALL_PROTOCOLS,
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is a whole `sockaddr_ll` of that length and outlives the call.
    // WHY: nix's link address cannot be made from its parts.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(outcome)?;
    Ok(())
}
