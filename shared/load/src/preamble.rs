//! What a raw connection is for: its first sixteen bytes.
//!
//! `AQLOAD1`, one byte for the kind, and two numbers of four bytes each, the most significant first.

use std::time::Duration;

/// Bytes of a preamble.
pub(crate) const LENGTH: usize = 16;

/// How a preamble begins. No method of HTTP begins so.
pub(crate) const MAGIC: &[u8; 7] = b"AQLOAD1";

/// How often a receiver of bulk bytes reports how many it has. Rare enough to cost nothing, often enough for short runs.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(20);

/// Bytes of a report: nanoseconds since the connection began, and bytes received, the most significant byte first.
pub(crate) const REPORT_LENGTH: usize = 16;

/// The byte that is answered where one is enough.
pub(crate) const ANSWER: &[u8; 1] = b"!";

/// Bytes that are read or written at a time in bulk.
pub(crate) const CHUNK: usize = 128 << 10;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// `request` bytes there, `response` bytes back, again and again.
    PingPong { request: u32, response: u32 },
    /// One byte back, then the server closes.
    Once,
    /// One byte back, then nothing until the client closes.
    Hold,
    /// Bytes there, reports back.
    Upload,
    /// Bytes back.
    Download,
}

impl Purpose {
    pub(crate) fn encode(self) -> [u8; LENGTH] {
        let (kind, first, second) = match self {
            Self::PingPong { request, response } => (1, request, response),
            Self::Once => (2, 0, 0),
            Self::Hold => (3, 0, 0),
            Self::Upload => (4, 0, 0),
            Self::Download => (5, 0, 0),
        };
        let mut bytes = [0; LENGTH];
        bytes[..7].copy_from_slice(MAGIC);
        bytes[7] = kind;
        bytes[8..12].copy_from_slice(&first.to_be_bytes());
        bytes[12..].copy_from_slice(&second.to_be_bytes());
        bytes
    }

    /// Nothing when the bytes are no preamble.
    pub(crate) fn decode(bytes: &[u8; LENGTH]) -> Option<Self> {
        let [m @ .., kind, a0, a1, a2, a3, b0, b1, b2, b3] = bytes;
        let (first, second) = (u32::from_be_bytes([*a0, *a1, *a2, *a3]), u32::from_be_bytes([*b0, *b1, *b2, *b3]));
        match (m == MAGIC, kind, first, second) {
            (true, 1, 1.., 1..) => Some(Self::PingPong { request: first, response: second }),
            (true, 2, 0, 0) => Some(Self::Once),
            (true, 3, 0, 0) => Some(Self::Hold),
            (true, 4, 0, 0) => Some(Self::Upload),
            (true, 5, 0, 0) => Some(Self::Download),
            _ => None,
        }
    }
}

/// How many bytes had been received after how many nanoseconds.
pub(crate) fn encode_report(nanos: u64, bytes: u64) -> [u8; REPORT_LENGTH] {
    let mut report = [0; REPORT_LENGTH];
    report[..8].copy_from_slice(&nanos.to_be_bytes());
    report[8..].copy_from_slice(&bytes.to_be_bytes());
    report
}

pub(crate) fn decode_report(report: u128) -> (u64, u64) {
    let low = report & u128::from(u64::MAX);
    (u64::try_from(report >> 64).unwrap_or(u64::MAX), u64::try_from(low).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_survive_the_wire_and_nothing_else_is_one() {
        let ping_pong = Purpose::PingPong { request: 1, response: 16 << 20 };
        for purpose in [ping_pong, Purpose::Once, Purpose::Hold, Purpose::Upload, Purpose::Download] {
            assert_eq!(Purpose::decode(&purpose.encode()), Some(purpose));
        }
        assert_eq!(Purpose::decode(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(Purpose::decode(b"AQLOAD1\x09\0\0\0\0\0\0\0\0"), None);
        assert_eq!(Purpose::decode(&Purpose::PingPong { request: 0, response: 1 }.encode()), None);
    }

    #[test]
    fn reports_survive_the_wire() {
        let report = u128::from_be_bytes(encode_report(u64::MAX - 1, 1 << 40));
        assert_eq!(decode_report(report), (u64::MAX - 1, 1 << 40));
    }
}
