//! An address with a prefix length.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address and the length of its network prefix: `10.244.1.0/24`, or `172.30.0.1/24` for an interface.
///
/// Host bits are kept, because an interface's address has them; [`Prefix::network`] clears them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// A text or a length that makes no prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with a prefix length such as 10.0.0.0/8 or fd00::/64")]
pub struct ParsePrefixError(String);

impl Prefix {
    /// All of IPv4, `0.0.0.0/0`.
    pub const ANY_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
    /// All of IPv6, `::/0`.
    pub const ANY_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 };

    /// `address` with `length` bits of network, for constants.
    ///
    /// # Panics
    /// When the length is more than 32.
    #[must_use]
    pub const fn v4(address: Ipv4Addr, length: u8) -> Self {
        assert!(length <= 32, "an IPv4 prefix has at most 32 bits");
        Self { address: IpAddr::V4(address), length }
    }

    /// `address` with `length` bits of network.
    ///
    /// # Errors
    /// When the length is more than 32 for IPv4, or more than 128 for IPv6.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, ParsePrefixError> {
        if length > width(address) {
            return Err(ParsePrefixError(format!("{address}/{length}")));
        }
        Ok(Self { address, length })
    }

    /// The prefix that holds only `address`: `/32` or `/128`.
    pub fn host(address: IpAddr) -> Self {
        Self { address, length: width(address) }
    }

    /// The address as it was given, host bits included.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits name the network.
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether the prefix holds exactly one address.
    pub fn is_host(&self) -> bool {
        self.length == width(self.address)
    }

    /// The network mask.
    pub fn mask(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0)).into(),
        }
    }

    /// The same prefix with its host bits cleared.
    #[must_use]
    pub fn network(&self) -> Self {
        let address = match (self.address, self.mask()) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => IpAddr::V4(address & mask),
            (IpAddr::V6(address), IpAddr::V6(mask)) => IpAddr::V6(address & mask),
            (address, _) => address,
        };
        Self { address, length: self.length }
    }

    /// The last address inside.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        match (self.address, self.mask()) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => IpAddr::V4(address | !mask),
            (IpAddr::V6(address), IpAddr::V6(mask)) => IpAddr::V6(address | !mask),
            (address, _) => address,
        }
    }

    /// Whether `address` lies inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self { address, length: self.length }.network() == self.network()
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self::host(address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    /// Reads `address/length`, or an address alone as the prefix that holds only it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParsePrefixError(text.to_owned());
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_| refused());
        };
        let address = address.parse().map_err(|_| refused())?;
        Self::new(address, length.parse().map_err(|_| refused())?).map_err(|_| refused())
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn texts_round_trip_with_their_host_bits() {
        for text in ["172.30.0.1/24", "0.0.0.0/0", "fd00::1/64", "::/0", "10.0.0.1/32"] {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("10.0.0.1"), prefix("10.0.0.1/32"));
    }

    #[test]
    fn lengths_beyond_the_family_are_refused() {
        for text in ["10.0.0.0/33", "fd00::/129", "10.0.0.0/", "/8", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/8/8"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_network_loses_its_host_bits() {
        assert_eq!(prefix("172.30.7.1/24").network(), prefix("172.30.7.0/24"));
        assert_eq!(prefix("1.2.3.4/0").network(), Prefix::ANY_V4);
        assert_eq!(prefix("fd00::1/0").network(), Prefix::ANY_V6);
        assert_eq!(prefix("fd00::ff/120").mask(), "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_addresses_of_the_network_and_family_are_contained() {
        assert!(prefix("10.244.1.0/24").contains("10.244.1.77".parse().unwrap()));
        assert!(!prefix("10.244.1.0/24").contains("10.244.2.77".parse().unwrap()));
        assert!(!prefix("0.0.0.0/0").contains("::1".parse().unwrap()));
    }
}
