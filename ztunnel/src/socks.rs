//! SOCKS version 5 ([RFC 1928](https://www.rfc-editor.org/rfc/rfc1928)) on a pod's loopback: another way to make an
//! outgoing connection, for applications that cannot be captured. CONNECT only, and nobody has to log in.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::error::ConnectionError;
use crate::lane::Lane;
use crate::lookups;

/// The port of the listener, on 127.0.0.1.
pub(crate) const PORT: u16 = 15080;

/// How long a client may take to say what it wants, and to take the answer.
const DEADLINE: Duration = Duration::from_secs(10);

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// How a request is answered; the numbers are those of RFC 1928, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    UnknownCommand = 7,
    UnknownAddressType = 8,
}

/// Why a client that wants to be connected is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocksError {
    /// The client went away.
    #[error("the client broke off: {0}")]
    Io(#[from] io::Error),
    /// The client speaks something else.
    #[error("the client does not speak SOCKS 5: version {0}")]
    Version(u8),
    /// The client insists on logging in.
    #[error("the client offers no method without login")]
    Method,
    /// The client wants something else than a connection.
    #[error("command {0} is not supported")]
    Command(u8),
    /// The client names its destination in a way that there is not.
    #[error("address type {0} is not known")]
    AddressType(u8),
    /// The name is no host name.
    #[error("the destination is no host name")]
    Name,
}

/// Where a client wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Address(SocketAddr),
    Name(String, u16),
}

/// Learns where the client wants to go; what is refused already has been answered.
pub(crate) async fn destination(
    lane: &Arc<Lane>,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<SocketAddr, ConnectionError> {
    let wanted = {
        let _place = lane.negotiations.try_acquire().map_err(|_full| ConnectionError::Busy)?;
        timeout(DEADLINE, negotiate(stream)).await
    };
    let wanted = wanted.map_err(|_elapsed| ConnectionError::Timeout("a SOCKS request"))??;
    match wanted {
        Wanted::Address(address) => Ok(address),
        Wanted::Name(name, port) => match lookups::addresses(lane, &name).await.first() {
            Some(ip) => Ok(SocketAddr::new(*ip, port)),
            None => {
                answer(stream, Reply::HostUnreachable).await?;
                Err(ConnectionError::Name { hostname: name.into(), reason: "no address".to_owned() })
            }
        },
    }
}

/// Tells the client what became of its connection.
pub(crate) async fn report(
    stream: &mut (impl AsyncWrite + Unpin),
    outcome: Result<(), &ConnectionError>,
) -> Result<(), ConnectionError> {
    let reply = match outcome {
        Ok(()) => Reply::Succeeded,
        Err(ConnectionError::Loop | ConnectionError::Denied(_)) => Reply::NotAllowed,
        Err(ConnectionError::Connect { source, .. }) if source.kind() == io::ErrorKind::ConnectionRefused => {
            Reply::Refused
        }
        Err(ConnectionError::Connect { .. } | ConnectionError::Name { .. }) => Reply::HostUnreachable,
        Err(_) => Reply::Failed,
    };
    answer(stream, reply).await
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> Result<(), ConnectionError> {
    let written = timeout(DEADLINE, send(stream, reply)).await;
    Ok(written.map_err(|_elapsed| ConnectionError::Timeout("a SOCKS client"))?.map_err(SocksError::Io)?)
}

/// The address that a connection is bound to is of no use to anybody, and left open.
async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await?;
    stream.flush().await
}

async fn negotiate(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Wanted, SocksError> {
    check_version(stream.read_u8().await?)?;
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_LOGIN) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(SocksError::Method);
    }
    stream.write_all(&[VERSION, NO_LOGIN]).await?;

    check_version(stream.read_u8().await?)?;
    let command = stream.read_u8().await?;
    let _reserved = stream.read_u8().await?;
    let address_type = stream.read_u8().await?;
    let wanted = match address_type {
        IPV4 => {
            let mut octets = [0; 4];
            stream.read_exact(&mut octets).await?;
            Wanted::Address(SocketAddr::new(Ipv4Addr::from(octets).into(), stream.read_u16().await?))
        }
        IPV6 => {
            let mut octets = [0; 16];
            stream.read_exact(&mut octets).await?;
            let ip = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
            Wanted::Address(SocketAddr::new(ip, stream.read_u16().await?))
        }
        NAME => {
            let mut name = vec![0; stream.read_u8().await?.into()];
            stream.read_exact(&mut name).await?;
            let port = stream.read_u16().await?;
            named(name, port)?
        }
        other => {
            send(stream, Reply::UnknownAddressType).await?;
            return Err(SocksError::AddressType(other));
        }
    };
    if command != CONNECT {
        send(stream, Reply::UnknownCommand).await?;
        return Err(SocksError::Command(command));
    }
    Ok(wanted)
}

