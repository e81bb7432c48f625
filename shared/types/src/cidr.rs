//! Ranges of IP addresses in CIDR notation.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{ParseError, canonical_ip};

/// An IP range; the address is kept as it was given, host bits included, and compared without them.
///
/// ```
/// let range: types::Cidr = "10.1.2.3/8".parse().unwrap();
/// assert!(range.contains("10.9.9.9".parse().unwrap()));
/// assert!(!range.contains("::1".parse().unwrap()));
/// assert_eq!(range.to_string(), "10.1.2.3/8");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// A range from an address and the length of its prefix in bits; 0 means every address of the family.
    ///
    /// A range inside `::ffff:0:0/96` becomes the IPv4 range that it stands for,
    /// because addresses of connections are compared in canonical form.
    ///
    /// # Errors
    /// When the length is more than the address has bits.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, ParseError> {
        if length > bits(address) {
            return Err(ParseError::new(format!("{address}/{length}"), "a prefix no longer than its address"));
        }
        match (canonical_ip(address), length.checked_sub(96)) {
            (v4 @ IpAddr::V4(_), Some(length)) if address.is_ipv6() => Ok(Self { address: v4, length }),
            _ => Ok(Self { address, length }),
        }
    }

    /// The range that holds one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        let address = canonical_ip(address);
        Self { address, length: bits(address) }
    }

    /// The address as it was given.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether the range holds one address only.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.length == bits(self.address)
    }

    /// Whether the address, in canonical form, lies in the range; an address of the other family never does.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, canonical_ip(ip)) {
            (IpAddr::V4(range), IpAddr::V4(ip)) => {
                // A shift by the full width is no shift at all in hardware, hence `checked_shl`.
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                (range.to_bits() ^ ip.to_bits()) & mask == 0
            }
            (IpAddr::V6(range), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                (range.to_bits() ^ ip.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Cidr {
    type Err = ParseError;

    /// Accepts `address/length`, or an address alone for the range that holds just it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = "an IP address or a range such as 10.0.0.0/8";
        let wrong = || ParseError::new(text, expected);
        let Some((address, length)) = text.split_once('/') else {
            return text.parse().map(Self::host).map_err(|_error| wrong());
        };
        // `u8::from_str` accepts a leading plus sign, which no range has.
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let address = address.parse().map_err(|_error| wrong())?;
        Self::new(address, length.parse().map_err(|_error| wrong())?)
    }
}

fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, ip: &str) -> bool {
        range.parse::<Cidr>().unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn a_zero_prefix_holds_its_whole_family_and_nothing_else() {
        assert!(contains("0.0.0.0/0", "203.0.113.9"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("::/0", "2001:db8::1"));
        assert!(!contains("::/0", "203.0.113.9"));
    }

    #[test]
    fn the_last_bit_of_the_prefix_decides() {
        assert!(contains("10.0.0.0/31", "10.0.0.1"));
        assert!(!contains("10.0.0.0/31", "10.0.0.2"));
        assert!(contains("2001:db8::/127", "2001:db8::1"));
        assert!(!contains("2001:db8::/127", "2001:db8::2"));
        assert!(contains("10.0.0.7", "10.0.0.7") && !contains("10.0.0.7", "10.0.0.6"));
    }

    #[test]
    fn mapped_addresses_are_compared_as_ipv4() {
        assert!(contains("10.0.0.0/8", "::ffff:10.1.1.1"));
        assert!(contains("::ffff:10.0.0.0/104", "10.1.1.1"));
        assert!("::ffff:10.0.0.7".parse::<Cidr>().unwrap().is_host());
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/256", "a/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
