//! Netlink requests and their answers, for one request at a time.
//!
//! A socket is opened per operation: it belongs to the network namespace in which it was opened, and operations are
//! rare.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

use crate::error::OperationError;

/// Length of `struct nlmsghdr`; see netlink(7).
pub(crate) const HEADER: usize = 16;
/// Messages and attributes start at multiples of this.
pub(crate) const ALIGNMENT: usize = 4;
/// Flags of a request: it is one; it wants an acknowledgement; it makes what is absent; it fails on what is there; it
/// adds to the end of a list; it lists all.
pub(crate) const REQUEST: u16 = NLM_F_REQUEST;
pub(crate) const ACKNOWLEDGE: u16 = NLM_F_ACK;
pub(crate) const CREATE: u16 = NLM_F_CREATE;
pub(crate) const EXCLUSIVE: u16 = NLM_F_EXCL;
pub(crate) const APPEND: u16 = NLM_F_APPEND;
pub(crate) const DUMP: u16 = NLM_F_DUMP;
/// The answer is an errno, 0 for success.
pub(crate) const ERROR: u16 = 2;
/// The end of a dump.
pub(crate) const DONE: u16 = 3;

/// The kernel answers before `send` returns, so this only bounds the wait for an answer that will never come.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// A dump during which the kernel's table changed is incomplete and is asked for again, this often at most.
const DUMP_ATTEMPTS: usize = 16;
/// Set on messages of an incomplete dump.
const DUMP_INTERRUPTED: u16 = 0x10;
/// Set on an error that leaves out the payload of the request, and on one that explains itself.
const CAPPED: u16 = 0x100;
const EXPLAINED: u16 = 0x200;
/// The attributes that hold the explanation and the place in the request that it is about.
const EXPLANATION: u16 = 1;
const OFFSET: u16 = 2;

/// A message as it came from the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
    /// The message with its header.
    pub(crate) bytes: &'a [u8],
}

/// What the kernel said no to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) errno: i32,
    pub(crate) explanation: Option<String>,
    /// Which byte of the request it is about.
    pub(crate) offset: Option<u32>,
}

/// A socket that talks to the kernel only.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
}

impl Socket {
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.set_ext_ack(true)?;
        SockRef::from(&socket).set_read_timeout(Some(ANSWER_DEADLINE))?;
        Ok(Self { socket })
    }

    /// Makes the send buffer large enough for a message of `length` bytes.
    pub(crate) fn make_room(&self, length: usize) -> io::Result<()> {
        /// What the kernel takes of the buffer beyond the message.
        const OVERHEAD: usize = 4096;
        let socket = SockRef::from(&self.socket);
        let room = length + OVERHEAD;
        // Beyond the system's limit only the administrator of the network namespace may go.
        if socket.send_buffer_size()? < room && setsockopt(&self.socket, sockopt::SndBufForce, &room).is_err() {
            socket.set_send_buffer_size(room)?;
        }
        Ok(())
    }

    pub(crate) fn send(&self, request: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(request, 0)?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next datagram, which holds one or more messages.
    pub(crate) fn recv(&self) -> io::Result<Vec<u8>> {
        match self.socket.recv_from_full() {
            Ok((datagram, _)) => Ok(datagram),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer a netlink request"))
            }
            Err(error) => Err(error),
        }
    }

    /// Hands every message of a dump to `each`; `false` when the dump is incomplete.
    fn dump(&self, request: &[u8], mut each: impl FnMut(Message<'_>) -> io::Result<()>) -> io::Result<bool> {
        self.send(request)?;
        let mut is_complete = true;
        loop {
            let datagram = self.recv()?;
            for message in messages(&datagram) {
                let message = message?;
                is_complete &= message.flags & DUMP_INTERRUPTED == 0;
                if let Some(refusal) = message.refusal() {
                    return Err(refusal.into());
                }
                match message.kind {
                    DONE | ERROR => return Ok(is_complete),
                    _ => each(message)?,
                }
            }
        }
    }
}

impl Message<'_> {
    /// What the kernel refused, if this message says so.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        if self.kind != ERROR && self.kind != DONE {
            return None;
        }
        let code = i32::from_ne_bytes(*self.payload.first_chunk()?);
        if code >= 0 {
            return None;
        }
        let mut refusal = Refusal { errno: code.saturating_neg(), explanation: None, offset: None };
        for (kind, value) in attributes(self.explanations().unwrap_or_default()) {
            match kind {
                EXPLANATION => {
                    let text = value.strip_suffix(&[0]).unwrap_or(value);
                    refusal.explanation = Some(String::from_utf8_lossy(text).into_owned());
                }
                OFFSET => refusal.offset = value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)),
                _ => {}
            }
        }
        Some(refusal)
    }

    /// The attributes that follow the errno and, of an error, the request or its header alone.
    fn explanations(&self) -> Option<&[u8]> {
        if self.flags & EXPLAINED == 0 {
            return None;
        }
        let rest = self.payload.get(size_of::<i32>()..)?;
        let skipped = if self.kind == DONE {
            0
        } else if self.flags & CAPPED != 0 {
            HEADER
        } else {
            aligned(usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?)
        };
        rest.get(skipped..)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let source = Self::from_raw_os_error(refusal.errno);
        match refusal.explanation {
            Some(operation) => Self::new(source.kind(), OperationError { operation, source }),
            None => source,
        }
    }
}

