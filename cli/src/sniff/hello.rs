//! Reading a TLS ServerHello (RFC 8446, section 4.1.3) off the wire: which version and key exchange were agreed on.

use serde::{Deserialize, Serialize};

const RECORD_HANDSHAKE: u8 = 22;
const MESSAGE_SERVER_HELLO: u8 = 2;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const EXTENSION_KEY_SHARE: u16 = 51;

/// What a server agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerHello {
    /// Such as `TLS 1.3`.
    pub(crate) version: String,
    /// The key exchange group, such as `X25519MLKEM768`.
    pub(crate) group: String,
}

/// Reads a segment that starts with a ServerHello; `None` for anything else.
pub(super) fn parse(segment: &[u8]) -> Option<ServerHello> {
    let mut record = Reader(segment);
    if record.u8()? != RECORD_HANDSHAKE {
        return None;
    }
    record.take(2)?;
    record.take(2)?;
    if record.u8()? != MESSAGE_SERVER_HELLO {
        return None;
    }
    record.take(3)?;
    let legacy_version = record.u16()?;
    record.take(32)?;
    let session = record.u8()?;
    record.take(usize::from(session))?;
    // Cipher suite and compression method.
    record.take(3)?;
    let length = record.u16()?;
    // The key share may be cut off by the segment's end; its group stands in front.
    let mut extensions = Reader(record.take_up_to(usize::from(length)));
    let mut version = legacy_version;
    let mut group = None;
    while let (Some(kind), Some(length)) = (extensions.u16(), extensions.u16()) {
        let mut body = Reader(extensions.take_up_to(usize::from(length)));
        match kind {
            EXTENSION_SUPPORTED_VERSIONS => version = body.u16()?,
            EXTENSION_KEY_SHARE => group = body.u16(),
            _ => {}
        }
    }
    Some(ServerHello { version: version_name(version), group: group.map_or_else(|| "none".to_owned(), group_name) })
}

fn version_name(version: u16) -> String {
    match version {
        0x0304 => "TLS 1.3".to_owned(),
        0x0303 => "TLS 1.2".to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// Names of the IANA registry "TLS Supported Groups".
fn group_name(group: u16) -> String {
    match group {
        0x11ec => "X25519MLKEM768".to_owned(),
        0x001d => "X25519".to_owned(),
        0x0017 => "secp256r1".to_owned(),
        0x0018 => "secp384r1".to_owned(),
        other => format!("{other:#06x}"),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn take_up_to(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(length.min(self.0.len()));
        self.0 = tail;
        head
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ServerHello as a server with a hybrid key exchange sends it, the share cut off.
    fn server_hello() -> Vec<u8> {
        let mut bytes = vec![22, 3, 3, 4, 0xc0, 2, 0, 4, 0xbc, 3, 3];
        bytes.extend([7; 32]);
        bytes.extend([32]);
        bytes.extend([9; 32]);
        bytes.extend([0x13, 0x01, 0]);
        bytes.extend([4, 0x6e]);
        bytes.extend([0, 43, 0, 2, 3, 4]);
        bytes.extend([0, 51, 4, 0x64, 0x11, 0xec, 4, 0x60]);
        bytes.extend([1; 600]);
        bytes
    }

    #[test]
    fn version_and_group_are_read() {
        let hello = parse(&server_hello()).unwrap();
        assert_eq!(hello.version, "TLS 1.3");
        assert_eq!(hello.group, "X25519MLKEM768");
    }

    #[test]
    fn anything_else_is_not_a_hello() {
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"HTTP/1.1 200 OK"), None);
        for length in 0..60 {
            parse(&server_hello()[..length]);
        }
    }
}
