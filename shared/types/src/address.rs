//! Addresses: an IP within a network, and the authority of a CONNECT request.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::{Hostname, ParseError};

/// Turns an IPv4 address in IPv6 clothing into plain IPv4; dual-stack listeners report the former.
#[must_use]
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An IP address and the network in which it is reachable; the empty network is the default one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network's id.
    pub network: Arc<str>,
    /// The address inside it.
    pub address: IpAddr,
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.address)
    }
}

impl FromStr for NetworkAddress {
    type Err = ParseError;

    /// Splits at the last slash: `/10.0.0.1` is an address of the default network.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "network/ip";
        let (network, ip) = text.rsplit_once('/').ok_or_else(|| ParseError::new(text, expected))?;
        let address = ip.parse().map_err(|_error| ParseError::new(text, expected))?;
        Ok(Self { network: Arc::from(network), address })
    }
}

/// The target of a CONNECT request: host and port, both mandatory (RFC 9113, section 8.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An IP address; IPv6 is written in brackets.
    Address(SocketAddr),
    /// A host name.
    Name(Hostname, u16),
}

impl Authority {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Authority {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "host:port";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| ParseError::new(text, expected))?;
        let is_name = !host.is_empty()
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'));
        // `u16::from_str` accepts a leading plus sign, which no authority has.
        let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
        match (is_name && is_port, port.parse()) {
            (true, Ok(port)) => Ok(Self::Name(Hostname::from(host), port)),
            _ => Err(ParseError::new(text, expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_survive_a_round_trip() {
        for text in ["10.0.0.1:80", "[2001:db8::1]:443", "cart.shop.svc.cluster.local:8080"] {
            assert_eq!(text.parse::<Authority>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_authority_needs_host_and_port() {
        for text in
            ["", "cart", "cart:", ":80", "10.0.0.1", "cart:http", "cart:+80", "a/b:80", "cart:65536", "2001:db8::1:80"]
        {
            assert!(text.parse::<Authority>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_address_may_have_the_empty_network() {
        let address: NetworkAddress = "/10.0.0.1".parse().unwrap();
        assert_eq!(&*address.network, "");
        assert_eq!(address.to_string(), "/10.0.0.1");
    }
}
