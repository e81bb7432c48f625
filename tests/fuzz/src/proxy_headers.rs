//! The header that tells an application who connects: a source, a destination and an identity, one a line, written by
//! the mesh and read by what follows the specification and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use io::ProxyHeader;

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let mut lines = text.splitn(3, '\n');
    let mut address = || lines.next()?.parse::<SocketAddr>().ok();
    let (Some(source), Some(destination)) = (address(), address()) else {
        // What an application receives from elsewhere must not break the reader either.
        drop(read(bytes));
        return;
    };
    let identity = lines.next();
    let header = ProxyHeader::new(source, destination, identity);
    let Ok(found) = read(header.as_bytes()) else { panic!("{header:?} cannot be read") };
    // A header knows neither scopes nor flow labels.
    let plain = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    assert_eq!(plain(found.source), plain(source));
    assert_eq!(plain(found.destination), plain(destination));
    let is_left_out = identity.is_some_and(|identity| identity.len() > 60 << 10);
    assert_eq!(found.identity.as_deref(), identity.filter(|_| !is_left_out));
    for cut in 0..header.as_bytes().len().min(64) {
        let start = header.as_bytes().get(..cut).unwrap_or_default();
        assert!(read(start).is_err(), "{header:?} cut off after {cut} bytes is taken for whole");
    }
}

/// What a header says.
struct Found {
    source: SocketAddr,
    destination: SocketAddr,
    identity: Option<String>,
}

/// Reads a whole header, as section 2.2 of the specification describes it.
fn read(bytes: &[u8]) -> Result<Found, &'static str> {
    let bytes = bytes.strip_prefix(b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a").ok_or("no signature")?;
    let (head, rest) = bytes.split_at_checked(4).ok_or("no head")?;
    let [version_and_command, family, high, low] = head else { return Err("no head") };
    if *version_and_command != 0x21 {
        return Err("not version 2, command PROXY");
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if rest.len() != length {
        return Err("not as long as it says");
    }
    let (source, destination, tlvs) = match family {
        0x11 => addresses::<4>(rest, |ip| Ipv4Addr::from(ip).into())?,
        0x21 => addresses::<16>(rest, |ip| Ipv6Addr::from(ip).into())?,
        _ => return Err("neither TCP over IPv4 nor over IPv6"),
    };
    Ok(Found { source, destination, identity: identity(tlvs)? })
}

type Addresses<'a> = (SocketAddr, SocketAddr, &'a [u8]);

fn addresses<const LENGTH: usize>(bytes: &[u8], ip: fn([u8; LENGTH]) -> IpAddr) -> Result<Addresses<'_>, &'static str> {
    let (source, rest) = bytes.split_first_chunk::<LENGTH>().ok_or("no source")?;
    let (destination, rest) = rest.split_first_chunk::<LENGTH>().ok_or("no destination")?;
    let (source_port, rest) = rest.split_first_chunk::<2>().ok_or("no source port")?;
    let (destination_port, rest) = rest.split_first_chunk::<2>().ok_or("no destination port")?;
    let socket = |address: [u8; LENGTH], port: [u8; 2]| SocketAddr::new(ip(address), u16::from_be_bytes(port));
    Ok((socket(*source, *source_port), socket(*destination, *destination_port), rest))
}

/// The value of the type 0xD0 among type-length-values.
fn identity(mut tlvs: &[u8]) -> Result<Option<String>, &'static str> {
    let mut identity = None;
    while let Some(([kind, high, low], rest)) = tlvs.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest.split_at_checked(length).ok_or("a value is cut off")?;
        if *kind == 0xd0 {
            identity = Some(String::from_utf8(value.to_vec()).map_err(|_| "the identity is no text")?);
        }
        tlvs = rest;
    }
    if tlvs.is_empty() { Ok(identity) } else { Err("bytes are left") }
}