/// Splits a datagram into its messages.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = io::Result<Message<'_>>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let message = first_message(rest);
        rest = match &message {
            Some(message) => rest.get(aligned(message.bytes.len())..).unwrap_or_default(),
            None => &[],
        };
        Some(message.ok_or_else(|| malformed("a netlink message that is shorter than it claims")))
    })
}

fn first_message(bytes: &[u8]) -> Option<Message<'_>> {
    let (header, _) = bytes.split_first_chunk::<HEADER>()?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).ok()?;
    let bytes = bytes.get(..length)?;
    Some(Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        payload: bytes.get(HEADER..)?,
        bytes,
    })
}

/// The attributes of a payload, as (kind without flags, value); ends at the first malformed one.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Bits of the kind that are flags: nested, network byte order.
    const FLAGS: u16 = 0xc000;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !FLAGS, value))
    })
}

/// Rounds up to where the next message or attribute starts.
pub(crate) const fn aligned(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Makes one change to links, addresses, routes or rules.
pub(crate) fn change(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let socket = Socket::open(NETLINK_ROUTE)?;
    socket.send(&encode(message, flags | ACKNOWLEDGE))?;
    let datagram = socket.recv()?;
    for message in messages(&datagram) {
        let message = message?;
        if let Some(refusal) = message.refusal() {
            return Err(refusal.into());
        }
        if message.kind == ERROR {
            return Ok(());
        }
    }
    Err(malformed("an answer to a netlink request that does not acknowledge it"))
}

/// All that the kernel lists for a request about links, addresses, routes or rules.
pub(crate) fn dump(request: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    dump_with(NETLINK_ROUTE, &encode(request, DUMP), |message| {
        let decoded = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.bytes)
            .map_err(|error| malformed(&error.to_string()))?;
        match decoded.payload {
            NetlinkPayload::InnerMessage(inner) => Ok(Some(inner)),
            _ => Ok(None),
        }
    })
}

/// All that the kernel lists for a request, decoded; asked for again while the list changes under the kernel's hands.
pub(crate) fn dump_with<T>(
    protocol: isize,
    request: &[u8],
    decode: impl Fn(Message<'_>) -> io::Result<Option<T>>,
) -> io::Result<Vec<T>> {
    for _ in 0..DUMP_ATTEMPTS {
        let mut found = Vec::new();
        let is_complete = Socket::open(protocol)?.dump(request, |message| {
            found.extend(decode(message)?);
            Ok(())
        })?;
        if is_complete {
            return Ok(found);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the kernel's table changes faster than it can be read"))
}

fn encode(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = REQUEST | flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(HEADER + payload.len()).unwrap().to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(7_u32.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    #[test]
    fn a_datagram_splits_into_its_messages() {
        let mut datagram = message(20, 0, &[1, 2, 3]);
        datagram.extend(message(21, 2, &[]));
        let found: Vec<_> = messages(&datagram).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].kind, found[0].payload), (20, &[1, 2, 3][..]));
        assert_eq!((found[1].kind, found[1].flags, found[1].sequence), (21, 2, 7));
    }

    #[test]
    fn a_message_that_claims_too_much_is_an_error_and_the_last() {
        let mut datagram = message(20, 0, &[1, 2, 3, 4]);
        datagram.truncate(HEADER + 2);
        let found: Vec<_> = messages(&datagram).collect();
        assert!(matches!(found.as_slice(), [Err(_)]), "{found:?}");
        assert!(messages(&[0; HEADER]).next().unwrap().is_err());
    }

    #[test]
    fn a_refusal_carries_the_kernels_explanation() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend([0; HEADER]);
        payload.extend([8, 0, 1, 0, b'b', b'a', b'd', 0, 8, 0, 2, 0]);
        payload.extend(20_u32.to_ne_bytes());
        let bytes = message(ERROR, CAPPED | EXPLAINED, &payload);
        let refusal = messages(&bytes).next().unwrap().unwrap().refusal();
        assert_eq!(refusal, Some(Refusal { errno: libc::EINVAL, explanation: Some("bad".into()), offset: Some(20) }));
        let success = message(ERROR, CAPPED, &[0; HEADER + 4]);
        assert_eq!(messages(&success).next().unwrap().unwrap().refusal(), None);
    }

    #[test]
    fn attributes_end_at_the_first_malformed_one() {
        let good = [5, 0, 1, 0, 9, 0, 0, 0, 4, 0, 2, 0x80];
        assert_eq!(attributes(&good).collect::<Vec<_>>(), [(1, &[9][..]), (2, &[][..])]);
        for bad in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 1, 2, 3], &[1]] {
            assert_eq!(attributes(bad).count(), 0, "{bad:?}");
        }
    }
}
