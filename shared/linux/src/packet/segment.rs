//! Finds the TCP segment in an Ethernet frame.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Segment;

const ETHERNET_HEADER: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;

/// Extension headers of IPv6 that may stand before TCP; see RFC 8200.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Bits of a fragment's position in IPv4 and, left-aligned, in IPv6.
const IPV4_OFFSET: u16 = 0x1fff;
const IPV6_OFFSET: u16 = 0xfff8;

pub(super) fn parse(frame: &[u8]) -> Option<Segment<'_>> {
    let (header, packet) = frame.split_at_checked(ETHERNET_HEADER)?;
    let kind: [u8; 2] = *header.last_chunk()?;
    let (source, destination, segment) = match kind {
        IPV4 => ipv4(packet)?,
        IPV6 => ipv6(packet)?,
        _ => return None,
    };
    tcp(source, destination, segment)
}

/// The addresses and what the packet carries, if it is TCP; see RFC 791.
fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let [first, _, l0, l1, _, _, f0, f1, _, protocol, _, _, addresses @ ..] = header;
    let header_length = usize::from(first & 0x0f) * 4;
    let is_later_fragment = u16::from_be_bytes([*f0, *f1]) & IPV4_OFFSET != 0;
    if first >> 4 != 4 || *protocol != TCP || is_later_fragment {
        return None;
    }
    let packet = trimmed(packet, usize::from(u16::from_be_bytes([*l0, *l1])))?;
    let [a, b, c, d, e, f, g, h] = *addresses;
    let (source, destination) = (Ipv4Addr::new(a, b, c, d), Ipv4Addr::new(e, f, g, h));
    Some((source.into(), destination.into(), packet.get(header_length.max(header.len())..)?))
}

/// The addresses and what the packet carries, if it is TCP.
fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, &[u8])> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let [first, _, _, _, l0, l1, next, _, addresses @ ..] = header;
    let mut next = *next;
    if first >> 4 != 6 {
        return None;
    }
    let mut rest = trimmed(rest, usize::from(u16::from_be_bytes([*l0, *l1])))?;
    while next != TCP {
        let [following, length, o0, o1, ..] = *rest.first_chunk::<8>()?;
        let skipped = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + usize::from(length) * 8,
            FRAGMENT if u16::from_be_bytes([o0, o1]) & IPV6_OFFSET == 0 => 8,
            _ => return None,
        };
        rest = rest.get(skipped..)?;
        next = following;
    }
    let source = Ipv6Addr::from(*addresses.first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*addresses.last_chunk::<16>()?);
    Some((source.into(), destination.into(), rest))
}

/// Without the padding of short frames. A length of 0 belongs to a packet that is too long for the field.
fn trimmed(bytes: &[u8], length: usize) -> Option<&[u8]> {
    if length == 0 { Some(bytes) } else { bytes.get(..length) }
}

/// See RFC 9293.
fn tcp(source: IpAddr, destination: IpAddr, segment: &[u8]) -> Option<Segment<'_>> {
    let [s0, s1, d0, d1, q0, q1, q2, q3, _, _, _, _, offset, flags, ..] = *segment.first_chunk::<20>()?;
    let header_length = usize::from(offset >> 4) * 4;
    Some(Segment {
        source: SocketAddr::new(source, u16::from_be_bytes([s0, s1])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([d0, d1])),
        sequence: u32::from_be_bytes([q0, q1, q2, q3]),
        flags,
        payload: segment.get(header_length.max(20)..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_bytes(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x1f, 0x90, 0x00, 0x50, 0, 0, 0, 7, 0, 0, 0, 0, 0x60, 0x18, 0, 0, 0, 0, 0, 0];
        bytes.extend([1, 1, 1, 0]);
        bytes.extend(payload);
        bytes
    }

    fn ethernet(kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[0; 12], &kind[..], packet].concat()
    }

    fn ipv4_frame(fragment: u16, protocol: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(24 + content.len()).unwrap().to_be_bytes();
        let [f0, f1] = fragment.to_be_bytes();
        // A header with one word of options.
        let mut packet = vec![0x46, 0, length[0], length[1], 0, 0, f0, f1, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1]);
        packet.extend(content);
        // Padding to the shortest Ethernet frame.
        packet.extend([0; 20]);
        ethernet(IPV4, &packet)
    }

    fn ipv6_frame(next: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
        packet.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(content);
        ethernet(IPV6, &packet)
    }

    #[test]
    fn an_ipv4_segment_is_found_without_options_and_padding() {
        let frame = ipv4_frame(0x4000, TCP, &tcp_bytes(b"hello"));
        let found = parse(&frame).unwrap();
        assert_eq!(found.source, "10.0.0.1:8080".parse().unwrap());
        assert_eq!(found.destination, "10.0.0.2:80".parse().unwrap());
        assert_eq!((found.sequence, found.flags, found.payload), (7, 0x18, &b"hello"[..]));
    }

    #[test]
    fn an_ipv6_segment_is_found_behind_extension_headers() {
        let mut content = vec![FRAGMENT, 0, 0, 0, 0, 0, 0, 0];
        content.extend([TCP, 0, 0, 1, 0, 0, 0, 0]);
        content.extend(tcp_bytes(b"hello"));
        let frame = ipv6_frame(HOP_BY_HOP, &content);
        let found = parse(&frame).unwrap();
        assert_eq!(found.source, "[fd00::1]:8080".parse().unwrap());
        assert_eq!(found.destination, "[fd00::2]:80".parse().unwrap());
        assert_eq!(found.payload, b"hello");
    }

    #[test]
    fn everything_else_is_not_a_segment() {
        let tcp = tcp_bytes(b"hello");
        assert_eq!(parse(&ipv4_frame(0, 17, &tcp)), None);
        assert_eq!(parse(&ipv4_frame(1, TCP, &tcp)), None);
        assert_eq!(parse(&ipv6_frame(58, &tcp)), None);
        assert_eq!(parse(&ethernet([0x08, 0x06], &tcp)), None);
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_not_a_segment_and_does_no_harm() {
        let mut extended = vec![TCP, 0, 0, 0, 0, 0, 0, 0];
        extended.extend(tcp_bytes(b""));
        let mut four = ipv4_frame(0, TCP, &tcp_bytes(b""));
        four.truncate(four.len() - 20);
        for frame in [four, ipv6_frame(DESTINATION, &extended)] {
            assert!(parse(&frame).is_some());
            for length in 0..frame.len() {
                assert_eq!(parse(&frame[..length]), None, "{length}");
            }
        }
    }
}
