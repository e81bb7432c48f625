//! The header of the PROXY protocol, version 2, that tells an application who connects.
//!
//! The format is that of
//! [the PROXY protocol, section 2.2](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt).

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY.
const VERSION_AND_COMMAND: u8 = 0x21;

/// STREAM over IPv4, and over IPv6.
const STREAM_V4: u8 = 0x11;
const STREAM_V6: u8 = 0x21;

/// The TLV that holds the client's identity; one of those left to applications.
const IDENTITY: u8 = 0xd0;

/// A header, ready to be put in front of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyHeader(Vec<u8>);

impl ProxyHeader {
    /// Addresses of two families are both written as IPv6.
    ///
    /// An identity of more than 60 KiB is left out: the header's length has 16 bits, and one that comes from a
    /// certificate is far shorter.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, identity: Option<&str>) -> Self {
        let (family, addresses) = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (STREAM_V4, [source.octets(), destination.octets()].concat())
            }
            (source, destination) => (STREAM_V6, [mapped(source), mapped(destination)].concat()),
        };
        let tlv = identity.map(|identity| tlv(IDENTITY, identity)).unwrap_or_default();
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        let rest = [addresses, ports, tlv].concat();
        let mut bytes = Vec::with_capacity(SIGNATURE.len() + 4 + rest.len());
        bytes.extend(SIGNATURE);
        bytes.extend([VERSION_AND_COMMAND, family]);
        bytes.extend(length(&rest));
        bytes.extend(rest);
        Self(bytes)
    }

    /// What goes in front of the stream's own bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn tlv(kind: u8, value: &str) -> Vec<u8> {
    const MOST: usize = 60 << 10;
    if value.len() > MOST {
        return Vec::new();
    }
    [&[kind][..], &length(value.as_bytes()), value.as_bytes()].concat()
}

fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(source: &str, destination: &str, identity: Option<&str>) -> Vec<u8> {
        ProxyHeader::new(source.parse().unwrap(), destination.parse().unwrap(), identity).0
    }

    #[test]
    fn ipv4_with_identity_is_what_the_specification_says() {
        let identity = "spiffe://cluster.local/ns/a/sa/b";
        let bytes = header("10.0.0.1:258", "10.0.0.2:80", Some(identity));
        let mut expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x2f\x0a\0\0\x01\x0a\0\0\x02\x01\x02\0\x50\xd0\0\x20".to_vec();
        expected.extend(identity.as_bytes());
        assert_eq!(bytes, expected);
    }

    #[test]
    fn without_identity_there_is_no_tlv() {
        let bytes = header("[fd00::1]:1", "[fd00::2]:2", None);
        assert_eq!(bytes[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(bytes.len(), 16 + 36);
        assert_eq!((bytes[16], bytes[31], bytes[47]), (0xfd, 1, 2));
        assert_eq!(bytes[48..], [0, 1, 0, 2]);
    }

    #[test]
    fn two_families_are_both_written_as_ipv6() {
        let bytes = header("10.0.0.1:1", "[fd00::2]:2", None);
        assert_eq!(bytes[13], 0x21);
        assert_eq!(bytes[16..32], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1]);
    }

    #[test]
    fn an_identity_that_does_not_fit_is_left_out() {
        let bytes = header("10.0.0.1:1", "10.0.0.2:2", Some(&"x".repeat(1 << 16)));
        assert_eq!(bytes, header("10.0.0.1:1", "10.0.0.2:2", None));
    }
}