/// Many clients send an address as a name.
fn named(name: Vec<u8>, port: u16) -> Result<Wanted, SocksError> {
    let name = String::from_utf8(name).map_err(|_error| SocksError::Name)?;
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(Wanted::Address(SocketAddr::new(ip.to_canonical(), port))),
        Err(_) if name.is_empty() => Err(SocksError::Name),
        Err(_) => Ok(Wanted::Name(name, port)),
    }
}

fn check_version(version: u8) -> Result<(), SocksError> {
    if version == VERSION { Ok(()) } else { Err(SocksError::Version(version)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a client that says this gets: bytes, and where it is taken to want to go.
    async fn conversation(said: &[u8]) -> (Vec<u8>, Result<Wanted, SocksError>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(said).await.unwrap();
        let (mut reading, writing) = tokio::io::split(far);
        let mut writing = writing;
        writing.shutdown().await.unwrap();
        let outcome = negotiate(&mut near).await;
        drop(near);
        let mut heard = Vec::new();
        reading.read_to_end(&mut heard).await.unwrap();
        (heard, outcome)
    }

    #[tokio::test]
    async fn every_kind_of_address_is_understood() {
        let address = |text: &str| Wanted::Address(text.parse().unwrap());
        for (destination, expected) in [
            (&b"\x01\x0a\0\0\x01\0\x50"[..], address("10.0.0.1:80")),
            (b"\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1f\x90", address("[fd00::1]:8080")),
            (b"\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0\x50", address("10.0.0.1:80")),
            (b"\x03\x09a.example\0\x50", Wanted::Name("a.example".to_owned(), 80)),
            (b"\x03\x0810.0.0.1\0\x50", address("10.0.0.1:80")),
        ] {
            let (heard, wanted) = conversation(&[b"\x05\x02\x02\0\x05\x01\0", destination].concat()).await;
            assert_eq!((heard.as_slice(), wanted.unwrap()), (&b"\x05\0"[..], expected));
        }
    }

    #[tokio::test]
    async fn what_is_not_supported_is_told_so() {
        let refused = |reply: u8| [b"\x05\0\x05".as_slice(), &[reply], b"\0\x01\0\0\0\0\0\0"].concat();
        for (said, heard, reason) in [
            (&b"\x04\x01"[..], vec![], "does not speak SOCKS 5: version 4"),
            (b"\x05\x01\x02", b"\x05\xff".to_vec(), "no method without login"),
            (b"\x05\0", b"\x05\xff".to_vec(), "no method without login"),
            (b"\x05\x01\0\x05\x02\0\x01\x0a\0\0\x01\0\x50", refused(7), "command 2 is not supported"),
            (b"\x05\x01\0\x05\x01\0\x02", refused(8), "address type 2 is not known"),
            (b"\x05\x01\0\x05\x01\0\x03\x02\xff\xff\0\x50", b"\x05\0".to_vec(), "no host name"),
            (b"\x05\x01\0\x05\x01\0\x03\0\0\x50", b"\x05\0".to_vec(), "no host name"),
            (b"\x05\x01\0\x05\x01", b"\x05\0".to_vec(), "broke off"),
        ] {
            let (answer, outcome) = conversation(said).await;
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(answer, heard, "{reason}");
        }
    }
}
