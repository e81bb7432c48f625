//! The one call that gRPC load makes: `aquifer.load.v1.Load/Call`, whose messages either way have one field,
//! `bytes payload = 1`.

use bytes::{BufMut as _, BytesMut};

use crate::varint;

pub(crate) const PATH: &str = "/aquifer.load.v1.Load/Call";
pub(crate) const CONTENT_TYPE: &str = "application/grpc";
pub(crate) const STATUS: &str = "grpc-status";

/// The metadata by which a call says how many bytes the answer's payload is to have.
pub(crate) const RESPONSE_BYTES: &str = "aquifer-response-bytes";

/// Writes a message with a payload of `length` bytes, behind its prefix: uncompressed, and how long it is.
pub(crate) fn write_message(buffer: &mut BytesMut, length: u32) {
    let mut field = BytesMut::new();
    if length > 0 {
        // Field 1, of the kind that says its length.
        field.put_u8(0x0a);
        varint::write(&mut field, u64::from(length));
    }
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(field.len()).unwrap_or_default() + length);
    buffer.put_slice(&field);
    buffer.put_bytes(b'.', length as usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_written_as_protobuf_would() {
        let written = |length| {
            let mut buffer = BytesMut::new();
            write_message(&mut buffer, length);
            buffer
        };
        assert_eq!(&written(0)[..], [0, 0, 0, 0, 0]);
        assert_eq!(&written(3)[..], *b"\0\0\0\0\x05\x0a\x03...");
        let long = written(300);
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert_eq!(long.len(), 5 + 303);
    }
}
