//! Frames ([RFC 9113, section 4](https://www.rfc-editor.org/rfc/rfc9113#section-4)).

mod reader;

pub use reader::Input;
pub(crate) use reader::{Event, Payload, Reader};

/// What a client says first.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's header.
pub(crate) const HEAD: usize = 9;

/// The largest frame that every peer accepts.
pub(crate) const SMALLEST_LIMIT: u32 = 16 << 10;

/// The largest frame that a peer may allow.
pub(crate) const LARGEST_LIMIT: u32 = (1 << 24) - 1;

/// Which frame it is.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// What of a frame is optional.
pub(crate) mod flag {
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of payload; 24 bits.
    pub(crate) length: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// 0 is the connection itself.
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, length: usize) -> Self {
        // Callers stay below what the peer allows, which is 24 bits.
        Self { length: u32::try_from(length).unwrap_or(u32::MAX), kind, flags, stream }
    }

    pub(crate) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, w, x, y, z] = bytes;
        // The highest bit of the stream is reserved and must be ignored.
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream: u32::from_be_bytes([w & 0x7f, x, y, z]) }
    }

    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.length.to_be_bytes();
        let [w, x, y, z] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, w, x, y, z]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a whole frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head::new(kind, flags, stream, payload.len()).to_bytes());
    out.extend_from_slice(payload);
}

/// Appends RST_STREAM or WINDOW_UPDATE, which carry one number.
pub(crate) fn write_number(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    write(out, kind, 0, stream, &number.to_be_bytes());
}

/// Appends a header block, in as many frames as the peer's limit asks for.
pub(crate) fn write_block(out: &mut Vec<u8>, stream: u32, ends_stream: bool, block: &[u8], largest: u32) {
    let mut flags = if ends_stream { flag::END_STREAM } else { 0 };
    let mut kind = kind::HEADERS;
    let mut rest = block;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(largest as usize));
        let end = if behind.is_empty() { flag::END_HEADERS } else { 0 };
        write(out, kind, flags | end, stream, piece);
        if behind.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, behind);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn heads_survive_a_round_trip(bytes: [u8; HEAD]) {
            let mut expected = bytes;
            expected[5] &= 0x7f;
            prop_assert_eq!(Head::parse(bytes).to_bytes(), expected);
        }
    }

    #[test]
    fn a_long_block_is_spread_over_frames() {
        let mut out = Vec::new();
        write_block(&mut out, 7, true, &[0xaa; 25], 10);
        let heads: Vec<_> = [0, 19, 38].map(|at: usize| Head::parse(out[at..at + HEAD].try_into().unwrap())).into();
        assert_eq!(heads[0], Head::new(kind::HEADERS, flag::END_STREAM, 7, 10));
        assert_eq!(heads[1], Head::new(kind::CONTINUATION, 0, 7, 10));
        assert_eq!(heads[2], Head::new(kind::CONTINUATION, flag::END_HEADERS, 7, 5));
        let mut empty = Vec::new();
        write_block(&mut empty, 1, false, &[], 10);
        assert_eq!(empty, Head::new(kind::HEADERS, flag::END_HEADERS, 1, 0).to_bytes());
    }
}
